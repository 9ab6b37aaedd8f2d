//! A stream to a host, borrowed: idle connections are kept for each host and worker, and given out once they have proved clean.

pub mod dial;
pub mod h2;
pub mod heads;
pub mod tls;

use crate::buffers::Buffers;
use crate::cells::HostCells;
use crate::clock::Clock;
use crate::deadlines::Deadline;
use crate::hosts::Host;
use crate::link::{H2, Link};
use crate::net::{Front, Stream};
use crate::plan::{KeepAlive, Protocol};
use h2::{Place, Shares};
use portunus_message::{Crime, Error, Limits, Phase, Side, Tick};
use portunus_wire::preface::Preface;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long an idle connection is trusted before the upstream's own timeout is known: below Node's 5 s.
const IDLE_UNKNOWN: Duration = Duration::from_secs(4);
/// How long a host that closed a connection without a word is not trusted with requests that must not be lost.
const DISTRUST: Duration = Duration::from_secs(10);
/// The longest it is ever trusted.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// One worker's connections to one host.
#[derive(Debug)]
pub struct HostPool {
    /// The host, shared by all workers.
    pub host: Arc<Host>,
    /// What this worker has counted of it.
    pub cells: Rc<HostCells>,
    keep_alive: KeepAlive,
    connect_timeout: Duration,
    idle_max: usize,
    idle: RefCell<Vec<Idle>>,
    /// How many answers there had been at the last look.
    answers_seen: Cell<u64>,
    buffers: Rc<Buffers>,
    /// Connections that many requests share; none where the host is never spoken with so.
    shares: Rc<Shares>,
    /// Whether there may be such.
    may_share: bool,
    /// The pool that has taken this one's place at a reload.
    next: RefCell<Option<Rc<HostPool>>>,
    /// Since when the host is no longer part of what runs.
    retired: Cell<Option<Tick>>,
}

#[derive(Debug)]
struct Idle {
    link: Box<Link>,
    since: Tick,
    opened: Tick,
}

/// One stream on one upstream connection, borrowed. It goes back by [`Lease::give_back`], if it is clean; dropped, it is closed.
#[derive(Debug)]
pub struct Lease {
    /// The connection; there until it is given back.
    link: Option<Box<Link>>,
    /// Whether the connection was there and had nothing to do, so that it may have ended unseen.
    pub was_idle: bool,
    busy: Busy,
    opened: Tick,
    /// Its place on the connection, where that is a shared one.
    place: Option<Place>,
}

impl HostPool {
    /// A worker's pool for `host`; `workers` share the plan's number of idle connections.
    pub fn new(
        host: Arc<Host>,
        keep_alive: KeepAlive,
        connect_timeout: Duration,
        workers: usize,
        limits: &Rc<Limits>,
        buffers: Rc<Buffers>,
    ) -> HostPool {
        // A connection that says whom it is from belongs to that client.
        let may_share = host.may_speak_http2() && host.preface.is_none();
        let idle = if host.preface.is_some() { 0 } else { keep_alive.idle };
        let idle_max = idle.div_ceil(workers.max(1));
        HostPool {
            host,
            cells: Rc::default(),
            next: RefCell::default(),
            retired: Cell::new(None),
            keep_alive,
            connect_timeout,
            idle_max,
            idle: RefCell::default(),
            answers_seen: Cell::default(),
            buffers,
            shares: Rc::new(Shares::new(limits)),
            may_share,
        }
    }

    /// The same connections and counts under another plan; what is still lent comes back here.
    pub fn after(mut self, old: &HostPool) -> Rc<HostPool> {
        let mut idle = old.idle.take();
        idle.truncate(self.idle_max);
        self.idle = RefCell::new(idle);
        if self.host.is_spoken_with_like(&old.host)
            && self.shares.bounds() == old.shares.bounds()
            && self.keeps() == old.keeps()
        {
            self.shares = Rc::clone(&old.shares);
        } else {
            old.shares.clear();
        }
        self.cells = Rc::clone(&old.cells);
        let new = Rc::new(self);
        *old.next.borrow_mut() = Some(Rc::clone(&new));
        new
    }

    /// The pool that is in force now.
    pub fn latest(self: &Rc<HostPool>) -> Rc<HostPool> {
        let mut latest = Rc::clone(self);
        loop {
            let next = latest.next.borrow().clone();
            let Some(next) = next else { break };
            latest = next;
        }
        if !Rc::ptr_eq(self, &latest) {
            *self.next.borrow_mut() = Some(Rc::clone(&latest)); // those between are needed no longer
        }
        latest
    }

