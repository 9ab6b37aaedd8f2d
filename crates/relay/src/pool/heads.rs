//! heads: a request's head goes to a host, and the head of its answer comes back, in the version that the connection speaks.

use crate::link::Link;
use portunus_message::{
    Crime, Error, FieldValue, Known, Limits, Method, Phase, Request, Response, Retry, Status,
};
use portunus_wire::convert;
use portunus_wire::h1::parse::{self, ResponseHead};
use portunus_wire::h1::{Framing, HeadBounds, Version, emit};
use portunus_wire::websocket;
use std::task::{Context, Poll, ready};

/// What has to be known of a request to read its answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: Method,
    /// Whether it asks for a tunnel.
    pub websocket: bool,
    /// The key that the answer to that has to fit.
    pub key: Option<&'a [u8]>,
}

impl Asked<'_> {
    /// Of this request.
    pub fn of(request: &Request) -> Asked<'_> {
        let key = if request.websocket { request.fields.get(Known::SEC_WEBSOCKET_KEY) } else { None };
        Asked { method: request.method, websocket: request.websocket, key }
    }

    /// Of one that asks for no tunnel.
    pub fn plain(method: Method) -> Asked<'static> {
        Asked { method, websocket: false, key: None }
    }
}

/// Puts the head of `request` into `link`, and says what will follow. `close`: the connection is for this one only.
pub fn send(link: &mut Link, request: &Request, framing: Framing, close: bool) -> Result<(), Error> {
    match link {
        Link::H1(h1) => {
            emit::request_head(request, framing, close, h1.begin_output());
            h1.promise_body(framing);
        }
        Link::H2(h2) => {
            // A host that HTTP/1 knows may be none to HTTP/2.
            let head = head_of(request, framing).ok_or(Error::client(Phase::Head, Crime::BadHost))?;
            h2.ask(head, framing, request.websocket);
        }
        Link::Front(_) => return Err(Error::proxy(Phase::Send, Crime::Internal)),
    }
    Ok(())
}

/// The head of a request that is sent by somebody who has not got the request any more, by whatever connection.
#[derive(Clone, Debug)]
pub struct Prepared {
    http1: Vec<u8>,
    /// There only for hosts that may be spoken with so.
    http2: Option<convert::Asked<()>>,
    framing: Framing,
}

impl Prepared {
    /// Of `request`, which asks for no tunnel.
    pub fn new(request: &Request, framing: Framing, close: bool, may_be_http2: bool) -> Prepared {
        let mut http1 = Vec::with_capacity(1024);
        emit::request_head(request, framing, close, &mut http1);
        let http2 = if may_be_http2 { head_of(request, framing) } else { None };
        Prepared { http1, http2, framing }
    }

    /// Puts it into `link`, and says what will follow.
    pub fn send(&self, link: &mut Link) -> Result<(), Error> {
        match link {
            Link::H1(h1) => {
                h1.begin_output().extend_from_slice(&self.http1);
                h1.promise_body(self.framing);
            }
            Link::H2(h2) => {
                let head = self.http2.clone().ok_or(Error::proxy(Phase::Send, Crime::Internal))?;
                h2.ask(head, self.framing, false);
            }
            Link::Front(_) => return Err(Error::proxy(Phase::Send, Crime::Internal)),
        }
        Ok(())
    }
}

fn head_of(request: &Request, framing: Framing) -> Option<convert::Asked<()>> {
    let length = if let Framing::Length(length) = framing { Some(length) } else { None };
    convert::request_to(request, length)
}

/// Reads a head of the answer into `response`, and says what it means for the connection; none: the host has ended it. Behind a final one
/// the body can be read.
pub fn poll_answer(
    link: &mut Link,
    cx: &mut Context<'_>,
    asked: Asked<'_>,
    response: &mut Response,
    bounds: &HeadBounds,
    limits: &Limits,
) -> Poll<Result<Option<ResponseHead>, Error>> {
    match link {
        Link::H1(h1) => {
            let head = ready!(h1.poll_head(cx, bounds, |bytes| {
                response.clear();
                match parse::response(bytes, response, asked.method, asked.websocket, limits) {
                    Ok(head) => Ok((head, head.length)),
                    Err(crime) => Err(Error::upstream(Phase::Wait, crime, Retry::IfIdempotent)),
                }
            }))?;
            if let Some(head) = head.filter(|head| head.upgraded || !response.status.is_informational()) {
                h1.expect_body(head.framing, &response.fields, limits);
            }
            Poll::Ready(Ok(head))
        }
        Link::H2(h2) => {
            response.clear();
            ready!(h2.poll_answer(cx, asked.method, response, limits))?;
            let upgraded = asked.websocket && (200..300).contains(&response.status.code());
            if upgraded {
                switch(response, asked.key);
            }
            Poll::Ready(Ok(Some(ResponseHead {
                framing: Framing::None, // each frame tells of its end
                keep_alive: true,
                upgraded,
                idle: None,
                version: Version::Http11,
                length: 0,
            })))
        }
        Link::Front(_) => Poll::Ready(Err(Error::proxy(Phase::Wait, Crime::Internal))),
    }
}

/// The host has ended the connection instead of answering a request, of whose body `moved` bytes have been written. When so much has not arrived that its head cannot
/// have been read, nothing of it was processed: the host had ended the connection before the request came.
pub fn ended(link: &mut Link, framing: Framing, moved: u64) -> Error {
    let least = moved.saturating_add(HEAD_BYTES_MIN);
    let never_came = link.h1().is_some_and(|h1| {
        // What frames and TLS add to a body is counted as well.
        let is_exact = moved == 0 || (matches!(framing, Framing::Length(_)) && !h1.stream.is_tls());
        is_exact && h1.stream.unconfirmed() as u64 >= least
    });
    let retry = if never_came { Retry::Untouched } else { Retry::IfIdempotent };
    Error::upstream(Phase::Wait, Crime::UpstreamClosed, retry)
}

/// No head is shorter: `GET / HTTP/1.1` and its end.
const HEAD_BYTES_MIN: u64 = 16;

/// A tunnel over HTTP/2 begins with a mere 2xx, where inside it is the switch of HTTP/1.1 (RFC 8441 §5).
fn switch(response: &mut Response, key: Option<&[u8]>) {
    response.status = Status::SWITCHING_PROTOCOLS;
    response.body.clear();
    if let Some(key) = key
        && let Some(accept) = FieldValue::new(&websocket::accept(key))
    {
        response.fields.set(Known::SEC_WEBSOCKET_ACCEPT, accept);
    }
}
