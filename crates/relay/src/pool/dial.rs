//! Dialling: a connection to a host, within the connect timeout.

use crate::clock::Clock;
use crate::deadlines::Deadline;
use crate::hosts::Host;
use crate::net::{self, Stream, Want};
use crate::plan::{Address, PrefaceVersion, Protocol};
use crate::pool::tls::{self, NoHandshake};
use portunus_message::{Crime, Error, Exchange, Phase, Retry};
use portunus_wire::preface::{self, Preface};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

/// Connects to `host` and says whether HTTP/2 is spoken over that; nothing has been sent when it fails. `http1`: only HTTP/1.1
/// will do. Where `deadline` stands, the whole request is over.
pub async fn dial(
    host: &Host,
    keep: bool,
    from: Preface,
    http1: bool,
    timeout: Duration,
    deadline: &Deadline,
    clock: &Clock,
) -> Result<(Stream, bool), Error> {
    let until = clock.now() + timeout;
    let before = deadline.at();
    deadline.set(until.min(before));
    let mut attempt = pin!(open(host, keep, from, http1));
    let done = poll_fn(|cx| match attempt.as_mut().poll(cx) {
        Poll::Ready(done) => {
            clock.refresh();
            Poll::Ready(Some(done))
        }
        Poll::Pending if clock.refresh() >= until.min(before) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    deadline.set(before);
    let failed = |crime| Error::upstream(Phase::Connect, crime, Retry::Untouched);
    match done {
        Some(Ok(opened)) => {
            host.live.trouble.over();
            Ok(opened)
        }
        Some(Err(Failed::Handshake(why))) => {
            host.live.trouble.note(&why.to_string());
            Err(failed(match why {
                NoHandshake::Certificate(_) => Crime::UpstreamCertificate,
                NoHandshake::Other(_) => Crime::UpstreamHandshake,
            }))
        }
        Some(Err(Failed::Connect(error))) => {
            let ours = |crime| Error { retry: Retry::Untouched, ..Error::proxy(Phase::Connect, crime) };
            Err(match Want::of(&error) {
                Some(Want::Descriptors) => ours(Crime::NoDescriptor),
                Some(Want::Ports) => ours(Crime::NoPort),
                Some(Want::Memory) => ours(Crime::LowMemory),
                None => {
                    host.live.trouble.note(&words(&error));
                    failed(Crime::ConnectFailed)
                }
            })
        }
        None if before <= until => Err(Error::upstream(Phase::Connect, Crime::Deadline, Retry::Never)),
        None => {
            host.live.trouble.note("nothing came of it within the time for a connect");
            Err(failed(Crime::ConnectTimeout))
        }
    }
}

/// What the system says, without its number.
fn words(error: &io::Error) -> String {
    let mut words = error.to_string();
    if let Some(at) = words.find(" (os error") {
        words.truncate(at);
    }
    words
}

/// Why there is no connection.
enum Failed {
    Connect(io::Error),
    Handshake(NoHandshake),
}

async fn open(host: &Host, keep: bool, from: Preface, http1: bool) -> Result<(Stream, bool), Failed> {
    let mut stream = connect(host, keep).await.map_err(Failed::Connect)?;
    if let Some(version) = host.preface {
        Box::pin(introduce(&mut stream, version, from)).await.map_err(Failed::Connect)?;
    }
    let wants_http2 = host.protocol == Protocol::Http2 && !http1;
    let Some(behind) = &host.tls else { return Ok((stream, wants_http2)) };
    let secured = Box::pin(tls::secure(stream, behind, http1)).await.map_err(Failed::Handshake)?;
    match secured {
        (_, false) if wants_http2 => {
            Err(Failed::Handshake(NoHandshake::Other("it does not speak HTTP/2".into())))
        }
        secured => Ok(secured),
    }
}

/// Whom the request of `x` is from, for hosts that want to be told.
pub fn preface_of(x: &Exchange) -> Preface {
    let (client, ip) = (x.peer.client, x.client_ip());
    if ip.to_canonical() != client.ip().to_canonical() {
        // Another proxy has told so by a header field, which names no port.
        return Preface::Of { client: SocketAddr::new(ip, 0), ours: x.peer.ours };
    }
    if x.peer.is_unknown() { Preface::Unknown } else { Preface::Of { client, ours: x.peer.ours } }
}

/// Says that a connection is our own, to hosts that want to be told.
pub async fn introduce_us(stream: &mut Stream, host: &Host) -> io::Result<()> {
    match host.preface {
        Some(version) => introduce(stream, version, Preface::Local).await,
        None => Ok(()),
    }
}

/// Says whom a connection is from, before anything else is said on it.
async fn introduce(stream: &mut Stream, version: PrefaceVersion, from: Preface) -> io::Result<()> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    match version {
        PrefaceVersion::V1 => preface::write_v1(&from, &mut header),
        PrefaceVersion::V2 => preface::write_v2(&from, &mut header),
    }
    let mut sent = 0;
    poll_fn(|cx| {
        while let Some(left) = header.get(sent..).filter(|left| !left.is_empty()) {
            match ready!(stream.poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => sent += count,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// The longest header that is sent.
const HEADER_BYTES: usize = 107;

async fn connect(host: &Host, keep: bool) -> io::Result<Stream> {
    match &host.address {
        Address::Socket(address) => net::connect_tcp(*address, keep).await,
        Address::Unix(path) => net::connect_unix(path).await,
        // No member of a pool: its addresses are.
        Address::Name { .. } | Address::Srv(_) => Err(io::ErrorKind::NotFound.into()),
    }
}
