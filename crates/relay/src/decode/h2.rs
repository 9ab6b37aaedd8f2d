//! HTTP/2: one task drives a connection, another serves each of its requests; what runs is counted here, for a stream that is gone may still cost work.

mod runners;
mod socket;
mod watch;

use super::guard::{End, Guarded};
use crate::client::{Active, Client, Quiet};
use crate::deadlines::Deadline;
use crate::link::{H2, Link};
use crate::net::Stream;
use crate::plan::Listen;
use crate::pressure::Level;
use crate::run::Run;
use crate::serve;
use crate::tally;
use crate::tls::Secured;
use crate::worker::{Seat, Worker};
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use portunus_message::{Crime, Error, Exchange, Limits, Peer, Phase, Protocol, RequestId, Scheme, Tick};
use portunus_wire::convert::{self, Asked};
use socket::Socket;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use watch::{Verdict, Watch};

/// What a client says first.
pub use portunus_wire::frames::PREFACE;

/// What a connection and its requests have in common.
struct Shared {
    worker: Rc<Worker>,
    limits: Rc<Limits>,
    peer: Peer,
    listen: Rc<Listen>,
    secured: Option<Rc<Secured>>,
    opened: Tick,
    watch: Rc<Watch>,
    /// Requests that are being served. One that the client has reset counts until its work has stopped (attack B7).
    running: Cell<usize>,
    /// Requests that wait for one of them to end, while the worker has more to do than it can.
    waiting: RefCell<VecDeque<Arrived>>,
    requests: Cell<u64>,
    /// When the last request ended.
    quiet_since: Cell<Tick>,
}

/// A request whose head has come.
struct Arrived {
    asked: Asked<RecvStream>,
    respond: SendResponse<Bytes>,
    at: Tick,
}

/// Serves one client connection to its end. `read`: what has come of it already.
#[allow(clippy::manual_async_fn)]
pub fn connection(quiet: Quiet, read: Vec<u8>, worker: Rc<Worker>, seat: Seat) -> impl Future<Output = ()> {
    // Not an `async fn`: that would keep its arguments twice, for as long as the connection lives.
    async move {
        let _ = &seat; // it is held as long as this lives
        let Quiet { stream, deadline, peer, listen, secured, opened, .. } = quiet;
        let limits = worker.limits();
        let watch = Rc::new(Watch::new(Rc::clone(&limits)));
        let left = Rc::new(Cell::new(None));
        let socket = Socket::new(stream, read, Rc::clone(&watch), Rc::clone(&worker), Rc::clone(&left));
        let shared = Rc::new(Shared {
            worker,
            limits,
            peer,
            listen,
            secured,
            opened,
            watch,
            running: Cell::new(0),
            waiting: RefCell::default(),
            requests: Cell::new(0),
            quiet_since: Cell::new(opened),
        });
        if let Some(connection) = shake(socket, &shared, &deadline).await {
            Drive {
                connection: Box::new(connection),
                shared: &shared,
                deadline: &deadline,
                going: None,
                cut_at: None,
            }
            .run()
            .await;
        }
        // Nobody is there for their answers.
        shared.waiting.borrow_mut().clear();
        if let Some(stream) = left.take() {
            linger(stream, &deadline, &shared.worker).await;
        }
    }
}

