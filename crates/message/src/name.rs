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
    COOKIE "Cookie", DATE "Date", ETAG "ETag", EXPECT "Expect", EXPIRES "Expires", FORWARDED "Forwarded", FROM "From", HOST "Host", IDEMPOTENCY_KEY "Idempotency-Key",
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
    #[inline]
    pub fn find(name: &[u8]) -> Known {
        let Some(print) = print_of(name) else { return Known::OTHER };
        let at = SLOTS[slot_of(print, SEED)];
        let text = TEXT.get(usize::from(at)).copied().unwrap_or("").as_bytes();
        if is_spelled(text, name) { Known(at) } else { Known::OTHER }
    }

    /// Its number, below 128, for tables that have a row for each name; 0 for `OTHER`.
    #[inline]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The usual spelling; empty for `OTHER`.
    pub fn as_str(self) -> &'static str {
        TEXT.get(usize::from(self.0)).copied().unwrap_or("")
    }

    /// Where its bit is in a [`KnownSet`]: in which word, and which one there.
    const fn place(self) -> (usize, u32) {
        ((self.0 >> 6 & 1) as usize, (self.0 & 63) as u32)
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == 0 { "(other)" } else { self.as_str() })
    }
}

/// A set of known names: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet([u64; 2]);

impl KnownSet {
    /// The set of `names`.
    pub const fn of(names: &[Known]) -> KnownSet {
        let mut set = KnownSet([0; 2]);
        let mut at = 0;
        while at < names.len() {
            assert!(names[at].0 != 0);
            set.insert(names[at]);
            at += 1;
        }
        set
    }

    /// Whether `name` is in it; `OTHER` never is.
    #[inline]
    pub const fn has(self, name: Known) -> bool {
        let (word, bit) = name.place();
        self.0[word] >> bit & 1 != 0
    }

    /// Adds `name`; nothing happens with `OTHER`.
    pub const fn insert(&mut self, name: Known) {
        let (word, bit) = name.place();
        self.0[word] |= ((name.0 != 0) as u64) << bit;
    }

