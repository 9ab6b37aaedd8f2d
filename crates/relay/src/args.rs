//! Args read with types: one description of what a directive takes serves the first check, `build` and the manual.

use crate::entry::{ArgMistake, At, Kind, Param, Place};
use crate::plan::Args;
use crate::template::Template;
use crate::values::{self, ValueMistake};
use ipnet::IpNet;
use portunus_message::FieldName;
use regex::Regex;
use std::time::Duration;

/// The arguments of a directive that have passed the check against its [`Param`]s, to be taken out with types.
pub struct Reader<'a> {
    params: &'static [Param],
    args: &'a Args,
}

/// Every mistake in `args` that can be told from the description alone.
pub fn check(params: &'static [Param], args: &Args) -> Vec<ArgMistake> {
    let reader = Reader { params, args };
    let mut mistakes = Vec::new();
    let bound = reader.required_words();
    if args.words.len() < bound {
        mistakes.push(reader.too_few(args.words.len()));
    }
    for (at, word) in args.words.iter().enumerate() {
        let at_word = At::Word(at);
        match reader.param_of_word(at) {
            Some(param) => mistakes.extend(check_kind(param.kind, &word.value, at_word)),
            None => mistakes.push(mistake(at_word, "is one word too many")),
        }
    }
    for (key, text) in &args.options {
        let at = At::Option(key.clone());
        match reader.param_of_option(key) {
            Some(param) => mistakes.extend(check_kind(param.kind, &text.value, at)),
            None => {
                mistakes.push(ArgMistake { hint: reader.hint_for(key), ..mistake(at, "is not known here") })
            }
        }
    }
    for param in params.iter().filter(|param| param.place == Place::RequiredOption) {
        if !args.options.contains_key(param.name) {
            mistakes.push(ArgMistake::whole(format!("needs `{}=`", param.name)));
        }
    }
    mistakes
}

impl<'a> Reader<'a> {
    /// Checks `args` against `params`; the first mistake is returned.
    pub fn new(params: &'static [Param], args: &'a Args) -> Result<Reader<'a>, ArgMistake> {
        match check(params, args).into_iter().next() {
            Some(mistake) => Err(mistake),
            None => Ok(Reader { params, args }),
        }
    }

    /// The word for `name`, with its index, when it was given.
    pub fn word(&self, name: &str) -> Option<(usize, &'a str)> {
        let at = (0..self.args.words.len())
            .find(|&at| self.param_of_word(at).is_some_and(|param| param.name == name))?;
        self.args.words.get(at).map(|text| (at, text.value.as_str()))
    }

    /// The word for `name`; without it the directive as a whole is wrong.
    pub fn required_word(&self, name: &str) -> Result<(usize, &'a str), ArgMistake> {
        self.word(name).ok_or_else(|| ArgMistake::whole(format!("needs `{name}`")))
    }

    /// The word for `name` as it may be shown: as written, when it was filled in from the environment or a file.
    pub fn shown(&self, name: &str) -> &'a str {
        let text = self.word(name).and_then(|(at, _)| self.args.words.get(at));
        text.map_or("", |text| text.shown())
    }

    /// All words for `name`, with their indices.
    pub fn rest(&self, name: &'static str) -> impl Iterator<Item = (usize, &'a str)> {
        let first = self.word(name).map_or(usize::MAX, |(at, _)| at);
        self.args.words.iter().enumerate().skip(first).map(|(at, text)| (at, text.value.as_str()))
    }

    /// The option `key`, when it was given.
    pub fn option(&self, key: &str) -> Option<&'a str> {
        self.args.options.get(key).map(|text| text.value.as_str())
    }

    /// The members of the comma-separated option `key`.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.option(key).unwrap_or("").split(',').map(str::trim).filter(|member| !member.is_empty())
    }

    /// The option `key` as a duration.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, ArgMistake> {
        let read = |text| values::parse_duration(text).map_err(|m| of_value(m, At::Option(key.to_owned())));
        self.option(key).map(read).transpose()
    }

    /// The word for `name` as a size.
    pub fn size(&self, name: &str) -> Result<u64, ArgMistake> {
        let (at, text) = self.required_word(name)?;
        values::parse_size(text).map_err(|mistake| of_value(mistake, At::Word(at)))
    }

    /// The word for `name` as the name of a header field.
    pub fn field_name(&self, name: &str) -> Result<FieldName, ArgMistake> {
        let (at, text) = self.required_word(name)?;
        FieldName::new(text).ok_or_else(|| mistake(At::Word(at), NOT_A_FIELD))
    }

    /// All words for `name` as networks.
    pub fn networks(&self, name: &'static str) -> Result<Vec<IpNet>, ArgMistake> {
        let mut networks = Vec::new();
        for (at, text) in self.rest(name) {
            networks.extend(values::parse_networks(text).map_err(|m| of_value(m, At::Word(at)))?);
        }
        Ok(networks)
    }

    fn words(&self) -> impl Iterator<Item = &'static Param> {
        let is_word = |place| !matches!(place, Place::Option | Place::RequiredOption);
        self.params.iter().filter(move |param| is_word(param.place))
    }

    fn required_words(&self) -> usize {
        self.words().filter(|param| is_required(param.place)).count()
    }

    /// Which parameter the word with index `at` is for: optional ones get a word only when enough are left.
    fn param_of_word(&self, at: usize) -> Option<&'static Param> {
        let mut spare = self.args.words.len().saturating_sub(self.required_words());
        let mut next = 0;
        for param in self.words() {
            match param.place {
                Place::Rest | Place::OptionalRest => return Some(param),
                Place::OptionalWord if spare == 0 => continue,
                Place::OptionalWord => spare -= 1,
                Place::Word | Place::Option | Place::RequiredOption => {}
            }
            if next == at {
                return Some(param);
            }
            next += 1;
        }
        None
    }

    fn param_of_option(&self, key: &str) -> Option<&'static Param> {
        let is_option = |place| matches!(place, Place::Option | Place::RequiredOption);
        self.params.iter().find(|param| param.name == key && is_option(param.place))
    }

    fn too_few(&self, given: usize) -> ArgMistake {
        let missing = self.words().filter(|param| is_required(param.place)).nth(given);
        ArgMistake::whole(format!("needs `{}`", missing.map_or("more", |param| param.name)))
    }

    fn hint_for(&self, key: &str) -> Option<String> {
        let is_option = |place| matches!(place, Place::Option | Place::RequiredOption);
        let options = self.params.iter().filter(|param| is_option(param.place)).map(|param| param.name);
        if let Some(near) = values::nearest(key, options.clone()) {
            return Some(format!("did you mean `{near}=`?"));
        }
        let all: Vec<String> = options.map(|option| format!("`{option}=`")).collect();
        (!all.is_empty()).then(|| format!("known here: {}", all.join(", ")))
    }
}

