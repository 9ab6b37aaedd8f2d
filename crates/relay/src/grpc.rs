//! grpc: what gRPC says in the fields of HTTP — who speaks it, how long a call may take, what became of it — and what the proxy says so itself.

use crate::context::Bounds;
use portunus_message::{FieldValue, Fields, Known, Limits, Method, Request, Response, Status};
use std::time::Duration;

/// What its messages are declared as; more may follow behind `+`, `;` or `-web`.
pub const MEDIA: &[u8] = b"application/grpc";
/// The longest time that a call is given: longer than any, and short enough to be added to every moment.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The call may be made again: there is nobody who could have done something.
const UNAVAILABLE: &[u8] = b"14";

/// Whether a request is a call of gRPC, or of gRPC-Web.
pub fn is_call(request: &Request) -> bool {
    request.method == Method::POST && request.fields.get(Known::CONTENT_TYPE).is_some_and(is_media)
}

/// Whether this is the type of its messages.
pub fn is_media(value: &[u8]) -> bool {
    value.split_at_checked(MEDIA.len()).is_some_and(|(media, rest)| {
        media.eq_ignore_ascii_case(MEDIA) && matches!(rest.first(), None | Some(b'+' | b';' | b'-' | b' '))
    })
}

/// Gives a call the time that its client gives it, where that is shorter. Where they speak `in_turns`, the server may be silent as long as in a
/// tunnel, and so may the client, if it is one that can: what comes by HTTP/1 is gRPC-Web at best, whose body comes at once.
pub fn bound(request: &Request, bounds: &mut Bounds, limits: &Limits, in_turns: bool, client_can: bool) {
    if let Some(time) = find(&request.fields, b"grpc-timeout").and_then(timeout)
        && bounds.request.is_none_or(|own| time < own)
    {
        bounds.request = Some(time);
        bounds.hurried = true;
    }
    if in_turns {
        bounds.conversation = client_can;
        bounds.upstream_idle = bounds.upstream_idle.max(limits.tunnel_idle);
    }
}

/// Whether an answer without any message says that nobody could take the call. Servers say so
/// before they begin; that nothing was done is their word, which is why it has to be wanted (`retry on=grpc-unavailable`).
pub fn is_unavailable(response: &Response) -> bool {
    response.body.is_empty() && find(&response.fields, b"grpc-status") == Some(UNAVAILABLE)
}

/// The status of a call that stands in these fields: those behind its messages, or of an answer without any.
pub fn status_in(fields: &Fields) -> Option<u8> {
    std::str::from_utf8(find(fields, b"grpc-status")?).ok()?.parse().ok()
}

/// Turns an answer of the proxy's own to a call into one of gRPC: the status of the call in the head, and nothing behind it. Fields that
/// stand there for other reasons stay.
pub fn translate(request: &Request, response: &mut Response, message: &str) {
    if response.status.code() < 300 || !is_call(request) {
        return;
    }
    let code = code_of(response.status);
    let media = request.fields.get(Known::CONTENT_TYPE).and_then(FieldValue::new);
    response.status = Status::OK;
    response.body.clear();
    if let Some(media) = media {
        response.fields.set(Known::CONTENT_TYPE, media);
    }
    if let (Some(code), Some(message)) =
        (FieldValue::new(code.as_bytes()), FieldValue::new(message.as_bytes()))
    {
        response.fields.push(Known::OTHER, b"grpc-status", code);
        response.fields.push(Known::OTHER, b"grpc-message", message);
    }
}

/// The status of a call that HTTP says so of. Of what a client could mend, `INTERNAL` and `UNIMPLEMENTED` are what gRPC's own table says.
fn code_of(status: Status) -> &'static str {
    match status.code() {
        499 => "1",                    // CANCELLED
        408 | 504 => "4",              // DEADLINE_EXCEEDED
        403 => "7",                    // PERMISSION_DENIED
        413 | 429 | 431 => "8",        // RESOURCE_EXHAUSTED
        404 | 405 | 421 | 501 => "12", // UNIMPLEMENTED
        401 => "16",                   // UNAUTHENTICATED
        502 | 503 => "14",             // UNAVAILABLE
        400..=599 => "13",             // INTERNAL
        _ => "2",                      // UNKNOWN
    }
}

