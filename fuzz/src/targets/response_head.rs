//! response-head: what is read as an answer another parser reads the same, and it is written as the same answer.

use super::{check_against, check_fields, check_same};
use portunus_message::{Crime, Limits, Method, Response, Status};
use portunus_wire::h1::emit::{self, Connection};
use portunus_wire::h1::{Framing, HeadBounds, ResponseHead, Scan, Version, parse};

/// Takes any bytes; panics when a promise is broken. The first byte chooses which request is answered.
pub fn run(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let limits = Limits::default();
    let method = if choice & 1 == 0 { Method::GET } else { Method::HEAD };
    let websocket = choice & 2 != 0;
    let whole = parse::response(data, &mut Response::default(), method, websocket, &limits);
    assert!(matches!(whole, Ok(_) | Err(Crime::BadResponse | Crime::BadSwitch)));
    let end = match Scan::new().advance(data, &HeadBounds::response(&limits)) {
        Ok(Some(end)) => end,
        Ok(None) => return assert!(whole.is_err()),
        Err(crime) => {
            assert_eq!(crime, Crime::BadResponse);
            return assert!(whole.is_err());
        }
    };
    let Ok((response, head)) = read(&data[..end], method, websocket, &limits) else {
        return assert!(whole.is_err());
    };
    assert_eq!(whole, Ok(head));
    assert_eq!(head.length, end);
    check_fields(&response.fields);
    let mut slots = [httparse::EMPTY_HEADER; 300];
    let mut other = httparse::Response::new(&mut slots);
    assert_eq!(other.parse(data), Ok(httparse::Status::Complete(end)));
    assert_eq!(other.code, Some(response.status.code()));
    check_against(&response.fields, other.headers);
    assert!(!head.upgraded || (websocket && response.status == Status::SWITCHING_PROTOCOLS));
    if response.status.is_bodiless() || method == Method::HEAD {
        assert!(head.framing == Framing::None && response.body.is_empty());
    }
    let mut written = Vec::new();
    let connection = match (head.upgraded, head.framing) {
        (true, _) => Connection::Upgrade,
        (_, Framing::UntilClose) => Connection::Close,
        _ => Connection::KeepAlive,
    };
    emit::response_head(&response, head.framing, connection, Version::Http11, None, &mut written);
    let (again, head_again) = read(&written, method, websocket, &limits).unwrap();
    assert_eq!(again.status, response.status);
    assert_eq!(head_again.framing, head.framing);
    assert_eq!(head_again.upgraded, head.upgraded);
    check_same(&again.fields, &response.fields);
}

fn read(
    bytes: &[u8],
    method: Method,
    websocket: bool,
    limits: &Limits,
) -> Result<(Response, ResponseHead), Crime> {
    let mut response = Response::default();
    let head = parse::response(bytes, &mut response, method, websocket, limits)?;
    Ok((response, head))
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"\0HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\nSet-Cookie: a=b\r\n\r\nhello",
    b"\0HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
    b"\0HTTP/1.0 404 Not Found\r\nKeep-Alive: timeout=5, max=9\r\nConnection: keep-alive, X-Mine\r\nX-Mine: y\r\n\r\n",
    b"\x01HTTP/1.1 304\r\nContent-Length: 7\r\nX-Accel-Redirect: /x\r\n\r\n",
    b"\x02HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    b"\0HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
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
    b"\xe4",
    b"HTTP/1.1 ",
    b"HTTP/1.0 ",
    b"200",
    b"204",
    b"304",
    b"101",
    b"100",
    b"99",
    b"600",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"gzip",
    b"Connection: close\r\n",
    b"keep-alive",
    b"upgrade",
    b"Upgrade: websocket\r\n",
    b"X-Accel-",
    b"Keep-Alive: timeout=",
    b"Transfer-Encoding",
    b"Trailer: x\r\n",
];
