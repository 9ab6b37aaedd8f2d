//! response: an answer's head, held to the same rules; an upstream may be hostile too.

use super::super::framing::{Declared, Framing};
use super::{Line, Version, slots};
use crate::hop;
use memchr::memchr;
use portunus_message::body::Source;
use portunus_message::fields::tokens;
use portunus_message::{Body, Crime, Known, Limits, Method, Response, Status};
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
}

/// Reads `head`, as [`Scan`](super::super::Scan) found it, into `response`, which is empty. It answers a request with
/// `method`, which asked for a `websocket` or not. After a crime the connection must not be used again.
///
/// The answer to HEAD and a 304 have no body, but may declare the length that another request would get: then
/// `response.body` is empty and its `length` says it; `None` when nothing is declared.
pub fn response(
    head: &[u8],
    response: &mut Response,
    method: Method,
    websocket: bool,
    limits: &Limits,
) -> Result<ResponseHead, Crime> {
    let mut slots = slots();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut slots) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) | Err(_) => return Err(Crime::BadResponse),
    }
    let (Some(minor), Some(code)) = (parsed.version, parsed.code) else { return Err(Crime::BadResponse) };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let status = Status::new(code).ok_or(Crime::BadResponse)?;
    let fields_at = end_of_status_line(head).ok_or(Crime::BadResponse)?;
    let gathered = gather(head, fields_at, parsed.headers, response, limits)?;
    if gathered.options.named > 0 {
        drop_named(response, parsed.headers);
    }
    let (framing, declared) = gathered.declared.of_response(version, status, method)?;
    let upgraded = status == Status::SWITCHING_PROTOCOLS;
    if upgraded && !(websocket && gathered.upgrade && gathered.options.upgrade && version == Version::Http11)
    {
        return Err(Crime::BadSwitch); // Attacks A31, A37.
    }
    response.status = status;
    response.body = body(framing, declared, status, method);
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
    })
}

fn body(framing: Framing, declared: Option<u64>, status: Status, method: Method) -> Body {
    match framing {
        Framing::None if method == Method::HEAD || status == Status::NOT_MODIFIED => {
            Body { source: Source::Empty, length: declared, stages: Vec::new() }
        }
        Framing::None | Framing::Length(0) => Body::empty(),
        Framing::Length(_) | Framing::Chunked | Framing::UntilClose => Body::incoming(framing.length()),
    }
}

/// Where the fields begin: after `HTTP/1.x SP code`, then nothing or `SP reason`, then CRLF (RFC 9112 §4).
/// Deviation: the space may be missing when there is no reason; many servers forget it.
fn end_of_status_line(head: &[u8]) -> Option<usize> {
    let line_feed = memchr(b'\n', head)?;
    let line = head.get(..line_feed)?.strip_suffix(b"\r")?;
    let code = line.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    let is_code = code.get(..3)?.iter().all(u8::is_ascii_digit);
    let fine = is_code && matches!(code.get(3), None | Some(b' ')) && super::super::scan::is_clean(line);
    fine.then_some(line_feed + 1)
}

/// What the fields of an answer say, besides those that are handed on.
#[derive(Default)]
struct Gathered<'a> {
    declared: Declared<'a>,
    options: hop::Options,
    upgrade: bool,
    idle: Option<Duration>,
}

/// Goes through the field lines once: measures and checks each, hands on what crosses (attacks A40, F8).
fn gather<'a>(
    head: &'a [u8],
    fields_at: usize,
    headers: &[httparse::Header<'a>],
    response: &mut Response,
    limits: &Limits,
) -> Result<Gathered<'a>, Crime> {
    let mut gathered = Gathered::default();
    let mut at = fields_at;
    let mut cost = 0;
    let block = response.fields.load(head.get(fields_at..).unwrap_or(&[]));
    for header in headers {
        let line = Line::at(head, at, header).ok_or(Crime::BadResponse)?;
        at = line.next();
        cost += line.cost();
        match line.known {
            Known::CONTENT_LENGTH => gathered.declared.content_length(line.value, line.plain),
            Known::TRANSFER_ENCODING => gathered.declared.transfer_encoding(line.value, line.plain),
            Known::CONNECTION => gathered.options.read_answer(line.value),
            Known::UPGRADE => gathered.upgrade |= hop::names(line.value, b"websocket"),
            Known::KEEP_ALIVE => gathered.idle = gathered.idle.or(timeout(line.value)),
            _ => {}
        }
        let fits = line.name.len() <= limits.header_name;
        let crosses = hop::crosses_down(line.known, line.name);
        if !fits || (crosses && !line.index(&mut response.fields, fields_at, block)) {
            return Err(Crime::BadResponse);
        }
    }
    let count = headers.len() + gathered.options.named;
    let ends = head.get(at..) == Some(b"\r\n");
    if !ends || cost > limits.upstream_header_bytes || count > limits.upstream_header_count {
        return Err(Crime::BadResponse);
    }
    Ok(gathered)
}

/// Takes away the fields that `Connection` names, except what is protected.
fn drop_named(response: &mut Response, headers: &[httparse::Header<'_>]) {
    let is_named = |name: &[u8]| {
        headers.iter().any(|h| h.name.eq_ignore_ascii_case("connection") && hop::names(h.value, name))
    };
    response.fields.retain(|known, name, _| hop::is_protected(known, name) || !is_named(name));
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
