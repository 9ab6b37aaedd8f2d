//! request: a request head, checked against every row of attack that can be seen in one.

use super::super::framing::{Declared, Framing};
use super::{Line, Version, split_line};
use crate::{hop, websocket};
use memchr::{memchr, memchr_iter, memchr2};
use portunus_message::fields::trim;
use portunus_message::name::{KnownSet, is_token_byte};
use portunus_message::target::TargetError;
use portunus_message::{Crime, Known, Limits, Method, Request, Scheme, Target};

/// What a request's head says about its connection and its body, and does not stand in the [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The client's version.
    pub version: Version,
    /// The client wants to go on after this exchange.
    pub keep_alive: bool,
    /// How the body's end is told; never `UntilClose` (attack A5).
    pub framing: Framing,
    /// The client waits for 100 before it sends its body.
    pub expects_continue: bool,
    /// How many fields were dropped because of `_` in their names (attack F9).
    pub underscores_dropped: u32,
    /// How many bytes it has.
    pub length: usize,
}

/// Reads the head that `bytes` begin with, on a listener of `scheme`, into `request`, which is empty. A head that is
/// not whole is a crime here: only [`Scan`](super::super::Scan) can tell whether more bytes would mend it.
/// After a crime what follows on the connection has no meaning: answer, and close (attack A36).
/// Allocates nothing when the request's memory is large enough (an absolute target may).
pub fn request(
    bytes: &[u8],
    request: &mut Request,
    scheme: Scheme,
    limits: &Limits,
) -> Result<RequestHead, Crime> {
    let head = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let (line, fields) = split_line(head).ok_or(Crime::MalformedHead)?;
    let (method, target, version) = request_line(line)?;
    request.method = method;
    if target.len() > limits.url_bytes {
        return Err(Crime::UrlTooLong);
    }
    let gathered = gather(fields, request, limits)?;
    request.target.scheme = scheme;
    aim(&mut request.target, target, gathered.host, method, version)?;
    let framing = gathered.declared.of_request(version)?;
    if gathered.options.named > 0 {
        // They were meant for us (RFC 9110 §7.6.1).
        request.fields.retain(|_, name, _| !gathered.options.names(name));
    }
    request.trailers = gathered.trailers;
    request.websocket = gathered.asks_for_websocket(version);
    if request.websocket && !gathered.may_have_websocket(method, framing) {
        return Err(Crime::BadUpgrade);
    }
    match framing {
        Framing::None | Framing::Length(0) => request.body.clear(),
        Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {
            request.body.will_come(framing.length());
        }
    }
    Ok(RequestHead {
        version,
        keep_alive: match version {
            Version::Http11 => !gathered.options.close,
            Version::Http10 => gathered.options.keep_alive && !gathered.options.close,
        },
        framing,
        expects_continue: gathered.expects_continue(version)? && !request.body.is_empty(),
        underscores_dropped: gathered.underscores_dropped,
        length: bytes.len() - fields.len() + gathered.length,
    })
}

/// Exactly `method SP target SP HTTP-version` (RFC 9112 §3; attack A25).
fn request_line(line: &[u8]) -> Result<(Method, &[u8], Version), Crime> {
    let (method, rest) =
        memchr(b' ', line).and_then(|at| line.split_at_checked(at)).ok_or(Crime::MalformedHead)?;
    let target_end = rest.len().checked_sub(VERSION_BYTES).ok_or(Crime::MalformedHead)?;
    let (target, version) = rest.split_at_checked(target_end).ok_or(Crime::MalformedHead)?;
    let target = target.get(1..).unwrap_or(&[]);
    if target.is_empty() || memchr2(b' ', b'\t', target).is_some() {
        return Err(Crime::MalformedHead);
    }
    let version = match version {
        b" HTTP/1.1" => Ok(Version::Http11),
        b" HTTP/1.0" => Ok(Version::Http10),
        [b' ', b'H', b'T', b'T', b'P', b'/', b'0' | b'2'..=b'9', b'.', b'0'..=b'9'] => Err(Crime::BadVersion),
        _ => return Err(Crime::MalformedHead),
    };
    match Method::parse(method) {
        Some(Method::CONNECT | Method::TRACE) => version.and(Err(Crime::MethodRefused)), // Attack A43.
        Some(method) => version.map(|version| (method, target, version)),
        // The preface of HTTP/2 is known by its method, before its version is refused (attack A32).
        None if method == b"PRI" => Err(Crime::MethodRefused),
        None if method.is_empty() || !method.iter().copied().all(is_token_byte) => Err(Crime::MalformedHead),
        None => version.and(Err(Crime::UnknownMethod)),
    }
}

