//! door: where the admin API listens — a unix socket of its owner's only, or a TCP address with a token.

use super::Stream;
use super::gate::Gate;
use portunus_relay::plan::Admin;
use rustix::fs::Mode;
use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};

/// An open listener of the admin API.
pub struct Door {
    listener: Listener,
    token: Option<String>,
    address: String,
}

enum Listener {
    Unix(UnixListener, #[allow(dead_code, reason = "removes the socket when dropped")] Claim),
    Tcp(TcpListener),
}

/// Opens what the configuration asks for; none when that is nothing. It needs a runtime.
pub fn open(admin: &Admin) -> io::Result<Option<Door>> {
    match admin {
        Admin::Off => Ok(None),
        Admin::Unix(path) => {
            let (listener, claim) = open_unix(path)?;
            let address = format!("unix:{}", path.display());
            Ok(Some(Door { listener: Listener::Unix(listener, claim), token: None, address }))
        }
        Admin::Tcp { address, token } => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?.to_string();
            let listener = Listener::Tcp(TcpListener::from_std(listener)?);
            Ok(Some(Door { listener, token: Some(token.value.clone()), address }))
        }
    }
}

impl Door {
    /// Where it is, as one would write it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Who may come through it.
    pub(super) fn gate(&self) -> Gate {
        match &self.token {
            None => Gate::unix(),
            Some(token) => Gate::tcp(token, &self.address),
        }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.listener {
            Listener::Unix(listener, _) => Box::new(listener.accept().await?.0),
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// The directory is made private when it is not there yet; a socket that nobody answers at is a leftover and goes.
fn open_unix(path: &Path) -> io::Result<(UnixListener, Claim)> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    remove_leftover(path)?;
    // The socket must never be there with wider rights, not even between bind and chmod.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = std::os::unix::net::UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    let claim = Claim::of(path)?;
    Ok((UnixListener::from_std(listener)?, claim))
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
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process answers there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// Our socket's file. When dropped it is removed, if it is still ours.
struct Claim {
    path: PathBuf,
    file: (u64, u64),
}

impl Claim {
    fn of(path: &Path) -> io::Result<Claim> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Claim { path: path.to_owned(), file: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        if found.is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn i3_the_socket_is_its_owners_only_and_leftovers_go() {
        let folder = std::env::temp_dir().join(format!("portunus-door-{}", std::process::id()));
        let path = folder.join("run/admin.sock");
        let admin = Admin::Unix(path.clone());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;

        let door = open(&admin).unwrap().unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(open(&admin).err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
        drop(door);
        assert!(!path.exists());

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let door = open(&admin).unwrap().unwrap();
        std::fs::rename(&path, folder.join("moved")).unwrap();
        std::fs::write(&path, "other").unwrap();
        drop(door);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
        assert_eq!(open(&admin).err().map(|error| error.kind()), Some(ErrorKind::AlreadyExists));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
