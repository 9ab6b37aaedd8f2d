//! x

/// What a configuration may be filled in from.
pub struct Environment<'a> {
    /// The variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Loads a text.
pub fn load_text(_: &str, text: &str, _: &Environment<'_>) -> Result<(), String> {
    if text.contains("poxy") { Err("poxy".to_owned()) } else { Ok(()) }
}

/// The pages of the manual that come from the lists of directives: file name and text.
pub fn reference() -> Vec<(String, String)> {
    Vec::new()
}
