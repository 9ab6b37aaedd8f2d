//! The operator's words: text to Plan.

use portunus_relay::plan::Plan;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a configuration may ask of the outside.
pub struct Environment<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// A configuration that has been read.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub plan: Plan,
    /// What is odd about it.
    pub warnings: Vec<Mistake>,
    /// All files that were read.
    pub files: Vec<PathBuf>,
}

/// One mistake.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// Where.
    pub file: String,
    /// Where.
    pub line: usize,
    /// Where.
    pub column: usize,
    /// How long.
    pub length: usize,
    /// The line.
    pub source_line: String,
    /// Why.
    pub reason: String,
    /// What instead.
    pub hint: Option<String>,
}

/// All mistakes.
#[derive(Clone, Debug)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.reason)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.0 {
            writeln!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl Mistake {
    /// On one line.
    pub fn one_line(&self) -> String {
        self.to_string()
    }
}

impl Mistakes {
    /// As JSON.
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(|mistake| serde_json::json!({ "file": mistake.file, "line": mistake.line, "reason": mistake.reason })).collect()
    }
}

/// Reads a file.
pub fn load(path: &Path, env: &Environment<'_>) -> Result<Loaded, Mistakes> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Mistakes(vec![Mistake {
            file: name.clone(),
            line: 0,
            column: 0,
            length: 0,
            source_line: String::new(),
            reason: error.to_string(),
            hint: None,
        }])
    })?;
    let mut loaded = load_text(&name, &text, env)?;
    loaded.files.push(path.to_owned());
    Ok(loaded)
}

/// Reads a text.
pub fn load_text(name: &str, text: &str, _: &Environment<'_>) -> Result<Loaded, Mistakes> {
    let plan = serde_json::from_str(text).map_err(|error| {
        Mistakes(vec![Mistake {
            file: name.to_owned(),
            line: error.line(),
            column: error.column(),
            length: 1,
            source_line: String::new(),
            reason: error.to_string(),
            hint: None,
        }])
    })?;
    Ok(Loaded { plan, warnings: Vec::new(), files: Vec::new() })
}

/// Formats.
pub fn format(_: &str, text: &str) -> Result<String, Mistakes> {
    Ok(text.to_owned())
}

/// As JSON.
pub fn adapt(plan: &Plan) -> String {
    serde_json::to_string_pretty(plan).unwrap_or_default()
}

/// The schema of the JSON.
pub fn schema() -> String {
    String::from("{}")
}

/// The pages of the reference.
pub fn reference() -> Vec<(String, String)> {
    Vec::new()
}