    /// Nobody will be given a connection of it any more, unless another pool has taken its place; says whether that is news.
    pub fn retire(&self, now: Tick) -> bool {
        if self.next.borrow().is_some() || self.retired.get().is_some() {
            return false;
        }
        self.clear();
        self.retired.set(Some(now));
        true
    }

    /// Since when the host is no longer part of what runs.
    pub fn retired(&self) -> Option<Tick> {
        self.retired.get()
    }

    /// How long a connection to this host may be idle.
    fn idle_time(&self) -> Duration {
        let learned = Duration::from_millis(self.host.live.idle_ms.load(Relaxed).into());
        match self.keep_alive.time {
            Some(time) => time,
            None if learned.is_zero() => IDLE_UNKNOWN,
            None => learned.min(IDLE_MAX),
        }
    }

    /// Hears how long the upstream says that it keeps idle connections; a fifth is kept as a margin.
    pub fn learn_idle_time(&self, told: Duration) {
        let trusted = told.min(IDLE_MAX) * 4 / 5;
        self.host.live.idle_ms.store(u32::try_from(trusted.as_millis()).unwrap_or(u32::MAX).max(1), Relaxed);
    }

    /// An idle connection that shows neither a byte nor an end. `careful`: the request must not meet a dead
    /// connection, so only one used a short while ago will do, and the kernel is asked again. `websocket`: it will become a tunnel.
    pub fn take_idle(self: &Rc<HostPool>, now: Tick, careful: bool, websocket: bool) -> Option<Lease> {
        let distrusts = careful && self.host.live.is_distrusted(now);
        let limit = if careful { self.idle_time() / 2 } else { self.idle_time() };
        // Over HTTP/2 a host says that it goes, unless it has been seen to go without a word.
        let rested = careful.then_some(if distrusts { Duration::ZERO } else { Duration::MAX });
        if self.may_share
            && !self.host.is_full()
            && let Some(opening) = self.shares.take(websocket, now, rested)
        {
            return Some(self.lend_stream(opening, false, Busy::new(self)?, now));
        }
        if distrusts || self.host.is_full() {
            return None;
        }
        loop {
            let mut found = self.idle.borrow_mut().pop()?;
            if now.since(found.since) > limit {
                if careful && now.since(found.since) <= self.idle_time() {
                    self.idle.borrow_mut().push(found); // good enough for a request that may be repeated
                    return None;
                }
                continue;
            }
            let quiet = if careful {
                found.link.h1().is_some_and(|link| link.stream.front_now() == Front::Quiet)
            } else {
                is_quiet(&mut found.link)
            };
            if quiet {
                let Idle { link, opened, .. } = found;
                let busy = Busy::new(self)?;
                return Some(Lease { link: Some(link), was_idle: true, busy, opened, place: None });
            }
            self.was_stale(now);
            if careful {
                return None;
            }
        }
    }

    /// Hears that a connection which should have been good was closed by the host, unannounced.
    pub fn was_stale(&self, now: Tick) {
        self.cells.stale.add(1);
        self.host.live.distrust_until(now + DISTRUST);
        self.shares.clear_idle(); // those that were made with it are as old
    }

    /// A new connection for whom `from` names, or a stream on one. `queue-full`: the host has as many requests as it may have.
    /// `websocket`: it will become a tunnel.
    pub async fn connect(
        self: &Rc<HostPool>,
        from: Preface,
        websocket: bool,
        deadline: &Deadline,
        clock: &Clock,
    ) -> Result<Lease, Error> {
        let busy = Busy::new(self).ok_or(Error::proxy(Phase::Pick, Crime::QueueFull))?;
        if self.may_share {
            return Box::pin(h2::connect(self, busy, websocket, deadline, clock)).await;
        }
        let (stream, _) = self.dial(from, true, deadline, clock).await?;
        Ok(self.lend_new(stream, busy, clock.now()))
    }

    /// Dials, and hears what came of it.
    async fn dial(
        &self,
        from: Preface,
        http1: bool,
        deadline: &Deadline,
        clock: &Clock,
    ) -> Result<(Stream, bool), Error> {
        let dialled =
            dial::dial(&self.host, self.keeps(), from, http1, self.connect_timeout, deadline, clock).await;
        match &dialled {
            Ok(_) => self.cells.connects.add(1),
            Err(error) => {
                self.cells.connect_failures.add(1);
                if error.crime == Crime::ConnectFailed {
                    self.host.live.standing.refused(clock.now());
                }
            }
        }
        dialled
    }

    /// A new connection of HTTP/1.
    fn lend_new(&self, stream: Stream, busy: Busy, now: Tick) -> Lease {
        // Boxed: it moves often between the pool and exchanges.
        let link = Box::new(Link::new(stream, Side::Upstream, Rc::clone(&self.buffers)));
        Lease { link: Some(link), was_idle: false, busy, opened: now, place: None }
    }

