//! convert: the `http` crate's types, which the `h2` crate speaks in, ⇄ our messages; the only file that names them.

use crate::h1::framing::content_length;
use crate::{hop, websocket};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr_iter;
use portunus_message::fields::is_value_byte;
use portunus_message::name::KnownSet;
use portunus_message::target::TargetError;
use portunus_message::{
    Crime, FieldValue, Fields, Known, Limits, Method, Request, Response, Scheme, Status, Target,
};

#[cfg(test)]
mod tests;

/// A request as the `h2` crate gives it, and takes it.
#[derive(Clone, Debug)]
pub struct Asked<T>(pub http::Request<T>);

/// The head of an answer as the `h2` crate takes it.
#[derive(Debug)]
pub struct AnswerHead(pub http::Response<()>);

/// Trailers as the `h2` crate takes them.
#[derive(Debug)]
pub struct Trailers(pub HeaderMap);

/// What a request's head says of its body, and does not stand in the [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The client waits for 100 before it sends its body.
    pub expects_continue: bool,
    /// How many fields were dropped because of `_` in their names (attack F9).
    pub underscores_dropped: u32,
}

/// Whether a request that is guilty of this is malformed (RFC 9113 §8.1.1): its stream is reset instead of answered.
pub fn is_malformed(crime: Crime) -> bool {
    matches!(crime, Crime::MalformedHead | Crime::BadFraming)
}

/// Takes over a head that came by a listener of `scheme`, into `request`, which is empty. `ended`: no body follows.
/// `protocol`: what an extended CONNECT asks for (RFC 8441). A websocket's request becomes what it is in HTTP/1.1, but for its key, which
/// is not the client's business here.
///
/// The `h2` crate has checked what RFC 9113 §8 says of pseudo-header fields, of names, and of fields that belong to a connection; what it
/// leaves is checked here (attacks B1–B6).
pub fn request<T>(
    head: &http::Request<T>,
    protocol: Option<&str>,
    ended: bool,
    scheme: Scheme,
    request: &mut Request,
    limits: &Limits,
) -> Result<RequestHead, Crime> {
    let method = Method::parse(head.method().as_str().as_bytes()).ok_or(Crime::UnknownMethod)?;
    let path = head.uri().path_and_query().map_or("", |path| path.as_str());
    if path.len() > limits.url_bytes {
        return Err(Crime::UrlTooLong);
    }
    let gathered = gather(head.headers(), &mut request.fields, limits)?;
    request.method = match (method, protocol) {
        (Method::CONNECT, Some("websocket")) => Method::GET,
        (Method::CONNECT, Some(_)) => return Err(Crime::UnknownProtocol),
        (Method::CONNECT | Method::TRACE, _) => return Err(Crime::MethodRefused), // attack A43
        _ => method,
    };
    request.target.scheme = scheme;
    aim(&mut request.target, head.uri(), gathered.host, request.method)?;
    request.trailers = gathered.trailers;
    request.websocket = protocol.is_some();
    if request.websocket {
        let fine = !ended && gathered.websocket_version == Some(b"13") && gathered.length.is_none();
        request.fields.remove(Known::SEC_WEBSOCKET_KEY);
        return if fine { Ok(gathered.head(false)) } else { Err(Crime::BadUpgrade) };
    }
    let length = match gathered.length {
        Some(value) => Some(content_length(value).ok_or(Crime::BadFraming)?),
        None => None,
    };
    match (ended, length) {
        (true, Some(1..)) => return Err(Crime::BadFraming), // attack B1
        (true, _) | (false, Some(0)) => request.body.clear(),
        (false, length) => request.body.will_come(length),
    }
    Ok(gathered.head(!ended))
}

/// What the fields of a request say, besides those that are handed on.
#[derive(Default)]
struct Gathered<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    websocket_version: Option<&'a [u8]>,
    trailers: bool,
    expects_continue: bool,
    underscores_dropped: u32,
}

impl Gathered<'_> {
    fn head(&self, has_body: bool) -> RequestHead {
        let expects_continue = self.expects_continue && has_body;
        RequestHead { expects_continue, underscores_dropped: self.underscores_dropped }
    }
}

