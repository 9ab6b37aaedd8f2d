//! Peer: who is there — addresses from the kernel, and facts proved since.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from; a unix socket counts as 127.0.0.1 port 0.
    pub client: SocketAddr,
    /// Which address of ours it reached.
    pub ours: SocketAddr,
}

impl Default for Peer {
    fn default() -> Peer {
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Peer { client: nobody, ours: nobody }
    }
}