/// The end of a request line: a space and `HTTP/1.1`.
const VERSION_BYTES: usize = 9;

/// What the fields of a request say, besides those that are handed on.
#[derive(Default)]
struct Gathered<'a> {
    host: Option<&'a [u8]>,
    declared: Declared<'a>,
    options: hop::Options<'a>,
    expect: Option<&'a [u8]>,
    expects: usize,
    websocket: bool,
    trailers: bool,
    websocket_key: Option<&'a [u8]>,
    websocket_version: Option<&'a [u8]>,
    single: KnownSet,
    underscores_dropped: u32,
    /// How many bytes all field lines have, with the empty one.
    length: usize,
}

/// Goes through the field lines once: measures and checks each, hands on what crosses.
///
/// Each line counts as one field, and so does each name in `Connection` and each cookie: over HTTP/2 every cookie may
/// come in a field of its own, and the bound shall not depend on the version.
fn gather<'a>(fields: &'a [u8], request: &mut Request, limits: &Limits) -> Result<Gathered<'a>, Crime> {
    let mut gathered = Gathered::default();
    let (mut rest, mut count, mut cost) = (fields, 0, 0);
    while !rest.starts_with(b"\r\n") {
        let at = fields.len() - rest.len();
        let line;
        (line, rest) = Line::split(rest).ok_or(Crime::MalformedHead)?;
        count += 1;
        if line.known == Known::COOKIE {
            count += memchr_iter(b';', line.value).count();
        }
        cost += line.cost();
        if line.len() > limits.header_line
            || line.name.len() > limits.header_name
            || count > limits.header_count
            || cost > limits.header_bytes
        {
            return Err(Crime::HeadTooLarge);
        }
        if gathered.meet(&line, &limits.underscores)? && !line.index(&mut request.fields, at) {
            return Err(Crime::HeadTooLarge);
        }
    }
    gathered.length = fields.len() - rest.len() + 2;
    if count + gathered.options.named > limits.header_count || gathered.length > limits.header_bytes + 2 {
        return Err(Crime::HeadTooLarge);
    }
    request.fields.load(fields.get(..gathered.length).unwrap_or(fields));
    Ok(gathered)
}

impl<'a> Gathered<'a> {
    /// Takes note of one line; says whether it crosses. The names of `passing` may have an underscore.
    fn meet(&mut self, line: &Line<'a>, passing: &[Box<str>]) -> Result<bool, Crime> {
        let known = line.known;
        if known == Known::OTHER {
            let dropped = hop::is_dropped(line.name, passing)?;
            self.underscores_dropped += u32::from(dropped);
            return Ok(!dropped);
        }
        match known {
            Known::HOST if self.host.replace(line.value).is_some() => return Err(Crime::BadHost),
            Known::CONTENT_LENGTH => self.declared.content_length(line.value, line.is_plain()),
            Known::TRANSFER_ENCODING => self.declared.transfer_encoding(line.value, line.is_plain()),
            Known::CONNECTION => self.options.read(line.value)?,
            Known::UPGRADE => self.websocket |= hop::lists(line.value, b"websocket"),
            Known::TE => self.trailers |= hop::lists(line.value, b"trailers"),
            Known::SEC_WEBSOCKET_KEY => self.websocket_key = Some(line.value),
            Known::SEC_WEBSOCKET_VERSION => self.websocket_version = Some(line.value),
            Known::EXPECT => {
                self.expect = Some(line.value);
                self.expects += 1;
            }
            _ => {}
        }
        if hop::is_single(known) {
            if self.single.has(known) {
                return Err(Crime::DoubledField);
            }
            self.single.insert(known);
        }
        Ok(hop::crosses_up(known))
    }

