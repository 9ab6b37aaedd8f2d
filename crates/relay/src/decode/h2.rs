//! HTTP/2: one task drives a connection, another serves each of its requests; what runs is counted here, for a stream that is gone may still cost work.

mod drive;
mod runners;

use super::guard::{End, Guarded};
use crate::call::Call;
use crate::client::{Active, Client, Quiet};
use crate::deadlines::Deadline;
use crate::link::{Front, Link};
use crate::net::Stream;
use crate::plan::Listen;
use crate::pressure::Level;
use crate::run::Run;
use crate::serve;
use crate::streams::{self, Head, Streams, Verdict};
use crate::tally;
use crate::tls::Secured;
use crate::worker::{Seat, Worker};
use drive::Drive;
use portunus_message::{Crime, Error, Exchange, Limits, Peer, Phase, Protocol, RequestId, Tick};
use portunus_wire::h2::frame::Code;
use portunus_wire::h2::take::{self, RequestHead};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What a client says first.
pub use portunus_wire::h2::frame::PREFACE;

/// What a connection and its requests have in common.
struct Shared {
    worker: Rc<Worker>,
    limits: Rc<Limits>,
    peer: Peer,
    listen: Rc<Listen>,
    secured: Option<Rc<Secured>>,
    opened: Tick,
    streams: Rc<Streams>,
    /// Requests that are being served. One that the client has reset counts until its work has stopped (attack B7).
    running: Cell<usize>,
    /// Requests that wait for one of them to end, while the worker has more to do than it can.
    waiting: RefCell<VecDeque<Arrived>>,
    requests: Cell<u64>,
    /// When the last request ended.
    quiet_since: Cell<Tick>,
    /// How many requests may be under way, as of the last time that anything came or ended.
    at_once: Cell<usize>,
}

/// A request whose head has come.
struct Arrived {
    head: Head<Box<Active>>,
    at: Tick,
}

/// Serves one client connection to its end. `read`: what has come of it already.
#[allow(clippy::manual_async_fn)]
pub fn connection(quiet: Quiet, read: Vec<u8>, worker: Rc<Worker>, seat: Seat) -> impl Future<Output = ()> {
    // Not an `async fn`: that would keep its arguments twice, for as long as the connection lives.
    async move {
        let _ = &seat; // it is held as long as this lives
        let _aside = worker.turnstile.crowd.set_aside();
        let Quiet { stream, deadline, peer, listen, secured, opened, .. } = quiet;
        let limits = worker.limits();
        let at_once = streams_at_once(&worker, &limits);
        let shared = Rc::new(Shared {
            streams: Rc::new(Streams::new(Rc::clone(&limits), at_once, worker.clock.now())),
            worker,
            limits,
            peer,
            listen,
            secured,
            opened,
            running: Cell::new(0),
            waiting: RefCell::default(),
            requests: Cell::new(0),
            quiet_since: Cell::new(opened),
            at_once: Cell::new(at_once),
        });
        let mut drive = Drive {
            socket: stream,
            shared: &shared,
            deadline: &deadline,
            going: None,
            cut_at: None,
            sent_by: None,
        };
        drive.hear(&read);
        drop(read);
        poll_fn(|cx| drive.poll(cx)).await;
        let stream = drive.socket;
        // Nobody is there for their answers.
        shared.streams.abandon();
        for arrived in shared.waiting.take() {
            shared.worker.give_active(arrived.head.place);
        }
        linger(stream, &deadline, &shared.worker).await;
    }
}

/// How many requests of a connection may be under way now.
fn streams_at_once(worker: &Worker, limits: &Limits) -> usize {
    let pressed = worker.level() >= Level::Tight || worker.turnstile.crowd.presses();
    if pressed { limits.streams_pressed.min(limits.streams) } else { limits.streams }.max(1)
}

impl Shared {
    /// Serves a request, at once or when it is its turn.
    fn arrive(self: &Rc<Shared>, arrived: Arrived) {
        self.requests.set(self.requests.get() + 1);
        if self.running.get() < self.at_once.get() {
            return self.begin(arrived);
        }
        let has_body = |arrived: &Arrived| !arrived.head.stream.has_ended();
        let bodies = || self.waiting.borrow().iter().filter(|one| has_body(one)).count();
        // Bodies that nobody reads use up the window of the connection, and those that are read would wait for them.
        if has_body(&arrived)
            && bodies() * 2 >= self.limits.connection_window / self.limits.stream_window.max(1)
        {
            self.worker.cells.crime(Crime::TooManyStreams);
            // The client may ask again: nothing was done (RFC 9113 §8.7).
            return self.turn_away(arrived, Code::REFUSED_STREAM);
        }
        self.waiting.borrow_mut().push_back(arrived);
    }

