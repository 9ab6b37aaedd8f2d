//! place: free ports, folders of one test, and the waiting for something with a deadline.

use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A port that is ours as long as this lives: it is bound, so that the kernel gives it to nobody else, but nobody listens
/// on it, so that a server told to can bind it too (both have `SO_REUSEADDR`). A connection to it is refused.
pub struct Port {
    address: SocketAddr,
    _socket: Socket,
}

impl Port {
    /// One of the kernel's choice.
    pub fn free() -> Port {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.set_reuse_port(true).expect("SO_REUSEPORT");
        socket.set_reuse_address(true).expect("SO_REUSEADDR"); // the proxy tries whether anybody listens
        let any = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port");
        let address = socket.local_addr().expect("its address").as_socket().expect("an IP address");
        Port { address, _socket: socket }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

/// A folder that is removed when this is dropped.
pub struct Place(PathBuf);

impl Place {
    /// A new, empty one with a short name, because the path of a unix socket has at most 107 bytes.
    pub fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Place(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it, in one step: nobody sees half of it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (new, path) = (self.0.join(format!("{name}.new")), self.0.join(name));
        std::fs::write(&new, content).expect("to write");
        std::fs::rename(&new, &path).expect("to rename");
        path
    }
}

impl Default for Place {
    fn default() -> Place {
        Place::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks `question` again and again until it has an answer; fails the test after `patience`.
#[track_caller]
pub fn eventually<T>(what: &str, patience: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(3));
    }
}
