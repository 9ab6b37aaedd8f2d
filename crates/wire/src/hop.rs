//! hop: which fields never cross the proxy, and what a `Connection` field may ask for (RFC 9110 §7.6.1).

use memchr::memchr;
use portunus_message::fields::tokens;
use portunus_message::name::{KnownSet, OF_ONE_HOP, is_claim, is_token_byte};
use portunus_message::{Crime, Known};

/// Fields that are about a connection (RFC 9113 §8.2.2); with another value than `trailers`, `TE` is one of them.
pub const OF_CONNECTIONS: KnownSet = KnownSet::of(&[
    Known::CONNECTION,
    Known::KEEP_ALIVE,
    Known::PROXY_CONNECTION,
    Known::TE,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
]);

/// Orders to a server in front, which another front must not take from an answer (attack F8).
const ORDERS: KnownSet = KnownSet::of(&[Known::X_ACCEL_REDIRECT, Known::X_SENDFILE]);

/// Fields that somebody behind us relies on: a client that has them dropped by naming them in `Connection` is
/// attacking (attack A29).
const PROTECTED: KnownSet = KnownSet::of(&[
    Known::ACCEPT,
    Known::ACCEPT_ENCODING,
    Known::AUTHORIZATION,
    Known::CACHE_CONTROL,
    Known::CONTENT_ENCODING,
    Known::CONTENT_LENGTH,
    Known::CONTENT_RANGE,
    Known::CONTENT_TYPE,
    Known::COOKIE,
    Known::DATE,
    Known::EXPECT,
    Known::FORWARDED,
    Known::HOST,
    Known::IF_MATCH,
    Known::IF_MODIFIED_SINCE,
    Known::IF_NONE_MATCH,
    Known::IF_RANGE,
    Known::IF_UNMODIFIED_SINCE,
    Known::MAX_FORWARDS,
    Known::ORIGIN,
    Known::PROXY_AUTHORIZATION,
    Known::RANGE,
    Known::REFERER,
    Known::SEC_WEBSOCKET_ACCEPT,
    Known::SEC_WEBSOCKET_KEY,
    Known::SEC_WEBSOCKET_PROTOCOL,
    Known::SEC_WEBSOCKET_VERSION,
    Known::SET_COOKIE,
    Known::TRANSFER_ENCODING,
    Known::USER_AGENT,
    Known::VIA,
    Known::X_HTTP_METHOD_OVERRIDE,
    Known::X_MIDDLEWARE_SUBREQUEST,
    Known::X_ORIGINAL_URL,
    Known::X_REAL_IP,
    Known::X_REQUEST_ID,
    Known::X_REWRITE_URL,
]);

/// Request fields whose grammar is one value: two of them would let a rule see the one and an upstream the other
/// (attack F11). `Host`, `Content-Length`, `Transfer-Encoding` and `Expect` have crimes of their own.
const SINGLE: KnownSet = KnownSet::of(&[
    Known::AC_REQUEST_METHOD,
    Known::AUTHORIZATION,
    Known::CONTENT_LOCATION,
    Known::CONTENT_RANGE,
    Known::CONTENT_TYPE,
    Known::CONTENT_DISPOSITION,
    Known::DATE,
    Known::FROM,
    Known::IF_MODIFIED_SINCE,
    Known::IF_RANGE,
    Known::IF_UNMODIFIED_SINCE,
    Known::MAX_FORWARDS,
    Known::ORIGIN,
    Known::PROXY_AUTHORIZATION,
    Known::RANGE,
    Known::REFERER,
    Known::SEC_WEBSOCKET_KEY,
    Known::SEC_WEBSOCKET_VERSION,
    Known::USER_AGENT,
    Known::X_HTTP_METHOD_OVERRIDE,
    Known::X_MIDDLEWARE_SUBREQUEST,
    Known::X_ORIGINAL_URL,
    Known::X_REWRITE_URL,
]);

/// Names that no trailer may have, besides those that never cross: they frame, route, modify or authenticate a
/// message that is already being handled (RFC 9110 §6.5.1; attack A34).
const NO_TRAILER: KnownSet = KnownSet::of(&[
    Known::AGE,
    Known::AUTHORIZATION,
    Known::CACHE_CONTROL,
    Known::CONTENT_ENCODING,
    Known::CONTENT_LOCATION,
    Known::CONTENT_RANGE,
    Known::CONTENT_TYPE,
    Known::COOKIE,
    Known::DATE,
    Known::EXPIRES,
    Known::FORWARDED,
    Known::IF_MATCH,
    Known::IF_MODIFIED_SINCE,
    Known::IF_NONE_MATCH,
    Known::IF_RANGE,
    Known::IF_UNMODIFIED_SINCE,
    Known::LOCATION,
    Known::MAX_FORWARDS,
    Known::ORIGIN,
    Known::RANGE,
    Known::RETRY_AFTER,
    Known::SET_COOKIE,
    Known::VARY,
    Known::WWW_AUTHENTICATE,
    Known::X_HTTP_METHOD_OVERRIDE,
    Known::X_MIDDLEWARE_SUBREQUEST,
    Known::X_ORIGINAL_URL,
    Known::X_REAL_IP,
    Known::X_REWRITE_URL,
]);

/// Whether a request's field may go to an upstream.
#[inline]
pub fn crosses_up(known: Known) -> bool {
    !OF_ONE_HOP.has(known)
}

/// Whether an answer's field may go to a client.
#[inline]
pub fn crosses_down(known: Known, name: &[u8]) -> bool {
    const STAY: KnownSet = OF_ONE_HOP.and(ORDERS);
    !STAY.has(known) && (known != Known::OTHER || !has_prefix(name, b"X-Accel-"))
}

