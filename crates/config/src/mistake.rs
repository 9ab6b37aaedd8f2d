//! The line, the caret, the hint: what is wrong with a configuration, told so that it can be put right at once.

use std::fmt;

/// How much of a long line is shown.
pub(crate) const SHOWN_COLUMNS: usize = 140;

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

/// "did you mean …", when one of `known` is near `written`.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    portunus_relay::values::nearest(written, known).map(|name| format!("did you mean `{name}`?"))
}
