//! The line, the caret, the hint: what is wrong with a configuration, told so that it can be put right at once.

use std::collections::HashSet;
use std::fmt;

/// How many mistakes are told; the rest is only counted.
pub const MISTAKES_MAX: usize = 100;
/// How much of a long line is shown.
const SHOWN_COLUMNS: usize = 140;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1; 0 when no line can be named.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters the caret underlines.
    pub length: usize,
    /// The line as written, without its end; of a very long line, what is around the column.
    pub source_line: String,
    /// How many characters `source_line` leaves out at its start.
    pub skipped: usize,
    /// Why it cannot be.
    pub reason: String,
    /// What to write instead, where that can be told.
    pub hint: Option<String>,
    /// Whether it may stay.
    pub warning: bool,
}

/// Everything that is wrong, in the order of the files and lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistake {
    /// A mistake of a whole file.
    pub fn of_file(file: &str, reason: impl fmt::Display) -> Mistake {
        Mistake {
            file: file.to_owned(),
            line: 0,
            column: 0,
            length: 0,
            source_line: String::new(),
            skipped: 0,
            reason: reason.to_string(),
            hint: None,
            warning: false,
        }
    }

    /// The same in one line: `file:line:column: error: reason; hint`.
    pub fn one_line(&self) -> String {
        let place = match self.line {
            0 => self.file.clone(),
            line => format!("{}:{line}:{}", self.file, self.column),
        };
        let hint = self.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        shown(&format!("{place}: {}: {}{hint}", self.level(), self.reason))
    }

    fn level(&self) -> &'static str {
        if self.warning { "warning" } else { "error" }
    }

    /// The source line and the caret under it, cut to a width that can be read.
    fn picture(&self) -> (String, String) {
        let line: Vec<char> = self.source_line.chars().map(plain).collect();
        let start = self.column.saturating_sub(1 + self.skipped).min(line.len());
        let from = start.saturating_sub(SHOWN_COLUMNS / 2);
        let from = if line.len() <= SHOWN_COLUMNS { 0 } else { from };
        let to = line.len().min(from + SHOWN_COLUMNS);
        let text: String = line.get(from..to).unwrap_or(&[]).iter().collect();
        let length = self.length.min(to.saturating_sub(start)).max(1);
        let caret = format!("{}{}", " ".repeat(start - from), "^".repeat(length));
        (text.trim_end().to_owned(), caret)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.level(), shown(&self.reason))?;
        if self.line == 0 {
            writeln!(f, " --> {}", shown(&self.file))?;
            if let Some(hint) = &self.hint {
                writeln!(f, "  = hint: {}", shown(hint))?;
            }
            return Ok(());
        }
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let (text, caret) = self.picture();
        writeln!(f, "{margin}--> {}:{number}:{}", shown(&self.file), self.column)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {text}")?;
        writeln!(f, "{margin} | {caret}")?;
        if let Some(hint) = &self.hint {
            writeln!(f, "{margin} = hint: {}", shown(hint))?;
        }
        Ok(())
    }
}

impl Mistakes {
    /// All as a JSON array, for programs.
    pub fn to_json(&self) -> serde_json::Value {
        let one = |mistake: &Mistake| {
            serde_json::json!({
                "file": mistake.file,
                "line": mistake.line,
                "column": mistake.column,
                "length": mistake.length,
                "level": mistake.level(),
                "reason": mistake.reason,
                "hint": mistake.hint,
            })
        };
        self.0.iter().map(one).collect()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Text of a file as it may be shown on a terminal: nothing in it can move the cursor.
fn shown(text: &str) -> String {
    text.chars().map(plain).collect()
}

fn plain(character: char) -> char {
    match character {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    }
}

/// Some bytes of one of the files that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    file: u32,
    start: u32,
    end: u32,
}

impl Span {
    /// From byte `start` up to byte `end` of file number `file`.
    pub fn new(file: u32, start: usize, end: usize) -> Span {
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Span { file, start: narrow(start), end: narrow(end) }
    }

    /// The number of the file.
    pub fn file(self) -> u32 {
        self.file
    }

    /// The bytes it covers.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The files that were read, by number.
#[derive(Debug, Default)]
pub struct Sources {
    list: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    name: String,
    text: String,
}

impl Sources {
    /// Adds a file; its number.
    pub fn add(&mut self, name: String, text: String) -> u32 {
        self.list.push(Source { name, text });
        u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
    }

