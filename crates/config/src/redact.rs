//! redact: what was filled in from outside is shown as it was written: `${env.NAME}`, `${file.PATH}`.

use crate::mistake::Mistake;
use serde_json::Value;
use std::collections::BTreeMap;

/// A shorter value stands in every other text by chance.
const VALUE_BYTES_MIN: usize = 4;
/// So many lines of a value are known each by itself.
const LINES_MAX: usize = 1000;

/// Values that were filled in, with how they were written.
#[derive(Clone, Debug, Default)]
pub struct Redaction(BTreeMap<String, String>);

impl Redaction {
    /// `value` stands where `written` was.
    pub fn note(&mut self, value: &str, written: &str) {
        let lines = value.lines().take(LINES_MAX).map(str::trim);
        for part in std::iter::once(value).chain(lines).filter(|part| part.len() >= VALUE_BYTES_MIN) {
            // Names of hosts are read into lower case; texts are shown with their signs escaped.
            for form in [part.to_owned(), part.to_ascii_lowercase(), part.escape_debug().to_string()] {
                self.0.insert(form, written.to_owned());
            }
        }
    }

    /// `text` as it may be shown.
    pub fn of(&self, text: &str) -> String {
        let mut known: Vec<_> = self.0.iter().collect();
        known.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        let mut text = text.to_owned();
        for (value, written) in &known {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), written);
            }
        }
        // A long text was cut, and a value with it.
        if let Some(rest) = text.strip_suffix('…')
            && let Some(bytes) = known.iter().map(|(value, _)| overlap(rest, value)).max()
            && bytes >= VALUE_BYTES_MIN
        {
            return format!("{}…", rest.get(..rest.len() - bytes).unwrap_or(""));
        }
        text
    }

    /// A JSON document as it may be shown: each text in it, and no number or name.
    pub fn of_json(&self, document: String) -> String {
        if self.0.is_empty() {
            return document;
        }
        let mut value: Value = serde_json::from_str(&document).unwrap_or_default();
        self.clean(&mut value);
        serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
    }

    fn clean(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.of(text),
            Value::Array(list) => list.iter_mut().for_each(|one| self.clean(one)),
            Value::Object(map) => map.values_mut().for_each(|one| self.clean(one)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A mistake as it may be told. Its line is shown as it was written in any case.
    pub fn mistake(&self, mistake: Mistake) -> Mistake {
        if self.0.is_empty() {
            return mistake;
        }
        let hint = mistake.hint.map(|hint| self.of(&hint));
        Mistake { reason: self.of(&mistake.reason), hint, ..mistake }
    }
}

/// How many bytes at the end of `text` are the beginning of `value`.
fn overlap(text: &str, value: &str) -> usize {
    let most = text.len().min(value.len());
    (1..=most).rev().find(|&bytes| value.get(..bytes).is_some_and(|start| text.ends_with(start))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_outside_are_shown_as_they_were_written() {
        let mut redaction = Redaction::default();
        redaction.note("Secret-7", "${env.A}");
        redaction.note("Secret-7-and-more", "${env.B}");
        redaction.note("first line\nsecond line\n", "${file.C}");
        redaction.note("80", "${env.PORT}");
        redaction.note("say \"friend\"", "${env.D}");
        assert_eq!(redaction.of(&format!("respond 200 {:?}", "say \"friend\"")), "respond 200 \"${env.D}\"");
        assert_eq!(redaction.of("`Secret-7` at secret-7:80"), "`${env.A}` at ${env.A}:80");
        assert_eq!(redaction.of("Secret-7-and-more"), "${env.B}");
        assert_eq!(redaction.of("wrong: `second line`"), "wrong: `${file.C}`");
        assert_eq!(redaction.of("it is Secret-7-and…"), "it is ${env.A}-and…");
        assert_eq!(redaction.of("it is Secre…"), "it is …");
        assert_eq!(redaction.of("nothing…"), "nothing…");
    }

    #[test]
    fn json_keeps_its_form() {
        let mut redaction = Redaction::default();
        let document = r#"{"true": [true, "so true", {"true": "x"}], "1234": 1234}"#;
        assert_eq!(redaction.of_json(document.to_owned()), document);
        redaction.note("true", "${env.A}");
        redaction.note("1234", "${env.B}");
        let shown: Value = serde_json::from_str(&redaction.of_json(document.to_owned())).unwrap();
        assert_eq!(shown, serde_json::json!({"true": [true, "so ${env.A}", {"true": "x"}], "1234": 1234}));
    }
}
