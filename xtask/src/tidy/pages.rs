//! pages: the map, the limits, the golden files and the reference say what the tree says.

use super::Finding;
use crate::source::File;
use crate::{map, reference};
use portunus_message::Limits;

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
            Some((at, row)) if row.split('|').nth(2).and_then(measure) != measure(default) => {
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
    let part = |name: &str| value.get(name).and_then(serde_json::Value::as_u64);
    match (value.as_str(), part("secs"), part("nanos")) {
        (Some(text), ..) => text.to_owned(),
        (_, Some(seconds), Some(nanos)) => format!("{seconds}s{}ms", nanos / 1_000_000),
        _ => value.to_string(),
    }
}

/// What `60s`, `1m30s`, `64KiB` or `100` come to, with what is measured: milliseconds, or bytes and other numbers.
fn measure(text: &str) -> Option<(&'static str, u64)> {
    let mut rest = text.trim();
    let mut sum = ("number", 0);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (what, factor) = match unit {
            "" => ("number", 1),
            "KiB" => ("number", 1 << 10),
            "MiB" => ("number", 1 << 20),
            "GiB" => ("number", 1 << 30),
            "ms" => ("time", 1),
            "s" => ("time", 1000),
            "m" => ("time", 60_000),
            "h" => ("time", 3_600_000),
            _ => return None,
        };
        sum = (what, sum.1 + number.parse::<u64>().ok()? * factor);
        rest = after;
    }
    Some(sum)
}

/// Every file in tests/golden is named by a test, or a test reads all of its folder.
pub fn golden(files: &[File]) -> Vec<Finding> {
    let tests: Vec<&File> =
        files.iter().filter(|file| file.is_rust() && file.text.contains("#[test]")).collect();
    let is_read = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folders = folder.match_indices('/').map(|(at, _)| &folder[..at]).chain([folder]);
        let mut folders = folders.filter(|folder| folder.len() > GOLDEN.len() - 1);
        tests.iter().any(|test| test.text.contains(name))
            || folders.any(|folder| {
                tests.iter().any(|test| test.text.contains("read_dir") && test.text.contains(folder))
            })
    };
    let golden = files.iter().filter(|file| file.path.starts_with(GOLDEN) && !file.is_rust());
    let unread = golden.filter(|file| !file.path.ends_with("README.md") && !is_read(&file.path));
    unread.map(|file| Finding::new(file, 0, "no test reads this file")).collect()
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
    fn defaults_are_compared_by_what_they_come_to() {
        let time = json!({"secs": 90, "nanos": 250_000_000});
        assert_eq!(measure(&shown(&time)), measure("1m30s250ms"));
        assert_eq!(measure(&shown(&json!("1m"))), measure(" 60s "));
        assert_eq!(measure(&shown(&json!(32 << 10))), measure("32KiB"));
        assert_ne!(measure("60s"), measure("60000"));
        assert_eq!(measure("5 parsecs"), None);
    }

    #[test]
    fn a_golden_file_that_nobody_reads_is_found() {
        let golden_file = File::new("tests/golden/mistakes/doubled.conf", "");
        let reads = File::new(
            "crates/config/src/tests.rs",
            "#[test]\nfn f() { read_dir(\"../tests/golden/mistakes\") }\n",
        );
        let idle = File::new(
            "crates/config/src/tests.rs",
            "#[test]\nfn f() { read_dir(\"../tests/golden/good\") }\n",
        );
        assert!(golden(&[golden_file.clone(), reads]).is_empty());
        assert_eq!(golden(&[golden_file, idle]).len(), 1);
    }

    #[test]
    fn the_reference_may_not_be_older_than_the_lists() {
        let stale = File::new("docs/manual/reference/none-such.md", "x");
        assert!(reference(&[stale]).iter().any(|finding| finding.path.ends_with("none-such.md")));
    }
}