/// Whether a field of this name must not be dropped because `Connection` names it.
pub fn is_protected(known: Known, name: &[u8]) -> bool {
    PROTECTED.has(known) || has_prefix(name, b"X-Forwarded-")
}

/// Whether a request may hold only one field of this name.
pub fn is_single(known: Known) -> bool {
    SINGLE.has(known)
}

/// Whether a request's trailer may have this name.
pub fn may_trail(known: Known, name: &[u8]) -> bool {
    !OF_ONE_HOP.has(known) && !NO_TRAILER.has(known) && !is_claim(known, name)
}

/// Whether a name is one that many programs behind us take for another one: `X_Auth_User` is `X-Auth-User` to them.
#[inline]
pub fn has_underscore(name: &[u8]) -> bool {
    memchr(b'_', name).is_some()
}

/// Whether a field is dropped for the underscore in its name, which is none of `passing` (attack F9). A framing field in this
/// disguise is refused (attack A3).
#[inline]
pub fn is_dropped(name: &[u8], passing: &[Box<str>]) -> Result<bool, Crime> {
    if !has_underscore(name) {
        return Ok(false);
    }
    let is_twin_of = |field: Known| {
        let text = field.as_str().as_bytes();
        let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        name.len() == text.len() && name.iter().zip(text).all(|(a, b)| plain(*a) == plain(*b))
    };
    if is_twin_of(Known::TRANSFER_ENCODING) || is_twin_of(Known::CONTENT_LENGTH) {
        return Err(Crime::BadFraming);
    }
    Ok(!passing.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name)))
}

/// More `Connection` lines that name fields than this no head may have.
const LINES_MAX: usize = 8;

/// What all `Connection` lines of a head ask for, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// The connection ends after this message.
    pub close: bool,
    /// An HTTP/1.0 connection goes on after this message.
    pub keep_alive: bool,
    /// `Upgrade` is meant.
    pub upgrade: bool,
    /// How many further fields are named; they belong to this hop.
    pub named: usize,
    /// The lines that name them.
    lines: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    /// Takes in one `Connection` line of a request. Naming a protected field, or what is no token, is a crime.
    pub fn read(&mut self, value: &'a [u8]) -> Result<(), Crime> {
        if self.is_usual(value) {
            return Ok(());
        }
        for option in tokens(value) {
            let is_token = option.iter().copied().all(is_token_byte);
            if !is_token || is_protected(Known::find(option), option) {
                return Err(Crime::BadConnection);
            }
        }
        self.take(value)
    }

    /// The same for an answer. Some servers name `Transfer-Encoding` here; what is protected is simply kept, since
    /// an answer is framed anew in any case.
    pub fn read_answer(&mut self, value: &'a [u8]) -> Result<(), Crime> {
        if self.is_usual(value) { Ok(()) } else { self.take(value) }
    }

    /// Whether the field `name` is to be dropped.
    pub fn names(&self, name: &[u8]) -> bool {
        self.lines.iter().any(|line| lists(line, name))
    }

    /// Takes in what nearly everybody sends; says whether that was all.
    #[inline]
    fn is_usual(&mut self, value: &[u8]) -> bool {
        let (keep_alive, close) = (value == b"keep-alive", value == b"close");
        self.keep_alive |= keep_alive;
        self.close |= close;
        keep_alive || close
    }

    fn take(&mut self, value: &'a [u8]) -> Result<(), Crime> {
        let before = self.named;
        for option in tokens(value) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !OF_ONE_HOP.has(Known::find(option)) {
                self.named += 1;
            }
        }
        if self.named > before {
            if self.lines.len() == LINES_MAX {
                return Err(Crime::BadConnection);
            }
            self.lines.push(value);
        }
        Ok(())
    }
}

/// Whether a list-valued field with this value holds `member`, in any letter case.
pub fn lists(value: &[u8], member: &[u8]) -> bool {
    tokens(value).any(|other| other.eq_ignore_ascii_case(member))
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a29_protected_names_cannot_be_dropped() {
        for bad in [
            "close, X-Forwarded-For",
            "x-forwarded-anything",
            "Transfer-Encoding",
            "content-length",
            "HOST",
            "Cookie",
            "Authorization",
            "keep-alive, forwarded",
            "X-Real-IP",
            "a b",
            "\"close\"",
        ] {
            assert_eq!(Options::default().read(bad.as_bytes()), Err(Crime::BadConnection), "{bad}");
        }
        let mut options = Options::default();
        assert_eq!(options.read(b"Keep-Alive, TE,, X-Mine"), Ok(()));
        assert_eq!(options.read(b"CLOSE,upgrade"), Ok(()));
        assert!(options.close && options.keep_alive && options.upgrade && options.named == 1);
        assert!(options.names(b"x-mine") && !options.names(b"x-other"));
        for _ in 1..LINES_MAX {
            assert_eq!(options.read(b"X-Mine"), Ok(()));
        }
        assert_eq!(options.read(b"close"), Ok(()));
        assert_eq!(options.read(b"X-Mine"), Err(Crime::BadConnection));
    }

    #[test]
    fn f8_orders_to_the_front_do_not_reach_clients() {
        for name in ["X-Accel-Redirect", "x-accel-buffering", "X-Sendfile", "Connection", "Keep-Alive"] {
            assert!(!crosses_down(Known::find(name.as_bytes()), name.as_bytes()), "{name}");
        }
        assert!(crosses_down(Known::OTHER, b"X-Accelerator"));
        assert!(crosses_down(Known::SET_COOKIE, b"Set-Cookie"));
    }
}