/// What is agreed on before anything else: the client's preface, and our settings.
async fn shake(socket: Socket, shared: &Shared, deadline: &Deadline) -> Option<Connection<Socket, Bytes>> {
    let Shared { worker, limits, .. } = shared;
    let mut shaking = pin!(settings(limits, shared.streams()).handshake(socket));
    let until = shared.opened + limits.header_time;
    poll_fn(|cx| {
        deadline.wakes(cx);
        match shaking.as_mut().poll(cx) {
            Poll::Ready(Ok(connection)) => return Poll::Ready(Some(connection)),
            Poll::Ready(Err(error)) => {
                worker.cells.crime(if error.is_io() { Crime::ClientGone } else { Crime::BadFrames });
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        let now = worker.clock.refresh();
        if now >= worker.sends_away_at(0, shared.opened) {
            return Poll::Ready(None);
        }
        if now >= until {
            worker.cells.crime(Crime::HeadTimeout);
            return Poll::Ready(None);
        }
        deadline.set(until.min(worker.sends_away_at(0, shared.opened)));
        Poll::Pending
    })
    .await
}

fn settings(limits: &Limits, streams: usize) -> Builder {
    let mut builder = Builder::new();
    // The fields are measured by `convert`, so that who sends too many is answered, and stands in the log; this is the second bound.
    let fields = limits.header_bytes + limits.url_bytes + PSEUDO_BYTES;
    builder
        .max_concurrent_streams(u32::try_from(streams).unwrap_or(u32::MAX))
        .initial_window_size(window(limits.stream_window))
        .initial_connection_window_size(window(limits.connection_window).max(WINDOW_MIN))
        .max_header_list_size(u32::try_from(fields).unwrap_or(u32::MAX))
        .header_table_size(TABLE_BYTES)
        .max_send_buffer_size(BUFFERED_MAX)
        .max_local_error_reset_streams(Some(limits.resets_sent))
        .enable_connect_protocol();
    builder
}

fn window(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(WINDOW_MAX).min(WINDOW_MAX)
}

/// What drives a connection.
struct Drive<'a> {
    connection: Box<Connection<Socket, Bytes>>,
    shared: &'a Rc<Shared>,
    deadline: &'a Deadline,
    /// Since when no further requests are taken.
    going: Option<Tick>,
    /// When one that misbehaves is no longer listened to.
    cut_at: Option<Tick>,
}

impl Drive<'_> {
    /// Takes requests, and moves what belongs to them, until the connection is over.
    async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Shared { worker, watch, .. } = &**self.shared;
        watch.wakes(cx.waker());
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let asked = Asked(request);
                    self.shared.arrive(Arrived { asked, respond, at: worker.clock.now() });
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    if !error.is_io() && !error.is_remote() {
                        worker.cells.crime(Crime::BadFrames);
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            match self.look() {
                Look::Wait(at) => {
                    self.deadline.set(at);
                    return Poll::Pending;
                }
                // What was asked for just now is done with the next step.
                Look::Changed => {}
                Look::Over => return Poll::Ready(()),
            }
        }
    }

    /// Looks whether the connection may go on, and until when.
    fn look(&mut self) -> Look {
        let Shared { worker, limits, watch, .. } = &**self.shared;
        let now = worker.clock.refresh();
        if let Verdict::TooMuch(crime) = watch.verdict() {
            match self.cut_at {
                Some(at) if now >= at => return Look::Over,
                Some(at) => return Look::Wait(at),
                None => self.cut_at = Some(now + LAST_WORDS),
            }
            worker.cells.crime(crime);
            self.connection.abrupt_shutdown(match crime {
                Crime::BadFrames => Reason::PROTOCOL_ERROR,
                _ => Reason::ENHANCE_YOUR_CALM,
            });
            return Look::Changed;
        }
        // A client that takes nothing keeps nothing (attack B12); streams have clocks of their own.
        let stalls_at = watch.stalled().map_or(Tick::NEVER, |since| since + limits.response_idle);
        if now >= stalls_at {
            worker.cells.crime(Crime::ClientStalled);
            return Look::Over;
        }
        let fields_at = watch.in_fields().map_or(Tick::NEVER, |since| since + limits.header_time);
        if now >= fields_at {
            worker.cells.crime(Crime::HeadTimeout);
            return Look::Over;
        }
        let mut at = stalls_at.min(fields_at);
        let is_quiet = self.shared.running.get() == 0;
        if is_quiet && worker.is_draining() && worker.deadlines.is_cut(self.deadline.key(), now) {
            return Look::Over;
        }
        match self.going {
            None if self.has_enough(now) => {
                self.going = Some(now);
                self.connection.graceful_shutdown(); // in two steps (RFC 9113 §6.8; attack B21)
                return Look::Changed;
            }
            Some(since) if is_quiet => {
                let over_at = since.max(self.shared.quiet_since.get()) + GOODBYE;
                if now >= over_at {
                    return Look::Over;
                }
                at = at.min(over_at);
            }
            Some(_) => {}
            None => at = at.min(self.shared.opened + limits.age),
        }
        if is_quiet && self.going.is_none() {
            let fresh = self.shared.requests.get() == 0;
            let time = if fresh { limits.header_time } else { worker.keep_alive() };
            let since = self.shared.quiet_since.get();
            if now >= since + time {
                worker.cells.crime(if fresh { Crime::HeadTimeout } else { Crime::Idle });
                self.going = Some(now);
                self.connection.graceful_shutdown();
                return Look::Changed;
            }
            at = at.min(since + time).min(worker.tight_until(now));
        }
        Look::Wait(at)
    }

    /// Whether the client is to make its further requests elsewhere (attack B20).
    fn has_enough(&self, now: Tick) -> bool {
        let Shared { worker, limits, watch, opened, requests, .. } = &**self.shared;
        worker.is_draining()
            || watch.verdict() == Verdict::Enough
            || requests.get() >= limits.requests
            || now.since(*opened) >= limits.age
    }
}

/// What has come of a look at a connection.
enum Look {
    /// Nothing; the next one is due then.
    Wait(Tick),
    /// The library has been told to say something.
    Changed,
    /// It is over.
    Over,
}

impl Shared {
    /// How many requests may be under way now.
    fn streams(&self) -> usize {
        let Shared { worker, limits, .. } = self;
        let pressed = worker.level() >= Level::Tight || worker.turnstile.is_crowded(limits.worker_lag);
        if pressed { limits.streams_pressed.min(limits.streams) } else { limits.streams }.max(1)
    }

