//! What is found wrong while a configuration is read, by position; lines are counted only when all is known.

use crate::mistake::{Mistake, SHOWN_COLUMNS};
use std::collections::HashSet;

/// How many mistakes are told; the rest is only counted.
pub const MISTAKES_MAX: usize = 100;
/// How long a reason or a hint may be, in bytes; what is written may be longer than anybody wants to read.
const REASON_BYTES_MAX: usize = 600;

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

    /// No place in particular.
    pub fn whole(file: u32) -> Span {
        Span { file, start: u32::MAX, end: u32::MAX }
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
        self.hint = Some(bounded(hint.into()));
        self
    }

    /// Says what to write instead, if that can be told.
    pub fn maybe_hint(&mut self, hint: Option<String>) -> &mut Finding {
        self.hint = hint.map(bounded).or(self.hint.take());
        self
    }

    /// Names the place of the first one, for things that may stand only once.
    pub fn earlier(&mut self, span: Span) -> &mut Finding {
        self.earlier = Some(span);
        self
    }
}

fn bounded(text: String) -> String {
    if text.len() <= REASON_BYTES_MAX {
        return text;
    }
    format!("{}…", text.get(..floor(&text, REASON_BYTES_MAX)).unwrap_or(""))
}

/// Collects what is wrong while a configuration is read.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    errors: usize,
    warnings: usize,
    /// Whether blocks are in doubt, so that looking further would only find things that are not there.
    pub structure: bool,
    /// Where in a plan we are, for texts without useful lines; said before each reason.
    pub place: String,
    /// Words whose value is not known, so that nothing said about it would help.
    tainted: HashSet<Span>,
    spare: Option<Finding>,
}

impl Findings {
    /// Something that must not be.
    pub fn error(&mut self, span: Span, reason: impl Into<String>) -> &mut Finding {
        let mut reason = reason.into();
        if !self.place.is_empty() {
            reason = format!("{}: {reason}", self.place);
        }
        let reason = bounded(reason);
        let finding = Finding { span, reason, hint: None, earlier: None, warning: false };
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
                    true => format!(" (also in line {})", first.line),
                    false => format!(" (also in {file}{})", first.line),
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
        if span == Span::whole(span.file) {
            return Located::default();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mistake::Mistakes;

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
