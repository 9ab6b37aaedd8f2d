//! request-head: what is read as a request another parser reads the same, and it is written as the same request.

use super::{check_against, check_fields, check_same};
use portunus_message::{Crime, Limits, Request, Scheme};
use portunus_wire::h1::{Framing, HeadBounds, RequestHead, Scan, Version, emit, parse};

/// Takes any bytes; panics when a promise is broken.
pub fn run(data: &[u8]) {
    let limits = Limits::default();
    let whole = parse::request(data, &mut Request::default(), Scheme::Http, &limits);
    let Ok(Some(end)) = Scan::new().advance(data, &HeadBounds::request(&limits)) else {
        // What the scan refuses, or finds unfinished, the parser refuses too.
        assert!(whole.is_err());
        return;
    };
    assert!(data[..end].ends_with(b"\r\n\r\n"));
    let Ok((request, head)) = read(&data[..end], &limits) else { return assert!(whole.is_err()) };
    assert_eq!(whole, Ok(head));
    assert_eq!(head.length, end);
    check_fields(&request.fields);
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut other = httparse::Request::new(&mut slots);
    assert_eq!(other.parse(data), Ok(httparse::Status::Complete(end)));
    assert_eq!(other.method, Some(request.method.as_str()));
    assert_eq!(other.version, Some(u8::from(head.version == Version::Http11)));
    check_against(&request.fields, other.headers);
    assert!(head.framing != Framing::UntilClose);
    assert!(request.target.path().starts_with('/') || request.target.path() == "*");
    if request.target.authority().is_empty() {
        return; // Only HTTP/1.0 may leave its host out.
    }
    let mut written = Vec::new();
    emit::request_head(&request, head.framing, !head.keep_alive, &mut written);
    let (again, head_again) = read(&written, &limits).unwrap();
    assert_eq!(again.method, request.method);
    assert_eq!(again.target.path_and_query(), request.target.path_and_query());
    assert_eq!(again.target.authority(), request.target.authority());
    assert_eq!(again.websocket, request.websocket);
    assert_eq!(head_again.framing, head.framing);
    assert_eq!(head_again.keep_alive, head.keep_alive || request.websocket);
    check_same(&again.fields, &request.fields);
}

fn read(bytes: &[u8], limits: &Limits) -> Result<(Request, RequestHead), Crime> {
    let mut request = Request::default();
    let head = parse::request(bytes, &mut request, Scheme::Http, limits)?;
    Ok((request, head))
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a/b?c=d HTTP/1.1\r\nHost: example.com:8080\r\nContent-Length: 5\r\nUser-Agent: x\r\nAccept: */*\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    b"GET http://a/%2e%2e/x HTTP/1.0\r\nConnection: keep-alive, X-Mine\r\nX-Mine: y\r\nKeep-Alive: 5\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"\r\nOPTIONS * HTTP/1.1\r\nHost: A.\r\nX_Y: z\r\nX-Empty:\r\n\r\n",
];

/// Pieces that mean something here.
pub const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\x0b",
    b"\xa0",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"GET ",
    b"HEAD ",
    b"OPTIONS ",
    b"CONNECT ",
    b"PRI * ",
    b"http://",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding",
    b"chunked",
    b"identity",
    b"Connection: ",
    b"close",
    b"keep-alive",
    b"upgrade",
    b"Upgrade: h2c\r\n",
    b"websocket",
    b"Expect: 100-continue\r\n",
    b"X-Forwarded-For",
    b"Cookie: a=b\r\n",
    b"_",
    b"..",
    b"/../",
    b"%2e",
    b"%00",
    b"%2f",
    b"@",
    b"#",
    b"?",
    b"*",
    b"[",
    b"]",
];
