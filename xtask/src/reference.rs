//! reference: the generated pages of the manual, from the lists of directives.

use crate::source::File;
use std::collections::BTreeMap;
use std::path::Path;

/// Where the pages are.
pub const FOLDER: &str = "docs/manual/reference";

/// Writes every page, and takes away those that are no more.
pub fn write(root: &Path) -> Result<(), String> {
    let folder = root.join(FOLDER);
    let failed = |error: std::io::Error| format!("{FOLDER}: {error}");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(failed)?;
    }
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for (name, text) in portunus_config::reference() {
        std::fs::write(folder.join(name), text).map_err(failed)?;
    }
    Ok(())
}

/// The pages on disk that are not what `pages` says, and the other way round.
pub fn outdated(files: &[File], pages: &[(String, String)]) -> Vec<String> {
    let on_disk: BTreeMap<&str, &str> = files
        .iter()
        .filter_map(|file| Some((file.path.strip_prefix(FOLDER)?.strip_prefix('/')?, file.text.as_str())))
        .collect();
    let generated: BTreeMap<&str, &str> =
        pages.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let names = on_disk.keys().chain(generated.keys()).collect::<std::collections::BTreeSet<_>>();
    names
        .into_iter()
        .filter(|name| on_disk.get(*name) != generated.get(*name))
        .map(|name| (*name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_changed_and_surplus_pages_are_found() {
        let page = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let file = |name: &str, text: &str| File::new(&format!("{FOLDER}/{name}"), text);
        let pages = [page("a.md", "1"), page("b.md", "2"), page("c.md", "3")];
        assert_eq!(
            outdated(&[file("a.md", "1"), file("b.md", "x"), file("d.md", "4")], &pages),
            ["b.md", "c.md", "d.md"]
        );
        assert!(outdated(&[file("a.md", "1")], &pages[..1]).is_empty());
    }
}
