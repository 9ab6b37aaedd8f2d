//! h2: connections to a host that many requests share (RFC 9113): who may have a stream, who dials, and who waits for that.

mod drive;

use super::{Busy, HostPool, Lease};
use crate::clock::{self, Clock};
use crate::deadlines::Deadline;
use crate::net::Stream;
use crate::plan::Protocol;
use bytes::Bytes;
use h2::client::SendRequest;
use portunus_message::{Crime, Error, Limits, Phase, Retry, Tick};
use portunus_wire::preface::Preface;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// For how long a host that wanted HTTP/1.1 is asked for nothing else.
const HTTP1_FOR: Duration = Duration::from_secs(600);
/// How many requests a connection has, and for how long it gets any.
const REQUESTS_MAX: u64 = 100_000;
const AGE_MAX: Duration = Duration::from_secs(3600);

/// What holds for every connection of many streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    connections: usize,
    streams: usize,
    resets: usize,
    ping: Duration,
    ping_time: Duration,
    header_bytes: usize,
    header_count: usize,
}

impl Bounds {
    /// Those of these limits.
    pub fn new(limits: &Limits) -> Bounds {
        Bounds {
            connections: limits.upstream_connections.max(1),
            streams: limits.upstream_streams.max(1),
            resets: limits.upstream_resets,
            ping: limits.upstream_ping,
            ping_time: limits.upstream_ping_time,
            header_bytes: limits.upstream_header_bytes,
            header_count: limits.upstream_header_count,
        }
    }
}

/// One worker's shared connections to one host.
#[derive(Debug)]
pub struct Shares {
    list: RefCell<Vec<Rc<Shared>>>,
    /// Whether somebody is about to make one.
    dialing: Cell<bool>,
    /// How many times somebody has come to the end of that, and what came of it the last time if it was nothing.
    ends: Cell<(u64, Option<Error>)>,
    /// Whether the host has chosen HTTP/2 the last time that it could choose.
    spoken: Cell<Option<bool>>,
    /// Until when it is not asked that again: it has said of a request that it wants HTTP/1.1.
    http1_until: Cell<Tick>,
    /// Tells those who wait that there may be room now.
    changed: Rc<Notify>,
    bounds: Bounds,
    limits: Rc<Limits>,
}

/// A connection that streams share.
#[derive(Debug)]
struct Shared {
    /// What opens streams; gone when there shall be no more of them.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Whether it is for one request only.
    once: bool,
    /// Streams under way.
    open: Cell<usize>,
    /// How many it may have.
    most: usize,
    /// When it was made, and how many streams it has had.
    opened: Tick,
    requests: Cell<u64>,
    /// Since when it has none.
    idle_since: Cell<Tick>,
    /// Bytes that have come by it, in all, and when it had a stream again after it had none; `u64::MAX` until then.
    heard: Rc<Cell<u64>>,
    woken_at: Cell<u64>,
    /// What it goes by, to ask whether something stands there; gone when no streams are opened any more.
    stream: RefCell<Option<Rc<RefCell<Stream>>>>,
    /// Whether the peer's first SETTINGS have come: what it can do is known.
    settled: Cell<bool>,
    changed: Rc<Notify>,
}

/// A place for one stream on a shared connection; given back when it is dropped.
#[derive(Debug)]
pub struct Place(Rc<Shared>);

/// What opens a stream, and its place.
pub type Opening = (SendRequest<Bytes>, Place);

impl Shares {
    /// No connection yet.
    pub fn new(limits: &Rc<Limits>) -> Shares {
        Shares {
            list: RefCell::default(),
            dialing: Cell::new(false),
            ends: Cell::default(),
            spoken: Cell::new(None),
            http1_until: Cell::default(),
            changed: Rc::default(),
            bounds: Bounds::new(limits),
            limits: Rc::clone(limits),
        }
    }

    /// What holds for them.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The limits of what comes by them.
    pub fn limits(&self) -> Rc<Limits> {
        Rc::clone(&self.limits)
    }

    /// Room for a stream on a connection that there is; the first that has room, so that those which are not needed become idle.
    /// `websocket`: only on one whose host has said that it takes such (RFC 8441 §3). `rested`: the request must not meet a dead connection, so
    /// those that have had no stream for longer are closed, and the kernel is asked about the others.
    pub fn take(&self, websocket: bool, now: Tick, rested: Option<Duration>) -> Option<Opening> {
        let mut list = self.list.borrow_mut();
        list.retain(|one| {
            let stays = one.takes_more() && rested.is_none_or(|rested| one.is_trusted(now, rested));
            if !stays {
                one.retire();
            }
            stays
        });
        list.iter().find_map(|one| one.open(websocket))
    }