    /// Looks how many requests may be under way now, and serves those that have waited for it.
    fn go_on(self: &Rc<Shared>) {
        self.at_once.set(streams_at_once(&self.worker, &self.limits));
        while self.running.get() < self.at_once.get() {
            let Some(next) = self.waiting.borrow_mut().pop_front() else { break };
            self.begin(next);
        }
    }

    /// The same where some wait; says when that has to be done again, for those under way may take long.
    fn look_in_line(self: &Rc<Shared>, now: Tick) -> Tick {
        if !self.waiting.borrow().is_empty() {
            self.go_on();
        }
        if self.waiting.borrow().is_empty() { Tick::NEVER } else { now + LOOK_EVERY }
    }

    /// Serves a request, unless its client has taken it back.
    fn begin(self: &Rc<Shared>, arrived: Arrived) {
        // What else becomes of it, its task is told.
        if arrived.head.stream.fault().is_some() {
            let at = arrived.at;
            self.turn_away(arrived, Code::CANCEL);
            return self.streams.watch.was_reset(at, self.worker.clock.now());
        }
        self.running.set(self.running.get() + 1);
        runners::serve(arrived, Running(Rc::clone(self)));
    }

    /// Ends a request that is not served.
    fn turn_away(&self, arrived: Arrived, code: Code) {
        self.streams.leave(&arrived.head.stream, 0, code);
        self.worker.give_active(arrived.head.place);
    }
}

/// A request that is being served.
struct Running(Rc<Shared>);