fn is_required(place: Place) -> bool {
    !matches!(place, Place::OptionalWord | Place::OptionalRest)
}

const NOT_A_FIELD: &str = "is not the name of a header field";

fn mistake(at: At, reason: impl std::fmt::Display) -> ArgMistake {
    ArgMistake { at, reason: reason.to_string(), hint: None }
}

fn of_value(value: ValueMistake, at: At) -> ArgMistake {
    ArgMistake { hint: Some(value.hint.to_owned()), ..mistake(at, value.reason) }
}

/// Checks one argument against its kind.
fn check_kind(kind: Kind, text: &str, at: At) -> Option<ArgMistake> {
    let value = |mistake: Option<ValueMistake>| mistake.map(|mistake| of_value(mistake, at.clone()));
    match kind {
        Kind::Text => None,
        Kind::File => text.is_empty().then(|| mistake(at, "is not the name of a file")),
        Kind::Duration => value(values::parse_duration(text).err()),
        Kind::Size => value(values::parse_size(text).err()),
        Kind::Number => value(values::parse_number(text).err()),
        Kind::Network => value(values::parse_networks(text).err()),
        Kind::Template => template(text, at).err(),
        Kind::FieldName => FieldName::new(text).is_none().then(|| mistake(at, NOT_A_FIELD)),
        Kind::Regex => regex(text, at).err(),
        Kind::OneOf(words) if words.contains(&text) => None,
        Kind::OneOf(words) => {
            let all = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            let near = values::nearest(text, words.iter().copied());
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            Some(ArgMistake { hint, ..mistake(at, format!("is not one of {all}")) })
        }
    }
}

/// Compiles a template that stands at `at`.
pub fn template(text: &str, at: At) -> Result<Template, ArgMistake> {
    Template::compile(text).map_err(|wrong| ArgMistake { at, reason: wrong.reason, hint: wrong.hint })
}

/// Compiles a template that is filled in before there is an answer, so that it cannot name one.
pub fn request_template(text: &str, at: At) -> Result<Template, ArgMistake> {
    let template = template(text, at.clone())?;
    if template.looks_back() {
        return Err(mistake(at, "names something that is known only on the way back"));
    }
    Ok(template)
}

