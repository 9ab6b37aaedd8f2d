//! Tree → what the operator wrote: includes put in their place, secrets filled in, nothing assumed.

use crate::findings::{Findings, Sources, Span};
use crate::mistake::did_you_mean;
use crate::outside::{Outside, Wrong};
use crate::text::{self, Item, Statement, Tree, Word};
use portunus_relay::plan::Text;
use std::path::{Path, PathBuf};

/// Files that include files that include files.
const INCLUDES_MAX: usize = 16;

/// A statement, without comments, with its values filled in.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its name.
    pub name: Box<str>,
    /// Where the name stands.
    pub span: Span,
    /// The words behind it.
    pub words: Vec<Value>,
    /// Its options, in the order written.
    pub options: Vec<(Box<str>, Value)>,
    /// Its block.
    pub block: Option<Vec<Draft>>,
}

/// A word or the value of an option.
#[derive(Clone, Debug)]
pub struct Value {
    /// What it says.
    pub text: Text,
    /// Where it stands; for an option with its key.
    pub span: Span,
}

impl Value {
    /// What it says, as it may be shown: in backticks, without secrets, cut when it is long.
    pub fn shown(&self) -> String {
        let shown = self.text.shown();
        match shown.char_indices().nth(60) {
            Some((end, _)) => format!("`{}…`", shown.get(..end).unwrap_or(shown)),
            None => format!("`{shown}`"),
        }
    }
}

/// Reads `text`, the file `name`, and all that it includes.
pub fn read(
    name: &str,
    text: String,
    sources: &mut Sources,
    outside: &mut Outside<'_>,
    findings: &mut Findings,
) -> Vec<Draft> {
    let mut reader = Reader { sources, outside, findings, open: Vec::new() };
    reader.file(Path::new(name), text)
}

struct Reader<'a, 'o> {
    sources: &'a mut Sources,
    outside: &'a mut Outside<'o>,
    findings: &'a mut Findings,
    /// The files between the first one and the one being read.
    open: Vec<PathBuf>,
}

impl Reader<'_, '_> {
    fn file(&mut self, path: &Path, text: String) -> Vec<Draft> {
        let file = self.sources.next();
        let tree = text::parse(file, &text, self.findings);
        self.sources.add(path.display().to_string(), text);
        self.outside.enter(path);
        self.open.push(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
        let drafts = self.tree(tree, file);
        self.open.pop();
        drafts
    }

    fn tree(&mut self, tree: Tree, file: u32) -> Vec<Draft> {
        let mut drafts = Vec::with_capacity(tree.items.len());
        for item in tree.items {
            let Item::Statement(statement) = item else { continue };
            match self.statement(statement, file) {
                Some(draft) if &*draft.name == "include" => self.include(&draft, file, &mut drafts),
                Some(draft) => drafts.push(draft),
                None => {}
            }
        }
        drafts
    }

    fn statement(&mut self, statement: Statement, file: u32) -> Option<Draft> {
        let mut words = statement.words.into_iter();
        let block = statement.block.map(|tree| self.tree(tree, file));
        // A block without a name was found wrong when it was read.
        let name = words.next()?;
        if name.key.is_some() {
            self.findings
                .error(name.span, "a statement begins with the name of a directive")
                .hint("an option stands behind it, on the same line");
            return None;
        }
        let (all, options) = (Vec::with_capacity(words.len()), Vec::new());
        let mut draft = Draft { name: name.text, span: name.span, words: all, options, block };
        for word in words {
            let (key, value) = self.value(word);
            match key {
                Some(key) => draft.options.push((key, value)),
                None => draft.words.push(value),
            }
        }
        Some(draft)
    }

    fn value(&mut self, word: Word) -> (Option<Box<str>>, Value) {
        let text = if word.text.contains("${") {
            match self.outside.fill(word.span.file(), &word.text) {
                Ok(text) => text,
                Err(Wrong { reason, hint }) => {
                    self.findings.error(word.value_span, reason).maybe_hint(hint);
                    self.findings.taint(word.span);
                    Text::plain(word.text)
                }
            }
        } else {
            Text::plain(word.text)
        };
        (word.key, Value { text, span: word.span })
    }

    /// `include PATTERN …`: the statements of the files stand where it stood.
    fn include(&mut self, draft: &Draft, file: u32, into: &mut Vec<Draft>) {
        if draft.words.is_empty() {
            self.findings.error(draft.span, "`include` needs the name of a file");
        }
        if let Some((_, value)) = draft.options.first() {
            self.findings.error(value.span, "`include` takes no options");
        }
        if draft.block.is_some() {
            self.findings.error(draft.span, "`include` takes no block");
        }
        for word in &draft.words {
            match self.outside.matching(file, &word.text.value) {
                Ok(paths) => paths.iter().for_each(|path| self.included(path, word, into)),
                Err(Wrong { reason, hint }) => {
                    self.findings.error(word.span, reason).maybe_hint(hint);
                }
            }
        }
    }

    fn included(&mut self, path: &Path, word: &Value, into: &mut Vec<Draft>) {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.open.contains(&real) {
            let reason = format!("`{}` includes itself", path.display());
            self.findings.error(word.span, reason);
        } else if self.open.len() >= INCLUDES_MAX {
            self.findings.error(word.span, format!("more than {INCLUDES_MAX} files include each other"));
        } else {
            match self.outside.read(path, text::FILE_BYTES_MAX) {
                Ok(text) => into.append(&mut self.file(path, text)),
                Err(Wrong { reason, hint }) => {
                    let hint = hint.or_else(|| near_file(path));
                    self.findings.error(word.span, reason).maybe_hint(hint);
                }
            }
        }
    }
}

/// A file in the same directory whose name is nearly that of `path`.
fn near_file(path: &Path) -> Option<String> {
    if path.is_dir() {
        return Some(format!("for all files in it write `{}/*.conf`", path.display()));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(directory).ok()?.flatten().take(1000);
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let own = path.file_name()?.to_string_lossy();
    did_you_mean(&own, names.iter().map(String::as_str).filter(|name| *name != own))
}
