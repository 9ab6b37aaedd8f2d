//! x

/// The pages of the manual that come from the lists of directives: file name and text.
pub fn reference() -> Vec<(String, String)> {
    Vec::new()
}
