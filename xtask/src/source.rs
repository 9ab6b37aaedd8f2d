//! File: the text of one file, and its code alone, without comments, strings and tests.

use std::fs;
use std::path::Path;

/// A file of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is, from the root, with `/` between the parts.
    pub path: String,
    /// What is in it; empty when it is not text.
    pub text: String,
    /// Whether its module is declared under `#[cfg(test)]`.
    pub only_in_tests: bool,
}

impl File {
    /// A file that need not exist, for tests of checks.
    #[cfg(test)]
    pub fn new(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned(), only_in_tests: false }
    }

    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is test code, so that rules for the program do not hold in it.
    pub fn is_test(&self) -> bool {
        self.only_in_tests
            || ["tests/", "fuzz/", "bench/"].iter().any(|folder| self.path.starts_with(folder))
            || self.path.contains("/tests/")
            || self.path.contains("/examples/")
            || self.path.ends_with("/tests.rs")
    }

    /// The crate under `crates/` it belongs to, and its module path there: `filter/cors.rs` is `["filter", "cors"]`.
    pub fn module(&self) -> Option<(&str, Vec<&str>)> {
        let (name, inside) = self.path.strip_prefix("crates/")?.split_once("/src/")?;
        let mut parts: Vec<&str> = inside.strip_suffix(".rs")?.split('/').collect();
        if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
            parts.pop();
        }
        Some((name, parts))
    }

    /// The text of its first line when that is `//!` and a sentence.
    pub fn first_line(&self) -> Option<&str> {
        self.text.lines().next()?.strip_prefix("//! ").map(str::trim).filter(|line| !line.is_empty())
    }

    /// Its code: as long as the text, line for line, with blanks for comments, for what is in strings and for tests.
    pub fn code(&self) -> String {
        let mut code = without_comments_and_strings(&self.text);
        blank_tests(&mut code);
        String::from_utf8_lossy(&code).into_owned()
    }
}

/// Every file under `root` but hidden ones and what was built, in order of the path.
pub fn load(root: &Path) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    walk(root, "", &mut files).map_err(|error| format!("cannot read the tree: {error}"))?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_modules(&mut files);
    Ok(files)
}

/// Marks the files of modules that are declared under `#[cfg(test)]`.
fn mark_test_modules(files: &mut [File]) {
    let mut marked = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let stem = file.path.trim_end_matches(".rs");
        let is_root = ["/lib", "/main", "/mod"].iter().any(|name| stem.ends_with(name));
        let folder = if is_root { stem.rsplit_once('/').map_or("", |(folder, _)| folder) } else { stem };
        for (at, mark) in file.text.match_indices("#[cfg(test)]") {
            let item = file.text[at + mark.len()..].trim_start();
            let name =
                item.split_once(';').and_then(|(head, _)| head.rsplit_once("mod ")).map(|(_, name)| name);
            if let Some(name) = name.filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_')) {
                marked.push(format!("{folder}/{name}"));
            }
        }
    }
    for file in files {
        let within = |module: &String| {
            file.path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        file.only_in_tests |= marked.iter().any(within);
    }
}

fn walk(root: &Path, inside: &str, files: &mut Vec<File>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(inside))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
        if name.starts_with('.') || name == "target" || name == "node_modules" || name == "__pycache__" {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            let text = String::from_utf8(fs::read(entry.path())?).unwrap_or_default();
            files.push(File { path, text, only_in_tests: false });
        }
    }
    Ok(())
}

/// The number of the line that byte `at` is on, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// Where `word` stands in `code` as a whole word; `word` may hold `::`, `!` and `.`.
pub fn find_word<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let joins = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).and_then(|at| code.as_bytes().get(at).copied());
        let after = code.as_bytes().get(at + word.len()).copied();
        let starts_with_name = word.starts_with(|first: char| first.is_alphanumeric());
        let ends_with_name = word.ends_with(|last: char| last.is_alphanumeric());
        !(starts_with_name && joins(before) || ends_with_name && joins(after))
    })
}