    /// Serves a request, at once or when it is its turn.
    fn arrive(self: &Rc<Shared>, mut arrived: Arrived) {
        self.requests.set(self.requests.get() + 1);
        let (running, waiting) = (self.running.get(), self.waiting.borrow().len());
        if running + waiting >= self.limits.streams {
            // The client may ask again: nothing was done (RFC 9113 §8.7).
            self.worker.cells.crime(Crime::TooManyStreams);
            return arrived.respond.send_reset(Reason::REFUSED_STREAM);
        }
        if running < self.streams() {
            return self.begin(arrived);
        }
        let has_body = |arrived: &Arrived| !arrived.asked.0.body().is_end_stream();
        let bodies = || self.waiting.borrow().iter().filter(|one| has_body(one)).count();
        // Bodies that nobody reads use up the window of the connection, and those that are read would wait for them.
        if has_body(&arrived)
            && bodies() * 2 >= self.limits.connection_window / self.limits.stream_window.max(1)
        {
            self.worker.cells.crime(Crime::TooManyStreams);
            return arrived.respond.send_reset(Reason::REFUSED_STREAM);
        }
        self.waiting.borrow_mut().push_back(arrived);
    }

    /// Serves a request, unless its client has taken it back.
    fn begin(self: &Rc<Shared>, mut arrived: Arrived) {
        // What else becomes of it, its task is told.
        if arrived.respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready() {
            return self.watch.was_reset(arrived.at);
        }
        self.running.set(self.running.get() + 1);
        runners::serve(arrived, Running(Rc::clone(self)));
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
        while shared.running.get() < shared.streams() {
            let Some(next) = shared.waiting.borrow_mut().pop_front() else { break };
            shared.begin(next);
        }
        if shared.running.get() == 0 {
            shared.watch.wake();
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
    let mut active = worker.take_active();
    let end = {
        let future = pin!(exchange(&mut active, arrived, deadline, shared));
        Guarded { future, worker, key }.await
    };
    match end {
        End::Done(()) => {}
        End::Panicked => Box::pin(after(Crime::Panic, &mut active, worker)).await,
        End::Cut => Box::pin(after(Crime::Stopping, &mut active, worker)).await,
    }
    let answered = active.client.as_ref().is_none_or(|client| client.answered);
    match active.exchange.error.map(|error| error.crime) {
        Some(Crime::ClientGone) if !answered => shared.watch.was_reset(worker.clock.now()),
        // The client has named the host that this connection is for, and it is good for that no more.
        Some(Crime::Misdirected) if shared.is_own_host(&active) => shared.watch.ask_to_go(),
        _ => {}
    }
    active.client = None;
    worker.give_active(active);
    running.end();
}

/// One request whose head has come.
async fn exchange(active: &mut Active, arrived: Arrived, deadline: Deadline, shared: &Shared) {
    let Shared { worker, peer, listen, secured, opened, .. } = shared;
    let Active { client: place, exchange: x, scratch } = active;
    let run = worker.run();
    x.clear();
    x.peer = *peer;
    x.proof = secured.as_ref().map(|secured| Arc::clone(&secured.proof));
    x.id = RequestId(u128::from(worker.random()) << 64 | u128::from(worker.random()));
    x.protocol = Protocol::Http2;
    (x.times.began, x.times.head) = (arrived.at, Some(arrived.at));
    worker.cells.active.add(1);
    let Arrived { asked: Asked(head), mut respond, .. } = arrived;
    let scheme = if secured.is_some() { Scheme::Https } else { Scheme::Http };
    let ended = head.body().is_end_stream();
    let protocol = head.extensions().get::<h2::ext::Protocol>().map(|protocol| protocol.as_str());
    let taken = convert::request(&head, protocol, ended, scheme, &mut x.request, &run.limits);
    let receiver = head.into_body();
    if let Err(crime) = taken
        && convert::is_malformed(crime)
    {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        shared.watch.was_wrong();
        x.error = Some(Error::client(Phase::Head, crime));
        return tally::close(x, &run, worker);
    }
    let has_body = taken.is_ok() && !x.request.body.is_empty();
    let link = H2::of_client(respond, receiver, has_body, Rc::clone(&run.limits));
    let link = Link::H2(Box::new(link));
    let client =
        place.insert(Client::of_stream(link, deadline, *peer, Rc::clone(listen), secured.clone(), *opened));
    match taken {
        Ok(head) => {
            worker.cells.underscores_dropped.add(head.underscores_dropped.into());
            client.expects_continue = head.expects_continue;
            if x.request.websocket {
                let key = u128::from(worker.random()) << 64 | u128::from(worker.random());
                convert::add_key(&mut x.request, key);
            }
            if worker.level() < Level::Refusing {
                return serve::serve(x, client, scratch, &run, worker).await;
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

/// What the four fields that every request has may take besides the path.
const PSEUDO_BYTES: usize = 512;
/// The table that a client's fields may refer to.
const TABLE_BYTES: u32 = 4 << 10;
/// What may wait in the library to be sent of one answer.
const BUFFERED_MAX: usize = 64 << 10;
/// RFC 9113 §6.5.2, §6.9.
const WINDOW_MIN: u32 = 65_535;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// How long a client that is to go, and has nothing under way, is waited for.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a client that misbehaves has to hear so.
const LAST_WORDS: Duration = Duration::from_secs(1);
