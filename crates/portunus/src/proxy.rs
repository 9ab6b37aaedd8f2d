//! proxy: a proxy without a file.

use crate::boot;
use crate::exit::Exit;
use portunus_config::Mistakes;
use portunus_control::source::Source;
use std::fmt::Write;

/// Passes on everything that comes to `from` to the servers `to`.
pub fn proxy(from: &str, to: &[String]) -> Result<(), Exit> {
    let text = text(from, to);
    let source = Source::Text { name: "the command line".into(), text: text.clone() };
    if let Some(server) = to.iter().find(|server| !server.contains([':', '/'])) {
        let host = if server.bytes().all(|byte| byte.is_ascii_digit()) { "127.0.0.1" } else { server };
        let port = if host == server { "80" } else { server };
        return Err(Exit::usage(format_args!(
            "--to: `{server}` has no host or no port; write `{host}:{port}`"
        )));
    }
    source.load(&boot::environment).map_err(|mistakes| Exit::usage(wrong(&text, &mistakes)))?;
    boot::live(source, boot::introduce)
}

/// What is wrong with what was typed; the lines of `text`, which nobody has written, are not named.
fn wrong(text: &str, mistakes: &Mistakes) -> String {
    let line_of_servers = text.lines().position(|line| line.starts_with("    proxy ")).map_or(0, |at| at + 1);
    let told = mistakes.0.iter().map(|mistake| {
        let option = if mistake.line == line_of_servers { "--to" } else { "--from" };
        let hint = mistake.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{option}: {}{hint}", mistake.reason)
    });
    told.collect::<Vec<_>>().join("\n")
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

    #[test]
    fn what_is_typed_wrongly_is_told_by_its_option() {
        for (from, to, told) in [
            (":8080", "3000", "--to: `3000` has no host or no port; write `127.0.0.1:3000`"),
            (":8080", "localhost", "--to: `localhost` has no host or no port; write `localhost:80`"),
            (":8080", "ftp://a:1", "--to: "),
            ("127.0.0.1", "a:1", "--from: "),
            (":99999", "a:1", "--from: "),
        ] {
            let exit = format!("{:?}", proxy(from, &[to.to_owned()]).unwrap_err());
            assert!(exit.contains("code: 2") && exit.contains(told), "{exit}");
        }
    }
}
