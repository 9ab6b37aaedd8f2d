//! calls: what the program does not call, and where `#[cfg(feature)]` does not stand.

use super::Finding;
use crate::source::{File, find_word, line_of};

const PRINTS: &[&str] = &["println!", "eprintln!", "print!", "eprint!", "dbg!"];
const PANICS: &[&str] = &[".unwrap()", ".expect(", ".unwrap_err()", ".expect_err("];
/// How far above a call its `// Invariant:` may begin.
const INVARIANT_LINES: usize = 4;

/// No printing outside the program, no unwrapping without an invariant, no clock in the relay but its own.
pub fn banned(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_test()) {
        let code = file.code();
        let in_crates = file.path.starts_with("crates/");
        if in_crates && !file.path.starts_with("crates/portunus/") {
            for word in PRINTS {
                let calls = find_word(&code, word);
                findings.extend(
                    calls.map(|at| Finding::at(file, at, format!("`{word}`: only the program prints"))),
                );
            }
        }
        for word in PANICS {
            let calls = find_word(&code, word).filter(|&at| !has_invariant(&file.text, at));
            let what = format!("`{word}` without `// Invariant:` above it");
            findings.extend(calls.map(|at| Finding::at(file, at, what.clone())));
        }
        if file.path.starts_with("crates/relay/") && !file.path.ends_with("/clock.rs") {
            for word in ["Instant::now", "SystemTime::now", "UNIX_EPOCH"] {
                let calls = find_word(&code, word);
                findings.extend(
                    calls.map(|at| Finding::at(file, at, format!("`{word}`: ask the worker's clock"))),
                );
            }
        }
    }
    findings
}

/// Whether one of the lines from shortly above byte `at` to its own says why this cannot fail.
fn has_invariant(text: &str, at: usize) -> bool {
    let line = line_of(text, at);
    text.lines()
        .take(line)
        .skip(line.saturating_sub(INVARIANT_LINES + 1))
        .any(|line| line.contains("// Invariant:"))
}

/// `#[cfg(feature)]` stands on a `mod` line or a list entry, never inside a function.
pub fn features(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && file.path.starts_with("crates/")) {
        let code = file.code();
        for at in find_word(&code, "feature").filter(|&at| is_cfg(&code[..at])) {
            let line = line_of(&code, at);
            let item = code.lines().skip(line - 1).map(after_attribute).find(|rest| !rest.is_empty());
            if !item.is_some_and(is_module_or_entry) {
                findings.push(Finding::new(
                    file,
                    line,
                    "a feature may choose a `mod` line or a list entry, nothing else",
                ));
            }
        }
    }
    findings
}

fn is_cfg(before: &str) -> bool {
    ["cfg(", "cfg!(", "cfg_attr(", "any(", "all(", "not("].iter().any(|call| before.ends_with(call))
}

fn after_attribute(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with("#[") { line.split_once(")]").map_or("", |(_, rest)| rest.trim()) } else { line }
}

fn is_module_or_entry(item: &str) -> bool {
    let declares =
        ["mod ", "pub mod ", "pub(crate) mod ", "pub(super) mod "].iter().any(|word| item.starts_with(word));
    declares
        || item
            .strip_suffix(',')
            .is_some_and(|entry| entry.chars().all(|c| c.is_alphanumeric() || "_:".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: fn(&[File]) -> Vec<Finding>, path: &str, text: &str) -> usize {
        check(&[File::new(path, text)]).len()
    }

    #[test]
    fn banned_calls_are_found() {
        assert_eq!(found(banned, "crates/control/src/a.rs", "fn f() { println!(); dbg!(1); }\n"), 2);
        assert_eq!(found(banned, "crates/portunus/src/a.rs", "fn f() { println!() }\n"), 0);
        assert_eq!(
            found(
                banned,
                "crates/relay/src/a.rs",
                "fn f() { a.unwrap(); b.expect(\"c\"); d.unwrap_or(1) }\n"
            ),
            2
        );
        assert_eq!(found(banned, "crates/relay/src/a.rs", "let now = Instant::now();\n"), 1);
        assert_eq!(found(banned, "crates/relay/src/clock.rs", "let now = Instant::now();\n"), 0);
    }

    #[test]
    fn an_invariant_or_a_test_excuses_an_unwrap() {
        assert_eq!(
            found(
                banned,
                "crates/relay/src/a.rs",
                "// Invariant: it was put there above.\nlet a = b.unwrap();\n"
            ),
            0
        );
        assert_eq!(
            found(banned, "crates/relay/src/a.rs", "#[cfg(test)]\nmod tests { fn f() { a.unwrap() } }\n"),
            0
        );
        assert_eq!(found(banned, "crates/relay/src/a/tests.rs", "fn f() { a.unwrap() }\n"), 0);
    }

    #[test]
    fn features_choose_modules_and_entries_only() {
        let good = "#[cfg(feature = \"waf\")]\nmod waf;\nconst LIST: &[E] = &[\n    cors::ENTRY,\n    #[cfg(feature = \"waf\")]\n    waf::ENTRY,\n];\n";
        assert_eq!(found(features, "crates/relay/src/filter/mod.rs", good), 0);
        assert_eq!(
            found(features, "crates/relay/src/a.rs", "fn f() {\n    #[cfg(feature = \"x\")]\n    g();\n}\n"),
            1
        );
        assert_eq!(
            found(features, "crates/relay/src/a.rs", "fn f() { if cfg!(feature = \"x\") { g() } }\n"),
            1
        );
    }
}
