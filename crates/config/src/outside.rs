//! What a configuration takes from outside itself: the environment, and files beside it. The only file that does I/O.

use crate::opened;
use crate::redact::Redaction;
use portunus_relay::plan::Text;
use portunus_relay::tls::Certificates;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// How many files one configuration may read.
const FILES_MAX: usize = 100_000;
/// How much it may read in all.
const BYTES_MAX: usize = 512 << 20;
/// How long a file may be that is filled into a value.
const VALUE_BYTES_MAX: usize = 16 << 20;

/// The environment, as the program hands it over; only the program reads the real one.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The value of a variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the program can speak with providers of DNS itself.
    pub has_providers: bool,
}

/// What is wrong with a value, before it is known where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Why it cannot be.
    pub reason: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Wrong {
    /// Wrong because of `reason`.
    pub fn new(reason: impl Into<String>) -> Wrong {
        Wrong { reason: reason.into(), hint: None }
    }

    /// The same with a hint.
    pub fn hint(self, hint: impl Into<String>) -> Wrong {
        Wrong { hint: Some(hint.into()), ..self }
    }
}

/// Reads files for a configuration, remembers which, and keeps to the bounds.
pub struct Outside<'a> {
    /// What surrounds the program.
    pub environment: Environment<'a>,
    /// The directory of each configuration file, by its number.
    directories: Vec<PathBuf>,
    read: BTreeSet<PathBuf>,
    /// What was looked for in directories: the directory with a pattern for names in it.
    looked: BTreeSet<PathBuf>,
    count: usize,
    bytes: usize,
    /// The certificates that were read. They are watched by themselves: another one is no other configuration.
    pub certificates: Certificates,
    /// What was filled into values, and must not be shown.
    pub redaction: Redaction,
}

