//! statics: the fields that every connection knows (RFC 7541 Appendix A), with the numbers of their names.

use super::{Field, Pseudo};
use portunus_message::Known as K;

/// How many there are; the dynamic table's indices begin behind them.
pub(super) const STATICS: usize = 61;

/// Index 1 is the first.
pub(super) static FIELDS: [Field<'static>; STATICS] = [
    pseudo(Pseudo::Authority, ":authority", ""),
    pseudo(Pseudo::Method, ":method", "GET"),
    pseudo(Pseudo::Method, ":method", "POST"),
    pseudo(Pseudo::Path, ":path", "/"),
    pseudo(Pseudo::Path, ":path", "/index.html"),
    pseudo(Pseudo::Scheme, ":scheme", "http"),
    pseudo(Pseudo::Scheme, ":scheme", "https"),
    pseudo(Pseudo::Status, ":status", "200"),
    pseudo(Pseudo::Status, ":status", "204"),
    pseudo(Pseudo::Status, ":status", "206"),
    pseudo(Pseudo::Status, ":status", "304"),
    pseudo(Pseudo::Status, ":status", "400"),
    pseudo(Pseudo::Status, ":status", "404"),
    pseudo(Pseudo::Status, ":status", "500"),
    field(K::OTHER, "accept-charset", ""),
    field(K::ACCEPT_ENCODING, "accept-encoding", "gzip, deflate"),
    field(K::ACCEPT_LANGUAGE, "accept-language", ""),
    field(K::ACCEPT_RANGES, "accept-ranges", ""),
    field(K::ACCEPT, "accept", ""),
    field(K::AC_ALLOW_ORIGIN, "access-control-allow-origin", ""),
    field(K::AGE, "age", ""),
    field(K::ALLOW, "allow", ""),
    field(K::AUTHORIZATION, "authorization", ""),
    field(K::CACHE_CONTROL, "cache-control", ""),
    field(K::CONTENT_DISPOSITION, "content-disposition", ""),
    field(K::CONTENT_ENCODING, "content-encoding", ""),
    field(K::OTHER, "content-language", ""),
    field(K::CONTENT_LENGTH, "content-length", ""),
    field(K::CONTENT_LOCATION, "content-location", ""),
    field(K::CONTENT_RANGE, "content-range", ""),
    field(K::CONTENT_TYPE, "content-type", ""),
    field(K::COOKIE, "cookie", ""),
    field(K::DATE, "date", ""),
    field(K::ETAG, "etag", ""),
    field(K::EXPECT, "expect", ""),
    field(K::EXPIRES, "expires", ""),
    field(K::FROM, "from", ""),
    field(K::HOST, "host", ""),
    field(K::IF_MATCH, "if-match", ""),
    field(K::IF_MODIFIED_SINCE, "if-modified-since", ""),
    field(K::IF_NONE_MATCH, "if-none-match", ""),
    field(K::IF_RANGE, "if-range", ""),
    field(K::IF_UNMODIFIED_SINCE, "if-unmodified-since", ""),
    field(K::LAST_MODIFIED, "last-modified", ""),
    field(K::LINK, "link", ""),
    field(K::LOCATION, "location", ""),
    field(K::MAX_FORWARDS, "max-forwards", ""),
    field(K::PROXY_AUTHENTICATE, "proxy-authenticate", ""),
    field(K::PROXY_AUTHORIZATION, "proxy-authorization", ""),
    field(K::RANGE, "range", ""),
    field(K::REFERER, "referer", ""),
    field(K::OTHER, "refresh", ""),
    field(K::RETRY_AFTER, "retry-after", ""),
    field(K::SERVER, "server", ""),
    field(K::SET_COOKIE, "set-cookie", ""),
    field(K::OTHER, "strict-transport-security", ""),
    field(K::TRANSFER_ENCODING, "transfer-encoding", ""),
    field(K::USER_AGENT, "user-agent", ""),
    field(K::VARY, "vary", ""),
    field(K::VIA, "via", ""),
    field(K::WWW_AUTHENTICATE, "www-authenticate", ""),
];

const fn field(known: K, name: &'static str, value: &'static str) -> Field<'static> {
    make(known, Pseudo::None, name, value)
}

const fn pseudo(pseudo: Pseudo, name: &'static str, value: &'static str) -> Field<'static> {
    make(K::OTHER, pseudo, name, value)
}

const fn make(known: K, pseudo: Pseudo, name: &'static str, value: &'static str) -> Field<'static> {
    Field { known, name: name.as_bytes(), value: value.as_bytes(), pseudo, is_name: true, is_value: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_names_are_right() {
        for field in &FIELDS {
            assert_eq!(*field, Field::new(field.name, field.value));
        }
        let at = |index: usize| (FIELDS[index - 1].name, FIELDS[index - 1].value);
        assert_eq!(at(8), (&b":status"[..], &b"200"[..]));
        assert_eq!(at(16), (&b"accept-encoding"[..], &b"gzip, deflate"[..]));
        assert_eq!(at(38).0, b"host");
        assert_eq!(at(61).0, b"www-authenticate");
        let text: Vec<u8> = FIELDS.iter().flat_map(|field| field.name).copied().collect();
        assert!(text.iter().all(|byte| !byte.is_ascii_uppercase()));
    }
}