    /// What the host has said of websockets; those of its connections that say nothing by now are younger than its first word.
    fn websockets(&self) -> Said {
        let list = self.list.borrow();
        let said = |one: &Rc<Shared>| {
            let takes = one.sender.borrow().as_ref()?.is_extended_connect_protocol_enabled();
            Some(if !one.settled.get() {
                Said::Soon
            } else if takes {
                Said::Yes
            } else {
                Said::No
            })
        };
        let all = || list.iter().filter_map(said);
        [Said::Soon, Said::Yes, Said::No]
            .into_iter()
            .find(|what| all().any(|one| one == *what))
            .unwrap_or_default()
    }

    /// Hears that the host wants HTTP/1.1.
    pub fn wants_http1(&self) {
        self.spoken.set(Some(false));
        self.http1_until.set(clock::read() + HTTP1_FOR);
        self.clear();
        self.changed.notify_waiters();
    }

    /// Whether the host could choose, and chose HTTP/1.
    pub fn speaks_http1(&self) -> bool {
        self.spoken.get() == Some(false)
    }

    /// Whether those who wait for a stream wait for a connection.
    pub fn is_dialing(&self) -> bool {
        self.dialing.get() || self.spoken.get() == Some(false)
    }

    /// How many connections have no stream.
    pub fn idle_count(&self) -> usize {
        self.list.borrow().iter().filter(|one| one.open.get() == 0).count()
    }

    /// Closes those that have had no stream for so long.
    pub fn sweep(&self, now: Tick, limit: Duration) {
        self.list.borrow_mut().retain(|one| {
            let stays = one.takes_more() && one.is_rested(now, limit);
            if !stays {
                one.retire();
            }
            stays
        });
    }

    /// Closes those that have no stream now.
    pub fn clear_idle(&self) {
        self.sweep(clock::read(), Duration::ZERO);
    }

    /// None of them gets a further stream; each is closed after its last one.
    pub fn clear(&self) {
        self.list.borrow_mut().drain(..).for_each(|one| one.retire());
    }

    /// Says whose turn it is to dial.
    fn turn(self: &Rc<Shares>) -> Turn {
        if self.dialing.get() {
            return Turn::Wait;
        }
        if self.list.borrow().len() >= self.bounds.connections {
            return Turn::Wait;
        }
        self.dialing.set(true);
        Turn::Dial(Dialing { shares: Rc::clone(self), failed: None })
    }
}

/// Whether a host takes websockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Said {
    /// It has not been asked.
    #[default]
    Nothing,
    /// It is about to say so.
    Soon,
    Yes,
    No,
}

enum Turn {
    Dial(Dialing),
    /// Somebody else does, or there are as many connections as may be.
    Wait,
}

/// Somebody who dials for all who wait. Dropped, another one may.
struct Dialing {
    shares: Rc<Shares>,
    failed: Option<Error>,
}

impl Drop for Dialing {
    fn drop(&mut self) {
        let (ends, _) = self.shares.ends.get();
        self.shares.ends.set((ends + 1, self.failed));
        self.shares.dialing.set(false);
        self.shares.changed.notify_waiters();
    }
}

impl Shared {
    /// Whether streams may still be opened: the peer has not said that it goes, nobody has retired it, and it has not had its time. What the
    /// library holds against a peer, it holds for the life of a connection.
    fn takes_more(&self) -> bool {
        if self.requests.get() >= REQUESTS_MAX || clock::read().since(self.opened) >= AGE_MAX {
            self.retire();
        }
        let mut sender = self.sender.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        let good = sender.as_mut().is_some_and(|it| matches!(it.poll_ready(&mut cx), Poll::Ready(Ok(()))));
        if !good {
            *sender = None;
            *self.stream.borrow_mut() = None;
        }
        good
    }

    fn open(self: &Rc<Shared>, websocket: bool) -> Option<Opening> {
        let mut kept = self.sender.borrow_mut();
        let sender = kept.as_ref()?;
        let open = self.open.get();
        if open >= self.most || open >= sender.current_max_send_streams() {
            return None;
        }
        if websocket && !sender.is_extended_connect_protocol_enabled() {
            return None;
        }
        if open == 0 && self.requests.get() > 0 {
            self.woken_at.set(self.heard.get());
        }
        self.open.set(open + 1);
        self.requests.set(self.requests.get() + 1);
        let sender = if self.once { kept.take()? } else { sender.clone() };
        Some((sender, Place(Rc::clone(self))))
    }

    /// Whether it has streams, or has had some within this time.
    fn is_rested(&self, now: Tick, limit: Duration) -> bool {
        self.open.get() > 0 || !limit.is_zero() && now.since(self.idle_since.get()) <= limit
    }

    /// Whether it has streams, and something has come since it had none: whoever has opened the first of them may have met a dead one.
    fn is_alive(&self) -> bool {
        self.open.get() > 0 && self.heard.get() != self.woken_at.get()
    }