    /// A stream of a shared one.
    fn lend_stream(&self, (sender, place): h2::Opening, is_new: bool, busy: Busy, now: Tick) -> Lease {
        let was_idle = !is_new && place.is_alone();
        let link = Box::new(Link::H2(Box::new(H2::to_upstream(sender, self.shares.limits()))));
        Lease { link: Some(link), was_idle, busy, opened: now, place: Some(place) }
    }

    /// Whether connections may turn out to be shared ones, of HTTP/2.
    pub fn may_share(&self) -> bool {
        self.may_share
    }

    /// Hears that the host wants HTTP/1.1, which matters where it may choose.
    pub fn wants_http1(&self) {
        if self.host.protocol == Protocol::Auto {
            self.shares.wants_http1();
        }
    }

    /// Whether the host is known to be spoken with in HTTP/1 only.
    pub fn speaks_http1(&self) -> bool {
        !self.may_share || self.shares.speaks_http1()
    }

    /// Whether somebody who waits for a connection waits for the host, and not for those who have its streams.
    pub fn is_dialing(&self, websocket: bool) -> bool {
        let own = websocket && self.host.protocol == Protocol::Auto;
        !self.may_share || own || self.shares.is_dialing()
    }

    /// Whether connections are kept at all.
    pub fn keeps(&self) -> bool {
        self.idle_max > 0
    }

    /// Drops what has been idle too long, or was closed by the upstream.
    pub fn sweep(&self, now: Tick) {
        if self.may_share {
            // What ends one of these is announced, so that no request is lost by it (RFC 9113 §6.8).
            self.shares.sweep(now, self.keep_alive.time.unwrap_or(IDLE_MAX));
        }
        let limit = self.idle_time();
        self.idle.borrow_mut().retain_mut(|idle| now.since(idle.since) <= limit && is_quiet(&mut idle.link));
    }

    /// Looks, once a second, whether the host has answered this worker since the last time, and tells all others.
    pub fn has_answered(&self, now: Tick) -> bool {
        let answers = self.cells.duration.borrow().counts.iter().sum();
        let answered = self.answers_seen.replace(answers) != answers;
        self.host.live.silence.hear(answered, self.host.in_flight(), now);
        answered
    }

    /// Idle connections now.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().len() + self.shares.idle_count()
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        self.idle.borrow_mut().clear();
        self.shares.sweep(Tick::NEVER, Duration::ZERO);
    }

    /// Closes all idle connections, and those that are shared after their last request.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.shares.clear();
    }
}

/// Counts a request as being on a host, from choosing the host to the end.
#[derive(Debug)]
struct Busy(Rc<HostPool>);

impl Busy {
    /// None when the host has as many as it may have: workers that looked at the same time do not all get a place.
    fn new(pool: &Rc<HostPool>) -> Option<Busy> {
        let before = pool.host.live.in_flight.fetch_add(1, Relaxed);
        let busy = Busy(Rc::clone(pool)); // counts it off again when it is dropped
        (before < pool.host.max_in_flight).then_some(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.host.live.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Whether no event said that there is something to read: a byte or an end on an idle connection taints it (attack A39).
/// Not by polling: a task that has used up its budget is told `Pending` whatever there is.
fn is_quiet(link: &mut Link) -> bool {
    link.h1().is_some_and(|link| link.stream.front() == Front::Quiet)
}

impl Lease {
    /// The pool it is from.
    pub fn pool(&self) -> &Rc<HostPool> {
        &self.busy.0
    }

    /// The connection. `None` never happens before [`Lease::give_back`].
    pub fn link(&mut self) -> Option<&mut Link> {
        self.link.as_deref_mut()
    }

    /// Whether the host has reset the connection: one of HTTP/1 that it has ended with a request unread.
    pub fn was_reset(&mut self) -> bool {
        self.link().and_then(Link::h1).is_some_and(|h1| h1.was_reset())
    }

    /// Gives the connection back for the next request, when nothing of this one is left on it.
    pub fn give_back(mut self, now: Tick) {
        if self.place.is_some() {
            return; // its stream ends with it
        }
        let Some(mut link) = self.link.take() else { return };
        let pool = self.busy.0.latest();
        if !pool.host.is_spoken_with_like(&self.busy.0.host) {
            return; // it was made by other rules
        }
        let mut idle = pool.idle.borrow_mut();
        if link.is_clean() && idle.len() < pool.idle_max && pool.retired().is_none() {
            link.rest();
            idle.push(Idle { link, since: now, opened: self.opened });
        }
    }
}
