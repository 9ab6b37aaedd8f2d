//! door: where the admin API listens — a unix socket of its owner's only, or a TCP address with a token.

use super::Stream;
use super::gate::Gate;
use portunus_relay::net::{Claim, bind_unix};
use portunus_relay::plan::Admin;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};

/// An open listener of the admin API.
pub struct Door {
    listener: Listener,
    token: Option<String>,
    address: String,
    claim: Option<Arc<Claim>>,
}

/// A second handle of a door, for handing it to a successor.
pub struct Spare {
    socket: OwnedFd,
    claim: Option<Arc<Claim>>,
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Opens what the configuration asks for; none when that is nothing. It needs a runtime.
pub fn open(admin: &Admin) -> io::Result<Option<Door>> {
    match admin {
        Admin::Off => Ok(None),
        Admin::Unix(path) => {
            let (listener, claim) = open_unix(path)?;
            let address = format!("unix:{}", path.display());
            let claim = Some(Arc::new(claim));
            Ok(Some(Door { listener: Listener::Unix(listener), token: None, address, claim }))
        }
        Admin::Tcp { address, token } => tcp(std::net::TcpListener::bind(address)?, &token.value).map(Some),
    }
}

/// Takes over a socket that was opened for the same `admin`. Its file stays another's until [`Spare::own`].
pub fn inherit(admin: &Admin, socket: OwnedFd) -> io::Result<Option<Door>> {
    match admin {
        Admin::Off => Ok(None),
        Admin::Unix(path) => {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            let claim = Claim::of(path)?;
            let address = format!("unix:{}", path.display());
            let listener = Listener::Unix(UnixListener::from_std(listener)?);
            Ok(Some(Door { listener, token: None, address, claim: Some(Arc::new(claim)) }))
        }
        Admin::Tcp { token, .. } => tcp(socket.into(), &token.value).map(Some),
    }
}

fn tcp(listener: std::net::TcpListener, token: &str) -> io::Result<Door> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?.to_string();
    let listener = Listener::Tcp(TcpListener::from_std(listener)?);
    Ok(Door { listener, token: Some(token.to_owned()), address, claim: None })
}

impl Spare {
    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Says whether the socket's file is ours, to be removed at the end.
    pub fn own(&self, ours: bool) {
        if let Some(claim) = &self.claim {
            claim.own(ours);
        }
    }
}

/// Where it is, as it is written in the configuration.
pub fn shown(admin: &Admin) -> String {
    match admin {
        Admin::Off => "off".into(),
        Admin::Unix(path) => format!("unix:{}", path.display()),
        Admin::Tcp { address, .. } => address.to_string(),
    }
}

impl Door {
    /// Where it is, as one would write it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A second handle.
    pub fn spare(&self) -> io::Result<Spare> {
        let socket = match &self.listener {
            Listener::Unix(listener) => listener.as_fd().try_clone_to_owned()?,
            Listener::Tcp(listener) => listener.as_fd().try_clone_to_owned()?,
        };
        Ok(Spare { socket, claim: self.claim.clone() })
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
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// The directory is made private when it is not there yet.
fn open_unix(path: &Path) -> io::Result<(UnixListener, Claim)> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let (listener, claim) = bind_unix(path, 0o600)?;
    Ok((UnixListener::from_std(listener)?, claim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
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
        // A successor has it too, and what was handed over stays.
        let spare = door.spare().unwrap();
        let next = inherit(&admin, spare.socket().try_clone_to_owned().unwrap()).unwrap().unwrap();
        spare.own(false);
        drop((door, spare));
        assert!(path.exists());
        next.spare().unwrap().own(true);
        drop(next);
        assert!(!path.exists());

        let door = open(&admin).unwrap().unwrap();
        std::fs::rename(&path, folder.join("moved")).unwrap();
        std::fs::write(&path, "other").unwrap();
        drop(door);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
        assert_eq!(open(&admin).err().map(|error| error.kind()), Some(ErrorKind::AlreadyExists));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
