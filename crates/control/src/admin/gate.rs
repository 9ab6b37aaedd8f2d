//! gate: who may use the admin API (attack I3).
//!
//! At a unix socket the kernel has checked the caller. At a TCP address anything could call, a web page in the
//! operator's own browser included, so three things must hold: the bearer token, a `Host` that is ours (against DNS
//! rebinding), and no sign of a browser. The last holds at both, because no tool of ours sends one.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN};
use hyper::http::StatusCode;

/// What a caller has to show.
pub struct Gate {
    /// None at a unix socket.
    tcp: Option<Tcp>,
}

struct Tcp {
    token: Vec<u8>,
    hosts: Vec<String>,
}

/// Why a caller is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer with.
    pub status: StatusCode,
    /// Why.
    pub reason: &'static str,
}

impl Gate {
    /// The kernel has checked the caller.
    pub fn unix() -> Gate {
        Gate { tcp: None }
    }

    /// Callers of `address` (`ip:port`) need `token`.
    pub fn tcp(token: &str, address: &str) -> Gate {
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let names = ["localhost", "127.0.0.1", "[::1]"];
        let mut hosts: Vec<_> = names.iter().map(|name| format!("{name}:{port}")).collect();
        hosts.push(address.to_owned());
        Gate { tcp: Some(Tcp { token: token.as_bytes().to_vec(), hosts }) }
    }

    /// Whether a request with these fields may pass.
    pub fn check(&self, fields: &HeaderMap) -> Result<(), Refusal> {
        let browser = fields.keys().any(|name| *name == ORIGIN || name.as_str().starts_with("sec-fetch-"));
        if browser {
            return Err(Refusal { status: StatusCode::FORBIDDEN, reason: "browsers may not call this API" });
        }
        let Some(tcp) = &self.tcp else { return Ok(()) };
        if !tcp.knows_host(fields) {
            return Err(Refusal { status: StatusCode::MISDIRECTED_REQUEST, reason: "the Host is not ours" });
        }
        if !tcp.knows_token(fields) {
            return Err(Refusal { status: StatusCode::UNAUTHORIZED, reason: "a bearer token is needed" });
        }
        Ok(())
    }
}

impl Tcp {
    fn knows_host(&self, fields: &HeaderMap) -> bool {
        let Some(host) = only(fields, HOST) else { return false };
        let Ok(host) = host.to_str() else { return false };
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    fn knows_token(&self, fields: &HeaderMap) -> bool {
        let Some(value) = only(fields, AUTHORIZATION) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(BEARER.len()) else { return false };
        scheme.eq_ignore_ascii_case(BEARER) && !self.token.is_empty() && same(token, &self.token)
    }
}

/// The value of a field that stands exactly once.
fn only(fields: &HeaderMap, name: hyper::header::HeaderName) -> Option<&HeaderValue> {
    let mut values = fields.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Compares in a time that depends on the length of `given` only, so that it tells nothing of how much of it was right.
fn same(given: &[u8], secret: &[u8]) -> bool {
    let mut difference = given.len() ^ secret.len();
    for (&given, &secret) in given.iter().zip(secret.iter().cycle()) {
        difference |= usize::from(std::hint::black_box(given ^ secret));
    }
    std::hint::black_box(difference) == 0
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn status(gate: &Gate, pairs: &[(&'static str, &'static str)]) -> u16 {
        gate.check(&fields(pairs)).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn i3_tcp_needs_token_and_host() {
        let gate = Gate::tcp("secret", "127.0.0.1:9000");
        let (host, token) = (("host", "127.0.0.1:9000"), ("authorization", "Bearer secret"));
        assert_eq!(status(&gate, &[host, token]), 200);
        assert_eq!(status(&gate, &[("host", "LOCALHOST:9000"), ("authorization", "bearer secret")]), 200);
        assert_eq!(status(&gate, &[("host", "[::1]:9000"), token]), 200);
        assert_eq!(status(&gate, &[host]), 401);
        assert_eq!(status(&gate, &[host, token, token]), 401);
        for wrong in
            ["Bearer secre", "Bearer secrets", "Bearer Secret", "Bearer ", "Basic secret", "secret", ""]
        {
            assert_eq!(status(&gate, &[host, ("authorization", wrong)]), 401, "{wrong}");
        }
        for wrong in ["evil.example:9000", "127.0.0.1:9001", "127.0.0.1", "127.0.0.1:9000.evil.example", ""] {
            assert_eq!(status(&gate, &[("host", wrong), token]), 421, "{wrong}");
        }
        assert_eq!(status(&gate, &[token]), 421);
        assert_eq!(status(&gate, &[host, host, token]), 421);
        assert_eq!(status(&Gate::tcp("", "127.0.0.1:9000"), &[host, ("authorization", "Bearer ")]), 401);
    }

    #[test]
    fn i3_browsers_are_sent_away() {
        let token = ("authorization", "Bearer secret");
        for gate in [Gate::unix(), Gate::tcp("secret", "127.0.0.1:9000")] {
            for sign in
                [("origin", "null"), ("origin", "http://127.0.0.1:9000"), ("sec-fetch-site", "same-origin")]
            {
                assert_eq!(status(&gate, &[("host", "127.0.0.1:9000"), token, sign]), 403, "{sign:?}");
            }
        }
        assert_eq!(status(&Gate::unix(), &[("host", "anything")]), 200);
    }
}
