//! Characters → a tree that remembers positions and comments; reports every mistake of the grammar, never panics.

use crate::findings::{Findings, Span};

/// Blocks in blocks in blocks; deeper ones are refused.
pub const DEPTH_MAX: usize = 64;
/// The longest file, in bytes.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// A file, or the inside of a block, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// What stands in it, in order.
    pub items: Vec<Item>,
}

/// One thing in a file or a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A directive with its arguments.
    Statement(Statement),
    /// A comment.
    Comment(Comment),
    /// One or more empty lines.
    Blank,
}

/// A comment, from its `#` to the end of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// With its `#`, without white space at the end.
    pub text: Box<str>,
    /// Whether it stands behind something on the same line.
    pub trailing: bool,
}

/// `name word key=word { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The words; the first is the name.
    pub words: Vec<Word>,
    /// The block behind them.
    pub block: Option<Tree>,
}

/// A word, or an option.
#[derive(Clone, Debug)]
pub struct Word {
    /// The key, when it is `key=word`.
    pub key: Option<Box<str>>,
    /// What it says, escapes resolved.
    pub text: Box<str>,
    /// Where it stands, key and quotes included.
    pub span: Span,
    /// Where what follows the key stands.
    pub value_span: Span,
    /// Whether a `\` at the end of a line stands before it.
    pub continued: bool,
}

impl PartialEq for Word {
    fn eq(&self, other: &Word) -> bool {
        (&self.key, &self.text) == (&other.key, &other.text)
    }
}

impl Eq for Word {}

/// The tree of `text`. After a mistake that leaves the blocks in doubt it holds what was read until then, and
/// `findings.structure` is set.
pub fn parse(file: u32, text: &str, findings: &mut Findings) -> Tree {
    if text.len() > FILE_BYTES_MAX {
        findings
            .error(Span::new(file, 0, 0), format!("the file is longer than {} MiB", FILE_BYTES_MAX >> 20));
        findings.structure = true;
        return Tree::default();
    }
    let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut parser =
        Parser { file, text, bytes: text.as_bytes(), at, findings, swallowed: false, single: None };
    parser.file()
}

/// A block that is not closed yet, and the statement in front of it.
struct Open {
    words: Vec<Word>,
    outer: Tree,
    brace: Span,
}

struct Parser<'a> {
    file: u32,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    findings: &'a mut Findings,
    /// Whether quotes or a `${` were not closed, so that what stands behind them was not seen.
    swallowed: bool,
    /// Where, in this statement, a word begins with a single quote.
    single: Option<usize>,
}

/// All of `words`, in no more memory than they need: what is read of a file holds very many such lists.
fn exactly(words: &mut Vec<Word>) -> Vec<Word> {
    let mut all = Vec::with_capacity(words.len());
    all.append(words);
    all
}

