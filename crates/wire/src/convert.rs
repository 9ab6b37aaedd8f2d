//! convert: the `http` crate's types, which the `h2` crate speaks in, ⇄ our messages; the only file that names them.

use crate::h1::framing::content_length;
use crate::hop::{self, OF_CONNECTIONS};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use portunus_message::fields::is_value_byte;
use portunus_message::{Crime, FieldValue, Fields, Known, Limits, Method, Request, Response, Status};

#[cfg(test)]
mod tests;

/// A request as the `h2` crate takes it.
#[derive(Clone, Debug)]
pub struct Asked<T>(pub http::Request<T>);

/// Trailers as the `h2` crate takes them.
#[derive(Debug)]
pub struct Trailers(pub HeaderMap);

/// A value that may stand in a field of HTTP/2 as it is: no control byte, no white space at its ends (RFC 9113 §8.2.1;
/// attacks B3, B6).
fn checked(value: &[u8]) -> Option<FieldValue<'_>> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) { None } else { FieldValue::new(value) }
}

/// A request as it goes to an upstream, whose body is so long, if that can be told. A websocket's becomes an extended CONNECT, and
/// whoever sends it has to add the protocol (RFC 8441 §4). `None`: it has a target or a field that HTTP/2 cannot carry.
pub fn request_to(request: &Request, length: Option<u64>) -> Option<Asked<()>> {
    let target = &request.target;
    let asks = |path_and_query: &str| {
        let uri = http::Uri::builder().scheme(target.scheme.as_str()).authority(target.authority());
        uri.path_and_query(path_and_query).build().ok()
    };
    let uri = asks(target.path_and_query()).or_else(|| asks(&encoded(target.path_and_query())))?;
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

/// A path and its query with everything encoded that may not stand there as it is (RFC 3986 §3.3, §3.4): clients of HTTP/1 send such,
/// and the other crate takes none of it.
fn encoded(path_and_query: &str) -> String {
    let mut out = String::with_capacity(path_and_query.len() + 16);
    for &byte in path_and_query.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit =
                |value: u8| char::from_digit(value.into(), 16).unwrap_or_default().to_ascii_uppercase();
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
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

/// Takes an upstream's trailers over. What no trailer may say is dropped.
pub fn trailers(map: &HeaderMap, limits: &Limits) -> Result<Fields, Crime> {
    let mut fields = Fields::new();
    for (name, value) in map {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let known = Known::find(name);
        if hop::may_trail(known, name) {
            fields.push(known, name, checked(value).ok_or(Crime::BadTrailer)?);
        }
    }
    if fields.len() > limits.upstream_header_count || fields.cost() > limits.upstream_header_bytes {
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
