//! examples: the configurations that the pages show can be loaded.

use super::Finding;
use crate::source::File;
use portunus_config::{Environment, load_text};

/// Begins an example, up to the next fence.
const FENCE: &str = "```portunus\n";

/// What an example may leave out, because the page has said it before: it loads if it does within one of these.
const AROUND: &[(&str, &str)] = &[
    ("", ""),
    (POOLS, ""),
    ("", "\nsite * { listen 127.0.0.1:1; respond 200 \"ok\" }\n"),
    ("pool web { server 127.0.0.1:1 }\nsite * {\nlisten 127.0.0.1:1\n", "\nproxy web\n}\n"),
];
const POOLS: &str = "pool web { server 127.0.0.1:1 }\npool shop { server 127.0.0.1:1 }\npool shop-next { server 127.0.0.1:1 }\n";

/// Every example loads. One that needs files of its own stands in a fence without a name.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, _) in page.text.match_indices(FENCE) {
            let example = &page.text[at + FENCE.len()..];
            let example = unindented(example.split("```").next().unwrap_or(example));
            if let Some(mistakes) = mistakes_of(&example) {
                findings.push(Finding::at(page, at, format!("the example does not load:\n{mistakes}")));
            }
        }
    }
    findings
}

/// An example within a list stands further right; so does its fence, which ends up as blanks on the last line.
fn unindented(example: &str) -> String {
    let indent = example.lines().next().map_or(0, |line| line.len() - line.trim_start().len());
    let lines = example.lines().map(|line| line.get(indent..).unwrap_or("").to_owned() + "\n");
    lines.collect()
}

/// What is wrong with it, if nothing around it makes it right: the shortest complaint of all attempts.
fn mistakes_of(example: &str) -> Option<String> {
    let environment =
        Environment { variable: &|_| Some("what-the-environment-says".to_owned()), has_providers: true };
    let mut complaints = Vec::new();
    for (before, after) in AROUND {
        match load_text("example", &format!("{before}{example}{after}"), &environment) {
            Ok(_) => return None,
            Err(mistakes) => complaints.push(mistakes.to_string()),
        }
    }
    complaints.into_iter().min_by_key(String::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(example: &str) -> usize {
        check(&[File::new("docs/page.md", &format!("# x\n\n{example}\n"))]).len()
    }

    #[test]
    fn an_example_that_does_not_load_is_found() {
        assert_eq!(found("```portunus\nsite :8080 { proxy 127.0.0.1:3000 }\n```"), 0);
        assert_eq!(found("```portunus\nroute /a/* { proxy web }\n```"), 0);
        assert_eq!(found("```portunus\ngrace 30s\n```"), 0);
        assert_eq!(
            found(
                "- x\n\n  ```portunus\n  pool a {\n      server 127.0.0.1:1\n  }\n  site :80 { proxy a }\n  ```"
            ),
            0
        );
        assert_eq!(found("```portunus\nsite :8080 { poxy 127.0.0.1:3000 }\n```"), 1);
        assert_eq!(found("```\nanything else\n```"), 0);
    }
}