    /// Whether it is alive, or had streams a short while ago and no end stands behind what has come.
    fn is_trusted(&self, now: Tick, rested: Duration) -> bool {
        // A frame may stand there at any time; an end may not. It is not read here: an answer would be, and nobody would be told of it.
        let is_there = || self.stream.borrow().as_ref().is_some_and(|stream| !stream.borrow().has_ended());
        self.is_alive() || !rested.is_zero() && self.is_rested(now, rested) && is_there()
    }

    fn retire(&self) {
        *self.sender.borrow_mut() = None;
        *self.stream.borrow_mut() = None;
    }
}

impl Place {
    /// Whether no other stream is under way.
    pub fn is_alone(&self) -> bool {
        self.0.open.get() == 1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.0.open.get().saturating_sub(1);
        self.0.open.set(left);
        if left == 0 {
            self.0.idle_since.set(clock::read());
        }
        self.0.changed.notify_one(); // there is room for one
    }
}

/// A stream on a shared connection, or a connection of HTTP/1 where the host wants that. One dials, the others wait for it.
pub(super) async fn connect(
    pool: &Rc<HostPool>,
    busy: Busy,
    websocket: bool,
    deadline: &Deadline,
    clock: &Clock,
) -> Result<Lease, Error> {
    let shares = &pool.shares;
    let is_auto = pool.host.protocol == Protocol::Auto;
    let until = (clock.now() + pool.connect_timeout).min(deadline.at());
    loop {
        if let Some(opening) = shares.take(websocket, clock.now(), None) {
            return Ok(pool.lend_stream(opening, true, busy, clock.now()));
        }
        // What is known to speak HTTP/1 has a connection for each; a websocket has its own anyway, if its host may choose.
        if is_auto && (websocket || shares.spoken.get() == Some(false)) {
            let http1 = websocket || clock.now() < shares.http1_until.get();
            let (stream, http2) = pool.dial(Preface::Local, http1, deadline, clock).await?;
            if !http2 {
                return Ok(pool.lend_new(stream, busy, clock.now()));
            }
            add(shares, stream, pool.keeps()).await?;
            continue;
        }
        let now = clock.now();
        if now >= until {
            return Err(late(now, deadline));
        }
        // Whether a host takes websockets it says when it begins to speak; no second connection is made to hear it.
        let said = if websocket { shares.websockets() } else { Said::Nothing };
        if said == Said::No {
            return Err(Error::proxy(Phase::Connect, Crime::BadSwitch));
        }
        let (ends, _) = shares.ends.get();
        match if said == Said::Soon { Turn::Wait } else { shares.turn() } {
            Turn::Dial(mut turn) => match pool.dial(Preface::Local, false, deadline, clock).await {
                Err(error) => {
                    // That the time of this request is over says nothing to the others: one of them dials.
                    turn.failed = (error.crime != Crime::Deadline).then_some(error);
                    return Err(error);
                }
                Ok((stream, false)) => {
                    shares.spoken.set(Some(false));
                    return Ok(pool.lend_new(stream, busy, clock.now()));
                }
                Ok((stream, true)) => add(shares, stream, pool.keeps()).await?,
            },
            Turn::Wait => {
                if !wait(&shares.changed, until, deadline, clock).await {
                    return Err(late(clock.now(), deadline));
                }
                if let (now, Some(error)) = shares.ends.get()
                    && now != ends
                {
                    return Err(error); // it was tried for this one, too
                }
            }
        }
    }
}

/// No stream has become free in time. The host has not been asked for a connection that it did not give, so this is not its doing.
fn late(now: Tick, deadline: &Deadline) -> Error {
    if now >= deadline.at() {
        return Error::proxy(Phase::Connect, Crime::Deadline);
    }
    Error { retry: Retry::Untouched, ..Error::proxy(Phase::Connect, Crime::ConnectTimeout) }
}

/// Makes a connection one that streams share.
async fn add(shares: &Rc<Shares>, stream: Stream, keeps: bool) -> Result<(), Error> {
    shares.spoken.set(Some(true));
    let shared = drive::begin(stream, &shares.bounds, keeps, Rc::clone(&shares.changed)).await;
    let failed = Error::upstream(Phase::Connect, Crime::ConnectFailed, Retry::Untouched);
    shares.list.borrow_mut().push(shared.ok_or(failed)?);
    Ok(())
}

/// Waits for a change until then; whether there was one.
async fn wait(changed: &Notify, until: Tick, deadline: &Deadline, clock: &Clock) -> bool {
    let before = deadline.at();
    deadline.set(until);
    let mut changed = pin!(changed.notified());
    let done = poll_fn(|cx| match changed.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if clock.refresh() >= until => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    })
    .await;
    deadline.set(before);
    done
}