impl<'a> Outside<'a> {
    /// Nothing has been read yet.
    pub fn new(environment: Environment<'a>) -> Outside<'a> {
        Outside {
            environment,
            directories: Vec::new(),
            read: BTreeSet::new(),
            looked: BTreeSet::new(),
            count: 0,
            bytes: 0,
            certificates: Certificates::default(),
            redaction: Redaction::default(),
        }
    }

    /// The next configuration file is `path`: what it names is relative to its directory.
    pub fn enter(&mut self, path: &Path) {
        self.directories.push(path.parent().map(Path::to_owned).unwrap_or_default());
    }

    /// All files that were read, once each.
    pub fn files(&self) -> Vec<PathBuf> {
        self.read.iter().cloned().collect()
    }

    /// Every pattern that was looked for, at the end of the directory in which it was.
    pub fn patterns(&self) -> Vec<PathBuf> {
        self.looked.iter().cloned().collect()
    }

    /// `path` as configuration file number `file` means it.
    pub fn resolve(&self, file: u32, path: &str) -> PathBuf {
        self.directories
            .get(file as usize)
            .map(|directory| directory.join(path))
            .unwrap_or_else(|| path.into())
    }

    /// `path` as configuration file number `file` means it, and as the first one would write it.
    pub fn name(&self, file: u32, path: &str) -> PathBuf {
        let whole = self.resolve(file, path);
        let here = self.directory();
        whole.strip_prefix(here).map(Path::to_owned).unwrap_or(whole)
    }

    /// Where the first configuration file is.
    pub fn directory(&self) -> &Path {
        self.directories.first().map_or(Path::new(""), |directory| directory)
    }

    /// A whole file that belongs to no configuration alone: who needs it looks after it. Its name is that of [`Outside::name`].
    pub fn read_bytes(&mut self, name: &Path, bytes_max: usize) -> Result<Vec<u8>, Wrong> {
        let path = self.directory().join(name);
        self.take(opened::open(&path), &name.display().to_string(), bytes_max)
    }

    /// The certificates, as DER, of those whom the system believes.
    pub fn system_roots(&self) -> Vec<Vec<u8>> {
        let found = rustls_native_certs::load_native_certs();
        found.certs.into_iter().map(|certificate| certificate.as_ref().to_vec()).collect()
    }

    /// A whole file as text.
    pub fn read(&mut self, path: &Path, bytes_max: usize) -> Result<String, Wrong> {
        self.text(path, opened::open(path), bytes_max)
    }

    /// The same, or all that comes out of a pipe.
    pub fn read_stream(&mut self, path: &Path, bytes_max: usize) -> Result<String, Wrong> {
        self.text(path, opened::open_stream(path), bytes_max)
    }

    fn text<R: Read>(
        &mut self,
        path: &Path,
        opened: std::io::Result<R>,
        bytes_max: usize,
    ) -> Result<String, Wrong> {
        let shown = path.display();
        let bytes = self.take(opened, &shown.to_string(), bytes_max)?;
        self.read.insert(path.to_owned());
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or(&[]);
            let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            Wrong::new(format!("`{shown}` is not UTF-8 text (line {line})"))
        })
    }

    fn take<R: Read>(
        &mut self,
        opened: std::io::Result<R>,
        shown: &str,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Wrong> {
        self.count += 1;
        if self.count > FILES_MAX || self.bytes > BYTES_MAX {
            return Err(Wrong::new(format!(
                "the configuration reads more than {FILES_MAX} files or {} MiB",
                BYTES_MAX >> 20
            )));
        }
        let failed =
            |error: std::io::Error| Wrong::new(format!("cannot read `{shown}`: {}", plainly(&error)));
        let mut bytes = Vec::new();
        opened.map_err(failed)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        self.bytes += bytes.len();
        if bytes.len() > bytes_max {
            return Err(Wrong::new(format!("`{shown}` is longer than {} MiB", bytes_max >> 20)));
        }
        Ok(bytes)
    }

    /// The text of a file that a value stands for, without the line break at its end.
    pub fn read_value(&mut self, file: u32, path: &str) -> Result<String, Wrong> {
        let path = self.resolve(file, path);
        let mut text = self.read(&path, VALUE_BYTES_MAX)?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }

    /// Fills in `${env.NAME}` and `${file.PATH}`; every other `${…}` is left for the request.
    pub fn fill(&mut self, file: u32, written: &str) -> Result<Text, Wrong> {
        let mut value = String::new();
        let mut rest = written;
        let mut filled = false;
        while let Some((before, name, after)) = next_name(rest) {
            value.push_str(before);
            let reference = format!("${{{name}}}");
            let found = if let Some(variable) = name.strip_prefix("env.") {
                Some(
                    (self.environment.variable)(variable)
                        .ok_or_else(|| Wrong::new(format!("the environment has no variable `{variable}`")))?,
                )
            } else if let Some(path) = name.strip_prefix("file.") {
                Some(self.read_value(file, path)?)
            } else {
                None
            };
            if let Some(found) = &found {
                filled = true;
                self.redaction.note(found, &reference);
            }
            let found = found.unwrap_or(reference);
            value.push_str(&found);
            rest = after;
        }
        value.push_str(rest);
        Ok(Text { value, written: filled.then(|| written.to_owned()) })
    }

    /// The files that `pattern` names, sorted; a name without wildcards names itself.
    pub fn matching(&mut self, file: u32, pattern: &str) -> Result<Vec<PathBuf>, Wrong> {
        let mut found = vec![PathBuf::new()];
        for part in self.resolve(file, pattern).components() {
            let name = part.as_os_str().to_string_lossy();
            if !name.contains(['*', '?']) {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            let mut next = Vec::new();
            for directory in found {
                let place = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
                self.looked.insert(directory.join(&*name));
                let names = names_in(place).map_err(|error| {
                    let (place, why) = (place.display(), plainly(&error));
                    Wrong::new(format!("cannot read the directory `{place}`: {why}"))
                })?;
                let names = names.into_iter().filter(|entry| is_meant(&name, &entry.to_string_lossy()));
                next.extend(names.map(|entry| directory.join(entry)));
                if next.len() > FILES_MAX {
                    return Err(Wrong::new(format!("`{pattern}` fits more than {FILES_MAX} files")));
                }
            }
            found = next;
        }
        found.sort();
        Ok(found)
    }
}

/// What stands in a directory. One that is not there, or is none, holds nothing.
fn names_in(directory: &Path) -> std::io::Result<Vec<OsString>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// The text before the next `${…}`, what stands in it, and the text behind it.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

/// What stands in each `${…}` that neither the environment nor a file fills in.
pub fn left(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let names = std::iter::from_fn(move || {
        let (_, name, after) = next_name(rest)?;
        rest = after;
        Some(name)
    });
    names.filter(|name| !name.starts_with("env.") && !name.starts_with("file."))
}

/// Whether a file of this name is one of those that a pattern of an `include` means.
pub fn is_meant(pattern: &str, name: &str) -> bool {
    fits(pattern, name) && (!name.starts_with('.') || pattern.starts_with('.'))
}

/// Whether `name` fits a pattern in which `*` stands for any text and `?` for any character.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when the last `*` has to stand for one character more.
    let mut again: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                again = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || Some(&c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match again {
                Some((star, at)) => {
                    again = Some((star, at + 1));
                    p = star + 1;
                    n = at + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or(&[]).iter().all(|&c| c == '*')
}

/// An error of the operating system without its number.
fn plainly(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name) in
            [("*.conf", "a.conf"), ("*", "x"), ("a?c", "abc"), ("*a*b*", "xxaxxbxx"), ("a*", "a"), ("**", "")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.conf", "a.conf~"), ("a?c", "ac"), ("?", ""), ("a*b", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_told() {
        let mut outside = Outside::new(Environment { variable: &|_| None, has_providers: true });
        for nothing in ["/nonexistent/*.conf", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml/*")] {
            assert_eq!(outside.matching(0, nothing), Ok(Vec::new()));
        }
        // Root may read every directory, but nobody may read one with such a name.
        let wrong = outside.matching(0, &format!("/{}/*.conf", "x".repeat(300))).unwrap_err();
        assert!(wrong.reason.starts_with("cannot read the directory `/xxx"), "{}", wrong.reason);
    }

    #[test]
    fn secrets_are_filled_in_and_the_rest_is_left() {
        let variable = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        let mut outside = Outside::new(Environment { variable: &variable, has_providers: true });
        let text = outside.fill(0, "Bearer ${env.TOKEN} ${client.ip} ${").unwrap();
        assert_eq!(text.value, "Bearer s3cret ${client.ip} ${");
        assert_eq!(text.shown(), "Bearer ${env.TOKEN} ${client.ip} ${");
        assert_eq!(outside.fill(0, "${host}").unwrap().written, None);
        let wrong = outside.fill(0, "${env.TOKNE}").unwrap_err();
        assert_eq!(wrong.reason, "the environment has no variable `TOKNE`");
        assert!(outside.fill(0, "${file./nonexistent/file}").is_err());
    }
}