    /// The number that the next file gets.
    pub fn next(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }

    /// The text of file number `file`.
    pub fn text(&self, file: u32) -> &str {
        self.list.get(file as usize).map_or("", |source| source.text.as_str())
    }

    /// What `span` covers.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file).get(span.range()).unwrap_or("")
    }
}

/// Something found wrong, before lines are counted.
#[derive(Clone, Debug)]
pub struct Finding {
    span: Span,
    reason: String,
    hint: Option<String>,
    earlier: Option<Span>,
    warning: bool,
}

impl Finding {
    /// Says what to write instead.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Finding {
        self.hint = Some(hint.into());
        self
    }

    /// Says what to write instead, if that can be told.
    pub fn maybe_hint(&mut self, hint: Option<String>) -> &mut Finding {
        self.hint = hint.or(self.hint.take());
        self
    }

    /// Names the place of the first one, for things that may stand only once.
    pub fn earlier(&mut self, span: Span) -> &mut Finding {
        self.earlier = Some(span);
        self
    }
}

/// Collects what is wrong while a configuration is read.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    errors: usize,
    warnings: usize,
    /// Whether blocks are in doubt, so that looking further would only find things that are not there.
    pub structure: bool,
    /// Words whose value is not known, so that nothing said about it would help.
    tainted: HashSet<Span>,
    spare: Option<Finding>,
}

impl Findings {
    /// Something that must not be.
    pub fn error(&mut self, span: Span, reason: impl Into<String>) -> &mut Finding {
        let finding = Finding { span, reason: reason.into(), hint: None, earlier: None, warning: false };
        if self.tainted.contains(&span) {
            return self.spare.insert(finding);
        }
        self.errors += 1;
        self.push(self.errors, finding)
    }

    /// Something that had better not be.
    pub fn warning(&mut self, span: Span, reason: impl Into<String>) -> &mut Finding {
        self.warnings += 1;
        self.push(
            self.warnings,
            Finding { span, reason: reason.into(), hint: None, earlier: None, warning: true },
        )
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// What follows about this word is left out.
    pub fn taint(&mut self, span: Span) {
        self.tainted.insert(span);
    }

    fn push(&mut self, count: usize, finding: Finding) -> &mut Finding {
        // What is beyond the bound is written to a place that nobody reads, and counted.
        if count > MISTAKES_MAX {
            return self.spare.insert(finding);
        }
        let at = self.list.len();
        self.list.push(finding);
        // Invariant: it was pushed just now.
        &mut self.list[at]
    }

    /// Whether no further error will be told, so that a hint for it need not be looked for.
    pub fn full(&self) -> bool {
        self.errors >= MISTAKES_MAX
    }

    /// Whether something must not be.
    pub fn any_error(&self) -> bool {
        self.errors > 0
    }

    /// Errors and warnings, each with its line.
    pub fn sort_out(mut self, sources: &Sources) -> (Vec<Mistake>, Vec<Mistake>) {
        self.list.sort_by_key(|finding| finding.span);
        let lines: Vec<LineStarts> = match self.list.is_empty() {
            true => Vec::new(),
            false => sources.list.iter().map(|source| LineStarts::of(&source.text)).collect(),
        };
        let place = |span: Span| {
            let source = sources.list.get(span.file as usize);
            let starts = lines.get(span.file as usize);
            source.zip(starts).map(|(source, starts)| (source, starts.find(&source.text, span)))
        };
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        for finding in self.list {
            let mut reason = finding.reason;
            let here = place(finding.span);
            if let Some((source, first)) = finding.earlier.and_then(place) {
                let same = here.as_ref().is_some_and(|(own, _)| own.name == source.name);
                let file = if same { String::new() } else { format!("{}:", source.name) };
                reason.push_str(&match same {
                    true => format!(" (first in line {})", first.line),
                    false => format!(" (first in {file}{})", first.line),
                });
            }
            let (name, at) = match here {
                Some((source, at)) => (source.name.clone(), at),
                None => (String::new(), Located::default()),
            };
            let mistake = Mistake {
                file: name,
                line: at.line,
                column: at.column,
                length: at.length,
                source_line: at.source_line,
                skipped: at.skipped,
                reason,
                hint: finding.hint,
                warning: finding.warning,
            };
            if finding.warning { warnings.push(mistake) } else { errors.push(mistake) }
        }
        let untold = self.errors.saturating_sub(MISTAKES_MAX);
        if let (1.., Some(first)) = (untold, errors.first()) {
            errors.push(Mistake::of_file(&first.file.clone(), format!("and {untold} more mistakes")));
        }
        (errors, warnings)
    }
}

#[derive(Debug, Default)]
struct Located {
    line: usize,
    column: usize,
    length: usize,
    source_line: String,
    skipped: usize,
}

/// Where the lines of a text begin.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> LineStarts {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1);
        LineStarts(std::iter::once(0).chain(ends).collect())
    }

    fn find(&self, text: &str, span: Span) -> Located {
        let range = span.range();
        let line = self.0.partition_point(|&start| start <= range.start).max(1);
        let start = self.0.get(line - 1).copied().unwrap_or(0);
        let end = self.0.get(line).map_or(text.len(), |&next| next - 1);
        // A very long line is not copied whole.
        let from = floor(text, range.start.saturating_sub(4 * SHOWN_COLUMNS).max(start));
        let to = floor(text, end.min(range.start + 4 * SHOWN_COLUMNS));
        let source_line = text.get(from..to).unwrap_or("").trim_end_matches('\r').to_owned();
        let count =
            |a: usize, b: usize| text.get(floor(text, a)..floor(text, b)).unwrap_or("").chars().count();
        Located {
            line,
            column: count(start, range.start) + 1,
            skipped: count(start, from),
            length: count(range.start, range.end.min(to)).max(1),
            source_line,
        }
    }
}

