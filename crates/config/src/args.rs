//! The arguments of one statement against the description of what it takes; the same check for every directive.

use crate::draft::{Draft, Value};
use crate::findings::{Findings, Span};
use crate::foreign;
use crate::mistake::did_you_mean;
use crate::outside::{self, Outside, Wrong};
use portunus_relay::entry::{ArgMistake, At, Entry, Kind, Param, Place};
use portunus_relay::filter::Filter;
use portunus_relay::pick::Pick;
use portunus_relay::plan::{Args, Directive, Text};
use portunus_relay::template::Template;

/// The filters and policies that a configuration may name.
#[derive(Clone, Copy)]
pub struct Registry {
    /// The filters.
    pub filters: &'static [Entry<dyn Filter>],
    /// The policies.
    pub policies: &'static [Entry<dyn Pick>],
}

impl Default for Registry {
    /// Those that the data plane has.
    fn default() -> Registry {
        Registry { filters: portunus_relay::filter::LIST, policies: portunus_relay::pick::LIST }
    }
}

/// What every check needs.
pub struct Scene<'a, 'o> {
    /// The filters and policies.
    pub registry: Registry,
    /// Where files are read.
    pub outside: &'a mut Outside<'o>,
    /// Where mistakes go.
    pub findings: &'a mut Findings,
    /// Whether there are no trusted proxies.
    pub trusts_nobody: bool,
}

impl Scene<'_, '_> {
    /// `value` as `parse` reads it; a mistake is told as "`value` is no …".
    pub fn parse<T>(&mut self, value: &Value, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        match parse(&value.text.value) {
            Ok(parsed) => Some(parsed),
            Err(wrong) => {
                self.wrong(value, wrong);
                None
            }
        }
    }

    /// Tells what is wrong with `value`.
    pub fn wrong(&mut self, value: &Value, Wrong { reason, hint }: Wrong) {
        let subject = match (value.text.value.as_str(), &value.text.written) {
            _ if reason.starts_with('`') => String::new(),
            ("", None) => "an empty value ".to_owned(),
            ("", Some(_)) => format!("{}, which is empty, ", value.shown()),
            _ => format!("{} ", value.shown()),
        };
        self.findings.error(value.span, format!("{subject}{reason}")).maybe_hint(hint);
    }

    /// Checks words and options; the arguments, when nothing is wrong with them.
    pub fn arguments(&mut self, draft: &Draft, params: &'static [Param]) -> Option<Args> {
        let before = self.findings.errors();
        let mut args =
            Args { words: draft.words.iter().map(|word| word.text.clone()).collect(), ..Args::default() };
        for (key, value) in &draft.options {
            if args.options.insert(key.to_string(), value.text.clone()).is_some() {
                self.findings.error(value.span, format!("`{key}=` stands here twice"));
            }
        }
        if self.unfilled(draft, params) {
            return None;
        }
        let block = if draft.block.is_some() { " { … }" } else { "" };
        for mut mistake in portunus_relay::args::check(params, &args) {
            if mistake.hint.is_none() && mistake.reason.starts_with("`${") {
                mistake.hint = Some("there are `client.ip`, `host`, `path`, `header.NAME` and more: the page on templates in the manual".into());
            } else if mistake.hint.is_none() && !matches!(mistake.at, At::Option(_)) {
                mistake.hint = Some(format!("it is written `{}{block}`", usage(&draft.name, params)));
            }
            self.refused(draft, params, mistake);
        }
        if params.iter().any(|param| param.kind == Kind::Template) {
            self.foreign(draft);
        }
        self.groupless(draft);
        for param in params.iter().filter(|param| param.kind == Kind::File) {
            self.fill_file(draft, param, &mut args);
        }
        (self.findings.errors() == before).then_some(args)
    }

