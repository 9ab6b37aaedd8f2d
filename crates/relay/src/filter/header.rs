//! What `request-header` and `response-header` have in common: one edit of one field.

use crate::args::{Reader, template};
use crate::context::Scope;
use crate::entry::{ArgMistake, At, Kind, Param, Place};
use crate::template::Template;
use portunus_message::fields::is_value_byte;
use portunus_message::name::KnownSet;
use portunus_message::{FieldName, FieldValue, Fields, Known};

/// One edit of the fields of a message.
pub(super) struct Edit {
    verb: Verb,
    pub(super) name: FieldName,
    value: Template,
    /// The value as it may be shown: a secret from the environment stays out of `explain`.
    shown: Box<str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Set,
    Add,
    Remove,
}

pub(super) const PARAMS: &[Param] = &[
    Param {
        name: "verb",
        place: Place::Word,
        kind: Kind::OneOf(&["set", "add", "remove"]),
        manual: "`set` leaves exactly one field of this name, `add` adds one, `remove` takes all away.",
    },
    Param { name: "name", place: Place::Word, kind: Kind::FieldName, manual: "The field." },
    Param {
        name: "value",
        place: Place::OptionalWord,
        kind: Kind::Template,
        manual: "Its value, for `set` and `add`.",
    },
];

/// Fields that frame the message or belong to one connection: the proxy writes them itself (RFC 9110 §7.6.1).
const OURS: KnownSet = KnownSet::of(&[
    Known::CONNECTION,
    Known::CONTENT_LENGTH,
    Known::EXPECT,
    Known::HTTP2_SETTINGS,
    Known::KEEP_ALIVE,
    Known::PROXY_CONNECTION,
    Known::TE,
    Known::TRAILER,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
]);

impl Edit {
    /// Reads `set NAME VALUE`, `add NAME VALUE` or `remove NAME`.
    pub(super) fn read(reader: &Reader<'_>) -> Result<Edit, ArgMistake> {
        let name = reader.field_name("name")?;
        let name_at = reader.required_word("name")?.0;
        if OURS.has(name.known()) {
            let reason = "belongs to the connection, not to the message";
            return Err(ArgMistake::word(name_at, reason).hint("the proxy writes this field itself"));
        }
        let verb = match reader.required_word("verb")?.1 {
            "set" => Verb::Set,
            "add" => Verb::Add,
            _ => Verb::Remove,
        };
        let value = match (verb, reader.word("value")) {
            (Verb::Remove, Some((at, _))) => Err(ArgMistake::word(at, "is one word too many"))?,
            (Verb::Remove, None) => Template::default(),
            (_, None) => Err(ArgMistake::whole("needs `value`"))?,
            (_, Some((at, text))) if !text.bytes().all(is_value_byte) => {
                Err(ArgMistake::word(at, "holds a control character, which no field may hold"))?
            }
            (_, Some((at, text))) => template(text, At::Word(at))?,
        };
        let shown = reader.shown("value").into();
        Ok(Edit { verb, name, value, shown })
    }

    /// Which argument is wrong when the value may not name the answer.
    pub(super) fn refuse_looking_back(&self) -> Result<(), ArgMistake> {
        if self.value.looks_back() {
            return Err(ArgMistake::word(2, "names something that is known only on the way back"));
        }
        Ok(())
    }

    /// What kind of edit it is.
    pub(super) fn verb(&self) -> Verb {
        self.verb
    }

    /// The value for this request; it holds no byte that a field may not hold (attack A42).
    pub(super) fn render(&self, scope: &Scope<'_>) -> Vec<u8> {
        let mut value = Vec::new();
        self.value.render_value(scope, &mut value);
        value
    }

    /// The edit itself, when it needs nothing of the request.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        self.value.literal()
    }

    /// Changes `fields`.
    pub(super) fn apply(&self, fields: &mut Fields, value: &[u8]) {
        let Some(value) = FieldValue::new(value) else { return };
        match self.verb {
            Verb::Set => fields.set(&self.name, value),
            Verb::Add => fields.add(&self.name, value),
            Verb::Remove => {
                fields.remove(&self.name);
            }
        }
    }

    /// In words.
    pub(super) fn describe(&self, directive: &str) -> String {
        let name = self.name.as_str();
        match self.verb {
            Verb::Set => format!("{directive} set {name} {:?}", self.shown),
            Verb::Add => format!("{directive} add {name} {:?}", self.shown),
            Verb::Remove => format!("{directive} remove {name}"),
        }
    }
}