/// `grpc-timeout`: at most eight digits and a unit. What is none says nothing, as the server will find out.
fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let time = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(time.min(TIMEOUT_MAX))
}

/// The first value of this name, which is one that we have no number for.
fn find<'a>(fields: &'a Fields, name: &[u8]) -> Option<&'a [u8]> {
    let mut all = fields.iter();
    all.find(|(known, own, _)| *known == Known::OTHER && own.eq_ignore_ascii_case(name))
        .map(|(.., value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(media: &'static str) -> Request {
        let mut request = Request { method: Method::POST, ..Request::default() };
        request.fields.add(Known::CONTENT_TYPE, FieldValue::from_static(media));
        request
    }

    #[test]
    fn a_call_is_known_by_its_type() {
        for media in
            ["application/grpc", "application/grpc+proto", "Application/GRPC; x", "application/grpc-web-text"]
        {
            assert!(is_call(&call(media)), "{media}");
        }
        for media in ["application/json", "application/grpcx", "application/grp", ""] {
            assert!(!is_call(&call(media)), "{media}");
        }
        let get = Request { method: Method::GET, ..call("application/grpc") };
        assert!(!is_call(&get));
    }

    #[test]
    fn j4_a_timeout_is_read_and_bounded() {
        for (text, millis) in [("1S", 1000), ("250m", 250), ("2M", 120_000), ("3000u", 3), ("5000000n", 5)] {
            assert_eq!(timeout(text.as_bytes()), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(timeout(b"99999999H"), Some(TIMEOUT_MAX));
        for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", " 1S"] {
            assert_eq!(timeout(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn our_own_answers_say_what_became_of_the_call() {
        let mut response = Response::text(Status::UNAVAILABLE, "text/plain", "no");
        response.fields.add(Known::RETRY_AFTER, FieldValue::from_static("1"));
        translate(&call("application/grpc+proto"), &mut response, "no-host");
        assert_eq!((response.status, response.body.is_empty()), (Status::OK, true));
        assert_eq!(response.fields.get(Known::CONTENT_TYPE), Some(&b"application/grpc+proto"[..]));
        assert_eq!(find(&response.fields, b"grpc-status"), Some(&b"14"[..]));
        assert_eq!(find(&response.fields, b"grpc-message"), Some(&b"no-host"[..]));
        assert!(response.fields.has(Known::RETRY_AFTER) && is_unavailable(&response));
        let mut fine = Response::text(Status::OK, "text/plain", "yes");
        translate(&call("application/grpc"), &mut fine, "");
        assert!(!fine.body.is_empty());
        let mut other = Response::text(Status::FORBIDDEN, "text/plain", "no");
        translate(&call("text/plain"), &mut other, "");
        assert_eq!(other.status, Status::FORBIDDEN);
    }

    #[test]
    fn every_status_has_one_of_grpc() {
        for (status, code) in [
            (401, "16"),
            (403, "7"),
            (404, "12"),
            (429, "8"),
            (500, "13"),
            (503, "14"),
            (504, "4"),
            (302, "2"),
        ] {
            assert_eq!(Status::new(status).map(code_of), Some(code), "{status}");
        }
    }

    #[test]
    fn the_shorter_time_counts() {
        let limits = Limits::default();
        let mut request = call("application/grpc");
        request.fields.push(Known::OTHER, b"grpc-timeout", FieldValue::from_static("2S"));
        let seconds = Duration::from_secs;
        let mut bounds = Bounds {
            request: None,
            first_byte: seconds(60),
            upstream_idle: seconds(60),
            body_bytes: 1,
            conversation: false,
            hurried: false,
        };
        bound(&request, &mut bounds, &limits, false, true);
        assert_eq!((bounds.request, bounds.upstream_idle), (Some(seconds(2)), seconds(60)));
        assert!(bounds.hurried);
        (bounds.request, bounds.hurried) = (Some(seconds(1)), false);
        bound(&request, &mut bounds, &limits, true, false);
        assert_eq!((bounds.request, bounds.upstream_idle), (Some(seconds(1)), limits.tunnel_idle));
        assert!(!bounds.hurried && !bounds.conversation);
        bound(&request, &mut bounds, &limits, true, true);
        assert!(bounds.conversation);
    }
}
