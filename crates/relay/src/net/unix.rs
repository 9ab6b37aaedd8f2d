//! unix: where a unix socket stands: a leftover makes room for it, another file does not, and its own file goes with it.

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How many connections wait in the kernel's queue at most; it has a bound of its own, too.
const BACKLOG: i32 = 4096;

/// A listening socket at `path`, and the claim to its file, which has at most these rights from its first moment on: Linux takes them from the
/// socket. A socket that nobody answers at is a leftover and goes.
pub fn bind_unix(path: &Path, rights: u32) -> io::Result<(UnixListener, Claim)> {
    remove_leftover(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(rights))?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    let claim = Claim::of(path)?;
    claim.own(true);
    Ok((listener, claim))
}

fn remove_leftover(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "a file stands there that is no socket"));
        }
        Ok(_) => {}
    }
    // Without waiting: whoever listens there and lets nobody in is there all the same.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "another process answers there")),
    }
}

/// A socket's file. When dropped it is removed, if it is ours and still the same.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: (u64, u64),
    ours: AtomicBool,
}

impl Claim {
    /// The file at `path`; it is another's until [`Claim::own`].
    pub fn of(path: &Path) -> io::Result<Claim> {
        Ok(Claim { path: path.to_owned(), file: identity(path)?, ours: AtomicBool::new(false) })
    }

    /// Says whether it is ours, to be removed at the end.
    pub fn own(&self, ours: bool) {
        self.ours.store(ours, Relaxed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.ours.load(Relaxed) && identity(&self.path).is_ok_and(|file| file == self.file) {
            // Nothing can be done about a file that cannot be removed, and the next start removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_a_leftover_makes_room_and_only_ours_goes() {
        let folder = std::env::temp_dir().join(format!("portunus-unix-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("web.sock");
        let refused = |path: &Path| bind_unix(path, 0o777).err().map(|error| error.kind());

        drop(UnixListener::bind(&path).unwrap());
        let (_first, claim) = bind_unix(&path, 0o777).unwrap();
        assert_eq!(refused(&path), Some(ErrorKind::AddrInUse));
        UnixStream::connect(&path).unwrap();
        drop(claim);
        assert!(!path.exists());

        let (_second, claim) = bind_unix(&path, 0o777).unwrap();
        std::fs::rename(&path, folder.join("moved")).unwrap();
        std::fs::write(&path, "other").unwrap();
        drop(claim);
        assert_eq!(refused(&path), Some(ErrorKind::AlreadyExists));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
