//! Known and FieldName: the names of header fields, compared without letter case.

use std::fmt;

/// Names the proxy itself has to do with, as small numbers: comparing them costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known(u8);

macro_rules! known {
    ($($id:ident $text:literal),+ $(,)?) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u8)]
        enum Index { _OTHER, $($id),+ }
        const TEXT: &[&str] = &["", $($text),+];
        #[allow(missing_docs)]
        impl Known { $(pub const $id: Known = Known(Index::$id as u8);)+ }
    };
}

known! {
    ACCEPT "Accept", ACCEPT_ENCODING "Accept-Encoding", ACCEPT_LANGUAGE "Accept-Language", AGE "Age", ALLOW "Allow",
    ACCEPT_RANGES "Accept-Ranges",
    AC_REQUEST_METHOD "Access-Control-Request-Method", AC_REQUEST_HEADERS "Access-Control-Request-Headers",
    AC_ALLOW_ORIGIN "Access-Control-Allow-Origin",
    AUTHORIZATION "Authorization", CACHE_CONTROL "Cache-Control", CONNECTION "Connection",
    CONTENT_ENCODING "Content-Encoding", CONTENT_LENGTH "Content-Length", CONTENT_TYPE "Content-Type",
    CONTENT_RANGE "Content-Range", CONTENT_LOCATION "Content-Location", CONTENT_DISPOSITION "Content-Disposition",
    COOKIE "Cookie", DATE "Date", ETAG "ETag", EXPECT "Expect", EXPIRES "Expires", FORWARDED "Forwarded", FROM "From", HOST "Host",
    IF_MATCH "If-Match", IF_MODIFIED_SINCE "If-Modified-Since", IF_NONE_MATCH "If-None-Match", IF_RANGE "If-Range",
    IF_UNMODIFIED_SINCE "If-Unmodified-Since",
    KEEP_ALIVE "Keep-Alive", LAST_MODIFIED "Last-Modified", LINK "Link", LOCATION "Location", MAX_FORWARDS "Max-Forwards", ORIGIN "Origin",
    PROXY "Proxy", PROXY_AUTHENTICATE "Proxy-Authenticate", PROXY_AUTHORIZATION "Proxy-Authorization",
    PROXY_CONNECTION "Proxy-Connection", RANGE "Range", REFERER "Referer", RETRY_AFTER "Retry-After",
    SEC_WEBSOCKET_ACCEPT "Sec-WebSocket-Accept", SEC_WEBSOCKET_KEY "Sec-WebSocket-Key",
    SEC_WEBSOCKET_VERSION "Sec-WebSocket-Version", SEC_WEBSOCKET_PROTOCOL "Sec-WebSocket-Protocol",
    SERVER "Server", SET_COOKIE "Set-Cookie", TE "TE",
    TRAILER "Trailer", TRANSFER_ENCODING "Transfer-Encoding", UPGRADE "Upgrade", USER_AGENT "User-Agent",
    HTTP2_SETTINGS "HTTP2-Settings",
    VARY "Vary", VIA "Via", WWW_AUTHENTICATE "WWW-Authenticate", X_ACCEL_REDIRECT "X-Accel-Redirect",
    X_FORWARDED_FOR "X-Forwarded-For", X_FORWARDED_HOST "X-Forwarded-Host", X_FORWARDED_PROTO "X-Forwarded-Proto",
    X_FORWARDED_PORT "X-Forwarded-Port", X_FORWARDED_PREFIX "X-Forwarded-Prefix", X_FORWARDED_SERVER "X-Forwarded-Server",
    X_HTTP_METHOD_OVERRIDE "X-HTTP-Method-Override", X_MIDDLEWARE_SUBREQUEST "X-Middleware-Subrequest",
    X_ORIGINAL_URL "X-Original-URL", X_REAL_IP "X-Real-IP",
    X_REQUEST_ID "X-Request-Id", X_REWRITE_URL "X-Rewrite-URL", X_SENDFILE "X-Sendfile",
}

impl Known {
    /// Any name that is not in the list.
    pub const OTHER: Known = Known(0);

    /// Finds the number of `name`, without regard to letter case.
    pub fn find(name: &[u8]) -> Known {
        let Some(bucket) = BUCKETS.get(bucket_of(name)) else { return Known::OTHER };
        for &at in bucket {
            if at == 0 {
                break;
            }
            let text = TEXT.get(usize::from(at)).copied().unwrap_or("").as_bytes();
            if text == name || text.eq_ignore_ascii_case(name) {
                return Known(at);
            }
        }
        Known::OTHER
    }