/// The next character border at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// "did you mean …", when one of `known` is near `written`.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(written, known).map(|name| format!("did you mean `{name}`?"))
}

/// The one of `known` that is nearest to `written`, if it is near enough to be a slip of the pen.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 64 {
        return None;
    }
    let lower = written.to_lowercase();
    let reach = match written.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    let alike = |name: &&str| name.len().abs_diff(written.len()) <= 4 * reach;
    let distance = |name: &'a str| (edit_distance(&lower, &name.to_lowercase()), name);
    let near = known.into_iter().filter(alike).map(distance).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, name)| *distance <= reach && *distance < name.len()).map(|(_, name)| name)
}

/// Insertions, deletions, replacements, and swaps of neighbours that turn `a` into `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    // Invariant: every row has b.len() + 1 cells, and `before` is filled from the second round on.
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_found() {
        let known = ["server", "balance", "keep-alive", "connect", "retry"];
        assert_eq!(nearest("sevrer", known), Some("server"));
        assert_eq!(nearest("Server", known), Some("server"));
        assert_eq!(nearest("keepalive", known), Some("keep-alive"));
        assert_eq!(nearest("zebra", known), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(edit_distance("ab", "ba"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
    }

    #[test]
    fn the_caret_stands_under_the_word() {
        let mut sources = Sources::default();
        let file = sources.add("a.conf".into(), "pool a {\n\tsevrer ü x\n}\n".into());
        let mut findings = Findings::default();
        findings.error(Span::new(file, 10, 16), "there is no `sevrer`").hint("did you mean `server`?");
        let (errors, _) = findings.sort_out(&sources);
        let text = "error: there is no `sevrer`\n --> a.conf:2:2\n  |\n2 |  sevrer ü x\n  |  ^^^^^^\n  = hint: did you mean `server`?\n";
        assert_eq!(Mistakes(errors.clone()).to_string(), text);
        assert_eq!(errors[0].one_line(), "a.conf:2:2: error: there is no `sevrer`; did you mean `server`?");
    }

    #[test]
    fn a_long_line_is_shown_in_part_and_a_flood_is_counted() {
        let mut sources = Sources::default();
        let text = "é".repeat(100_000);
        let file = sources.add("a".into(), text);
        let mut findings = Findings::default();
        for at in 0..1000 {
            findings.error(Span::new(file, 100 * at + 1, 100 * at + 50_000), "no");
        }
        let (errors, _) = findings.sort_out(&sources);
        assert_eq!(errors.len(), MISTAKES_MAX + 1);
        assert!(errors.iter().all(|mistake| mistake.to_string().chars().count() < 1000));
        assert_eq!(errors.last().map(|m| m.reason.as_str()), Some("and 900 more mistakes"));
    }
}
