//! "${client.ip}", compiled once: texts that are filled in for each request.

use crate::context::Scope;

/// A compiled text.
#[derive(Clone, Debug)]
pub struct Template {
    written: Box<str>,
}

/// Why a text cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateMistake {
    /// Why, as half a sentence: "`${cleint.ip}` is not known".
    pub reason: String,
    /// The right spelling, where one is near.
    pub hint: Option<String>,
}

impl Template {
    /// Compiles `text`; an unknown name is a mistake.
    pub fn compile(text: &str) -> Result<Template, TemplateMistake> {
        Ok(Template { written: text.into() })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Appends the text for this request.
    pub fn render(&self, _: &Scope<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.written.as_bytes());
    }
}
