//! pages: the map, the limits, the golden files and the reference say what the tree says.

use super::Finding;
use crate::source::File;
use crate::{map, reference};
use portunus_message::Limits;
use std::time::Duration;

const LIMITS_PAGE: &str = "docs/limits.md";
const GOLDEN: &str = "tests/golden/";

/// Every Rust file begins with `//!` and a sentence.
pub fn first_lines(files: &[File]) -> Vec<Finding> {
    let silent = files.iter().filter(|file| file.is_rust() && file.first_line().is_none());
    silent.map(|file| Finding::new(file, 1, "the first line shall be `//!` and one sentence")).collect()
}

/// The map in ARCHITECTURE.md is the tree on disk with its first lines.
pub fn map(files: &[File]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == map::PAGE) else {
        return vec![missing(map::PAGE)];
    };
    match map::replaced(&page.text, &map::render(files)) {
        Err(reason) => vec![Finding::new(page, 0, reason)],
        Ok(text) if text == page.text => Vec::new(),
        Ok(text) => {
            let line = 1 + page.text.lines().zip(text.lines()).take_while(|(old, new)| old == new).count();
            let new = text.lines().nth(line - 1).unwrap_or("").trim();
            vec![Finding::new(page, line, format!("the tree says `{new}`; run `cargo xtask map`"))]
        }
    }
}

/// Every field of `Limits` has a row with its name and its default.
pub fn limits(files: &[File]) -> Vec<Finding> {
    let defaults = serde_json::to_value(Limits::default()).unwrap_or_default();
    let defaults = defaults.as_object().into_iter().flatten();
    let names: Vec<(String, String)> = defaults.map(|(name, value)| (name.clone(), shown(value))).collect();
    rows(files, &names)
}

fn rows(files: &[File], limits: &[(String, String)]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == LIMITS_PAGE) else {
        return vec![missing(LIMITS_PAGE)];
    };
    let mut findings = Vec::new();
    for (name, default) in limits {
        let start = format!("| `{name}` |");
        match page.text.lines().enumerate().find(|(_, line)| line.starts_with(&start)) {
            None => findings.push(Finding::new(page, 0, format!("there is no row `{start} {default} | …`"))),
            Some((at, row)) if row.split('|').nth(2).map(str::trim) != Some(default) => {
                findings.push(Finding::new(page, at + 1, format!("the default of `{name}` is {default}")));
            }
            Some(_) => {}
        }
    }
    let known = |row: &str| limits.iter().any(|(name, _)| row.starts_with(&format!("| `{name}` |")));
    let surplus = page.text.lines().enumerate().filter(|(_, row)| row.starts_with("| `") && !known(row));
    findings.extend(surplus.map(|(at, row)| Finding::new(page, at + 1, format!("no such limit: {row}"))));
    findings
}

/// A default as the configuration would write it.
fn shown(value: &serde_json::Value) -> String {
    if let Some(number) = value.as_u64() {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let unit = units.iter().find(|(_, size)| number >= *size && number % size == 0);
        return unit.map_or(number.to_string(), |(unit, size)| format!("{}{unit}", number / size));
    }
    let part = |name: &str| value.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let duration = Duration::from_secs(part("secs")) + Duration::from_nanos(part("nanos"));
    match (duration.as_millis(), duration.as_secs()) {
        (milliseconds, _) if milliseconds % 1000 != 0 => format!("{milliseconds}ms"),
        (_, seconds) if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (_, seconds) if seconds > 60 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        (_, seconds) => format!("{seconds}s"),
    }
}

