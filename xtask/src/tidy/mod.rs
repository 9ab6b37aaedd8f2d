//! tidy: the rules of the project's structure, as checks that fail; it counts no lines.

mod arrows;
mod calls;
mod citations;
mod examples;
mod names;
mod pages;

use crate::source::{self, File};
use std::fmt;
use std::path::Path;

/// A check: from files to what is wrong with them.
type Check = fn(&[File]) -> Vec<Finding>;

/// All checks. Locks held across an await are not here: clippy's `await_holding_lock` finds them.
const CHECKS: &[(&str, Check)] = &[
    ("crates use only those before them", arrows::crates),
    ("modules of the relay use only what the table allows", arrows::relay),
    ("no two modules import each other", arrows::cycles),
    ("no filter imports a filter, no policy a policy", arrows::siblings),
    ("names stay in the folders they belong to", names::banned),
    ("calls that are not made", calls::banned),
    ("features choose modules and list entries", calls::features),
    ("each file says in its first line what it is", pages::first_lines),
    ("the map is the tree", pages::map),
    ("every limit has a row", pages::limits),
    ("every golden file is read by a test", pages::golden),
    ("the reference is what the lists say", pages::reference),
    ("what the pages cite is there", citations::check),
    ("the configurations that the pages show load", examples::check),
];

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// The line, from 1; 0 when it is about the whole file.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Finding {
    fn new(file: &File, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: file.path.clone(), line, what: what.into() }
    }

    /// A finding at byte `at` of the file.
    fn at(file: &File, at: usize, what: impl Into<String>) -> Finding {
        Finding::new(file, source::line_of(&file.text, at), what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// How many checks passed, and what the others found.
pub struct Report {
    /// Checks that found nothing.
    pub passed: usize,
    /// Checks that found something.
    pub failed: usize,
    /// What they found, by check.
    pub text: String,
}

/// Runs all checks over `files`.
pub fn check(files: &[File]) -> Report {
    let mut report = Report { passed: 0, failed: 0, text: String::new() };
    for (rule, check) in CHECKS {
        let mut findings = check(files);
        findings.dedup();
        if findings.is_empty() {
            report.passed += 1;
            continue;
        }
        report.failed += 1;
        report.text += &format!("not tidy: {rule}\n");
        report.text.extend(findings.iter().map(|finding| format!("  {finding}\n")));
    }
    report
}

/// Runs all checks over the tree and prints what they found.
pub fn run(root: &Path) -> Result<(), String> {
    let report = check(&source::load(root)?);
    print!("{}", report.text);
    if let Some(why) = crate::profile::stale(root) {
        println!("note: {why}");
    }
    println!("{} passed, {} failed", report.passed, report.failed);
    if report.failed == 0 { Ok(()) } else { Err("the tree is not tidy".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let report = check(&source::load(crate::root()).unwrap());
        assert_eq!(report.failed, 0, "\n{}", report.text);
    }
}
