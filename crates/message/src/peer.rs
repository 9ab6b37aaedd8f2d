//! Peer: who is there — addresses from the kernel or from a PROXY header, and facts proved since.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from: as a PROXY header says, if one was to be believed, otherwise as the kernel saw it; a unix
    /// socket counts as 127.0.0.1 port 0.
    pub client: SocketAddr,
    /// Which address it reached: the one that the header names, or of ours.
    pub ours: SocketAddr,
    /// The proxy that has sent such a header, as the kernel saw it.
    pub via: Option<IpAddr>,
}

impl Peer {
    /// Both ends as the kernel saw them.
    pub fn seen(client: SocketAddr, ours: SocketAddr) -> Peer {
        Peer { client, ours, via: None }
    }

    /// The same connection, as a proxy tells of it that has passed it on.
    pub fn told(self, client: SocketAddr, ours: SocketAddr) -> Peer {
        Peer { client, ours, via: Some(self.client.ip()) }
    }

    /// Whether it is not known where the connection comes from: it is over a unix socket.
    pub fn is_unknown(&self) -> bool {
        self.client.port() == 0 && self.client.ip().is_loopback()
    }
}

/// What TLS has proved of a client's connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The host that the client asked for, in normal form.
    pub name: Option<Box<str>>,
    /// `TLSv1.3`, `TLSv1.2`.
    pub version: &'static str,
    /// Who the client is, when it has shown a certificate that was verified.
    pub client: Option<Identity>,
}

/// Who a client is, by its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's subject: `CN=app, O=Example`.
    pub subject: String,
    /// Its alternative names, each with its kind before it: `DNS:app.internal`, `URI:spiffe://example/app`.
    pub names: Vec<String>,
}

impl Default for Peer {
    fn default() -> Peer {
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Peer::seen(nobody, nobody)
    }
}
