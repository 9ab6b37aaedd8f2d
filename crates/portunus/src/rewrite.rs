//! rewrite: `fmt`, the configuration in its usual form.

use crate::boot::find_config;
use crate::exit::Exit;
use crate::output::say;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
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
        not_json(&text, "standard input")?;
        return say(&portunus_config::format("standard input", &text)?);
    }
    let path = find_config(file.or(config))?;
    let name = path.display().to_string();
    let old = std::fs::read_to_string(&path)
        .map_err(|error| Exit::config(format_args!("cannot read {name}: {error}")))?;
    not_json(&old, &name)?;
    let new = portunus_config::format(&name, &old)?;
    match (write, new == old) {
        (false, _) => say(&new),
        (true, true) => Ok(()),
        (true, false) => {
            replace(&path, &new).map_err(|error| Exit::failed(format_args!("cannot write {name}: {error}")))
        }
    }
}

/// JSON has no usual form here.
fn not_json(text: &str, name: &str) -> Result<(), Exit> {
    if !portunus_config::is_json(text) {
        return Ok(());
    }
    Err(Exit::config(format_args!("{name} is JSON; `fmt` is for files in the language of blocks")))
}

/// The new text takes the old one's place at once, so that a reload never sees half of it. Whoever could read the file can
/// read it still: where another file of the same owner and group may not be put there, this one is written over.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let beside = path.with_extension("portunus-fmt");
    let old = fs::metadata(&path)?;
    let exchanged = like(&old, &beside, text).and_then(|()| fs::rename(&beside, &path));
    if exchanged.is_err() {
        let _ = fs::remove_file(&beside); // there may be none
    }
    match exchanged {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => fs::write(&path, text),
        other => other,
    }
}

/// Writes a new file with the owner, the group and the mode of an `old` one. Nobody else can read it at any time.
fn like(old: &Metadata, path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.set_permissions(old.permissions())?;
    file.sync_all()
}

const FILE_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn json_is_told_apart() {
        assert!(not_json("\u{feff} {\"sites\": []}", "a").is_err() && not_json("site a { }", "a").is_ok());
    }

    #[test]
    fn owner_group_and_mode_stay() {
        let folder = std::env::temp_dir().join(format!("portunus-fmt-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.conf");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let _ = chown(&path, Some(65534), Some(65534)); // only root may
        let of = |path: &Path| fs::metadata(path).map(|it| (it.uid(), it.gid(), it.mode())).unwrap();
        let before = of(&path);
        fs::write(folder.join("a.portunus-fmt"), "what another one has left there").unwrap();
        replace(&path, "new").unwrap();
        assert_eq!((of(&path), fs::read_to_string(&path).unwrap().as_str()), (before, "new"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&folder).unwrap();
    }
}
