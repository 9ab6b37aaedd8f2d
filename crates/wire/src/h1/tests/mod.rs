//! tests: the rows of attacks, one test for each, and properties that hold for all bytes.

mod bodies;
mod framing;
mod properties;
mod requests;
mod responses;

use super::{HeadBounds, RequestHead, ResponseHead, Scan, parse};
use portunus_message::{Crime, Fields, Known, Limits, Method, Request, Response, Scheme};

/// Scans and parses a request head on a plain listener.
fn read(bytes: &[u8]) -> Result<(Request, RequestHead), Crime> {
    read_by(bytes, &Limits::default())
}

fn read_by(bytes: &[u8], limits: &Limits) -> Result<(Request, RequestHead), Crime> {
    let end = Scan::new().advance(bytes, &HeadBounds::request(limits))?.expect("the head is whole");
    let mut request = Request::default();
    let head = parse::request(&bytes[..end], &mut request, Scheme::Http, limits)?;
    Ok((request, head))
}

/// Scans and parses the head of an answer to a request with `method`.
fn read_answer(bytes: &[u8], method: Method, websocket: bool) -> Result<(Response, ResponseHead), Crime> {
    let limits = Limits::default();
    let end = Scan::new().advance(bytes, &HeadBounds::response(&limits))?.expect("the head is whole");
    let mut response = Response::default();
    let head = parse::response(&bytes[..end], &mut response, method, websocket, &limits)?;
    Ok((response, head))
}

/// Asserts that `bytes` are refused for `crime`, and that the parser, without the scan before it, refuses them too.
fn refused(bytes: &[u8], crime: Crime) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(read(bytes).err(), Some(crime), "{text:?}");
    let mut request = Request::default();
    let alone = parse::request(bytes, &mut request, Scheme::Http, &Limits::default());
    assert!(alone.is_err(), "without scan: {text:?}");
}

/// Asserts that an answer to a GET is refused for `crime`.
fn answer_refused(bytes: &[u8], crime: Crime) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(read_answer(bytes, Method::GET, false).err(), Some(crime), "{text:?}");
}

/// A GET with these further field lines.
fn with(lines: &str) -> Vec<u8> {
    format!("GET /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

/// A POST with these further field lines.
fn post(lines: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

/// A 200 with these field lines.
fn ok(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes()
}

/// The names and values that were kept, as text.
fn kept(fields: &Fields) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(_, name, value)| format!("{}: {}", text(name), text(value))).collect()
}

/// The first value of a known name, as text.
fn value(fields: &Fields, known: Known) -> Option<String> {
    fields.get(known).map(|value| String::from_utf8_lossy(value).into_owned())
}