/// Every file in tests/golden is named by a test, or its folder is.
pub fn golden(files: &[File]) -> Vec<Finding> {
    let tests: Vec<&File> =
        files.iter().filter(|file| file.is_rust() && file.text.contains("#[test]")).collect();
    let named = |what: &str| tests.iter().any(|test| test.text.contains(what));
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with(GOLDEN) && !file.is_rust()) {
        let inside = &file.path[GOLDEN.len()..];
        let read = match inside.rsplit_once('/') {
            Some((folder, name)) => {
                named(&format!("golden/{folder}")) || named(&format!("\"{folder}\"")) || named(name)
            }
            None => named(inside),
        };
        if !read && !inside.ends_with("README.md") {
            findings.push(Finding::new(file, 0, "no test reads this file"));
        }
    }
    findings
}

/// The pages in docs/manual/reference are what the lists of directives say.
pub fn reference(files: &[File]) -> Vec<Finding> {
    let outdated = reference::outdated(files, &portunus_config::reference());
    let what = "is not what the lists say; run `cargo xtask reference`";
    let path = |name: &String| format!("{}/{name}", reference::FOLDER);
    outdated.iter().map(|name| Finding { path: path(name), line: 0, what: what.to_owned() }).collect()
}

fn missing(path: &str) -> Finding {
    Finding { path: path.to_owned(), line: 0, what: "there is no such page".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_without_a_first_sentence_is_found() {
        let files = [
            File::new("a.rs", "//! a: b.\n"),
            File::new("b.rs", "use a;\n"),
            File::new("c.rs", "//!\n//! c\n"),
        ];
        assert_eq!(first_lines(&files).len(), 2);
    }

    #[test]
    fn a_map_that_is_not_the_tree_is_found() {
        let page = "# x\n<!-- map: written by `cargo xtask map`, from the first line of each file -->\n<!-- end of the map -->\n";
        let file = File::new("crates/wire/src/lib.rs", "//! The grammars.\n");
        let files = [File::new(map::PAGE, page), file.clone()];
        assert_eq!(map(&files).len(), 1);
        let text = map::replaced(page, &map::render(&files)).unwrap();
        assert!(super::map(&[File::new(map::PAGE, &text), file]).is_empty());
        assert_eq!(super::map(&[]).len(), 1);
    }

    #[test]
    fn limits_without_a_row_with_a_wrong_default_and_rows_without_a_limit_are_found() {
        let limits = [("a-b".to_owned(), "10s".to_owned()), ("c".to_owned(), "1KiB".to_owned())];
        let page = |text: &str| [File::new(LIMITS_PAGE, text)];
        assert!(rows(&page("| `a-b` | 10s | x |\n| `c` | 1KiB | y |\n"), &limits).is_empty());
        assert_eq!(rows(&page("| `a-b` | 11s | x |\n| `d` | 1 | y |\n"), &limits).len(), 3);
    }

    #[test]
    fn defaults_are_written_as_in_the_configuration() {
        let all = [
            json!({"secs": 90, "nanos": 0}),
            json!({"secs": 3600, "nanos": 0}),
            json!({"secs": 0, "nanos": 250_000_000}),
        ];
        assert_eq!(all.map(|value| shown(&value)), ["90s", "1h", "250ms"]);
        assert_eq!(
            [json!(0), json!(100), json!(32 << 10), json!(100u64 << 20)].map(|value| shown(&value)),
            ["0", "100", "32KiB", "100MiB"]
        );
    }

    #[test]
    fn a_golden_file_that_nobody_reads_is_found() {
        let golden_file = File::new("tests/golden/mistakes/doubled.conf", "");
        let reads =
            File::new("crates/config/src/tests.rs", "#[test]\nfn f() { each(\"golden/mistakes\") }\n");
        let idle = File::new("crates/config/src/tests.rs", "#[test]\nfn f() { each(\"golden/good\") }\n");
        assert!(golden(&[golden_file.clone(), reads]).is_empty());
        assert_eq!(golden(&[golden_file, idle]).len(), 1);
    }

    #[test]
    fn the_reference_may_not_be_older_than_the_lists() {
        let stale = File::new("docs/manual/reference/none-such.md", "x");
        assert!(reference(&[stale]).iter().any(|finding| finding.path.ends_with("none-such.md")));
    }
}
