//! blackhole: an address at which connections are neither made nor refused: nobody answers.

use socket2::{Domain, Socket, Type};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A listener that takes nobody from its queue, which is full: the kernel drops every further attempt.
pub struct Blackhole {
    address: SocketAddr,
    /// What it holds open.
    _held: (Socket, Vec<TcpStream>),
}

impl Blackhole {
    /// One at an address of the kernel's choice.
    #[track_caller]
    pub fn open() -> Blackhole {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("an address");
        socket.listen(0).expect("to listen");
        let address = socket.local_addr().ok().and_then(|it| it.as_socket()).expect("its address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let held = std::iter::from_fn(connect).take(64).collect::<Vec<_>>();
        assert!(held.len() < 64, "the queue is never full");
        Blackhole { address, _held: (socket, held) }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Display for Blackhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