/// Compiles a regular expression that stands at `at`, within a bound of memory.
pub fn regex(text: &str, at: At) -> Result<Regex, ArgMistake> {
    regex::RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
        let reason = match error {
            regex::Error::CompiledTooBig(_) => "is too large a regular expression",
            _ => "is not a regular expression",
        };
        // The last line of the error says what is wrong; those before it draw a picture of where.
        let hint = error.to_string().lines().last().map(|line| line.trim_start_matches("error: ").to_owned());
        ArgMistake { hint, ..mistake(at, reason) }
    })
}

/// What one compiled regular expression may take.
pub const REGEX_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::Text;

    /// Arguments as the configuration would give them: `key=value` becomes an option.
    pub(crate) fn args(words: &[&str]) -> Args {
        let mut args = Args::default();
        for word in words {
            match word.split_once('=') {
                Some((key, value))
                    if !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') =>
                {
                    args.options.insert(key.to_owned(), Text::plain(value));
                }
                _ => args.words.push(Text::plain(*word)),
            }
        }
        args
    }

    /// The words of an entry's example, quotes taken away, without the directive's name.
    pub(crate) fn example(text: &str) -> Args {
        let (mut words, mut quoted) = (vec![String::new()], false);
        for letter in text.chars() {
            match letter {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                _ => words.last_mut().unwrap().push(letter),
            }
        }
        let words: Vec<&str> =
            words.iter().skip(1).map(String::as_str).filter(|word| !word.is_empty()).collect();
        args(&words)
    }

    const PARAMS: &[Param] = &[
        Param { name: "status", place: Place::OptionalWord, kind: Kind::Number, manual: "" },
        Param { name: "to", place: Place::Word, kind: Kind::Template, manual: "" },
        Param { name: "more", place: Place::Rest, kind: Kind::Network, manual: "" },
        Param { name: "wait", place: Place::Option, kind: Kind::Duration, manual: "" },
        Param {
            name: "mode",
            place: Place::RequiredOption,
            kind: Kind::OneOf(&["fast", "slow"]),
            manual: "",
        },
    ];

    fn first(words: &[&str]) -> String {
        let args = args(words);
        let mistake = Reader::new(PARAMS, &args).err().unwrap();
        format!("{:?} {} {}", mistake.at, mistake.reason, mistake.hint.unwrap_or_default())
    }

    #[test]
    fn words_find_their_parameters() {
        let short = args(&["/x", "all", "mode=fast"]);
        let reader = Reader::new(PARAMS, &short).unwrap();
        assert_eq!(reader.word("status"), None);
        assert_eq!(reader.word("to"), Some((0, "/x")));
        assert_eq!(reader.networks("more").unwrap().len(), 2);
        let long = args(&["301", "/x", "::1", "10.0.0.1", "wait=5s", "mode=slow"]);
        let reader = Reader::new(PARAMS, &long).unwrap();
        assert_eq!(reader.word("status"), Some((0, "301")));
        assert_eq!(reader.word("to"), Some((1, "/x")));
        assert_eq!(reader.rest("more").count(), 2);
        assert_eq!(reader.duration("wait"), Ok(Some(Duration::from_secs(5))));
    }

    #[test]
    fn mistakes_say_where_and_why() {
        assert_eq!(first(&["mode=fast"]), "Name needs `to` ");
        assert_eq!(first(&["/x", "mode=fast"]), "Name needs `more` ");
        assert_eq!(first(&["/x", "all"]), "Name needs `mode=` ");
        assert_eq!(
            first(&["/x", "all", "mode=fsat"]),
            "Option(\"mode\") is not one of `fast`, `slow` did you mean `fast`?"
        );
        assert_eq!(
            first(&["/x", "all", "mode=fast", "wiat=5s"]),
            "Option(\"wiat\") is not known here did you mean `wait=`?"
        );
        assert!(first(&["x", "/x", "all", "mode=fast"]).starts_with("Word(0) is not a whole number"));
        assert!(first(&["${x}", "all", "mode=fast"]).starts_with("Word(0) `${x}` is not known"));
        assert!(
            first(&["/x", "all", "mode=fast", "wait=5"]).starts_with("Option(\"wait\") is not a duration")
        );
        assert_eq!(check(PARAMS, &args(&["/x", "nowhere", "nirgends", "wait=1"])).len(), 4);
    }

    #[test]
    fn expressions_are_bounded() {
        assert!(regex("a{1000}{1000}", At::Word(0)).unwrap_err().reason.contains("too large"));
        let mistake = regex("(", At::Word(0)).unwrap_err();
        assert_eq!(
            (mistake.reason.as_str(), mistake.hint.as_deref()),
            ("is not a regular expression", Some("unclosed group"))
        );
    }
}