impl Running {
    /// It has been served: another one may be.
    fn end(self) {
        let shared = Rc::clone(&self.0);
        drop(self);
        shared.quiet_since.set(shared.worker.clock.now());
        if !shared.waiting.borrow().is_empty() {
            shared.go_on();
        }
        // Its end may have been one too many for the connection.
        if shared.running.get() == 0 || shared.streams.watch.verdict() != Verdict::Good {
            shared.streams.wake();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

/// Serves one request.
async fn stream(arrived: Arrived, running: Running) {
    let shared = &running.0;
    let worker = &*shared.worker;
    let deadline = worker.deadlines.add();
    let key = deadline.key();
    poll_fn(|cx| {
        deadline.wakes(cx);
        Poll::Ready(())
    })
    .await;
    let Arrived { head: Head { stream, place: mut active, taken }, at } = arrived;
    let end = {
        let future = pin!(async {
            begin(&mut active, at, shared);
            match taken {
                Err(crime) if take::is_malformed(crime) => malformed(&mut active, &stream, crime, shared),
                _ => exchange(&mut active, Rc::clone(&stream), taken, deadline, shared).await,
            }
        });
        Guarded { future, worker, key }.await
    };
    match end {
        End::Done(()) => {}
        End::Panicked => Box::pin(after(Crime::Panic, &mut active, worker)).await,
        End::Cut => Box::pin(after(Crime::Stopping, &mut active, worker)).await,
    }
    let answered = active.client.as_ref().is_none_or(|client| client.answered);
    match active.exchange.error.map(|error| error.crime) {
        Some(Crime::ClientGone) if !answered => shared.streams.watch.was_reset(at, worker.clock.now()),
        // The client has named the host that this connection is for, and it is good for that no more.
        Some(Crime::Misdirected) if shared.is_own_host(&active) => shared.streams.watch.ask_to_go(),
        _ => {}
    }
    active.client = None;
    shared.streams.leave(&stream, 0, Code::INTERNAL_ERROR); // unless that has been done
    worker.give_active(active);
    running.end();
}

/// An exchange begins with a request that has been put into it.
fn begin(active: &mut Active, at: Tick, shared: &Shared) {
    let Shared { worker, peer, secured, .. } = shared;
    let x = &mut active.exchange;
    x.peer = *peer;
    x.proof = secured.as_ref().map(|secured| Arc::clone(&secured.proof));
    x.id = RequestId(u128::from(worker.random()) << 64 | u128::from(worker.random()));
    x.protocol = Protocol::Http2;
    (x.times.began, x.times.head) = (at, Some(at));
    worker.cells.active.add(1);
}

/// Resets the stream of a request that is none (RFC 9113 §8.1.1).
fn malformed(active: &mut Active, stream: &streams::Stream, crime: Crime, shared: &Shared) {
    shared.streams.leave(stream, 0, Code::PROTOCOL_ERROR);
    shared.streams.watch.was_wrong();
    let x = &mut active.exchange;
    x.error = Some(Error::client(Phase::Head, crime));
    tally::close(x, &shared.worker.run(), &shared.worker);
}

/// One request whose head has come.
async fn exchange(
    active: &mut Active,
    stream: Rc<streams::Stream>,
    taken: Result<RequestHead, Crime>,
    deadline: Deadline,
    shared: &Shared,
) {
    let Shared { worker, peer, listen, secured, opened, streams, .. } = shared;
    let Active { client: place, exchange: x, scratch } = active;
    let run = worker.run();
    let has_body = taken.is_ok() && !x.request.body.is_empty();
    let link = Link::Front(Box::new(Front::new(Rc::clone(streams), stream, has_body)));
    let client =
        place.insert(Client::of_stream(link, deadline, *peer, Rc::clone(listen), secured.clone(), *opened));
    match taken {
        Ok(head) => {
            worker.cells.underscores_dropped.add(head.underscores_dropped.into());
            client.expects_continue = head.expects_continue;
            if x.request.websocket {
                let key = u128::from(worker.random()) << 64 | u128::from(worker.random());
                take::add_key(&mut x.request, key);
            }
            if worker.level() < Level::Refusing {
                return serve::serve(&mut Call { x, client, scratch, run: &run, worker }).await;
            }
            refuse(x, client, Error::proxy(Phase::Head, Crime::LowMemory), &run, worker).await;
        }
        Err(crime) => refuse(x, client, Error::client(Phase::Head, crime), &run, worker).await,
    }
}

/// Answers a request that cannot be served.
async fn refuse(x: &mut Exchange, client: &mut Client, error: Error, run: &Run, worker: &Worker) {
    let _ = serve::refuse(x, client, error, worker).await;
    x.sent.get_or_insert(error.crime.status());
    tally::close(x, run, worker);
}

/// A bug of ours, or the end of the program, has ended an exchange: it is answered if it can be, counted, and costs nobody else anything.
async fn after(crime: Crime, active: &mut Active, worker: &Worker) {
    let Active { client, exchange: x, .. } = active;
    // It has a number from its begin to its record.
    if x.id == RequestId::default() || x.times.ended.is_some() {
        return;
    }
    let phase = if crime == Crime::Panic { Phase::Tally } else { Phase::Body };
    let error = Error::proxy(phase, crime);
    if let Some(client) = client.as_mut().filter(|client| !client.answered) {
        client.link.forget();
        let _ = serve::refuse(x, client, error, worker).await;
    }
    x.error = Some(error);
    tally::close(x, &worker.run(), worker);
}

impl Shared {
    /// Whether the request of `active` was for the host that hands were shaken for.
    fn is_own_host(&self, active: &Active) -> bool {
        let name = self.secured.as_ref().and_then(|secured| secured.proof.name.as_deref());
        name.is_some_and(|name| name == active.exchange.request.target.host())
    }
}

/// How often one looks whether more may be under way.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads what a client still sends for a while, so that our last words are not lost to a reset.
async fn linger(mut stream: Stream, deadline: &Deadline, worker: &Worker) {
    let limits = worker.limits();
    let until = worker.clock.refresh() + worker.at_most(limits.linger);
    deadline.set(until);
    let mut left = limits.drain_bytes * 16;
    let mut ended = false;
    let mut room = worker.buffers.small();
    poll_fn(|cx| {
        deadline.wakes(cx);
        if !ended {
            match stream.poll_end(cx) {
                Poll::Ready(Ok(())) => ended = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending if worker.clock.refresh() >= until => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        loop {
            match stream.poll_read(cx, &mut room) {
                Poll::Ready(Ok(count @ 1..)) if count < left => left -= count,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if worker.clock.refresh() >= until => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    worker.buffers.give(room);
}