/// Goes through the fields once: measures and checks each, hands on what crosses. Each counts as one, and so does each cookie (attack B11).
fn gather<'a>(map: &'a HeaderMap, fields: &mut Fields, limits: &Limits) -> Result<Gathered<'a>, Crime> {
    let mut gathered = Gathered::default();
    let (mut count, mut cost, mut single) = (0, 0, KnownSet::default());
    let mut cookies = Vec::new();
    for (name, value) in map {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        count += 1;
        cost += name.len() + value.len() + 32;
        let known = Known::find(name);
        if known == Known::COOKIE {
            count += memchr_iter(b';', value).count();
        }
        if name.len() + value.len() > limits.header_line
            || name.len() > limits.header_name
            || count > limits.header_count
            || cost > limits.header_bytes
        {
            return Err(Crime::HeadTooLarge);
        }
        let plain = checked(value).ok_or(Crime::MalformedHead)?;
        if known == Known::OTHER {
            if hop::is_dropped(name)? {
                gathered.underscores_dropped += 1;
            } else {
                fields.push(known, name, plain);
            }
            continue;
        }
        match known {
            Known::HOST if gathered.host.replace(value).is_some() => return Err(Crime::BadHost),
            Known::CONTENT_LENGTH if gathered.length.replace(value).is_some() => {
                return Err(Crime::BadFraming);
            }
            Known::EXPECT if !value.eq_ignore_ascii_case(b"100-continue") => return Err(Crime::BadExpect),
            Known::EXPECT => gathered.expects_continue = true,
            Known::SEC_WEBSOCKET_VERSION => gathered.websocket_version = Some(value),
            Known::TE if value == b"trailers" => gathered.trailers = true,
            // They cross in one line (RFC 9113 §8.2.3).
            Known::COOKIE => {
                join(&mut cookies, value);
                continue;
            }
            _ if OF_CONNECTIONS.has(known) => return Err(Crime::MalformedHead), // attack B2
            _ => {}
        }
        if hop::is_single(known) {
            if single.has(known) {
                return Err(Crime::DoubledField);
            }
            single.insert(known);
        }
        if hop::crosses_up(known) {
            fields.push(known, name, plain);
        }
    }
    if let Some(cookies) = FieldValue::new(&cookies).filter(|_| !cookies.is_empty()) {
        fields.push(Known::COOKIE, b"cookie", cookies);
    }
    Ok(gathered)
}

/// Fields that are about a connection (RFC 9113 §8.2.2); with another value than `trailers`, `TE` is one of them.
const OF_CONNECTIONS: KnownSet = KnownSet::of(&[
    Known::CONNECTION,
    Known::KEEP_ALIVE,
    Known::PROXY_CONNECTION,
    Known::TE,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
]);

/// A value that may stand in a field of HTTP/2 as it is: no control byte, no white space at its ends (RFC 9113 §8.2.1;
/// attacks B3, B6).
fn checked(value: &[u8]) -> Option<FieldValue<'_>> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) { None } else { FieldValue::new(value) }
}

fn join(cookies: &mut Vec<u8>, more: &[u8]) {
    if !cookies.is_empty() && !more.is_empty() {
        cookies.extend_from_slice(b"; ");
    }
    cookies.extend_from_slice(more);
}

/// Understands the target. `:authority` and `Host` must be the same where both are there (attack B5), and the scheme one of HTTP's; which
/// of them was used is known better than the client can tell (attack B4).
fn aim(target: &mut Target, uri: &http::Uri, host: Option<&[u8]>, method: Method) -> Result<(), Crime> {
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Crime::BadTarget);
    }
    match (uri.authority().map(|authority| authority.as_str().as_bytes()), host) {
        (None, None) => return Err(Crime::BadHost),
        (Some(only), None) | (None, Some(only)) => target.set_authority(only).map_err(|_| Crime::BadHost)?,
        (Some(authority), Some(host)) => {
            target.set_authority(authority).map_err(|_| Crime::BadHost)?;
            if !authority.eq_ignore_ascii_case(host) {
                let mut other = Target::new();
                other.scheme = target.scheme;
                other.set_authority(host).map_err(|_| Crime::BadHost)?;
                if other.authority() != target.authority() {
                    return Err(Crime::BadHost);
                }
            }
        }
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str()).as_bytes();
    match path {
        b"*" if method == Method::OPTIONS => {}
        [b'/', ..] => {}
        _ => return Err(Crime::MalformedHead), // RFC 9113 §8.3.1
    }
    target.set_path(path).map_err(|error| match error {
        TargetError::Malformed => Crime::BadTarget,
        TargetError::Forbidden | TargetError::AboveRoot => Crime::ForbiddenPath,
    })
}

