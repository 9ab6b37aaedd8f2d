//! grpc: whether a host says of a service that it serves (`grpc.health.v1.Health/Check`).

use super::http::{AGENT, exchange_http2, uri};
use super::tcp::Stream;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, TE, USER_AGENT};
use hyper::{Request, Response};
use portunus_relay::plan::GrpcCheck;

/// Asks over `stream`, always over HTTP/2.
pub async fn ask(stream: Box<dyn Stream>, host: &str, check: &GrpcCheck) -> Result<(), String> {
    let request = Request::post(uri(host, "/grpc.health.v1.Health/Check")?)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, AGENT)
        .body(Full::new(Bytes::from(question(&check.service))))
        .map_err(|error| error.to_string())?;
    judge(exchange_http2(stream, request).await?).await
}

/// Looks at an answer: its message, and the status behind it.
async fn judge(answer: Response<Incoming>) -> Result<(), String> {
    if answer.status() != 200 {
        return Err(format!("HTTP status {}", answer.status().as_u16()));
    }
    let head = answer.headers().clone();
    let body = Limited::new(answer.into_body(), MESSAGE_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("the answer breaks off: {error}"))?;
    // An answer of trailers only has them in its head.
    let trailers = body.trailers().cloned().unwrap_or(head);
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    match text("grpc-status") {
        "0" => {}
        "" => return Err("an answer without grpc-status".to_owned()),
        status => return Err(format!("grpc-status {status} {}", text("grpc-message")).trim_end().to_owned()),
    }
    match serving_status(&body.to_bytes()) {
        Some(SERVING) => Ok(()),
        Some(0) => Err("it does not say whether it serves".to_owned()),
        Some(2) => Err("it says that it does not serve".to_owned()),
        Some(3) => Err("it does not know the service".to_owned()),
        other => Err(format!("an answer that means nothing: {other:?}")),
    }
}

/// `HealthCheckRequest { string service = 1; }`, in a frame of gRPC.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a); // field 1, bytes
        push_varint(service.len() as u64, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0]; // not compressed
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

/// The field of `HealthCheckResponse { ServingStatus status = 1; }`, out of a frame of gRPC. A field that is not there is 0, and others
/// are passed over.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (&[0, a, b, c, d], mut message) = frame.split_first_chunk()? else { return None };
    if message.len() != usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()? {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                status = if key >> 3 == 1 { value } else { status };
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

const SERVING: u64 = 1;
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_the_service() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = question(&"x".repeat(300));
        assert_eq!(long.get(4..9), Some(&[47, 0x0a, 0xac, 0x02, b'x'][..]));
    }

    #[test]
    fn the_answer_is_read_and_nothing_that_is_none() {
        let frame = |message: &[u8]| [&[0, 0, 0, 0, message.len() as u8], message].concat();
        for (message, status) in [
            (&[0x08, 0x01][..], Some(1)),
            (&[], Some(0)),
            (&[0x08, 0x02], Some(2)),
            (&[0x12, 0x01, b'x', 0x08, 0x01], Some(1)),
            (&[0x25, 1, 2, 3, 4, 0x08, 0x81, 0x01], Some(129)),
            (&[0x08], None),
            (&[0x12, 0x09, b'x'], None),
            (&[0x0b], None),
            (&[0xff; 12], None),
        ] {
            assert_eq!(serving_status(&frame(message)), status, "{message:?}");
        }
        assert_eq!(serving_status(&[1, 0, 0, 0, 0]), None);
        assert_eq!(serving_status(&[0, 0, 0, 0, 9, 8, 1]), None);
        assert_eq!(serving_status(b""), None);
    }
}
