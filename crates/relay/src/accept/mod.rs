//! A socket becomes a connection with a known peer.

use crate::client::Quiet;
use crate::decode;
use crate::net::{Listener, Stream, Want};
use crate::plan::Listen;
use crate::worker::{Seat, Worker};
use gate::Gate;
use portunus_message::{Crime, Peer};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

mod gate;
mod preface;
mod refuse;
mod tls;

/// How many connections are accepted in one go, before the worker turns to those it has.
const AT_ONCE: u32 = 64;
/// How long accepting rests when the process has no descriptor left (attack H7), or has just refused many.
const BREATH: Duration = Duration::from_millis(100);
/// How many connections are refused in one go. The others wait in the kernel's queue, which costs nobody anything: whoever comes while
/// there is no room must not use up the processor.
const REFUSALS_AT_ONCE: u32 = 32;

/// Accepts connections of one listener for as long as it is wanted.
pub async fn listen(listener: Rc<Listener>, listen: Rc<Listen>, ours: SocketAddr, worker: Rc<Worker>) {
    let (mut refused, mut accepted, mut at_once, mut gate) = (0, 0, AT_ONCE, Gate::default());
    loop {
        while accepted >= at_once {
            (accepted, at_once) = (0, gate.rest(&listener, &listen, &worker).await);
        }
        let mut came_at_once = true;
        let next = poll_fn(|cx| {
            let next = listener.poll_accept(cx);
            came_at_once &= next.is_ready();
            next
        });
        match next.await {
            Ok((stream, _)) if gate.passes_over(&stream, &worker) => gate::forget(stream, &worker),
            Ok((stream, client)) => {
                accepted += 1;
                if came_at_once {
                    gate.has_kept_waiting(&worker);
                }
                let peer = Peer::seen(client, reached(&stream, ours));
                if arrive(stream, peer, &listen, &worker) {
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
                worker.give_up_idle();
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
            Ok((stream, client)) => {
                let peer = Peer::seen(client, reached(&stream, ours));
                serve(stream, peer, Rc::clone(listen), worker);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

/// The address of ours that a client has reached: where we listen at any, its connection tells which.
fn reached(stream: &Stream, ours: SocketAddr) -> SocketAddr {
    let own = if ours.ip().is_unspecified() { stream.own_address() } else { None };
    own.map_or(ours, |own| SocketAddr::new(own.ip().to_canonical(), own.port()))
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
    let believed = worker.run().snapshot.prefaces.believes(&listen, peer.client.ip());
    if believed == Some(false) {
        preface::record(peer, Crime::UntrustedProxy, worker.clock.refresh(), worker);
        return true;
    }
    let seat = match believed {
        None => Seat::take(worker, &peer, &listen),
        Some(_) => Seat::for_nobody_yet(worker),
    };
    let seat = match seat {
        Ok(seat) => seat,
        Err(why) => {
            refuse::refuse(stream, &listen, why, worker);
            return false;
        }
    };
    worker.wake_sweeper();
    let worker = Rc::clone(worker);
    let opened = worker.clock.refresh();
    let deadline = worker.deadlines.add();
    let quiet = Quiet { stream, deadline, peer, listen, secured: None, opened, requests: 0, ahead: 0 };
    if believed.is_some() {
        tokio::task::spawn_local(preface::greet(quiet, worker, seat));
    } else {
        go_on(quiet, worker, seat);
    }
    true
}

/// Serves a connection whose ends are known: over TLS, or as it is.
fn go_on(quiet: Quiet, worker: Rc<Worker>, seat: Seat) {
    if worker.run().snapshot.fronts.speaks(&quiet.listen) {
        tokio::task::spawn_local(tls::greet(quiet, worker, seat));
    } else {
        tokio::task::spawn_local(decode::h1::connection(quiet, worker, seat));
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Want::of(error), Some(Want::Descriptors | Want::Memory))
}
