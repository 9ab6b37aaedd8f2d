//! A socket becomes a connection with a known peer.

mod tls;

use crate::client::Quiet;
use crate::decode;
use crate::net::{Listener, Stream};
use crate::plan::Listen;
use crate::reply::own;
use crate::seats::NoSeat;
use crate::worker::{Seat, Worker};
use portunus_message::Peer;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long accepting rests when the process has no descriptor left (attack H7), or has just refused many.
const BREATH: Duration = Duration::from_millis(100);
/// How many connections are refused in one go. The others wait in the kernel's queue, which costs nobody anything: whoever comes while
/// there is no room must not use up the processor.
const REFUSALS_AT_ONCE: u32 = 32;
/// How many refused connections of a worker are read for a while, so that they get their answer.
const LINGERING_MAX: usize = 16;
/// How long.
const LINGER: Duration = Duration::from_millis(500);

/// Accepts connections of one listener for as long as it is wanted.
pub async fn listen(listener: Rc<Listener>, listen: Rc<Listen>, ours: SocketAddr, worker: Rc<Worker>) {
    let mut refused = 0;
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, client)) => {
                if arrive(stream, Peer { client, ours }, &listen, &worker) {
                    refused = 0;
                } else {
                    refused += 1;
                }
                if refused >= REFUSALS_AT_ONCE {
                    refused = 0;
                    tokio::time::sleep(BREATH).await;
                }
            }
            Err(error) if is_out_of_descriptors(&error) => {
                worker.cells.accept_failures.add(1);
                tokio::time::sleep(BREATH).await;
            }
            Err(_) => {} // the client has gone before it was accepted
        }
    }
}

/// Takes what is still in the queue of a listener that is about to be closed.
pub fn empty(listener: &Listener, listen: &Rc<Listen>, ours: SocketAddr, worker: &Rc<Worker>) {
    loop {
        match listener.accept_now() {
            Ok((stream, client)) => drop(serve(stream, Peer { client, ours }, Rc::clone(listen), worker)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

/// A connection goes to the worker that has far fewer, or stays here. Says whether it is let in.
fn arrive(stream: Stream, peer: Peer, listen: &Rc<Listen>, worker: &Rc<Worker>) -> bool {
    let stays = match worker.less_busy() {
        Some(other) => worker.hand_over(other, stream, peer, listen),
        None => Err(stream),
    };
    match stays {
        Ok(()) => true,
        Err(stream) => serve(stream, peer, Rc::clone(listen), worker),
    }
}

/// Serves a connection on this worker, if there is room for it; says whether there is.
pub fn serve(stream: Stream, peer: Peer, listen: Rc<Listen>, worker: &Rc<Worker>) -> bool {
    worker.cells.connections.add(1);
    let seat = match Seat::take(worker, &peer, &listen) {
        Ok(seat) => seat,
        Err(why) => {
            let [full, unfair, memory] = &worker.cells.connections_refused;
            match why {
                NoSeat::Full => full.add(1),
                NoSeat::UnfairShare => unfair.add(1),
                NoSeat::LowMemory => memory.add(1),
            }
            refuse(stream, &listen, worker);
            return false;
        }
    };
    worker.wake_sweeper();
    let worker = Rc::clone(worker);
    let opened = worker.clock.refresh();
    let deadline = worker.deadlines.add();
    let secures = worker.run().snapshot.fronts.speaks(&listen);
    let quiet = Quiet { stream, deadline, peer, listen, secured: None, opened, requests: 0 };
    if secures {
        tokio::task::spawn_local(tls::greet(quiet, worker, seat));
    } else {
        tokio::task::spawn_local(decode::h1::connection(quiet, worker, seat));
    }
    true
}

/// Says that there is no room, as far as that can be said without waiting. What the client sends meanwhile is read for a moment, because
/// its answer would be lost to a reset otherwise (RFC 9112 §9.6); but not for many at a time: they have no seats.
fn refuse(mut stream: Stream, listen: &Listen, worker: &Rc<Worker>) {
    let mut cx = Context::from_waker(Waker::noop());
    let secures = worker.run().snapshot.fronts.speaks(listen);
    let _ = stream.poll_write(&mut cx, if secures { tls::FULL } else { own::FULL });
    let _ = stream.poll_end(&mut cx);
    if worker.refused_lingering.get() >= LINGERING_MAX {
        return;
    }
    worker.refused_lingering.set(worker.refused_lingering.get() + 1);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let mut dropped = [0; 1024];
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

fn is_out_of_descriptors(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own; ENOBUFS and ENOMEM mean the same to us.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}
