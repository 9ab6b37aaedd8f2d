//! What the proxy says in its own voice: short, plain, and in JSON when asked for.

use crate::grpc;
use portunus_message::{Crime, Error, Exchange, FieldValue, Known, Response, Status};
use std::fmt::Write;

/// Writes the answer for `error` into the exchange.
pub fn sorry(x: &mut Exchange, error: &Error) {
    let status = error.crime.status();
    x.response.clear();
    x.response.status = status;
    let mut text = String::with_capacity(128);
    let json = x.request.fields.get_all(Known::ACCEPT).any(wants_json);
    // Invariant: writing to a String cannot fail; a crime's word and a status need no escaping.
    let _ = if json {
        let word = error.crime.word();
        writeln!(
            text,
            r#"{{"status":{status},"error":"{}","reason":"{word}","request":"{}"}}"#,
            status.reason(),
            x.id
        )
    } else {
        writeln!(text, "{status} {}\nrequest {}", status.reason(), x.id)
    };
    let media = if json { "application/json" } else { "text/plain; charset=utf-8" };
    let fields = &mut x.response.fields;
    if let Some(value) = FieldValue::new(media.as_bytes()) {
        fields.add(Known::CONTENT_TYPE, value);
    }
    fields.add(Known::CACHE_CONTROL, FieldValue::from_static("no-store"));
    if status == Status::UNAVAILABLE {
        fields.add(Known::RETRY_AFTER, FieldValue::from_static("1"));
    }
    if error.crime == Crime::MethodRefused {
        fields.add(Known::ALLOW, FieldValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"));
    }
    x.response.body = portunus_message::Body::bytes(text);
    grpc::translate(&x.request, &mut x.response, error.crime.word());
}

/// An answer for a limit that is met before there is an exchange.
pub const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";

/// Whether an `Accept` line prefers JSON to everything: naming it is enough, a wildcard is not.
fn wants_json(accept: &[u8]) -> bool {
    portunus_message::fields::tokens(accept).any(|range| {
        let media = range.split(|&b| b == b';').next().unwrap_or(range);
        let media = portunus_message::fields::trim(media).to_ascii_lowercase();
        media == b"application/json" || (media.starts_with(b"application/") && media.ends_with(b"+json"))
    })
}

/// The answer of a filter, in place of an upstream's.
pub fn take(x: &mut Exchange, response: Response) {
    x.response = response;
    let reason = x.response.status.reason();
    grpc::translate(&x.request, &mut x.response, reason);
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_message::Phase;

    #[test]
    fn says_it_in_json_only_when_asked() {
        let error = Error::client(Phase::Head, Crime::NoRoute);
        let mut x = Exchange::default();
        sorry(&mut x, &error);
        assert_eq!(x.response.fields.get(Known::CONTENT_TYPE), Some(&b"text/plain; charset=utf-8"[..]));
        x.request.fields.add(Known::ACCEPT, FieldValue::from_static("text/html, application/json;q=0.9"));
        sorry(&mut x, &error);
        assert_eq!(x.response.fields.get(Known::CONTENT_TYPE), Some(&b"application/json"[..]));
        let portunus_message::body::Source::Bytes(text) = &x.response.body.source else { panic!("no body") };
        assert!(text.starts_with(br#"{"status":404,"error":"Not Found","reason":"no-route""#));
    }
}
