//! proxy: a proxy without a file.

use crate::boot;
use crate::exit::Exit;
use portunus_control::source::Source;
use std::fmt::Write;

/// Passes on everything that comes to `from` to the servers `to`.
pub fn proxy(from: &str, to: &[String]) -> Result<(), Exit> {
    boot::live(Source::Text { name: "the command line".into(), text: text(from, to) }, boot::introduce)
}

/// The configuration that says so.
fn text(from: &str, to: &[String]) -> String {
    let mut text = String::from("admin off\nlog access json\n");
    let from =
        if from.bytes().all(|byte| byte.is_ascii_digit()) { format!(":{from}") } else { from.to_owned() };
    match from.starts_with(':') {
        true => {
            let _ = writeln!(text, "site {} {{", quoted(&from));
        }
        false => {
            let _ = writeln!(text, "site * {{\n    listen {}", quoted(&from));
        }
    }
    let servers: Vec<_> = to.iter().map(|server| quoted(server)).collect();
    let _ = writeln!(text, "    proxy {}\n}}", servers.join(" "));
    text
}

/// `word` in quotation marks, so that whatever was typed stays one word.
fn quoted(word: &str) -> String {
    let mut quoted = String::from('"');
    for character in word.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_becomes_a_configuration() {
        let to = ["127.0.0.1:3000".to_owned(), "a \"b\" }".to_owned()];
        assert_eq!(
            text(":8080", &to),
            "admin off\nlog access json\nsite \":8080\" {\n    proxy \"127.0.0.1:3000\" \"a \\\"b\\\" }\"\n}\n"
        );
        let site = "site * {\n    listen \"127.0.0.1:80\"\n    proxy \"a:1\"\n}\n";
        assert!(text("127.0.0.1:80", &["a:1".to_owned()]).ends_with(site));
        assert!(text("80", &["a:1".to_owned()]).contains("site \":80\""));
    }
}
