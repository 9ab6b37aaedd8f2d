//! A socket becomes a connection with a known peer.

use crate::client::Quiet;
use crate::decode;
use crate::net::{Listener, Stream};
use crate::plan::Listen;
use crate::reply::own;
use crate::worker::{Seat, Worker};
use portunus_message::Peer;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// How long accepting rests when the process has no descriptor left (attack H7).
const BREATH: Duration = Duration::from_millis(100);

/// Accepts connections of one listener for as long as it is wanted.
pub async fn listen(listener: Rc<Listener>, listen: Rc<Listen>, ours: SocketAddr, worker: Rc<Worker>) {
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, client)) => arrive(stream, Peer { client, ours }, &listen, &worker),
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
            Ok((stream, client)) => serve(stream, Peer { client, ours }, Rc::clone(listen), worker),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

/// A connection goes to the worker that has far fewer, or stays here.
fn arrive(stream: Stream, peer: Peer, listen: &Rc<Listen>, worker: &Rc<Worker>) {
    let stays = match worker.less_busy() {
        Some(other) => worker.hand_over(other, stream, peer, listen),
        None => Err(stream),
    };
    if let Err(stream) = stays {
        serve(stream, peer, Rc::clone(listen), worker);
    }
}

/// Serves a connection on this worker, if there is room for it.
pub fn serve(stream: Stream, peer: Peer, listen: Rc<Listen>, worker: &Rc<Worker>) {
    worker.cells.connections.add(1);
    let Some(seat) = Seat::take(worker) else {
        worker.cells.connections_refused.add(1);
        return refuse(stream);
    };
    worker.wake_sweeper();
    let worker = Rc::clone(worker);
    let opened = worker.clock.refresh();
    let quiet = Quiet { stream, deadline: worker.deadlines.add(), peer, listen, opened, requests: 0 };
    tokio::task::spawn_local(decode::h1::connection(quiet, worker, seat));
}

/// Says that there is no room, as far as that can be said without waiting.
fn refuse(mut stream: Stream) {
    let mut cx = Context::from_waker(Waker::noop());
    let _ = stream.poll_write(&mut cx, own::FULL);
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own; ENOBUFS and ENOMEM mean the same to us.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}
