//! client: HTTP to a CA, and to whoever is asked about names: one connection for each request, bounded in time and size.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, RETRY_AFTER};
use hyper::http::uri::{Scheme, Uri};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, CertificateIdentifier, Error, HttpClient};
use portunus_relay::tls::Roots;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

/// How long a connection, and a whole request, may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long an answer may be.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Speaks HTTP/1.1 with one server, and remembers how that went.
#[derive(Clone)]
pub struct Web {
    tls: Option<TlsConnector>,
    heard: Arc<Mutex<Heard>>,
}

/// What was heard of late.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Why the latest request has had no answer, or none that such a server gives.
    pub outage: Option<String>,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Web {
    /// One that believes `roots`; without them it speaks plain HTTP only.
    pub fn new(roots: Option<&Roots>) -> Result<Web, String> {
        let tls = roots.map(Roots::client).transpose()?.map(TlsConnector::from);
        Ok(Web { tls, heard: Arc::default() })
    }

    /// What was heard since the last time that this was asked.
    pub fn heard(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The status of the answer to a GET.
    pub async fn get(&self, uri: &str) -> Result<StatusCode, String> {
        let request = Request::get(uri).body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
        Ok(self.send(request).await?.status())
    }

    async fn send<B>(&self, request: Request<B>) -> Result<Response<Bytes>, String>
    where
        B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
    {
        let uri = request.uri().clone();
        let shown = uri.authority().map(ToString::to_string).unwrap_or_default();
        let answer = tokio::time::timeout(REQUEST_TIME, self.exchange(request, &uri)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", REQUEST_TIME.as_secs())));
        answer.map_err(|reason| format!("{shown}: {reason}"))
    }

    async fn exchange<B>(&self, mut request: Request<B>, uri: &Uri) -> Result<Response<Bytes>, String>
    where
        B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
    {
        let host = uri.host().ok_or("the URL has no host")?;
        let is_plain = uri.scheme() == Some(&Scheme::HTTP);
        let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        request.headers_mut().insert(HOST, authority.parse().map_err(|_| "the URL has no host")?);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| "the URL is broken")?;
        let bare = host.trim_matches(['[', ']']).to_owned();
        let connect = tokio::time::timeout(CONNECT_TIME, TcpStream::connect((bare.clone(), port))).await;
        let stream = connect.map_err(|_| "no connection in time".to_owned())?;
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
        if is_plain {
            return over(TokioIo::new(stream), request).await;
        }
        let tls = self.tls.as_ref().ok_or("nobody is believed over HTTPS")?;
        let name = ServerName::try_from(bare).map_err(|error| error.to_string())?;
        let stream = tls.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?;
        over(TokioIo::new(stream), request).await
    }

    fn note(&self, outage: Option<String>, retry_after: Option<Duration>) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Heard { outage, retry_after };
    }
}

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let own = self.clone();
        Box::pin(async move {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let answer = own.send(request).await.map_err(|reason| {
                own.note(Some(reason.clone()), None);
                Error::Other(reason.into())
            })?;
            let status = answer.status();
            let asked_to_wait =
                status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE;
            let wait = asked_to_wait.then(|| retry_after(&answer)).flatten();
            let broken = (status.is_server_error() || (method == Method::GET && !status.is_success()))
                .then(|| format!("{uri} answers with {status}"))
                .or_else(|| is_bad_nonce(&answer).then(|| format!("{uri} does not take its own nonces")));
            own.note(broken.clone(), wait);
            match broken {
                Some(reason) if method == Method::GET => Err(Error::Other(reason.into())),
                _ => Ok(BytesResponse::from(answer.map(Full::new))),
            }
        })
    }
}

/// How a CA is asked about a certificate, given as DER (RFC 9773 §4.1).
pub fn identifier(leaf: &[u8]) -> Option<CertificateIdentifier<'static>> {
    CertificateIdentifier::try_from(&CertificateDer::from(leaf)).ok().map(CertificateIdentifier::into_owned)
}

/// Whether the server has not even looked at what it was asked, because it has forgotten the nonce (RFC 8555 §6.5). It has been asked again by then,
/// with newer ones.
fn is_bad_nonce(answer: &Response<Bytes>) -> bool {
    let problem = || serde_json::from_slice::<instant_acme::Problem>(answer.body());
    answer.status() == StatusCode::BAD_REQUEST
        && problem().is_ok_and(|problem| super::is_of(&problem, "badNonce"))
}

async fn over<S, B>(stream: S, request: Request<B>) -> Result<Response<Bytes>, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| format!("the answer is broken: {error}");
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broken);
    let whole = match answer {
        Ok(answer) => whole(answer).await,
        Err(error) => Err(error),
    };
    driver.abort();
    whole
}

async fn whole(answer: Response<Incoming>) -> Result<Response<Bytes>, String> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("the answer is broken: {error}"))?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// How long the server wants to be left alone: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(std::time::SystemTime::now()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_nonce_is_no_refusal() {
        let answer = |status, kind: &str| {
            let body = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"no"}}"#);
            Response::builder().status(status).body(Bytes::from(body)).unwrap()
        };
        assert!(is_bad_nonce(&answer(400, "badNonce")));
        assert!(!is_bad_nonce(&answer(400, "rejectedIdentifier")));
        assert!(!is_bad_nonce(&answer(200, "badNonce")));
        assert!(!is_bad_nonce(&Response::builder().status(400).body(Bytes::from_static(b"<html>")).unwrap()));
    }
}
