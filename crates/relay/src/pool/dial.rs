//! Dialling: a connection to a host, within the connect timeout.

use crate::clock::Clock;
use crate::deadlines::Deadline;
use crate::hosts::Host;
use crate::net::{self, Stream};
use crate::plan::Address;
use crate::pool::tls::{self, NoHandshake};
use portunus_message::{Crime, Error, Phase, Retry};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Connects to `host`; nothing has been sent when it fails. Where `deadline` stands, the whole request is over.
pub async fn dial(
    host: &Host,
    keep: bool,
    timeout: Duration,
    deadline: &Deadline,
    clock: &Clock,
) -> Result<Stream, Error> {
    let until = clock.now() + timeout;
    let before = deadline.at();
    deadline.set(until.min(before));
    let mut attempt = pin!(open(host, keep));
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
        Some(Ok(stream)) => Ok(stream),
        Some(Err(Failed::Handshake(why))) => Err(failed(match why {
            NoHandshake::Certificate(_) => Crime::UpstreamCertificate,
            NoHandshake::Other(_) => Crime::UpstreamHandshake,
        })),
        Some(Err(Failed::Connect(error))) if is_ours(&error) => {
            let ours = Error::proxy(Phase::Connect, Crime::ConnectFailed);
            Err(Error { retry: Retry::Untouched, ..ours })
        }
        Some(Err(_)) => Err(failed(Crime::ConnectFailed)),
        None if before <= until => Err(Error::upstream(Phase::Connect, Crime::Deadline, Retry::Never)),
        None => Err(failed(Crime::ConnectTimeout)),
    }
}

/// Whether it is for want of something here that there is no connection: ports, descriptors, memory, room in a queue. That says
/// nothing about the host.
fn is_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, OutOfMemory, WouldBlock};
    let kind = matches!(error.kind(), AddrInUse | AddrNotAvailable | OutOfMemory | WouldBlock);
    kind || matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS))
}

/// Why there is no connection.
enum Failed {
    Connect(io::Error),
    Handshake(NoHandshake),
}

async fn open(host: &Host, keep: bool) -> Result<Stream, Failed> {
    let stream = connect(host, keep).await.map_err(Failed::Connect)?;
    match &host.tls {
        None => Ok(stream),
        Some(behind) => Box::pin(tls::secure(stream, behind)).await.map_err(Failed::Handshake),
    }
}

async fn connect(host: &Host, keep: bool) -> io::Result<Stream> {
    match &host.address {
        Address::Socket(address) => net::connect_tcp(*address, keep).await,
        Address::Unix(path) => net::connect_unix(path).await,
        // No member of a pool: its addresses are.
        Address::Name { .. } | Address::Srv(_) => Err(io::ErrorKind::NotFound.into()),
    }
}

// `errno` values of Linux.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;
