//! citations: the files, links and tests that the pages name are there.

use super::Finding;
use crate::source::{File, find_word};
use std::collections::BTreeSet;

/// A word in backquotes that begins like this, and ends like a file, is one.
const FOLDERS: &[&str] = &["crates/", "docs/", "tests/", "fuzz/", "bench/", "xtask/", "packaging/"];
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", "/"];
/// The page whose tables name tests.
const NAMES_TESTS: &str = "docs/rfc.md";
/// The page that names files which the reader is to make.
const MAKES_FILES: &str = "CONTRIBUTING.md";

/// Every link leads somewhere, every file named is there, every test named is one.
pub fn check(files: &[File]) -> Vec<Finding> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        paths.contains(path) || paths.iter().any(|known| known.starts_with(&format!("{path}/")))
    };
    let mut findings = Vec::new();
    for page in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, link) in links(&page.text) {
            if !exists(&resolved(&page.path, link)) {
                findings.push(Finding::at(page, at, format!("the link to {link} leads nowhere")));
            }
        }
        for (at, word) in quoted(&page.text).filter(|_| page.path != MAKES_FILES) {
            let is_file = FOLDERS.iter().any(|folder| word.starts_with(folder));
            let is_file = is_file && ENDINGS.iter().any(|ending| word.ends_with(ending));
            if is_file && !exists(word) {
                findings.push(Finding::at(page, at, format!("there is no {word}")));
            }
            if page.path == NAMES_TESTS && looks_like_a_test(word) && !is_a_test(files, word) {
                findings.push(Finding::at(page, at, format!("there is no test {word}")));
            }
        }
    }
    findings
}

/// The targets of `[text](target)` that are files of ours, without what follows `#`.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("](").filter_map(|(at, _)| {
        let target = text.get(at + 2..)?.split_once(')')?.0;
        let target = target.split_once('#').map_or(target, |(path, _)| path);
        let is_ours = !target.is_empty() && !target.contains("://") && !target.contains(char::is_whitespace);
        is_ours.then_some((at, target))
    })
}

/// What stands in single backquotes on one line.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').flat_map(move |line| {
        let mut within = at;
        at += line.len();
        let parts: Vec<(usize, &str)> = line
            .split('`')
            .map(|part| {
                let here = within;
                within += part.len() + 1;
                (here, part)
            })
            .collect();
        parts.into_iter().skip(1).step_by(2)
    })
}

/// `link` as seen from the root, when it stands in `page`.
fn resolved(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => _ = parts.pop(),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn looks_like_a_test(word: &str) -> bool {
    word.matches('_').count() >= 2
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn is_a_test(files: &[File], name: &str) -> bool {
    let head = format!("fn {name}");
    files.iter().filter(|file| file.is_rust()).any(|file| find_word(&file.text, &head).next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_files_and_tests_that_are_not_there_are_found() {
        let page = "[a](words.md) [b](../README.md#top) [c](manual/) [d](gone.md) [e](https://x.example/y)\n\
                    `crates/wire/src/hop.rs` `crates/wire/src/gone.rs` `a_test_there` `a_test_gone` `no-test`\n";
        let mut files =
            ["docs/words.md", "README.md", "docs/manual/x.md"].map(|path| File::new(path, "")).to_vec();
        files.push(File::new("crates/wire/src/hop.rs", "#[test]\nfn a_test_there() {}\n"));
        files.push(File::new(NAMES_TESTS, page));
        let found: Vec<String> = check(&files).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "docs/rfc.md:1: the link to gone.md leads nowhere",
                "docs/rfc.md:2: there is no crates/wire/src/gone.rs",
                "docs/rfc.md:2: there is no test a_test_gone",
            ]
        );
    }
}