    /// Whether something that is never filled in stands where only what the environment and files have is: it would be taken as it stands there, as
    /// a password among others.
    fn unfilled(&mut self, draft: &Draft, params: &[Param]) -> bool {
        let is_template = |is_its: &dyn Fn(&Param) -> bool| {
            params.iter().any(|param| is_its(param) && matches!(param.kind, Kind::Template | Kind::Regex))
        };
        let words = draft.words.iter().filter(|_| !is_template(&|param| !is_option(param)));
        let options = draft.options.iter().filter(|(key, _)| !is_template(&|param| param.name == &**key));
        let values = words.chain(options.map(|(_, value)| value));
        let mut any = false;
        for value in values {
            let unknown = |name: &&str| Template::compile(&format!("${{{name}}}")).is_err();
            let Some(name) = outside::left(value.text.shown()).find(unknown) else { continue };
            let hint = match name.split_once('.') {
                Some((env, rest)) if env.eq_ignore_ascii_case("env") => format!("write `${{env.{rest}}}`"),
                None if name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') => {
                    format!("a variable of the environment is written `${{env.{name}}}`")
                }
                _ => {
                    "here `${env.NAME}` and `${file.PATH}` are filled in, when the file is loaded".to_owned()
                }
            };
            self.findings
                .error(value.span, format!("nothing is filled in for `${{{name}}}` here"))
                .hint(hint);
            self.findings.taint(value.span);
            any = true;
        }
        any
    }

    /// Warns of what another proxy would fill in.
    fn foreign(&mut self, draft: &Draft) {
        for value in draft.words.iter().chain(draft.options.iter().map(|(_, value)| value)) {
            if let Some((theirs, hint)) = foreign::variable(value.text.shown()) {
                let reason = format!("`{theirs}` is sent as it stands here");
                self.findings.warning(value.span, reason).hint(hint);
            }
        }
    }

    /// Warns of the group of a pattern where there is no pattern: that of the route is not asked.
    fn groupless(&mut self, draft: &Draft) {
        let has_pattern = draft.words.first().is_some_and(|word| word.text.value.starts_with('~'));
        if has_pattern || !matches!(&*draft.name, "redirect" | "rewrite") {
            return;
        }
        let is_group = |text: &str| {
            let mut ends = text.split('$').skip(1);
            ends.any(|end| end.starts_with(|c: char| c.is_ascii_digit()))
        };
        for value in draft.words.iter().filter(|word| is_group(word.text.shown())) {
            let reason = "`$1` and its kind stand here as they are: there is no pattern beside them";
            self.findings
                .warning(value.span, reason)
                .hint("only `rewrite ~PATTERN /new/$1` has groups; those of the route are not known here");
        }
    }

    /// Puts the text of a file in the place of its name; what is printed stays the name.
    fn fill_file(&mut self, draft: &Draft, param: &Param, args: &mut Args) {
        let value = draft.options.iter().find(|(key, _)| &**key == param.name).map(|(_, value)| value);
        let (Some(text), Some(value)) = (args.options.get_mut(param.name), value) else { return };
        match self.outside.read_value(value.span.file(), &text.value) {
            Ok(read) if read.trim().is_empty() => {
                self.findings.error(value.span, format!("the file {} is empty", value.shown()));
            }
            Ok(read) => *text = Text { value: read, written: Some(text.shown().to_owned()) },
            Err(wrong) => _ = self.findings.error(value.span, wrong.reason).maybe_hint(wrong.hint),
        }
    }

    /// Tells that there is no such option, and what may have been meant.
    pub fn unknown_option(&mut self, draft: &Draft, key: &str, value: &Value, params: &[Param]) {
        let options = || params.iter().filter(|param| is_option(param)).map(|param| param.name);
        let hint = did_you_mean(key, options()).unwrap_or_else(|| {
            let has_words = params.iter().any(|param| !is_option(param));
            match options().collect::<Vec<_>>() {
                none if none.is_empty() && has_words => {
                    format!("if it is meant as a plain word, put it in quotes: `\"{key}=…\"`")
                }
                none if none.is_empty() => "it takes no options".to_owned(),
                some => format!("it takes `{}=`", some.join("=`, `")),
            }
        });
        self.findings.error(value.span, format!("`{}` has no option `{key}=`", draft.name)).hint(hint);
        self.findings.taint(value.span);
    }

    /// Checks the arguments of a filter or policy and builds it, to prove that it can be.
    pub fn build<T: ?Sized>(&mut self, entry: &Entry<T>, draft: &Draft) -> Option<Directive> {
        let before = self.findings.errors();
        if draft.block.is_some() {
            self.findings.error(draft.span, format!("`{}` takes no block", draft.name));
        }
        let args = self.arguments(draft, entry.params)?;
        if let Err(mistake) = (entry.build)(&args) {
            self.refused(draft, entry.params, mistake);
        }
        (self.findings.errors() == before).then(|| Directive { name: entry.name.to_owned(), args })
    }

    /// Tells what is wrong with an argument, at its place.
    fn refused(&mut self, draft: &Draft, params: &[Param], mistake: ArgMistake) {
        let ArgMistake { at, reason, hint } = mistake;
        let wrong = Wrong { reason, hint };
        let value = match &at {
            At::Name => None,
            At::Word(index) => draft.words.get(*index),
            At::Option(name) => {
                let option = draft.options.iter().find(|(key, _)| **key == **name);
                match option
                    .filter(|(key, _)| !params.iter().any(|param| is_option(param) && param.name == &**key))
                {
                    Some((key, value)) => return self.unknown_option(draft, key, value, params),
                    None => option.map(|(_, value)| value),
                }
            }
        };
        match value {
            Some(value) => {
                self.wrong(value, wrong);
                // Whoever reads it will not like it either.
                self.findings.taint(value.span);
            }
            None => {
                let name = Value { text: Text::plain(&*draft.name), span: draft.span };
                self.wrong(&name, wrong);
            }
        }
    }

    /// Tells that something stands twice.
    pub fn twice(&mut self, span: Span, what: &str, first: Span) {
        self.findings.error(span, format!("{what} is there twice")).earlier(first);
    }
}

fn is_option(param: &Param) -> bool {
    matches!(param.place, Place::Option | Place::RequiredOption)
}

/// `name WORD [WORD] [key=…]`, for hints and the manual.
pub fn usage(name: &str, params: &[Param]) -> String {
    let mut usage = name.to_owned();
    for param in params {
        let upper = match param.kind {
            Kind::OneOf(words) => words.join("|"),
            _ => param.name.to_uppercase(),
        };
        usage.push(' ');
        usage.push_str(&match param.place {
            Place::Word => upper,
            Place::OptionalWord => format!("[{upper}]"),
            Place::Rest => format!("{upper} …"),
            Place::OptionalRest => format!("[{upper} …]"),
            Place::Option => format!("[{}={}]", param.name, placeholder(param.kind)),
            Place::RequiredOption => format!("{}={}", param.name, placeholder(param.kind)),
        });
    }
    usage
}

/// What stands for a value in a usage line.
fn placeholder(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Template => "TEXT".to_owned(),
        Kind::OneOf(words) => words.join("|"),
        Kind::Duration => "TIME".to_owned(),
        Kind::Size => "SIZE".to_owned(),
        Kind::Number => "NUMBER".to_owned(),
        Kind::Network => "NETWORK".to_owned(),
        Kind::Regex => "REGEX".to_owned(),
        Kind::FieldName => "FIELD".to_owned(),
        Kind::File => "FILE".to_owned(),
    }
}
