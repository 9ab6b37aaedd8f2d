//! Dialling: a connection to one of a host's addresses, within the connect timeout.

use crate::clock::Clock;
use crate::deadlines::Deadline;
use crate::hosts::Host;
use crate::net::{self, Stream};
use crate::plan::Address;
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
    let mut attempt = pin!(dial_any(host, keep));
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
        Some(Err(_)) => Err(failed(Crime::ConnectFailed)),
        None if before <= until => Err(Error::upstream(Phase::Connect, Crime::Deadline, Retry::Never)),
        None => Err(failed(Crime::ConnectTimeout)),
    }
}

/// Tries the addresses of `host` in order until one answers.
async fn dial_any(host: &Host, keep: bool) -> io::Result<Stream> {
    if let Address::Unix(path) = &host.address {
        return net::connect_unix(path).await;
    }
    let addresses = host.live.addresses.load_full();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for &address in addresses.iter() {
        match net::connect_tcp(address, keep).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