    /// The names of both.
    pub const fn and(self, other: KnownSet) -> KnownSet {
        KnownSet([self.0[0] | other.0[0], self.0[1] | other.0[1]])
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

// Every known name has a slot of its own, so that one look and one comparison tell whether a name is known. The seed that
// makes it so is found when the program is compiled.
const SLOT_BITS: u32 = 10;
const SEED: u64 = find_seed();
const SLOTS: [u8; 1 << SLOT_BITS] = match fill(SEED) {
    Some(slots) => slots,
    None => panic!("two names have the same print"),
};

/// What tells names from each other, the same in any letter case: the length, the first letter and the last four.
#[inline]
const fn print_of(name: &[u8]) -> Option<u64> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let last = match name {
        [.., a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
        [.., a, b] => u16::from_le_bytes([*a, *b]) as u32,
        _ => return None,
    };
    Some((name.len() as u64) << 40 | (name[0] as u64) << 32 | last as u64 | 0x20_2020_2020)
}

#[inline]
const fn slot_of(print: u64, seed: u64) -> usize {
    (print.wrapping_mul(seed) >> (64 - SLOT_BITS)) as usize
}

/// Known names are no longer than this.
const NAME_BYTES_MAX: usize = 32;

/// Whether `name` is `text` in any letter case. `text` is a known name: letters, digits and hyphens, of which only the
/// letters have the bit 0x40. Both have at least two bytes, and are looked at from both ends.
#[inline]
fn is_spelled(text: &[u8], name: &[u8]) -> bool {
    if text.len() != name.len() {
        return false;
    }
    macro_rules! ends_match {
        ($word:ty) => {{
            const BYTES: usize = size_of::<$word>();
            const LETTER: $word = <$word>::from_ne_bytes([0x40; BYTES]);
            let same = |text: Option<&[u8; BYTES]>, name: Option<&[u8; BYTES]>| {
                let pair =
                    text.zip(name).map(|(t, n)| (<$word>::from_ne_bytes(*t), <$word>::from_ne_bytes(*n)));
                pair.is_some_and(|(text, name)| (text ^ name) & !((text & LETTER) >> 1) == 0)
            };
            same(text.first_chunk(), name.first_chunk()) && same(text.last_chunk(), name.last_chunk())
        }};
    }
    match name.len() {
        16.. => ends_match!(u128),
        8.. => ends_match!(u64),
        4.. => ends_match!(u32),
        _ => ends_match!(u16),
    }
}

const fn find_seed() -> u64 {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    while fill(seed).is_none() {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(2); // stays odd
    }
    seed
}

/// The names in their slots; `None` when two of them meet.
const fn fill(seed: u64) -> Option<[u8; 1 << SLOT_BITS]> {
    let mut slots = [0u8; 1 << SLOT_BITS];
    let mut at = 1;
    assert!(TEXT.len() <= 128);
    while at < TEXT.len() {
        let Some(print) = print_of(TEXT[at].as_bytes()) else { panic!("too short or too long") };
        let slot = slot_of(print, seed);
        if slots[slot] != 0 {
            return None;
        }
        slots[slot] = at as u8;
        at += 1;
    }
    Some(slots)
}

/// Fields that mean something between two neighbours only, and the fields of framing: they never cross, in either
/// direction. `Host` and `Expect` are carried as parts of the request instead. `Proxy` is never a field of HTTP but
/// becomes `HTTP_PROXY` in a CGI program (attack A46).
pub const OF_ONE_HOP: KnownSet = KnownSet::of(&[
    Known::CONNECTION,
    Known::CONTENT_LENGTH,
    Known::EXPECT,
    Known::HOST,
    Known::HTTP2_SETTINGS,
    Known::KEEP_ALIVE,
    Known::PROXY,
    Known::PROXY_AUTHENTICATE,
    Known::PROXY_AUTHORIZATION,
    Known::PROXY_CONNECTION,
    Known::TE,
    Known::TRAILER,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
]);

/// What a client may not say of itself (attack F8). `Proxy` is taken from everybody (httpoxy, attack A46).
const CLAIMS: KnownSet = KnownSet::of(&[
    Known::FORWARDED,
    Known::PROXY,
    Known::X_FORWARDED_FOR,
    Known::X_FORWARDED_HOST,
    Known::X_FORWARDED_PORT,
    Known::X_FORWARDED_PREFIX,
    Known::X_FORWARDED_PROTO,
    Known::X_FORWARDED_SERVER,
    Known::X_MIDDLEWARE_SUBREQUEST,
    Known::X_ORIGINAL_URL,
    Known::X_REAL_IP,
    Known::X_REQUEST_ID,
    Known::X_REWRITE_URL,
]);

/// Whether a field of this name says something of a client that no client may say of itself (attack F8): any `X-Forwarded-…`, the certificate
/// fields of RFC 9440, those that other proxies made for the same purpose, and the marks of this one.
#[inline]
pub fn is_claim(known: Known, name: &[u8]) -> bool {
    CLAIMS.has(known) || known == Known::OTHER && is_other_claim(name)
}

fn is_other_claim(name: &[u8]) -> bool {
    let starts =
        |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    match name.first() {
        Some(b'x' | b'X') => {
            starts(b"X-Forwarded-")
                || starts(b"X-SSL-")
                || starts(b"X-Client-Cert")
                || starts(b"X-Client-Verify")
                || starts(b"X-Amzn-Mtls-")
                || starts(b"X-Portunus-")
        }
        Some(b's' | b'S') => starts(b"SSL-Client-"),
        Some(b'c' | b'C') => starts(b"Client-Cert") && matches!(name.len(), 11 | 17),
        _ => false,
    }
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
    fn a_name_that_differs_in_one_byte_is_not_known() {
        for text in &TEXT[1..] {
            for place in 0..text.len() {
                for byte in 0..=255u8 {
                    let mut name = text.as_bytes().to_vec();
                    name[place] = byte;
                    let same = name.eq_ignore_ascii_case(text.as_bytes());
                    assert_eq!(Known::find(&name).as_str() == *text, same, "{text} with {byte} at {place}");
                }
            }
        }
    }

    #[test]
    fn known_names_are_letters_digits_and_hyphens() {
        assert!(TEXT[1..].iter().all(|text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')));
    }

    #[test]
    fn a_set_has_what_was_put_into_it() {
        for (at, text) in (0u8..).zip(TEXT) {
            let mut set = KnownSet::default();
            set.insert(Known(at));
            for (other, _) in (0u8..).zip(TEXT) {
                assert_eq!(set.has(Known(other)), other == at && at != 0, "{text}");
            }
        }
    }

    #[test]
    fn a_name_is_a_token() {
        assert!(FieldName::new("X-A_b.c").is_some());
        for bad in ["", "a b", "a:", "a\r", "ä", "a(b)"] {
            assert!(FieldName::new(bad).is_none(), "{bad:?}");
        }
    }
}
