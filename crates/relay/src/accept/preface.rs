//! preface: a proxy in front tells whom a connection is from, by a PROXY header; only who is listed is believed (attack A47).

use super::{go_on, refuse};
use crate::client::Quiet;
use crate::net::Stream;
use crate::tally;
use crate::worker::{Seat, Worker};
use portunus_message::{Crime, Error, Exchange, Peer, Phase, RequestId, Tick};
use portunus_wire::preface::{self, Preface};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How often it is looked whether the program is about to end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reads the header, and serves the connection as one from whom the header names.
pub async fn greet(mut quiet: Quiet, worker: Rc<Worker>, mut seat: Seat) {
    match read(&mut quiet, &worker).await {
        Ok(Preface::Of { client, ours }) => {
            quiet.peer = quiet.peer.told(client, ours);
            match seat.learn(client.ip()) {
                Ok(()) => go_on(quiet, worker, seat),
                Err(why) => refuse::refuse(quiet.stream, &quiet.listen, why, &worker),
            }
        }
        Ok(Preface::Local | Preface::Unknown) => go_on(quiet, worker, seat),
        Err(Some(crime)) => record(quiet.peer, crime, quiet.opened, &worker),
        Err(None) => {}
    }
}

/// Counts and records a connection that is closed before it could say anything.
pub fn record(peer: Peer, crime: Crime, opened: Tick, worker: &Worker) {
    let mut x = Exchange { peer, ..Exchange::default() };
    x.id = RequestId(u128::from(worker.random()) << 64 | u128::from(worker.random()));
    x.times.began = opened;
    x.error = Some(Error::client(Phase::Accept, crime));
    worker.cells.active.add(1);
    tally::close(&mut x, &worker.run(), worker);
    worker.wake_sweeper(); // so that the record leaves
}

/// Reads the header and nothing behind it; otherwise why there is none, if that is to be told.
async fn read(quiet: &mut Quiet, worker: &Worker) -> Result<Preface, Option<Crime>> {
    let limits = worker.limits();
    let until = quiet.opened + limits.proxy_header_time;
    let mut header = Vec::new();
    poll_fn(|cx| {
        quiet.deadline.wakes(cx);
        let found = poll_header(cx, &mut quiet.stream, &mut header, limits.proxy_header_bytes, worker);
        if found.is_ready() {
            return found;
        }
        let now = worker.clock.refresh();
        if now >= until {
            return Poll::Ready(Err(Some(Crime::ProxyHeaderTimeout)));
        }
        if now >= worker.sends_away_at(0, quiet.opened) {
            return Poll::Ready(Err(None));
        }
        quiet.deadline.set(until.min(now + LOOK_EVERY));
        Poll::Pending
    })
    .await
}

/// Looks at what has come, and takes away what belongs to the header: what stands behind it belongs to whoever is next. No buffer
/// is held while it waits.
fn poll_header(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    header: &mut Vec<u8>,
    bytes_max: usize,
    worker: &Worker,
) -> Poll<Result<Preface, Option<Crime>>> {
    loop {
        if ready!(stream.poll_readable(cx)).is_err() {
            return Poll::Ready(Err(None));
        }
        let mut buffer = worker.buffers.small();
        let before = header.len();
        let seen = stream.try_peek(&mut buffer);
        if let Ok(count) = seen {
            header.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
        }
        worker.buffers.give(buffer);
        match seen {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(_) | Err(_) => return Poll::Ready(Err(None)), // it has gone
        }
        let (found, end) = match preface::read(header, bytes_max) {
            Ok(Some((preface, end))) => (Some(preface), end),
            Ok(None) => (None, header.len()),
            Err(_) => return Poll::Ready(Err(Some(Crime::BadProxyHeader))),
        };
        // What has been read once is the same when it is read away.
        let own = header.get_mut(before..end).unwrap_or(&mut []);
        let wanted = own.len();
        if stream.try_read(own).ok() != Some(wanted) {
            return Poll::Ready(Err(None));
        }
        if let Some(preface) = found {
            return Poll::Ready(Ok(preface));
        }
    }
}
