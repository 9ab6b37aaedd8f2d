//! http: whether a host gives the answer that it should.

use super::tcp::{self, Miss, Stream};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portunus_relay::hosts::Host;
use portunus_relay::plan::HttpCheck;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Asks over a new connection, which speaks HTTP/2 or does not, and compares the answer. The connection is not used again: a check
/// shall also find out whether a new one can be made.
pub async fn ask(stream: (Box<dyn Stream>, bool), host: &str, check: &HttpCheck) -> Result<(), String> {
    let mut request = request(Method::GET, &check.path, host)?;
    for (name, value) in &check.send {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(value.value.as_bytes()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(name, value);
    }
    let answer = match stream {
        (stream, false) => exchange(stream, request).await?,
        (stream, true) => {
            let host = request.headers_mut().remove(HOST);
            let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            *request.uri_mut() = uri(host, &check.path)?;
            exchange_http2(stream, request).await?
        }
    };
    let code = answer.status().as_u16();
    if !check.status.iter().any(|(first, last)| (*first..=*last).contains(&code)) {
        return Err(format!("status {code}"));
    }
    for (name, wanted) in &check.headers {
        let mut values = answer.headers().get_all(name).iter();
        let fits = |value: &HeaderValue| wanted.as_ref().is_none_or(|wanted| value == wanted.as_str());
        if !values.any(fits) {
            return Err(format!("header {name} is missing, or has another value"));
        }
    }
    match &check.body {
        None => Ok(()),
        Some(wanted) => body(answer.into_body(), wanted.as_bytes()).await,
    }
}

/// Whether anybody is there: whoever answers, or hangs up on us, is awake; whoever is frozen does neither. `OPTIONS *` asks for
/// nothing of the host's own (RFC 9110 §9.3.7), but not everybody has heard of it.
pub async fn is_anybody_there(host: &Host) -> Result<(), Miss> {
    let (stream, _) = tcp::connect(host).await?;
    says_anything(stream, &host.name).await
}

async fn says_anything(mut stream: Box<dyn Stream>, host: &str) -> Result<(), Miss> {
    let host = if host.starts_with("unix:") { "localhost" } else { host };
    let request =
        format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream.read(&mut [0; 64]).await.map(drop)?)
}

fn request(method: Method, target: &str, host: &str) -> Result<Request<Empty<Bytes>>, String> {
    let host = if host.starts_with("unix:") { "localhost" } else { host };
    let request = Request::builder().method(method).uri(target).header(HOST, host);
    let request = request.header(USER_AGENT, AGENT);
    request.body(Empty::new()).map_err(|error| error.to_string())
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let said = |error: hyper::Error| format!("no answer: {error}");
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    // It ends when the sender and the answer are dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(said)
}

/// Where `path` of `host` is, as HTTP/2 wants it.
pub fn uri(host: &str, path: &str) -> Result<Uri, String> {
    let host = if host.starts_with("unix:") { "localhost" } else { host };
    let uri = Uri::builder().scheme("http").authority(host).path_and_query(path);
    uri.build().map_err(|error| error.to_string())
}

/// Asks over HTTP/2.
pub async fn exchange_http2<B>(
    stream: Box<dyn Stream>,
    request: Request<B>,
) -> Result<Response<Incoming>, String>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let said = |error: hyper::Error| format!("no answer: {error}");
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    // It ends when the sender and the answer are dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(said)
}

/// Whether `wanted` stands in the first 64 KiB.
async fn body(mut body: Incoming, wanted: &[u8]) -> Result<(), String> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the body breaks off: {error}"))?;
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        text.truncate(BODY_BYTES_MAX);
        if text.windows(wanted.len().max(1)).any(|part| part == wanted) {
            return Ok(());
        }
        if text.len() == BODY_BYTES_MAX {
            break;
        }
    }
    Err("the body has another text".into())
}

/// Who asks.
pub const AGENT: &str = "portunus-health";
const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_relay::plan::Text;
    use std::collections::BTreeMap;

    /// What a check finds when the host answers so, and what it was asked.
    async fn found(check: &HttpCheck, answer: &'static str) -> (Result<(), String>, String) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let host = tokio::spawn(async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") && theirs.read_buf(&mut asked).await.unwrap() > 0 {}
            theirs.write_all(answer.as_bytes()).await.unwrap();
            drop(theirs);
            String::from_utf8(asked).unwrap()
        });
        (ask((Box::new(ours), false), "10.0.0.1:80", check).await, host.await.unwrap())
    }

    fn check() -> HttpCheck {
        let (send, headers) = (BTreeMap::new(), BTreeMap::new());
        HttpCheck { path: "/healthz?a".into(), send, status: vec![(200, 299)], body: None, headers }
    }

    #[tokio::test]
    async fn a_good_answer_passes_and_others_say_why_not() {
        let (result, asked) = found(&check(), "HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        assert!(asked.starts_with("GET /healthz?a HTTP/1.1\r\n") && asked.contains("host: 10.0.0.1:80\r\n"));
        let (result, _) = found(&check(), "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(result, Err("status 500".into()));
        for bad in ["", "SSH-2.0-x\r\n", "HTTP/1.1 20"] {
            assert!(found(&check(), bad).await.0.unwrap_err().starts_with("no answer"), "{bad}");
        }
    }

    #[tokio::test]
    async fn fields_are_sent_and_expected() {
        let mut check = check();
        check.send.insert("Host".into(), Text::plain("app.internal"));
        check.send.insert("X-Key".into(), Text::plain("k3y"));
        check.headers.insert("X-State".into(), Some("good".into()));
        check.headers.insert("ETag".into(), None);
        let good = "HTTP/1.1 200 OK\r\nX-State: good\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n";
        let (result, asked) = found(&check, good).await;
        assert_eq!(result, Ok(()));
        assert!(asked.contains("host: app.internal\r\n") && asked.contains("x-key: k3y\r\n"), "{asked}");
        let bad = "HTTP/1.1 200 OK\r\nX-State: bad\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n";
        assert!(found(&check, bad).await.0.unwrap_err().contains("X-State"));
    }

    #[tokio::test]
    async fn whoever_answers_or_hangs_up_is_there() {
        for answer in ["HTTP/1.1 501 Not Implemented\r\n\r\n", "SSH-2.0-x\r\n", ""] {
            let (ours, mut theirs) = tokio::io::duplex(1 << 10);
            let host = tokio::spawn(async move {
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") && theirs.read_buf(&mut asked).await.unwrap() > 0 {}
                theirs.write_all(answer.as_bytes()).await.unwrap();
                asked
            });
            assert_eq!(says_anything(Box::new(ours), "10.0.0.1:80").await, Ok(()), "{answer:?}");
            assert!(host.await.unwrap().starts_with(b"OPTIONS * HTTP/1.1\r\nHost: 10.0.0.1:80\r\n"));
        }
        let (ours, _silent) = tokio::io::duplex(1 << 10);
        let asking = says_anything(Box::new(ours), "10.0.0.1:80");
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), asking).await.is_err());
    }

    #[tokio::test]
    async fn a_text_is_looked_for_in_the_body() {
        let check = HttpCheck { body: Some("well".into()), ..check() };
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nI am w\r\n3\r\nell\r\n0\r\n\r\n";
        assert_eq!(found(&check, chunked).await.0, Ok(()));
        let ill = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nill";
        assert!(found(&check, ill).await.0.unwrap_err().contains("another text"));
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nill";
        assert!(found(&check, cut).await.0.unwrap_err().contains("breaks off"));
    }
}