impl Parser<'_> {
    fn file(&mut self) -> Tree {
        let mut stack: Vec<Open> = Vec::new();
        let mut tree = Tree::default();
        let mut words: Vec<Word> = Vec::new();
        let mut continued = false;
        // Whether something stands on this line already, and whether the line before was empty, too.
        let mut line_used = false;
        let end_statement = |words: &mut Vec<Word>, tree: &mut Tree| {
            if !words.is_empty() {
                tree.items.push(Item::Statement(Statement { words: exactly(words), block: None }));
            }
        };
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    end_statement(&mut words, &mut tree);
                    if !line_used && !matches!(tree.items.last(), Some(Item::Blank)) {
                        tree.items.push(Item::Blank);
                    }
                    line_used = false;
                    continued = false;
                }
                b'\\' if self.line_ends(1) => {
                    self.at += if self.peek(1) == Some(b'\r') { 3 } else { 2 };
                    continued = !words.is_empty();
                }
                b';' => {
                    self.at += 1;
                    line_used = true;
                    end_statement(&mut words, &mut tree);
                }
                b'#' => {
                    let text = self.comment();
                    // A statement ends where its comment begins; the newline behind the comment ends nothing more.
                    end_statement(&mut words, &mut tree);
                    tree.items.push(Item::Comment(Comment { text, trailing: line_used }));
                    line_used = true;
                }
                b'{' => {
                    let brace = self.span(self.at, self.at + 1);
                    self.at += 1;
                    line_used = true;
                    continued = false;
                    if words.is_empty() {
                        self.findings
                            .error(brace, "a block without a name before it")
                            .hint("write the name on the same line: `pool web {`");
                    }
                    if stack.len() >= DEPTH_MAX {
                        self.findings.error(brace, format!("blocks are nested deeper than {DEPTH_MAX}"));
                        self.findings.structure = true;
                        return tree;
                    }
                    stack.push(Open { words: exactly(&mut words), outer: std::mem::take(&mut tree), brace });
                }
                b'}' => {
                    let brace = self.span(self.at, self.at + 1);
                    self.at += 1;
                    line_used = true;
                    end_statement(&mut words, &mut tree);
                    match stack.pop() {
                        Some(open) => {
                            let block = Some(std::mem::replace(&mut tree, open.outer));
                            tree.items.push(Item::Statement(Statement { words: open.words, block }));
                        }
                        None => {
                            self.findings.error(brace, "this `}` closes nothing");
                            self.findings.structure = true;
                        }
                    }
                }
                _ => {
                    let word = self.word(continued && !words.is_empty());
                    if words.is_empty() {
                        self.single = None;
                    }
                    self.single_quotes(&word);
                    continued = false;
                    line_used = true;
                    words.push(word);
                }
            }
        }
        end_statement(&mut words, &mut tree);
        while let Some(open) = stack.pop() {
            // Quotes that are not closed have swallowed the `}`, and that has been told.
            if !self.swallowed {
                self.findings.error(open.brace, "this block is not closed").hint("a `}` is missing");
            }
            self.findings.structure = true;
            let block = Some(std::mem::replace(&mut tree, open.outer));
            tree.items.push(Item::Statement(Statement { words: open.words, block }));
        }
        tree
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    /// Whether the line ends `ahead` bytes from here.
    fn line_ends(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            None | Some(b'\n') => true,
            Some(b'\r') => self.peek(ahead + 1) == Some(b'\n'),
            _ => false,
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    fn slice(&self, start: usize, end: usize) -> &str {
        // Invariant: both ends were reached by stepping over whole characters.
        self.text.get(start..end).unwrap_or("")
    }

    fn comment(&mut self) -> Box<str> {
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or(&[]);
        self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let text = self.slice(start, self.at).trim_end();
        if text.chars().any(|c| c.is_control() && c != '\t') {
            let span = self.span(start, start + text.len());
            self.findings.error(span, "a control character stands in this comment");
        }
        self.slice(start, self.at).trim_end().into()
    }

    /// A word begins here; at least one byte of it is used up.
    fn word(&mut self, continued: bool) -> Word {
        let start = self.at;
        let before = self.findings.errors();
        let key = self.key();
        let value = self.at;
        let text = match self.peek(0) {
            Some(b'"') if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"\"\"\"")) => {
                self.raw()
            }
            Some(b'"') => self.quoted(),
            _ => self.bare(key.is_some()),
        };
        let word = Word {
            key,
            text,
            span: self.span(start, self.at),
            value_span: if self.at > value { self.span(value, self.at) } else { self.span(start, self.at) },
            continued,
        };
        if matches!(self.bytes.get(value), Some(b'"')) && !self.word_ends() {
            let span = self.span(self.at, self.at + 1);
            self.findings
                .error(span, "something stands directly behind a closing quote")
                .hint("put a space between");
        }
        if self.findings.errors() > before {
            self.findings.taint(word.span);
        }
        word
    }

    /// Single quotes quote nothing: whoever writes a text between them means something else than what stands there.
    fn single_quotes(&mut self, word: &Word) {
        let quote = |at: Option<usize>| at.and_then(|at| self.bytes.get(at)) == Some(&b'\'');
        let (start, end) = (word.value_span.range().start, word.span.range().end);
        let closes = quote(end.checked_sub(1));
        if quote(Some(start)) && self.single.is_none() {
            self.single = Some(start);
        }
        let Some(start) = self.single.filter(|start| closes && start + 1 < end) else { return };
        self.single = None;
        let inner = self.slice(start + 1, end - 1).replace(['"', '\\'], "");
        let span = self.span(start, end);
        self.findings
            .error(span, "single quotes are no quotes: they would belong to the text")
            .hint(format!("write `\"{inner}\"`"));
        self.findings.taint(word.span);
    }

    /// `[a-z][a-z0-9-]*=`, and for parts of a request `header.X-Name=`.
    fn key(&mut self) -> Option<Box<str>> {
        if !self.peek(0)?.is_ascii_lowercase() {
            return None;
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let rest = self.bytes.get(self.at..)?;
        let mut end = rest.iter().position(|&byte| !plain(byte))?;
        if rest.get(end) == Some(&b'.') {
            let part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%+*![]".contains(&byte);
            end += rest.get(end..)?.iter().position(|&byte| !part(byte))?;
        }
        if rest.get(end) != Some(&b'=') {
            return None;
        }
        let key = self.slice(self.at, self.at + end).into();
        self.at += end + 1;
        Some(key)
    }

    /// Whether no word goes on here.
    fn word_ends(&self) -> bool {
        match self.peek(0) {
            None | Some(b' ' | b'\t' | b'\r' | b'\n' | b'{' | b'}' | b';') => true,
            Some(b'\\') => self.line_ends(1),
            Some(_) => false,
        }
    }

    fn bare(&mut self, keyed: bool) -> Box<str> {
        let start = self.at;
        while !self.word_ends() {
            match self.peek(0) {
                Some(b'$') if self.peek(1) == Some(b'{') => self.filled_in(),
                Some(b'"') => {
                    let span = self.span(self.at, self.at + 1);
                    self.findings
                        .error(span, "a quote stands inside a word")
                        .hint("put the whole word in quotes, or a space before it");
                    self.at += 1;
                }
                Some(byte) if !(b' '..0x7f).contains(&byte) => self.strange(),
                _ => self.at += 1,
            }
        }
        if !keyed && self.slice(start, self.at) == "\\" {
            let span = self.span(start, self.at);
            self.findings.error(span, "a `\\` that continues a line has to be its last character");
        }
        self.slice(start, self.at).into()
    }

    /// `${…}`, which belongs to the word whatever stands in it.
    fn filled_in(&mut self) {
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or(&[]);
        let end = memchr::memchr2(b'}', b'\n', rest).filter(|&end| rest.get(end) == Some(&b'}'));
        match end {
            Some(end) => self.at = start + end + 1,
            None => {
                let span = self.span(start, start + 2);
                self.swallowed = true;
                self.findings.error(span, "this `${` is not closed on its line").hint("a `}` is missing");
                self.at += rest.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(rest.len());
            }
        }
    }

    /// A character that is not ASCII, or a control character, outside quotes.
    fn strange(&mut self) {
        let Some(character) = self.text.get(self.at..).and_then(|rest| rest.chars().next()) else {
            self.at += 1;
            return;
        };
        let span = self.span(self.at, self.at + character.len_utf8());
        self.at += character.len_utf8();
        if character.is_control() {
            self.findings
                .error(span, format!("a control character (U+{:04X}) stands here", u32::from(character)));
        } else if character.is_whitespace() || matches!(character, '\u{200b}' | '\u{feff}') {
            self.findings
                .error(span, format!("a space that is none (U+{:04X}) stands here", u32::from(character)))
                .hint("write a plain space");
        } else if matches!(character, '\u{201c}' | '\u{201d}' | '\u{201e}') {
            self.findings.error(span, "a typographic quote stands here").hint("write `\"`");
        }
    }

    /// `"…"` on one line.
    fn quoted(&mut self) -> Box<str> {
        let open = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(0), None | Some(b'"' | b'\\' | b'\n')) {
                self.at += 1;
            }
            text.push_str(self.slice(start, self.at));
            match self.peek(0) {
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => self.escape(&mut text),
                _ => {
                    let span = self.span(open, open + 1);
                    self.swallowed = true;
                    self.findings
                        .error(span, "this quote is not closed on its line")
                        .hint("for many lines write `\"\"\"` around them");
                    break;
                }
            }
        }
        self.refuse_control(open, &text);
        text.into()
    }

    fn escape(&mut self, text: &mut String) {
        let start = self.at;
        self.at += 1;
        let plain = match self.peek(0) {
            Some(b'"') => Some('"'),
            Some(b'\\') => Some('\\'),
            Some(b'n') => Some('\n'),
            _ => None,
        };
        if let Some(character) = plain {
            text.push(character);
            self.at += 1;
            return;
        }
        if self.peek(0) == Some(b'u') && self.peek(1) == Some(b'{') {
            let rest = self.bytes.get(self.at + 2..).unwrap_or(&[]);
            let digits = rest.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(rest.len());
            let character = u32::from_str_radix(self.slice(self.at + 2, self.at + 2 + digits), 16)
                .ok()
                .filter(|_| rest.get(digits) == Some(&b'}'))
                .and_then(char::from_u32);
            if let Some(character) = character {
                text.push(character);
                self.at += digits + 3;
                return;
            }
            let span = self.span(start, self.at + 2);
            self.findings.error(span, "this is no character").hint("write its number, as in `\\u{e9}`");
            self.at += 2;
            return;
        }
        let length = self.text.get(self.at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        let span = self.span(start, self.at + length);
        self.findings
            .error(span, "no such escape; there are `\\\"`, `\\\\`, `\\n` and `\\u{…}`")
            .hint("for a backslash write `\\\\`, or write the word without quotes or in `\"\"\"`");
    }

    /// `"""…"""`; a line break directly behind the opening quotes is left out.
    fn raw(&mut self) -> Box<str> {
        let open = self.at;
        self.at += 3;
        if self.line_ends(0) {
            self.at += if self.peek(0) == Some(b'\r') { 2 } else { 1 };
        }
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or(&[]);
        let Some(end) = memchr::memmem::find(rest, b"\"\"\"") else {
            let span = self.span(open, open + 3);
            self.swallowed = true;
            self.findings.error(span, "these quotes are not closed").hint("`\"\"\"` is missing");
            self.findings.structure = true;
            self.at = self.bytes.len();
            return self.slice(start, self.at).into();
        };
        self.at = start + end + 3;
        let text: Box<str> = self.slice(start, start + end).into();
        self.refuse_control(open, &text);
        text
    }

    /// Quoted text may hold any character but control characters, which nobody writes on purpose.
    fn refuse_control(&mut self, open: usize, text: &str) {
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r')) {
            let span = self.span(open, self.at);
            self.findings.error(span, "a control character stands in this text");
        }
    }
}