/// A request as it goes to an upstream, whose body is so long, if that can be told. A websocket's becomes an extended CONNECT, and
/// whoever sends it has to add the protocol (RFC 8441 §4). `None`: it has a target or a field that HTTP/2 cannot carry.
pub fn request_to(request: &Request, length: Option<u64>) -> Option<Asked<()>> {
    let target = &request.target;
    let uri = http::Uri::builder()
        .scheme(target.scheme.as_str())
        .authority(target.authority())
        .path_and_query(target.path_and_query())
        .build()
        .ok()?;
    let mut head = http::Request::new(());
    *head.method_mut() = if request.websocket {
        http::Method::CONNECT
    } else {
        http::Method::from_bytes(request.method.as_str().as_bytes()).ok()?
    };
    *head.uri_mut() = uri;
    *head.version_mut() = http::Version::HTTP_2;
    let map = head.headers_mut();
    map.reserve(request.fields.len() + 2);
    for (known, name, value) in request.fields.iter() {
        if hop::crosses_up(known) && !(request.websocket && known == Known::SEC_WEBSOCKET_KEY) {
            append(map, known, name, value);
        }
    }
    if let Some(length) = length.filter(|_| !request.websocket) {
        map.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if request.trailers {
        map.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    Some(Asked(head))
}

/// Takes over the head of an upstream's answer to a request with `method`, into `response`, which is empty; it is held to the same rules
/// as one of HTTP/1 (attacks B24, F8). `ended`: no body follows.
pub fn response(
    head: &http::Response<()>,
    method: Method,
    ended: bool,
    response: &mut Response,
    limits: &Limits,
) -> Result<(), Crime> {
    response.status = Status::new(head.status().as_u16()).ok_or(Crime::BadResponse)?;
    if response.status == Status::SWITCHING_PROTOCOLS {
        return Err(Crime::BadSwitch); // RFC 9113 §8.6: there is none in HTTP/2
    }
    let (mut count, mut cost, mut length) = (0, 0, None);
    for (name, value) in head.headers() {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        count += 1;
        cost += name.len() + value.len() + 32;
        let known = Known::find(name);
        if count > limits.upstream_header_count
            || cost > limits.upstream_header_bytes
            || name.len() > limits.header_name
            || OF_CONNECTIONS.has(known)
        {
            return Err(Crime::BadResponse);
        }
        if known == Known::CONTENT_LENGTH && length.replace(value).is_some() {
            return Err(Crime::BadResponse);
        }
        if hop::crosses_down(known, name) {
            response.fields.push(known, name, FieldValue::new(value).ok_or(Crime::BadResponse)?);
        }
    }
    let length = match length {
        Some(value) => Some(content_length(value).ok_or(Crime::BadResponse)?),
        None => None,
    };
    let status = response.status;
    if method == Method::HEAD || status.is_bodiless() {
        response.body.clear();
        if method == Method::HEAD || status == Status::NOT_MODIFIED {
            response.body.length = length;
        }
    } else if ended || length == Some(0) {
        response.body.clear();
    } else {
        response.body.will_come(length);
    }
    Ok(())
}

/// The head of an answer as it goes to a client; its body is so long, if that can be told. `date` is written unless the answer has one.
/// What tells a client of HTTP/1.1 that its protocol is switched is a mere 200 here (RFC 8441 §5).
pub fn response_to(response: &Response, length: Option<u64>, date: Option<&[u8]>) -> AnswerHead {
    let switched = response.status == Status::SWITCHING_PROTOCOLS;
    let status = if switched { Status::OK } else { response.status };
    let mut head = answer(status, &response.fields, 2);
    let map = head.0.headers_mut();
    if switched {
        map.remove(http::header::SEC_WEBSOCKET_ACCEPT);
    }
    if let Some(date) = date.filter(|_| !response.fields.has(Known::DATE)) {
        append(map, Known::DATE, b"date", date);
    }
    // RFC 9110 §8.6: none in a 1xx or 204.
    let may_tell = !status.is_informational() && status != Status::NO_CONTENT && !switched;
    if let Some(length) = length.filter(|_| may_tell) {
        map.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    head
}

/// An informational head (RFC 9110 §15.2).
pub fn informational_to(status: Status, fields: &Fields) -> AnswerHead {
    answer(status, fields, 0)
}

fn answer(status: Status, fields: &Fields, more: usize) -> AnswerHead {
    let mut head = http::Response::new(());
    // Invariant: the numbers of a status are those of the other crate, too.
    *head.status_mut() =
        http::StatusCode::from_u16(status.code()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    *head.version_mut() = http::Version::HTTP_2;
    let map = head.headers_mut();
    map.reserve(fields.len() + more);
    for (known, name, value) in fields.iter() {
        if hop::crosses_down(known, name) {
            append(map, known, name, value);
        }
    }
    AnswerHead(head)
}

/// Adds a field. One that breaks the grammar is left out: the second lock against splitting (attack B3).
fn append(map: &mut HeaderMap, known: Known, name: &[u8], value: &[u8]) {
    let name = usual(known).map_or_else(|| HeaderName::from_bytes(name), Ok);
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
        // More than the map can hold, no head of ours has: limits see to that.
        let _ = map.try_append(name, value);
    }
}

/// The names that most heads have, so that they need not be looked up.
fn usual(known: Known) -> Option<HeaderName> {
    use http::header;
    Some(match known {
        Known::ACCEPT => header::ACCEPT,
        Known::ACCEPT_ENCODING => header::ACCEPT_ENCODING,
        Known::ACCEPT_LANGUAGE => header::ACCEPT_LANGUAGE,
        Known::ACCEPT_RANGES => header::ACCEPT_RANGES,
        Known::AGE => header::AGE,
        Known::AUTHORIZATION => header::AUTHORIZATION,
        Known::CACHE_CONTROL => header::CACHE_CONTROL,
        Known::CONTENT_ENCODING => header::CONTENT_ENCODING,
        Known::CONTENT_LENGTH => header::CONTENT_LENGTH,
        Known::CONTENT_TYPE => header::CONTENT_TYPE,
        Known::COOKIE => header::COOKIE,
        Known::DATE => header::DATE,
        Known::ETAG => header::ETAG,
        Known::EXPIRES => header::EXPIRES,
        Known::FORWARDED => header::FORWARDED,
        Known::LAST_MODIFIED => header::LAST_MODIFIED,
        Known::LOCATION => header::LOCATION,
        Known::ORIGIN => header::ORIGIN,
        Known::REFERER => header::REFERER,
        Known::SERVER => header::SERVER,
        Known::SET_COOKIE => header::SET_COOKIE,
        Known::USER_AGENT => header::USER_AGENT,
        Known::VARY => header::VARY,
        _ => return None,
    })
}

/// Takes trailers over. What no trailer may say is a crime of clients (attack A34); from upstreams it is dropped.
pub fn trailers(map: &HeaderMap, of_client: bool, limits: &Limits) -> Result<Fields, Crime> {
    let (count_max, bytes_max) = if of_client {
        (limits.header_count, limits.header_bytes)
    } else {
        (limits.upstream_header_count, limits.upstream_header_bytes)
    };
    let mut fields = Fields::new();
    for (name, value) in map {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let known = Known::find(name);
        if !hop::may_trail(known, name) {
            if of_client {
                return Err(Crime::BadTrailer);
            }
            continue;
        }
        fields.push(known, name, checked(value).ok_or(Crime::BadTrailer)?);
    }
    if fields.len() > count_max || fields.cost() > bytes_max {
        return Err(Crime::BadTrailer);
    }
    Ok(fields)
}

/// Trailers as they go out. What may not stand there is left out once more.
pub fn trailers_to(fields: &Fields) -> Trailers {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (known, name, value) in fields.iter() {
        if hop::may_trail(known, name) && value.iter().copied().all(is_value_byte) {
            append(&mut map, known, name, value);
        }
    }
    Trailers(map)
}

/// A websocket key out of `random` bytes, for an upstream of HTTP/1.1: clients of HTTP/2 send none (RFC 8441 §5).
pub fn add_key(request: &mut Request, random: u128) {
    let key = websocket::key(random.to_be_bytes());
    if let Some(key) = FieldValue::new(&key) {
        request.fields.set(Known::SEC_WEBSOCKET_KEY, key);
    }
}
