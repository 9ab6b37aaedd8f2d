//! The arguments of one statement against the description of what it takes; the same check for every directive.

use crate::draft::{Draft, Value};
use crate::mistake::{Findings, Span, did_you_mean};
use crate::outside::{Outside, Wrong};
use crate::values;
use portunus_relay::entry::{ArgMistake, At, Entry, Kind, Param, Place};
use portunus_relay::filter::Filter;
use portunus_relay::pick::Pick;
use portunus_relay::plan::{Args, Directive, Text};

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
        let subject = if reason.starts_with('`') { String::new() } else { format!("{} ", value.shown()) };
        self.findings.error(value.span, format!("{subject}{reason}")).maybe_hint(hint);
    }

    /// Checks words and options; the arguments, when nothing is wrong with them.
    pub fn arguments(&mut self, draft: &Draft, params: &[Param]) -> Option<Args> {
        let words = self.words(draft, params);
        let options = self.options(draft, params);
        let (words, options) = (words?, options?);
        Some(Args { words, options })
    }

    fn words(&mut self, draft: &Draft, params: &[Param]) -> Option<Vec<Text>> {
        let mut texts = Vec::with_capacity(draft.words.len());
        let mut left = draft.words.iter();
        let mut fine = true;
        for param in params {
            match param.place {
                Place::Word | Place::OptionalWord => match left.next() {
                    Some(value) => texts.push(self.value(value, param)),
                    None if param.place == Place::OptionalWord => {}
                    None => fine = self.missing(draft, params, param),
                },
                Place::Rest => {
                    if left.len() == 0 {
                        fine = self.missing(draft, params, param);
                    }
                    texts.extend(left.by_ref().map(|value| self.value(value, param)));
                }
                Place::Option | Place::RequiredOption => {}
            }
        }
        if let Some(value) = left.next() {
            let options = params.iter().filter(|param| is_option(param)).map(|param| param.name);
            let hint = did_you_mean(&value.text.value, options)
                .map(|hint| hint.replace("`?", "=…`?"))
                .or_else(|| Some(format!("it is written `{}`", usage(&draft.name, params))));
            let reason = format!("`{}` takes no argument {} here", draft.name, value.shown());
            self.findings.error(value.span, reason).maybe_hint(hint);
            fine = false;
        }
        let texts: Option<Vec<Text>> = texts.into_iter().collect();
        texts.filter(|_| fine)
    }

    fn missing(&mut self, draft: &Draft, params: &[Param], param: &Param) -> bool {
        let reason = format!("`{}` needs {}", draft.name, spoken(param));
        self.findings
            .error(draft.span, reason)
            .hint(format!("it is written `{}`", usage(&draft.name, params)));
        false
    }

    fn options(
        &mut self,
        draft: &Draft,
        params: &[Param],
    ) -> Option<std::collections::BTreeMap<String, Text>> {
        let mut options = std::collections::BTreeMap::new();
        let mut fine = true;
        for (key, value) in &draft.options {
            let Some(param) = params.iter().find(|param| is_option(param) && param.name == &**key) else {
                self.unknown_option(draft, key, value, params);
                fine = false;
                continue;
            };
            if options.contains_key(&**key) {
                self.findings.error(value.span, format!("`{key}=` stands here twice"));
                fine = false;
                continue;
            }
            match self.value(value, param) {
                Some(text) => _ = options.insert(key.to_string(), text),
                None => fine = false,
            }
        }
        for param in params.iter().filter(|param| param.place == Place::RequiredOption) {
            if !draft.options.iter().any(|(key, _)| &**key == param.name) {
                fine = self.missing(draft, params, param);
            }
        }
        fine.then_some(options)
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
    }

    /// One argument of the kind that is wanted, with a file's text in place of its name.
    fn value(&mut self, value: &Value, param: &Param) -> Option<Text> {
        match (param.kind, values::check(param.kind, &value.text.value)) {
            (Kind::File, _) => match self.outside.read_value(value.span.file(), &value.text.value) {
                Ok(text) => Some(Text { value: text, written: Some(value.text.shown().to_owned()) }),
                Err(wrong) => {
                    self.findings.error(value.span, wrong.reason).maybe_hint(wrong.hint);
                    None
                }
            },
            (_, Ok(())) => Some(value.text.clone()),
            (_, Err(wrong)) => {
                self.wrong(value, wrong);
                None
            }
        }
    }

    /// Checks the arguments of a filter or policy and builds it, to prove that it can be.
    pub fn build<T: ?Sized>(&mut self, entry: &Entry<T>, draft: &Draft) -> Option<Directive> {
        let before = self.findings.errors();
        if draft.block.is_some() {
            self.findings.error(draft.span, format!("`{}` takes no block", draft.name));
        }
        let args = self.arguments(draft, entry.params)?;
        if let Err(mistake) = (entry.build)(&args) {
            self.refused(draft, mistake);
        }
        (self.findings.errors() == before).then(|| Directive { name: entry.name.to_owned(), args })
    }

    /// Tells why a filter or policy cannot be built, at the argument it names.
    fn refused(&mut self, draft: &Draft, mistake: ArgMistake) {
        let ArgMistake { at, reason, hint } = mistake;
        let wrong = Wrong { reason, hint };
        let value = match &at {
            At::Name => None,
            At::Word(index) => draft.words.get(*index),
            At::Option(name) => draft.options.iter().find(|(key, _)| **key == **name).map(|(_, value)| value),
        };
        match value {
            Some(value) => self.wrong(value, wrong),
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

fn spoken(param: &Param) -> String {
    if is_option(param) { format!("`{}=`", param.name) } else { format!("an argument: {}", param.name) }
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
