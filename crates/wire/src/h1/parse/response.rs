//! response: an answer's head, held to the same rules; an upstream may be hostile too.

use super::super::framing::{Declared, Framing};
use super::{Line, Version, split_line};
use crate::hop;
use portunus_message::fields::tokens;
use portunus_message::{Crime, Known, Limits, Method, Response, Status};
use std::time::Duration;

/// What an answer's head says about its connection and its body, and does not stand in the [`Response`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The upstream's version.
    pub version: Version,
    /// The connection may be used again after this answer. Says nothing after an informational one.
    pub keep_alive: bool,
    /// How the body's end is told.
    pub framing: Framing,
    /// How long the upstream says it keeps an idle connection (`Keep-Alive: timeout=`).
    pub idle: Option<Duration>,
    /// A 101 that answers a websocket request: what follows is a tunnel, once [`crate::websocket::accepts`] has
    /// approved of its `Sec-WebSocket-Accept`.
    pub upgraded: bool,
    /// How many bytes it has.
    pub length: usize,
}

/// Reads the head that `bytes` begin with into `response`, which is empty. It answers a request with `method`, which
/// asked for a `websocket` or not. A head that is not whole is a crime here: only [`Scan`](super::super::Scan) can
/// tell whether more bytes would mend it. After a crime the connection must not be used again.
///
/// The answer to HEAD and a 304 have no body, but may declare the length that another request would get: then
/// `response.body` is empty and its `length` says it; `None` when nothing is declared.
pub fn response(
    bytes: &[u8],
    response: &mut Response,
    method: Method,
    websocket: bool,
    limits: &Limits,
) -> Result<ResponseHead, Crime> {
    let (line, fields) = split_line(bytes).ok_or(Crime::BadResponse)?;
    let (version, status) = status_line(line).ok_or(Crime::BadResponse)?;
    let gathered = gather(fields, response, limits).ok_or(Crime::BadResponse)?;
    if gathered.options.named > 0 {
        let is_ours = |known, name: &[u8]| !hop::is_protected(known, name) && gathered.options.names(name);
        response.fields.retain(|known, name, _| !is_ours(known, name));
    }
    let (framing, declared) = gathered.declared.of_response(version, status, method)?;
    if status.is_informational() && gathered.declared.promises_body() {
        return Err(Crime::BadResponse); // RFC 9110 §8.6: there is no length with 1xx.
    }
    let upgraded = status == Status::SWITCHING_PROTOCOLS;
    if upgraded && !(websocket && gathered.upgrade && gathered.options.upgrade && version == Version::Http11)
    {
        return Err(Crime::BadSwitch); // Attacks A31, A37.
    }
    response.status = status;
    match framing {
        Framing::None if method == Method::HEAD || status == Status::NOT_MODIFIED => {
            response.body.clear();
            response.body.length = declared;
        }
        Framing::None | Framing::Length(0) => response.body.clear(),
        Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {
            response.body.will_come(framing.length());
        }
    }
    // RFC 9110 §15.3.5: a 204 that promises bytes may well send them.
    let lies = status == Status::NO_CONTENT && gathered.declared.promises_body();
    Ok(ResponseHead {
        version,
        keep_alive: framing != Framing::UntilClose
            && !gathered.options.close
            && !lies
            && (version == Version::Http11 || gathered.options.keep_alive),
        framing,
        idle: gathered.idle,
        upgraded,
        length: bytes.len() - fields.len() + gathered.length,
    })
}

/// `HTTP/1.x SP code`, then nothing or `SP reason` (RFC 9112 §4). The reason is not kept.
/// Deviation: the second space may be missing when there is no reason; many servers forget it.
fn status_line(line: &[u8]) -> Option<(Version, Status)> {
    let (version, code) = match line.split_at_checked(9)? {
        (b"HTTP/1.1 ", code) => (Version::Http11, code),
        (b"HTTP/1.0 ", code) => (Version::Http10, code),
        _ => return None,
    };
    let ([a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']
    | [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..]) = code
    else {
        return None;
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    Some((version, Status::new(digit(a) * 100 + digit(b) * 10 + digit(c))?))
}

/// What the fields of an answer say, besides those that are handed on.
#[derive(Default)]
struct Gathered<'a> {
    declared: Declared<'a>,
    options: hop::Options<'a>,
    upgrade: bool,
    idle: Option<Duration>,
    /// How many bytes all field lines have, with the empty one.
    length: usize,
}

/// Goes through the field lines once: measures and checks each, hands on what crosses (attacks A40, F8).
fn gather<'a>(fields: &'a [u8], response: &mut Response, limits: &Limits) -> Option<Gathered<'a>> {
    let mut gathered = Gathered::default();
    let (mut rest, mut count, mut cost) = (fields, 0, 0);
    while !rest.starts_with(b"\r\n") {
        let at = fields.len() - rest.len();
        let line;
        (line, rest) = Line::split(rest)?;
        count += 1;
        cost += line.cost();
        match line.known {
            Known::CONTENT_LENGTH => gathered.declared.content_length(line.value, line.is_plain()),
            Known::TRANSFER_ENCODING => gathered.declared.transfer_encoding(line.value, line.is_plain()),
            Known::CONNECTION => gathered.options.read_answer(line.value).ok()?,
            Known::UPGRADE => gathered.upgrade |= hop::lists(line.value, b"websocket"),
            Known::KEEP_ALIVE => gathered.idle = gathered.idle.or(timeout(line.value)),
            _ => {}
        }
        let crosses = hop::crosses_down(line.known, line.name);
        if line.name.len() > limits.header_name || (crosses && !line.index(&mut response.fields, at)) {
            return None;
        }
    }
    gathered.length = fields.len() - rest.len() + 2;
    if count + gathered.options.named > limits.upstream_header_count
        || cost > limits.upstream_header_bytes
        || gathered.length > limits.upstream_header_bytes + 2
    {
        return None;
    }
    response.fields.load(fields.get(..gathered.length).unwrap_or(fields));
    Some(gathered)
}

/// The seconds of `timeout=` in a `Keep-Alive` field.
fn timeout(value: &[u8]) -> Option<Duration> {
    tokens(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked("timeout=".len())?;
        if !name.eq_ignore_ascii_case(b"timeout=") || !seconds.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let seconds = std::str::from_utf8(seconds).ok()?.parse::<u32>().ok()?;
        Some(Duration::from_secs(u64::from(seconds)))
    })
}
