//! map: the tree of the source with each file's first line, as it stands in ARCHITECTURE.md.

use crate::source::{self, File};
use std::collections::BTreeMap;
use std::path::Path;

/// Where the map stands.
pub const PAGE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- map: written by `cargo xtask map`, from the first line of each file -->\n";
const END: &str = "<!-- end of the map -->";
/// The folders on the map, in the order of reading.
const PLACES: &[&str] = &[
    "crates/message/src",
    "crates/wire/src",
    "crates/relay/src",
    "crates/config/src",
    "crates/control/src",
    "crates/portunus/src",
    "xtask/src",
    "tests",
    "fuzz",
    "bench",
];

/// Writes the map into the page.
pub fn write(root: &Path) -> Result<(), String> {
    let files = source::load(root)?;
    let page = files.iter().find(|file| file.path == PAGE).ok_or(format!("there is no {PAGE}"))?;
    let text = replaced(&page.text, &render(&files))?;
    std::fs::write(root.join(PAGE), text).map_err(|error| format!("{PAGE}: {error}"))
}

/// `page` with `map` between the marks.
pub fn replaced(page: &str, map: &str) -> Result<String, String> {
    let (before, rest) = page.split_once(BEGIN).ok_or(format!("{PAGE} has no line {}", BEGIN.trim()))?;
    let (_, after) = rest.split_once(END).ok_or(format!("{PAGE} has no line {END}"))?;
    Ok(format!("{before}{BEGIN}{map}{END}{after}"))
}

/// The map: a folder's first file is the one that speaks for it, then its folders, then its files.
pub fn render(files: &[File]) -> String {
    let mut lines = Vec::new();
    for place in PLACES {
        let mut folder = Folder::default();
        for file in files.iter().filter(|file| file.is_rust()) {
            if let Some(inside) = file.path.strip_prefix(place).and_then(|rest| rest.strip_prefix('/')) {
                folder.add(inside, file.first_line().unwrap_or("(its first line says nothing)"));
            }
        }
        if !folder.is_empty() {
            lines.push((format!("{place}/"), String::new()));
            folder.render(1, &mut lines);
        }
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines =
        lines.iter().map(|(name, about)| format!("{name:width$}  {about}").trim_end().to_owned() + "\n");
    format!("```text\n{}```\n", lines.collect::<String>())
}

#[derive(Default)]
struct Folder {
    folders: BTreeMap<String, Folder>,
    files: BTreeMap<String, String>,
}

impl Folder {
    fn is_empty(&self) -> bool {
        self.folders.is_empty() && self.files.is_empty()
    }

    fn add(&mut self, path: &str, about: &str) {
        match path.split_once('/') {
            Some((folder, rest)) => self.folders.entry(folder.to_owned()).or_default().add(rest, about),
            None => _ = self.files.insert(path.to_owned(), about.to_owned()),
        }
    }

    fn render(&self, depth: usize, lines: &mut Vec<(String, String)>) {
        let indent = "  ".repeat(depth);
        let speaks = |name: &str| matches!(name, "lib.rs" | "main.rs" | "mod.rs");
        for (name, about) in self.files.iter().filter(|(name, _)| speaks(name)) {
            lines.push((format!("{indent}{name}"), about.clone()));
        }
        for (name, folder) in &self.folders {
            lines.push((format!("{indent}{name}/"), String::new()));
            folder.render(depth + 1, lines);
        }
        for (name, about) in self.files.iter().filter(|(name, _)| !speaks(name)) {
            lines.push((format!("{indent}{name}"), about.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_files_and_first_lines_beside_them() {
        let files = [
            File::new("crates/relay/src/hosts.rs", "//! Hosts: who may have it.\n"),
            File::new("crates/relay/src/lib.rs", "//! The data plane.\n"),
            File::new("crates/relay/src/pick/mod.rs", "//! Which host.\n"),
            File::new("crates/relay/src/pick/hash.rs", "use x;\n"),
            File::new("README.md", "# x\n"),
        ];
        let expected = "```text\ncrates/relay/src/\n  lib.rs           The data plane.\n  pick/\n    \
                        mod.rs         Which host.\n    hash.rs        (its first line says nothing)\n  \
                        hosts.rs         Hosts: who may have it.\n```\n";
        assert_eq!(render(&files), expected);
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("a\n{BEGIN}old\n{END}\nb\n");
        assert_eq!(replaced(&page, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}\nb\n"));
        assert!(replaced("a\n", "new\n").is_err());
    }
}
