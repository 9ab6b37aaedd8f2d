//! refuse: tells a client that there is no room for its connection, without waiting for anything it does.

use super::tls;
use crate::net::Stream;
use crate::plan::Listen;
use crate::reply::own;
use crate::seats::NoSeat;
use crate::worker::Worker;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How many refused connections of a worker are read for a while, so that they get their answer.
const LINGERING_MAX: usize = 16;
/// How long.
const LINGER: Duration = Duration::from_millis(500);

/// Says that there is no room, as far as that can be said without waiting. What the client has sent is read, and for a moment what it
/// sends yet, because its answer would be lost to a reset otherwise (RFC 9112 §9.6); but not of many at a time: they have no
/// seats.
pub fn refuse(mut stream: Stream, listen: &Listen, why: NoSeat, worker: &Rc<Worker>) {
    count(why, worker);
    let mut cx = Context::from_waker(Waker::noop());
    let mut dropped = [0; 1024];
    let is_all =
        matches!(stream.poll_read(&mut cx, &mut dropped), Poll::Ready(Ok(count)) if count < dropped.len());
    let secures = worker.run().snapshot.fronts.speaks(listen);
    let _ = stream.poll_write(&mut cx, if secures { tls::FULL } else { own::FULL });
    let _ = stream.poll_end(&mut cx);
    if is_all || worker.refused_lingering.get() >= LINGERING_MAX {
        return;
    }
    worker.refused_lingering.set(worker.refused_lingering.get() + 1);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let read = poll_fn(|cx| {
            loop {
                match stream.poll_read(cx, &mut dropped) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let _ = tokio::time::timeout(LINGER, read).await;
        worker.refused_lingering.set(worker.refused_lingering.get().saturating_sub(1));
    });
}

/// Counts a connection that finds no room.
pub fn count(why: NoSeat, worker: &Worker) {
    let [full, unfair, memory, overloaded] = &worker.cells.connections_refused;
    match why {
        NoSeat::Full => full.add(1),
        NoSeat::UnfairShare => unfair.add(1),
        NoSeat::LowMemory => memory.add(1),
        NoSeat::Overloaded => overloaded.add(1),
    }
}
