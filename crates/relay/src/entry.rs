//! Entry: what a directive is called, what it takes and what it is for; its manual and its checks come from here.

use crate::plan::Args;
use std::fmt::Display;

/// One directive: a filter or a policy. The lists of entries are all that `config` knows of them.
pub struct Entry<T: ?Sized + 'static> {
    /// The word in the configuration.
    pub name: &'static str,
    /// One paragraph for the manual; the first sentence stands alone in lists.
    pub manual: &'static str,
    /// An example that must load inside a route (or a pool, for a policy).
    pub example: &'static str,
    /// What it takes, positional ones in order.
    pub params: &'static [Param],
    /// Whether it may end a request by itself, so that a route with it needs no `proxy`.
    pub answers: bool,
    /// Checks the arguments and builds it.
    pub build: fn(&Args) -> Result<Box<T>, ArgMistake>,
}

/// One thing that a directive takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// The key of an option, or the name of a word in the manual.
    pub name: &'static str,
    /// Where it is written.
    pub place: Place,
    /// What it must be, for the manual and the first check.
    pub kind: Kind,
    /// One sentence for the manual.
    pub manual: &'static str,
}

/// Where an argument is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As the next word.
    Word,
    /// As the next word, which may be missing.
    OptionalWord,
    /// As all words that are left, one or more.
    Rest,
    /// As all words that are left, which may be none.
    OptionalRest,
    /// As `name=value`.
    Option,
    /// As `name=value`, which must not be missing.
    RequiredOption,
}

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Text,
    /// A text with `${…}` of a request in it.
    Template,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `250ms`, `5s`, `1h30m`.
    Duration,
    /// `64KiB`, `1GiB`, or a plain number of bytes.
    Size,
    /// A whole number.
    Number,
    /// An address or a network: `10.0.0.0/8`, `::1`, or `all`.
    Network,
    /// A regular expression in the syntax of the `regex` crate.
    Regex,
    /// A header field's name.
    FieldName,
    /// A file. It is read when the configuration is loaded, so that `build` gets its text, and a plan with another text
    /// is another plan.
    File,
}

/// What is wrong with the arguments of a directive, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgMistake {
    /// Which argument.
    pub at: At,
    /// Why it cannot be, as half a sentence: "is not a status".
    pub reason: String,
    /// What to write instead, when that can be told.
    pub hint: Option<String>,
}

/// An argument's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The directive as a whole.
    Name,
    /// The word with this index.
    Word(usize),
    /// The option with this key.
    Option(String),
}

impl ArgMistake {
    /// A mistake in the word with index `at`.
    pub fn word(at: usize, reason: impl Display) -> ArgMistake {
        ArgMistake { at: At::Word(at), reason: reason.to_string(), hint: None }
    }

    /// A mistake in the option `key`.
    pub fn option(key: &str, reason: impl Display) -> ArgMistake {
        ArgMistake { at: At::Option(key.to_owned()), reason: reason.to_string(), hint: None }
    }

    /// A mistake in the directive as a whole.
    pub fn whole(reason: impl Display) -> ArgMistake {
        ArgMistake { at: At::Name, reason: reason.to_string(), hint: None }
    }

    /// The same with a hint.
    pub fn hint(self, hint: impl Display) -> ArgMistake {
        ArgMistake { hint: Some(hint.to_string()), ..self }
    }
}
