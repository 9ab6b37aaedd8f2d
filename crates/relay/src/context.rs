//! Context: what a filter may see beside the message, and the bounds it may set.

use portunus_message::{Fields, Limits, Peer, Proof, Request, RequestId, Response, Tick};
use std::net::IpAddr;
use std::time::Duration;

/// What a filter may see beside the message. It holds no I/O and no clock: everything is a value given.
pub struct Context<'a> {
    /// Both ends of the client's connection.
    pub peer: Peer,
    /// What TLS has proved of that connection.
    pub proof: Option<&'a Proof>,
    /// Who asks, after trusted proxies have been believed.
    pub client_ip: IpAddr,
    /// The request's number.
    pub id: RequestId,
    /// When this exchange began.
    pub now: Tick,
    /// The bounds of this exchange; a filter may change them.
    pub bounds: &'a mut Bounds,
    /// The host that answered, `address:port`; known only on the way back.
    pub upstream: Option<&'a str>,
    /// Header fields that the answer shall get whatever it will be: for filters that know on the way in what they
    /// want on the way back.
    pub later: &'a mut Fields,
    /// Whether an `access allow` has named this client; `access deny` does not hold for it from then on.
    pub access_granted: bool,
}

/// The bounds of one exchange, first those of its route, then what filters make of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The whole exchange, from its first byte on; none means: no bound but the others.
    pub request: Option<Duration>,
    /// Whether that is as short as it is by the client's wish.
    pub hurried: bool,
    /// From the end of the request to the head of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub upstream_idle: Duration,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// Whether the client may be silent in the middle of its body as long as in a tunnel: both sides speak in turns.
    pub conversation: bool,
}

impl Bounds {
    /// Those of a route's limits.
    pub fn of(limits: &Limits) -> Bounds {
        Bounds {
            request: None,
            hurried: false,
            first_byte: limits.first_byte,
            upstream_idle: limits.upstream_idle,
            body_bytes: limits.body_bytes,
            conversation: false,
        }
    }
}

/// A question that a filter cannot answer by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Does this password fit this hash? Checking is slow on purpose, so it is done off the worker.
    Password {
        /// The stored hash, in PHC or crypt form.
        hash: std::sync::Arc<str>,
        /// What the client sent.
        password: Vec<u8>,
    },
}

/// The answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It could not be found out in time; whoever guards something treats it as `No`.
    Unknown,
}

/// What a template may be filled from.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The request as it is now.
    pub request: &'a Request,
    /// The answer, on the way back.
    pub response: Option<&'a Response>,
    /// Both ends of the client's connection.
    pub peer: Peer,
    /// What TLS has proved of it.
    pub proof: Option<&'a Proof>,
    /// Who asks.
    pub client_ip: IpAddr,
    /// The request's number.
    pub id: RequestId,
    /// The host that has the request, once one has.
    pub upstream: Option<&'a str>,
}

impl Context<'_> {
    /// What a template may be filled from, with this request and answer.
    pub fn scope<'s>(&'s self, request: &'s Request, response: Option<&'s Response>) -> Scope<'s> {
        let Context { peer, proof, client_ip, id, upstream, .. } = *self;
        Scope { request, response, peer, proof, client_ip, id, upstream }
    }
}
