//! opened: files are opened without waiting: what is no regular file is refused, or read only where somebody has named it on purpose.

use rustix::fs::{OFlags, fcntl_setfl};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file. A pipe that nobody writes to holds nobody up.
pub fn open(path: &Path) -> io::Result<File> {
    let (file, stream) = opened(path)?;
    match stream {
        None => Ok(file),
        Some(stream) => Err(io::Error::new(ErrorKind::InvalidInput, stream)),
    }
}

/// Opens a regular file, or a pipe or device, which is read to its end: `/dev/stdin`, `<(…)`.
pub fn open_stream(path: &Path) -> io::Result<Box<dyn Read>> {
    let (file, stream) = opened(path)?;
    if stream.is_some() {
        fcntl_setfl(&file, OFlags::empty())?;
    }
    Ok(Box::new(file))
}

/// The file, and what it is if it is no regular one.
fn opened(path: &Path) -> io::Result<(File, Option<&'static str>)> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    let kind = file.metadata()?.file_type();
    let stream = match kind {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        _ if kind.is_fifo() => Some("it is a pipe, not a regular file"),
        _ => Some("it is a device, not a regular file"),
    };
    Ok((file, stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let pipe = std::env::temp_dir().join(format!("portunus-opened-{}", std::process::id()));
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(open(&pipe).unwrap_err().to_string(), "it is a pipe, not a regular file");
        let mut text = String::new();
        assert_eq!(open_stream(&pipe).unwrap().read_to_string(&mut text).unwrap(), 0);
        std::fs::remove_file(&pipe).unwrap();
        assert!(open(Path::new("/dev/null")).is_err() && open_stream(Path::new("/dev/null")).is_ok());
        assert_eq!(open(Path::new("/")).unwrap_err().kind(), ErrorKind::IsADirectory);
        open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).unwrap();
    }
}