fn without_comments_and_strings(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (skip, keep_ends) = match rest {
            [b'/', b'/', ..] => (rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()), false),
            [b'/', b'*', ..] => (block_comment(rest), false),
            [b'"', ..] => (string(rest), true),
            [b'r', b'"' | b'#', ..] if !joins_before(bytes, at) => (raw_string(rest), true),
            [b'\'', ..] => (character(text, at), true),
            _ => (0, false),
        };
        if skip > 0 {
            let (from, to) = if keep_ends { (at + 1, at + skip - 1) } else { (at, at + skip) };
            blank(&mut out, from, to);
        }
        at += skip.max(1);
    }
    out
}

fn blank(out: &mut [u8], from: usize, to: usize) {
    for byte in out.iter_mut().take(to).skip(from).filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

/// Whether the byte before `at` belongs to the same word, but for the `b` and `c` of byte and C strings.
fn joins_before(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_prefix = matches!(before(1), b'b' | b'c') && !is_word(before(2));
    is_word(before(1)) && !is_prefix
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[2 + hashes..];
    let len = body.windows(end.len()).position(|window| window == end).unwrap_or(body.len());
    (2 + hashes + len + end.len()).min(rest.len())
}

/// The length of a character literal at `at`; 0 when it is a lifetime.
fn character(text: &str, at: usize) -> usize {
    let mut rest = text[at + 1..].chars();
    match rest.next() {
        Some('\\') => text[at + 3..].find('\'').map_or(0, |end| end + 4),
        Some(one) if rest.next() == Some('\'') => one.len_utf8() + 2,
        _ => 0,
    }
}

/// Blanks each item under `#[cfg(test)]`.
fn blank_tests(code: &mut [u8]) {
    const MARK: &[u8] = b"#[cfg(test)]";
    let mut from = 0;
    while let Some(found) = code[from..].windows(MARK.len()).position(|window| window == MARK) {
        let start = from + found;
        let end = end_of_item(code, start + MARK.len());
        blank(code, start, end);
        from = end;
    }
}

fn end_of_item(code: &[u8], from: usize) -> usize {
    let mut depth = 0usize;
    for (at, &byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_tests_are_blank() {
        let text = "let a = \"x.unwrap()\"; // b.unwrap()\n/* c /* d */ e */ f('\"', 'ä', '\\n', r#\"g\"#, br\"h\");\n\
                    fn i<'a>(j: &'a str) {}\n#[cfg(test)]\nmod tests { fn k() { l.unwrap() } }\nfn m() {}\n";
        let code = File::new("a.rs", text).code();
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), text.lines().count());
        for gone in ["unwrap", "c ", " e", "ä", "\"g", "h\"", "tests", "k()"] {
            assert!(!code.contains(gone), "{gone} in {code}");
        }
        for kept in ["let a = \"", "f('", "fn i<'a>(j: &'a str) {}", "fn m() {}"] {
            assert!(code.contains(kept), "{kept} not in {code}");
        }
    }

    #[test]
    fn modules_declared_for_tests_are_tests() {
        let mut files = [
            File::new("crates/config/src/golden.rs", ""),
            File::new("crates/config/src/lib.rs", "mod text;\n\n#[cfg(test)]\nmod golden;\n"),
            File::new("crates/config/src/text.rs", "#[cfg(test)]\nmod tests {\n    fn f() { a; }\n}\n"),
            File::new("crates/config/src/text/more.rs", ""),
        ];
        mark_test_modules(&mut files);
        assert_eq!(files.map(|file| file.is_test()), [true, false, false, false]);
    }

    #[test]
    fn modules_are_named_after_files() {
        let module =
            |path: &str| File::new(path, "").module().map(|(name, parts)| format!("{name} {parts:?}"));
        assert_eq!(module("crates/relay/src/filter/cors.rs").unwrap(), r#"relay ["filter", "cors"]"#);
        assert_eq!(module("crates/relay/src/filter/mod.rs").unwrap(), r#"relay ["filter"]"#);
        assert_eq!(module("crates/relay/src/lib.rs").unwrap(), "relay []");
        assert_eq!(module("xtask/src/main.rs"), None);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(find_word("a.unwrap() b.unwrap_or(1)", ".unwrap()").count(), 1);
        assert_eq!(find_word("eprintln!(x); println!(y)", "println!").count(), 1);
        assert_eq!(find_word("tokio_util tokio::net", "tokio").collect::<Vec<_>>(), [11]);
    }
}
