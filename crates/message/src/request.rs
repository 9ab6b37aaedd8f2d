//! Request: method, target, fields, body; no version, no framing.

use crate::name::OF_ONE_HOP;
use crate::{Body, FieldName, Fields, Known, Method, Target};

/// A request in HTTP's own terms. Hop-by-hop and framing fields are not in `fields`.
#[derive(Debug)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// To what.
    pub target: Target,
    /// The end-to-end header fields, without `Host`.
    pub fields: Fields,
    /// What comes with it.
    pub body: Body,
    /// The protocol asked for by an extended CONNECT, or by `Upgrade` in HTTP/1.1; `websocket` is the only one.
    pub websocket: bool,
    /// Whether who asks understands trailers (`TE: trailers`).
    pub trailers: bool,
}

impl Default for Request {
    fn default() -> Request {
        Request {
            method: Method::GET,
            target: Target::new(),
            fields: Fields::new(),
            body: Body::empty(),
            websocket: false,
            trailers: false,
        }
    }
}

impl Request {
    /// Forgets everything but keeps the memory for the next one.
    pub fn clear(&mut self) {
        self.method = Method::GET;
        self.target.clear();
        self.fields.clear();
        self.body.clear();
        self.websocket = false;
        self.trailers = false;
    }

    /// Whether anything is kept of a field of this name: not where it concerns one hop only, but for `Host` and `Upgrade`, which are
    /// parts of the request.
    pub fn keeps(name: Known) -> bool {
        !OF_ONE_HOP.has(name) || matches!(name, Known::HOST | Known::UPGRADE)
    }

    /// The values of field `name` as the client gave them, also of those that are kept as parts of the request: `Host`, and `Upgrade`.
    pub fn header<'a>(&'a self, name: &'a FieldName) -> impl Iterator<Item = &'a [u8]> {
        let part = match name.known() {
            Known::HOST => Some(self.target.authority().as_bytes()).filter(|host| !host.is_empty()),
            Known::UPGRADE => self.websocket.then_some(&b"websocket"[..]),
            _ => None,
        };
        part.into_iter().chain(self.fields.get_all(name))
    }

    /// The value of cookie `name`, on any `Cookie` line (RFC 6265 §5.4).
    pub fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.fields.get_all(Known::COOKIE).find_map(|line| {
            line.split(|&b| b == b';').map(crate::fields::trim).find_map(|pair| {
                let rest = pair.strip_prefix(name.as_bytes())?;
                rest.strip_prefix(b"=")
            })
        })
    }
}
