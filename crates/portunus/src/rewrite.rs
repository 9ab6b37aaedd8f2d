//! rewrite: `fmt`, the configuration in its usual form.

use crate::boot::find_config;
use crate::exit::Exit;
use crate::output::say;
use std::io::Read;
use std::path::Path;

/// Prints the formatted text, or writes it back.
pub fn format(config: Option<&Path>, file: Option<&Path>, write: bool) -> Result<(), Exit> {
    if file.is_some_and(|file| file.as_os_str() == "-") {
        if write {
            return Err(Exit::usage(
                "standard input cannot be written back; leave out `--write` or name a file",
            ));
        }
        let mut text = String::new();
        let read = std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| Exit::failed(format_args!("cannot read standard input: {error}")))?;
        return say(&portunus_config::format("standard input", &text)?);
    }
    let path = find_config(file.or(config))?;
    let name = path.display().to_string();
    let old = std::fs::read_to_string(&path)
        .map_err(|error| Exit::config(format_args!("cannot read {name}: {error}")))?;
    let new = portunus_config::format(&name, &old)?;
    match (write, new == old) {
        (false, _) => say(&new),
        (true, true) => Ok(()),
        (true, false) => {
            replace(&path, &new).map_err(|error| Exit::failed(format_args!("cannot write {name}: {error}")))
        }
    }
}

/// The new text takes the old one's place at once, so that a reload never sees half of it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    let beside = path.with_extension("portunus-fmt");
    std::fs::write(&beside, text)?;
    std::fs::set_permissions(&beside, std::fs::metadata(&path)?.permissions())?;
    std::fs::rename(&beside, &path)
}

const FILE_BYTES_MAX: u64 = 64 << 20;
