//! Exchange: one request's whole life, from first byte to record.

use crate::{Error, Peer, Proof, Request, Response, Status, Tick};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A number that no other request has; 128 random bits written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What the client speaks; for the log, nothing else depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Protocol {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl Protocol {
    /// As a request line spells it, where there is one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}

/// One request's whole life. It is filled step by step and read once, by `tally`.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Its number.
    pub id: RequestId,
    /// The connection it came by.
    pub peer: Peer,
    /// What TLS has proved of that connection; none: it is plain.
    pub proof: Option<Arc<Proof>>,
    /// Who asks, after trusted proxies have been believed; the connection's own address otherwise.
    pub client_ip: Option<IpAddr>,
    /// What was asked, as the filters left it.
    pub request: Request,
    /// What the client speaks.
    pub protocol: Protocol,
    /// What was answered, as the filters left it.
    pub response: Response,
    /// The path and query as they were when the route was chosen, for the log; rewriting does not change it.
    pub asked: String,
    /// Route, pool and host: indices that the Snapshot understands.
    pub labels: Labels,
    /// How many attempts were made at an upstream.
    pub tries: u32,
    /// Whether a further attempt was wanted and had no place in the budget.
    pub refused_by_budget: bool,
    /// When what happened.
    pub times: Times,
    /// Body bytes that came from the client.
    pub bytes_up: u64,
    /// Body bytes that went to the client.
    pub bytes_down: u64,
    /// The status that went out; `None` when nothing did.
    pub sent: Option<Status>,
    /// The status that a call of gRPC ended with, where it was one and had one.
    pub call_status: Option<u8>,
    /// What ended it, when it was not its natural end.
    pub error: Option<Error>,
}

/// Which parts of the Snapshot it passed through; `None` until it got there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Index of the route.
    pub route: Option<u32>,
    /// Index of the pool.
    pub pool: Option<u32>,
    /// Index of the host in its pool, of the last attempt.
    pub host: Option<u32>,
}

/// When what happened; a moment that has not come is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The first byte of the head came.
    pub began: Tick,
    /// The head was complete.
    pub head: Option<Tick>,
    /// An upstream connection was asked for (queueing ended).
    pub picked: Option<Tick>,
    /// An upstream connection was there.
    pub connected: Option<Tick>,
    /// The head of the upstream's answer was there.
    pub first_byte: Option<Tick>,
    /// All was done.
    pub ended: Option<Tick>,
}

impl Exchange {
    /// Forgets everything but keeps the memory for the next one on the same connection.
    pub fn clear(&mut self) {
        self.id = RequestId::default();
        self.proof = None;
        self.client_ip = None;
        self.request.clear();
        self.protocol = Protocol::default();
        self.response.clear();
        self.asked.clear();
        self.labels = Labels::default();
        self.tries = 0;
        self.refused_by_budget = false;
        self.times = Times::default();
        self.bytes_up = 0;
        self.bytes_down = 0;
        self.sent = None;
        self.call_status = None;
        self.error = None;
    }

    /// Who asks.
    pub fn client_ip(&self) -> IpAddr {
        self.client_ip.unwrap_or(self.peer.client.ip())
    }
}
