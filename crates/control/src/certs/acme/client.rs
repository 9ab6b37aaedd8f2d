//! client: HTTP to a CA, and to whoever is asked about names: one connection for each request, bounded in time and size.

use crate::certs::schedule::{LOOK_PAUSE, TOLD_MAX};
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
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

/// How long a connection, and a whole request, may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How many addresses of a host are tried.
const ADDRESSES_MAX: usize = 8;
/// How long it is waited at most before an order is looked at again.
const POLL_PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long an answer may be.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Speaks HTTP/1.1 with one server.
#[derive(Clone)]
pub struct Web {
    tls: Option<TlsConnector>,
}

/// What was heard of late.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Why the latest request has had no answer, or none that such a server gives.
    pub outage: Option<String>,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    /// How it has answered.
    pub status: Option<StatusCode>,
}

tokio::task_local! {
    // Accounts are shared by all jobs, and each shall hear what was said to it, and nothing else.
    static HEARD: RefCell<Heard>;
}

/// Does something, which hears by [`heard`] what it has heard itself; and so does the caller in the end.
pub async fn hearing<T>(what: impl Future<Output = T>) -> (T, Heard) {
    let doing = async {
        let done = what.await;
        (done, heard())
    };
    HEARD.scope(RefCell::default(), doing).await
}

/// What the latest request has heard; nothing outside of [`hearing`].
pub fn heard() -> Heard {
    HEARD.try_with(|heard| heard.borrow().clone()).unwrap_or_default()
}

impl Web {
    /// One that believes `roots`; without them it speaks plain HTTP only.
    pub fn new(roots: Option<&Roots>) -> Result<Web, String> {
        let tls = roots.map(Roots::client).transpose()?.map(TlsConnector::from);
        Ok(Web { tls })
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
        let connect = tokio::time::timeout(CONNECT_TIME, connect(&bare, port)).await;
        let stream = connect.map_err(|_| "no connection in time".to_owned())??;
        if is_plain {
            return over(TokioIo::new(stream), request).await;
        }
        let tls = self.tls.as_ref().ok_or("nobody is believed over HTTPS")?;
        let name = ServerName::try_from(bare).map_err(|error| error.to_string())?;
        let stream = tls.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?;
        over(TokioIo::new(stream), request).await
    }
}

/// A connection to one of the addresses of a host. Each has its share of the time: a network that swallows everything behind one of them does not
/// keep the others from being tried.
async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> =
        found.map_err(|error| format!("no connection: {error}"))?.take(ADDRESSES_MAX).collect();
    let until = Instant::now() + CONNECT_TIME;
    let mut reason = "no connection: the name has no address".to_owned();
    for (at, address) in addresses.iter().enumerate() {
        let share = until.saturating_duration_since(Instant::now())
            / u32::try_from(addresses.len() - at).unwrap_or(1);
        reason = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("no connection: {error}"),
            Err(_) => "no connection in time".to_owned(),
        };
    }
    Err(reason)
}

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let own = self.clone();
        Box::pin(async move {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let mut answer = own.send(request).await.map_err(|reason| {
                note(Heard { outage: Some(reason.clone()), ..Heard::default() });
                Error::Other(reason.into())
            })?;
            let status = answer.status();
            bound_retry_after(&mut answer, if is_poll(&method, status) { POLL_PAUSE_MAX } else { TOLD_MAX });
            if method == Method::GET {
                say_when_again(&mut answer);
            }
            let asked_to_wait =
                status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE;
            let wait = asked_to_wait.then(|| retry_after(&answer)).flatten();
            let broken = (status.is_server_error() || (method == Method::GET && !status.is_success()))
                .then(|| format!("{uri} answers with {status}"))
                .or_else(|| is_bad_nonce(&answer).then(|| format!("{uri} does not take its own nonces")));
            note(Heard { outage: broken.clone(), retry_after: wait, status: Some(status) });
            match broken {
                Some(reason) if method == Method::GET => Err(Error::Other(reason.into())),
                _ => Ok(BytesResponse::from(answer.map(Full::new))),
            }
        })
    }
}

fn note(what: Heard) {
    // Whoever is not asked what was heard need not remember it.
    let _ = HEARD.try_with(|heard| heard.replace(what));
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

/// Whether a CA has said where it is with something. Some want to be asked for that again after a day only, and have it done in seconds.
fn is_poll(method: &Method, status: StatusCode) -> bool {
    method == Method::POST && status.is_success()
}

/// Nobody is left alone for longer than that. The library adds this to a time, and would be ended by the sum.
fn bound_retry_after<B>(answer: &mut Response<B>, most: Duration) {
    if retry_after(answer).is_some_and(|wait| wait > most) {
        answer.headers_mut().insert(RETRY_AFTER, most.as_secs().into());
    }
}

/// Whoever tells when to renew and not when to ask for that again is asked after six hours (RFC 9773 §4.3.2). The library would hear nothing
/// of an answer that does not say it.
fn say_when_again<B>(answer: &mut Response<B>) {
    if answer.status().is_success() && retry_after(answer).is_none() {
        answer.headers_mut().insert(RETRY_AFTER, LOOK_PAUSE.as_secs().into());
    }
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

    #[tokio::test]
    async fn each_hears_what_was_said_to_it() {
        let say = |text: &str| {
            let outage = Some(text.to_owned());
            async move {
                note(Heard { outage, ..Heard::default() });
                tokio::task::yield_now().await;
            }
        };
        let ((_, one), (_, other)) = tokio::join!(hearing(say("one")), hearing(say("other")));
        assert_eq!((one.outage.as_deref(), other.outage.as_deref()), (Some("one"), Some("other")));
        assert!(heard().outage.is_none());
    }

    #[tokio::test]
    async fn an_address_that_nobody_listens_at_is_not_the_last_one_that_is_tried() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // The first address of this name, where there are several, is the one of IPv6, where nobody listens.
        connect("localhost", listener.local_addr().unwrap().port()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(connect("127.0.0.1", port).await.unwrap_err().starts_with("no connection: "));
    }

    #[test]
    fn whoever_wants_to_be_left_alone_for_ever_is_not() {
        let left_alone = |header: &str| {
            let mut answer = Response::builder().header(RETRY_AFTER, header).body(()).unwrap();
            bound_retry_after(&mut answer, TOLD_MAX);
            retry_after(&answer)
        };
        assert_eq!(left_alone("18446744073709551615"), Some(TOLD_MAX));
        assert_eq!(left_alone("Fri, 31 Dec 9999 23:59:59 GMT"), Some(TOLD_MAX));
        assert_eq!(left_alone("60"), Some(Duration::from_secs(60)));
        assert_eq!(left_alone("soon"), None);
    }
}
