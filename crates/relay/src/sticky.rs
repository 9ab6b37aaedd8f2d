//! Sticky: the signed cookie that brings a client back to the host that it had.

use crate::hosts::{HostId, HostSet, Hosts};
use crate::plan::{self, SameSite};
use crate::standing::Probe;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use portunus_message::fields::FieldValue;
use portunus_message::{Known, Request, Response, Tick};
use sha2::Sha256;
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// The fewest bytes that a key may have.
const KEY_BYTES_MIN: usize = 16;
/// The bytes of a token: half of what the hash gives, which is as hard to guess as a key of 128 bits.
const TOKEN_BYTES: usize = 16;

/// A pool's cookie, with the tokens of its hosts. A token is the signature of the host's name by a key, so it names the
/// host to us, shows it to nobody, and cannot be made without the key; a request costs comparisons and no hashing.
#[derive(Debug)]
pub struct Sticky {
    cookie: Box<str>,
    tokens: Vec<Token>,
    /// The whole field for each host, signed by the first key.
    fields: Vec<Box<[u8]>>,
    /// Whether each answer sets the cookie again, because its time counts from the latest.
    refreshes: bool,
}

#[derive(Debug)]
struct Token {
    id: HostId,
    text: Box<[u8]>,
}

/// The keys in `text`, the signing one first, or why they will not do.
pub fn keys(text: &str) -> Result<Vec<&[u8]>, String> {
    let keys: Vec<&[u8]> = text.split_ascii_whitespace().map(str::as_bytes).collect();
    match keys.iter().find(|key| key.len() < KEY_BYTES_MIN) {
        None if keys.is_empty() => Err("there is no key in it".to_owned()),
        None => Ok(keys),
        Some(key) => {
            Err(format!("a key of {} bytes can be guessed; it needs at least {KEY_BYTES_MIN}", key.len()))
        }
    }
}

impl Sticky {
    /// The cookie of `pool` with these hosts.
    pub fn new(plan: &plan::Sticky, pool: &str, hosts: &Hosts) -> Result<Sticky, String> {
        let keys = keys(&plan.key.value)?;
        let token = |key: &[u8], host: &str| token(key, &[pool, &plan.cookie, host]);
        let tokens = keys.iter().flat_map(|key| {
            hosts.iter().map(|(id, host)| Token { id, text: token(key, &host.name).into_bytes().into() })
        });
        let field = |host: &str| field(plan, keys.first().map(|key| token(key, host)).as_deref());
        Ok(Sticky {
            cookie: plan.cookie.as_str().into(),
            tokens: tokens.collect(),
            fields: hosts.iter().map(|(_, host)| field(&host.name).into_bytes().into()).collect(),
            refreshes: plan.ttl.is_some(),
        })
    }

    /// The host that the client had, if it may go on with it: it is good, or only drained, or none is better.
    pub fn bound(&self, request: &Request, hosts: &Hosts, tried: &HostSet, now: Tick) -> Option<HostId> {
        let id = self.named(request)?;
        let live = &hosts.get(id)?.live;
        let keeps = live.standing.probe() != Probe::Failing
            && !live.standing.is_ejected(now)
            && !live.silence.is_mute();
        let keeps = keeps || hosts.is_below_floor(now) && hosts.candidates(tried, now).one(id).is_some();
        (keeps && !tried.has(id)).then_some(id)
    }

    /// The host that the client's cookie names.
    fn named(&self, request: &Request) -> Option<HostId> {
        let text = request.cookie(&self.cookie)?;
        // All are compared, and each to its end, so that time tells nothing of a token.
        let fits = |token: &&Token| bool::from(token.text.ct_eq(text));
        self.tokens.iter().filter(fits).fold(None, |first, token| first.or(Some(token.id)))
    }

    /// Tells the client to come back to host `id`, unless it knows.
    pub fn mark(&self, request: &Request, id: HostId, response: &mut Response) {
        let knows = !self.refreshes && self.is_signed_anew(request, id);
        let field = self.fields.get(id.0 as usize).and_then(|field| FieldValue::new(field));
        if let Some(field) = field.filter(|_| !knows) {
            response.fields.add(Known::SET_COOKIE, field);
        }
    }

    /// Whether the client has the very cookie that would be set: of this host, and signed by the first key.
    fn is_signed_anew(&self, request: &Request, id: HostId) -> bool {
        let newest = self.tokens.get(..self.fields.len()).unwrap_or(&[]);
        let text = request.cookie(&self.cookie).unwrap_or(b"");
        newest.iter().any(|token| token.id == id && bool::from(token.text.ct_eq(text)))
    }
}

/// HMAC-SHA256 over the parts, each closed by a NUL, which none of them holds.
fn token(key: &[u8], parts: &[&str]) -> String {
    // Invariant: HMAC takes a key of any length.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(part.as_bytes());
        mac.update(b"\0");
    }
    let bytes = mac.finalize().into_bytes();
    URL_SAFE_NO_PAD.encode(bytes.get(..TOKEN_BYTES).unwrap_or(&bytes))
}

