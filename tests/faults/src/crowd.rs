//! crowd: many connections that are no good — silent, slow, greedy — opened and kept by one thread.

use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// What one of them does.
#[derive(Clone, Debug)]
pub struct Manner {
    /// What it sends first.
    pub first: Vec<u8>,
    /// What it sends, one byte after the other, each time `drip` is called; then nothing more.
    pub drip: Vec<u8>,
    /// How many bytes it takes each time `drip` is called.
    pub take: usize,
}

/// The connections.
#[derive(Default)]
pub struct Crowd {
    members: Vec<Member>,
}

struct Member {
    stream: TcpStream,
    manner: Manner,
    sent: usize,
}

impl Crowd {
    /// Opens one more; false when it is refused, or not taken within a second.
    pub fn join(&mut self, address: SocketAddr, manner: Manner) -> bool {
        self.join_from(None, address, manner)
    }

    /// The same from an address of the caller's choice.
    pub fn join_from(&mut self, from: Option<IpAddr>, address: SocketAddr, manner: Manner) -> bool {
        let Some(mut stream) = connect(from, address) else { return false };
        let _ = stream.write(&manner.first);
        self.members.push(Member { stream, manner, sent: 0 });
        true
    }

    /// Each sends its next byte and takes what it takes; those whose connection has ended leave.
    pub fn drip(&mut self) {
        self.members.retain_mut(Member::drip);
    }

    /// Those that upload send as much of so many bytes as is taken.
    pub fn push(&mut self, bytes: usize) {
        let bytes = vec![b'x'; bytes];
        for member in self.members.iter_mut().filter(|member| member.manner.first.starts_with(b"POST")) {
            let _ = member.stream.write(&bytes);
        }
    }

    /// Whether the first one gets anything within this time.
    pub fn is_answered_within(&mut self, time: Duration) -> bool {
        let Some(member) = self.members.first_mut() else { return false };
        let _ = member.stream.set_nonblocking(false);
        let _ = member.stream.set_read_timeout(Some(time));
        let mut bytes = [0; 15];
        member.stream.read_exact(&mut bytes).is_ok() && bytes.starts_with(b"HTTP/1.1 200")
    }

    /// How many are left.
    pub fn count(&self) -> usize {
        self.members.len()
    }
}

impl Member {
    fn drip(&mut self) -> bool {
        let gone = |kind: ErrorKind| kind != ErrorKind::WouldBlock && kind != ErrorKind::Interrupted;
        if let Some(byte) = self.manner.drip.get(self.sent) {
            match self.stream.write(&[*byte]) {
                Ok(_) => self.sent += 1,
                Err(error) if gone(error.kind()) => return false,
                Err(_) => {}
            }
        }
        // Whoever reads nothing learns by its error that it was sent away, once it has written something more.
        if self.manner.take == 0 {
            return self.stream.take_error().is_ok_and(|error| error.is_none());
        }
        let mut bytes = vec![0; self.manner.take];
        match self.stream.read(&mut bytes) {
            Ok(count) => count > 0,
            Err(error) => !gone(error.kind()),
        }
    }
}

/// With a small receive buffer, so that what is not read piles up at the sender.
pub fn connect(from: Option<IpAddr>, address: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).ok()?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into()).ok()?;
    }
    socket.set_recv_buffer_size(4 << 10).ok()?;
    socket.connect_timeout(&address.into(), Duration::from_secs(1)).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket.into())
}

/// Raises this process's limit of descriptors as far as it may go.
pub fn make_room() {
    let own = std::process::id().to_string();
    let hard = std::process::Command::new("sh").args(["-c", "ulimit -H -n"]).output();
    let hard =
        hard.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let words = ["--pid", &own, &format!("--nofile={hard}:{hard}")];
    let _ = std::process::Command::new("prlimit").args(words).status();
}