    /// RFC 9110 §10.1.1; anything else than `100-continue` is not guessed at (attack A12). HTTP/1.0 has no `Expect`.
    fn expects_continue(&self, version: Version) -> Result<bool, Crime> {
        match self.expect {
            None => Ok(false),
            Some(_) if version == Version::Http10 => Ok(false),
            Some(value) if self.expects == 1 && value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Some(_) => Err(Crime::BadExpect),
        }
    }

    /// Both `Upgrade` and `Connection` must say it; a half of it means nothing (RFC 9110 §7.8; attack A33).
    fn asks_for_websocket(&self, version: Version) -> bool {
        self.websocket && self.options.upgrade && version == Version::Http11
    }

    /// RFC 6455 §4.2.1 (attack J1).
    fn may_have_websocket(&self, method: Method, framing: Framing) -> bool {
        method == Method::GET
            && matches!(framing, Framing::None | Framing::Length(0))
            && self.websocket_version == Some(b"13")
            && self.websocket_key.is_some_and(websocket::is_key)
    }
}

/// Understands the target together with `Host` (RFC 9112 §3.2, §3.3; attacks A26–A28).
fn aim(
    target: &mut Target,
    text: &[u8],
    host: Option<&[u8]>,
    method: Method,
    version: Version,
) -> Result<(), Crime> {
    match host {
        Some(host) => target.set_authority(host).map_err(|_| Crime::BadHost)?,
        None if version == Version::Http11 => return Err(Crime::BadHost),
        None => {}
    }
    let path = match text {
        b"*" if method == Method::OPTIONS => text,
        [b'/', ..] => text,
        _ => absolute(target, text, host, method)?,
    };
    target.set_path(path).map_err(|error| match error {
        TargetError::Malformed => Crime::BadTarget,
        TargetError::Forbidden | TargetError::AboveRoot => Crime::ForbiddenPath,
    })
}

/// Splits an absolute target. Its scheme must be the listener's and its authority the same as `Host` (attack A27);
/// RFC 9112 §3.2.2 would let it win, but not everybody behind us knows. Returns path and query.
fn absolute<'a>(
    target: &mut Target,
    text: &'a [u8],
    host: Option<&[u8]>,
    method: Method,
) -> Result<&'a [u8], Crime> {
    let scheme = target.scheme.as_str().as_bytes();
    let (before, after) = text.split_at_checked(scheme.len()).ok_or(Crime::BadTarget)?;
    let after = after.strip_prefix(b"://").ok_or(Crime::BadTarget)?;
    if !before.eq_ignore_ascii_case(scheme) {
        return Err(Crime::BadTarget);
    }
    let end = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after.len());
    let (authority, path) = after.split_at_checked(end).ok_or(Crime::BadTarget)?;
    match host {
        None => target.set_authority(authority).map_err(|_| Crime::BadTarget)?,
        Some(host) if authority.eq_ignore_ascii_case(trim(host)) => {}
        Some(_) => {
            let mut other = Target::new();
            other.scheme = target.scheme;
            other.set_authority(authority).map_err(|_| Crime::BadTarget)?;
            if other.authority() != target.authority() {
                return Err(Crime::BadTarget);
            }
        }
    }
    // RFC 9112 §3.2.4: an OPTIONS without a path asks about the server as a whole.
    Ok(if path.is_empty() && method == Method::OPTIONS { b"*" } else { path })
}