    /// The usual spelling; empty for `OTHER`.
    pub fn as_str(self) -> &'static str {
        TEXT.get(usize::from(self.0)).copied().unwrap_or("")
    }

    /// The bit of this name in a [`KnownSet`].
    const fn bit(self) -> u128 {
        1u128 << self.0
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == 0 { "(other)" } else { self.as_str() })
    }
}

/// A set of known names: one machine word of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u128);

impl KnownSet {
    /// The set of `names`.
    pub const fn of(names: &[Known]) -> KnownSet {
        let mut bits = 0;
        let mut at = 0;
        while at < names.len() {
            assert!(names[at].0 != 0);
            bits |= names[at].bit();
            at += 1;
        }
        KnownSet(bits)
    }

    /// Whether `name` is in it; `OTHER` never is.
    #[inline]
    pub const fn has(self, name: Known) -> bool {
        self.0 >> name.0 & 1 != 0
    }

    /// Adds `name`; nothing happens with `OTHER`.
    pub const fn insert(&mut self, name: Known) {
        self.0 |= name.bit() & !Known::OTHER.bit();
    }

    /// The names of both.
    pub const fn and(self, other: KnownSet) -> KnownSet {
        KnownSet(self.0 | other.0)
    }
}

/// A checked field name: a token (RFC 9110 §5.1) of at most 256 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FieldName {
    known: Known,
    text: Box<str>,
}

impl FieldName {
    /// Checks `text`; `None` when it is no token, or too long.
    pub fn new(text: &str) -> Option<FieldName> {
        let fine = !text.is_empty() && text.len() <= 256 && text.bytes().all(is_token_byte);
        fine.then(|| FieldName { known: Known::find(text.as_bytes()), text: text.into() })
    }

    /// Its number, or `OTHER`.
    pub fn known(&self) -> Known {
        self.known
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a field can be asked for by: a [`Known`] or a [`FieldName`].
pub trait AsName {
    /// The number, or `OTHER`.
    fn known(&self) -> Known;
    /// The spelling to write.
    fn text(&self) -> &str;
}

impl AsName for Known {
    fn known(&self) -> Known {
        *self
    }
    fn text(&self) -> &str {
        self.as_str()
    }
}

impl AsName for &FieldName {
    fn known(&self) -> Known {
        self.known
    }
    fn text(&self) -> &str {
        &self.text
    }
}

/// RFC 9110 §5.6.2: a byte that may stand in a token.
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 0x80 {
        table[byte as usize] = matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z');
        byte += 1;
    }
    table
};

// A hash over length, first and last letters, filled at compile time.
const BUCKET_COUNT: usize = 128;
const BUCKET_SIZE: usize = 4;
const BUCKETS: [[u8; BUCKET_SIZE]; BUCKET_COUNT] = fill();

const fn bucket_of(name: &[u8]) -> usize {
    let length = name.len();
    if length < 2 {
        return BUCKET_COUNT;
    }
    let first = (name[0] | 0x20) as usize;
    let last = (name[length - 1] | 0x20) as usize;
    let middle = (name[length / 2] | 0x20) as usize;
    (length.wrapping_mul(31) ^ first.wrapping_mul(7) ^ last.wrapping_mul(13) ^ middle.wrapping_mul(3))
        % BUCKET_COUNT
}

const fn fill() -> [[u8; BUCKET_SIZE]; BUCKET_COUNT] {
    let mut buckets = [[0u8; BUCKET_SIZE]; BUCKET_COUNT];
    let mut at = 1;
    assert!(TEXT.len() <= 128);
    while at < TEXT.len() {
        let bucket = bucket_of(TEXT[at].as_bytes());
        let mut slot = 0;
        while buckets[bucket][slot] != 0 {
            slot += 1; // Invariant: overflowing a bucket is a compile error, never a run-time one.
        }
        buckets[bucket][slot] = at as u8;
        at += 1;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for text in &TEXT[1..] {
            assert_eq!(Known::find(text.as_bytes()).as_str(), *text);
            assert_eq!(Known::find(text.to_lowercase().as_bytes()).as_str(), *text);
            assert_eq!(Known::find(text.to_uppercase().as_bytes()).as_str(), *text);
        }
        assert_eq!(Known::find(b"X-Nobody-Knows"), Known::OTHER);
        assert_eq!(Known::find(b""), Known::OTHER);
    }

    #[test]
    fn a_name_is_a_token() {
        assert!(FieldName::new("X-A_b.c").is_some());
        for bad in ["", "a b", "a:", "a\r", "ä", "a(b)"] {
            assert!(FieldName::new(bad).is_none(), "{bad:?}");
        }
    }
}
