//! Response: status, fields, body; and informational (1xx) heads.

use crate::{Body, FieldValue, Fields, Known};
use std::fmt;

/// A status code from 100 to 599 (RFC 9110 §15).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

#[allow(missing_docs)]
impl Status {
    pub const CONTINUE: Status = Status(100);
    pub const SWITCHING_PROTOCOLS: Status = Status(101);
    pub const EARLY_HINTS: Status = Status(103);
    pub const OK: Status = Status(200);
    pub const NO_CONTENT: Status = Status(204);
    pub const NOT_MODIFIED: Status = Status(304);
    pub const BAD_REQUEST: Status = Status(400);
    pub const UNAUTHORIZED: Status = Status(401);
    pub const FORBIDDEN: Status = Status(403);
    pub const NOT_FOUND: Status = Status(404);
    pub const METHOD_NOT_ALLOWED: Status = Status(405);
    pub const REQUEST_TIMEOUT: Status = Status(408);
    pub const CONTENT_TOO_LARGE: Status = Status(413);
    pub const URI_TOO_LONG: Status = Status(414);
    pub const EXPECTATION_FAILED: Status = Status(417);
    pub const MISDIRECTED: Status = Status(421);
    pub const TOO_MANY_REQUESTS: Status = Status(429);
    pub const HEADERS_TOO_LARGE: Status = Status(431);
    pub const CLIENT_GONE: Status = Status(499);
    pub const INTERNAL: Status = Status(500);
    pub const NOT_IMPLEMENTED: Status = Status(501);
    pub const BAD_GATEWAY: Status = Status(502);
    pub const UNAVAILABLE: Status = Status(503);
    pub const GATEWAY_TIMEOUT: Status = Status(504);
    pub const VERSION_NOT_SUPPORTED: Status = Status(505);
}

impl Status {
    /// `code`, when it is one (100 to 599).
    pub const fn new(code: u16) -> Option<Status> {
        if code >= 100 && code <= 599 { Some(Status(code)) } else { None }
    }

    /// The number.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// 1xx: another head follows.
    pub const fn is_informational(self) -> bool {
        self.0 < 200
    }

    /// RFC 9110 §6.4.1: an answer with this status has no content, whatever its fields say.
    pub const fn is_bodiless(self) -> bool {
        self.0 < 200 || self.0 == 204 || self.0 == 304
    }

    /// The usual phrase; empty for codes nobody registered.
    pub fn reason(self) -> &'static str {
        self.spelled().get(4..).unwrap_or("")
    }

    /// Number and usual phrase, as they stand in a status line; empty for codes nobody registered.
    pub const fn spelled(self) -> &'static str {
        match self.0 {
            100 => "100 Continue",
            101 => "101 Switching Protocols",
            102 => "102 Processing",
            103 => "103 Early Hints",
            200 => "200 OK",
            201 => "201 Created",
            202 => "202 Accepted",
            203 => "203 Non-Authoritative Information",
            204 => "204 No Content",
            205 => "205 Reset Content",
            206 => "206 Partial Content",
            207 => "207 Multi-Status",
            208 => "208 Already Reported",
            226 => "226 IM Used",
            300 => "300 Multiple Choices",
            301 => "301 Moved Permanently",
            302 => "302 Found",
            303 => "303 See Other",
            304 => "304 Not Modified",
            305 => "305 Use Proxy",
            307 => "307 Temporary Redirect",
            308 => "308 Permanent Redirect",
            400 => "400 Bad Request",
            401 => "401 Unauthorized",
            402 => "402 Payment Required",
            403 => "403 Forbidden",
            404 => "404 Not Found",
            405 => "405 Method Not Allowed",
            406 => "406 Not Acceptable",
            407 => "407 Proxy Authentication Required",
            408 => "408 Request Timeout",
            409 => "409 Conflict",
            410 => "410 Gone",
            411 => "411 Length Required",
            412 => "412 Precondition Failed",
            413 => "413 Content Too Large",
            414 => "414 URI Too Long",
            415 => "415 Unsupported Media Type",
            416 => "416 Range Not Satisfiable",
            417 => "417 Expectation Failed",
            421 => "421 Misdirected Request",
            422 => "422 Unprocessable Content",
            423 => "423 Locked",
            424 => "424 Failed Dependency",
            425 => "425 Too Early",
            426 => "426 Upgrade Required",
            428 => "428 Precondition Required",
            429 => "429 Too Many Requests",
            431 => "431 Request Header Fields Too Large",
            451 => "451 Unavailable For Legal Reasons",
            500 => "500 Internal Server Error",
            501 => "501 Not Implemented",
            502 => "502 Bad Gateway",
            503 => "503 Service Unavailable",
            504 => "504 Gateway Timeout",
            505 => "505 HTTP Version Not Supported",
            506 => "506 Variant Also Negotiates",
            507 => "507 Insufficient Storage",
            508 => "508 Loop Detected",
            510 => "510 Not Extended",
            511 => "511 Network Authentication Required",
            _ => "",
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An answer in HTTP's own terms. Hop-by-hop and framing fields are not in `fields`.
#[derive(Debug)]
pub struct Response {
    /// How it went.
    pub status: Status,
    /// The end-to-end header fields.
    pub fields: Fields,
    /// What comes with it.
    pub body: Body,
}

impl Default for Response {
    fn default() -> Response {
        Response { status: Status::OK, fields: Fields::new(), body: Body::empty() }
    }
}

impl Response {
    /// An answer with no fields and no body.
    pub fn new(status: Status) -> Response {
        Response { status, ..Response::default() }
    }

    /// The same with `text` as its body and content type `media`.
    pub fn text(status: Status, media: &'static str, text: impl Into<Vec<u8>>) -> Response {
        let mut response = Response::new(status);
        response.fields.add(Known::CONTENT_TYPE, FieldValue::from_static(media));
        response.body = Body::bytes(text);
        response
    }

    /// Forgets everything but keeps the memory for the next one.
    pub fn clear(&mut self) {
        self.status = Status::OK;
        self.fields.clear();
        self.body.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_spelled_with_its_number_and_its_phrase() {
        assert_eq!((Status::OK.spelled(), Status::OK.reason()), ("200 OK", "OK"));
        for status in (0..=999).filter_map(Status::new) {
            let spelled = status.spelled();
            assert_eq!(spelled.is_empty(), status.reason().is_empty());
            assert!(spelled.is_empty() || spelled == format!("{status} {}", status.reason()));
        }
    }
}