/// The value of `Set-Cookie` (RFC 6265 §4.1).
fn field(plan: &plan::Sticky, token: Option<&str>) -> String {
    let mut text = format!("{}={}; Path=/; HttpOnly", plan.cookie, token.unwrap_or(""));
    if let Some(ttl) = plan.ttl {
        let _ = write!(text, "; Max-Age={}", ttl.as_secs());
    }
    text.push_str(match plan.same_site {
        SameSite::Lax => "; SameSite=Lax",
        SameSite::Strict => "; SameSite=Strict",
        SameSite::None => "; SameSite=None; Secure",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::Host;
    use crate::plan::{Address, Text};
    use crate::standing::Order;
    use std::sync::Arc;
    use std::time::Duration;

    const NEW: &str = "new-key-of-enough-bytes";
    const OLD: &str = "old-key-of-enough-bytes";

    fn hosts() -> Hosts {
        let host = |at: u32| Address::Name { host: format!("h{at}"), port: 80 };
        Hosts::new((0..3).map(|at| Arc::new(Host::new(host(at), 1, false, None))).collect())
    }

    fn sticky(key: &str) -> Sticky {
        let key = Text { value: key.to_owned(), written: Some("${env.KEY}".to_owned()) };
        let plan = plan::Sticky { cookie: "srv".into(), key, ttl: None, same_site: SameSite::Lax };
        Sticky::new(&plan, "web", &hosts()).unwrap()
    }

    /// What a client would send that got the cookie of host `id`.
    fn back(sticky: &Sticky, id: u32) -> Request {
        let mut response = Response::default();
        sticky.mark(&Request::default(), HostId(id), &mut response);
        let set = response.fields.get(Known::SET_COOKIE).unwrap();
        let pair = set.split(|&byte| byte == b';').next().unwrap();
        with_cookie(pair)
    }

    fn with_cookie(pair: &[u8]) -> Request {
        let mut request = Request::default();
        request.fields.add(Known::COOKIE, FieldValue::new(pair).unwrap());
        request
    }

    fn bound(sticky: &Sticky, request: &Request, hosts: &Hosts) -> Option<HostId> {
        sticky.bound(request, hosts, &HostSet::default(), Tick(9))
    }

    #[test]
    fn a_client_comes_back_to_its_host() {
        let (sticky, hosts) = (sticky(NEW), hosts());
        for id in 0..3 {
            let request = back(&sticky, id);
            assert_eq!(bound(&sticky, &request, &hosts), Some(HostId(id)));
            let mut response = Response::default();
            sticky.mark(&request, HostId(id), &mut response);
            assert!(!response.fields.has(Known::SET_COOKIE), "it knows");
            sticky.mark(&request, HostId((id + 1) % 3), &mut response);
            assert!(response.fields.has(Known::SET_COOKIE), "another host now");
        }
    }

    #[test]
    fn a_cookie_that_is_not_ours_binds_to_nothing() {
        let hosts = hosts();
        let theirs = back(&sticky(OLD), 1);
        assert_eq!(bound(&sticky(NEW), &theirs, &hosts), None);
        for pair in ["srv=", "srv=h1:80", "srv=AAAAAAAAAAAAAAAAAAAAAA", "other=x", "srv"] {
            assert_eq!(bound(&sticky(NEW), &with_cookie(pair.as_bytes()), &hosts), None, "{pair}");
        }
    }

    #[test]
    fn keys_are_changed_without_losing_anybody() {
        let (hosts, request) = (hosts(), back(&sticky(OLD), 2));
        let both = sticky(&format!("{NEW}\n{OLD}\n"));
        assert_eq!(bound(&both, &request, &hosts), Some(HostId(2)));
        let mut response = Response::default();
        both.mark(&request, HostId(2), &mut response);
        assert!(response.fields.has(Known::SET_COOKIE), "signed anew by the first key");
        assert_eq!(bound(&sticky(NEW), &back(&both, 2), &hosts), Some(HostId(2)));
    }

    #[test]
    fn a_drained_host_keeps_its_clients_and_a_bad_one_does_not() {
        let (sticky, hosts) = (sticky(NEW), hosts());
        let request = back(&sticky, 1);
        let standing = &hosts.get(HostId(1)).unwrap().live.standing;
        standing.set_order(Order::Drain);
        assert_eq!(bound(&sticky, &request, &hosts), Some(HostId(1)));
        standing.set_probe(Probe::Failing);
        assert_eq!(bound(&sticky, &request, &hosts), None);
        standing.set_probe(Probe::Passing);
        standing.eject_until(Tick(10));
        assert_eq!(bound(&sticky, &request, &hosts), None);
        let mut tried = HostSet::default();
        tried.insert(HostId(0));
        assert_eq!(sticky.bound(&back(&sticky, 0), &hosts, &tried, Tick(9)), None);
    }

    #[test]
    fn what_is_set_says_how_it_is_kept() {
        let key = Text::plain(NEW);
        let ttl = Some(Duration::from_secs(60));
        let plan = plan::Sticky { cookie: "srv".into(), key, ttl, same_site: SameSite::None };
        let text = field(&plan, Some("T"));
        assert_eq!(text, "srv=T; Path=/; HttpOnly; Max-Age=60; SameSite=None; Secure");
        assert!(keys("").is_err() && keys(" short ").is_err() && keys(NEW).is_ok());
    }
}
