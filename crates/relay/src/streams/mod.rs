//! The streams of an HTTP/2 connection from a client, without its socket: frames come in, frames go out (RFC 9113). One task drives the
//! connection; each stream is served by another of the same thread.

mod blocks;
mod bodies;
mod control;
mod incoming;
mod outgoing;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

pub use incoming::{Begin, Event, Head, Place};
pub use stream::{Fault, Stream};
pub use watch::Verdict;

use portunus_message::{Crime, Limits, Tick};
use portunus_wire::h2::frame::{self, Code, setting};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;
use watch::Watch;

/// The streams of a connection, and what they have in common.
pub struct Streams {
    inner: RefCell<Inner>,
    /// What the client does, counted.
    pub watch: Watch,
    limits: Rc<Limits>,
    /// When the connection was last looked at.
    now: Cell<Tick>,
    /// The task that drives the connection.
    driver: RefCell<Option<Waker>>,
}

/// What all streams share.
struct Inner {
    incoming: incoming::Incoming,
    outgoing: outgoing::Outgoing,
    /// Those that are not over, in the order of their numbers.
    open: Vec<Rc<Stream>>,
    /// The highest that has begun.
    last: u32,
    /// Some that were over lately: whoever sends on them is wrong in another way than who goes back to a number that was left out.
    closed: VecDeque<u32>,
    /// Those that we have ended before the client had; what was on its way is swallowed.
    given_up: VecDeque<GivenUp>,
    going: Going,
    /// Whether the client has said that it begins no more.
    client_goes: bool,
    /// Why the connection is over.
    over: Option<Over>,
}

/// A stream that we have ended before its client had.
struct GivenUp {
    id: u32,
    at: Tick,
    /// What the client may have sent before it heard of that.
    window: i64,
}

/// How far the good-bye is (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    No,
    /// The client has been told to go; what it has begun until it hears that is still served.
    Told,
    /// What it begins from now on is not looked at.
    Last,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The client has broken a rule.
    Wrong,
    /// We have had enough of it.
    Cut,
}

/// What is wrong with a frame.
enum Wrong {
    /// The stream ends, the others go on (RFC 9113 §5.4.2).
    Stream(u32, Code),
    /// The connection ends (RFC 9113 §5.4.1).
    Connection(Code),
}

impl Streams {
    /// For a new connection; what we want of the client waits to be sent. `at_once`: so many requests may be under way.
    pub fn new(limits: Rc<Limits>, at_once: usize, now: Tick) -> Streams {
        let window = bounded(limits.stream_window);
        let whole = bounded(limits.connection_window).max(frame::WINDOW_USUAL as u32);
        let mut outgoing = outgoing::Outgoing::default();
        frame::settings(
            &[
                (setting::MAX_CONCURRENT_STREAMS, u32::try_from(at_once).unwrap_or(u32::MAX)),
                (setting::INITIAL_WINDOW_SIZE, window),
                (setting::MAX_HEADER_LIST_SIZE, bounded(fields_max(&limits))),
                (setting::ENABLE_CONNECT_PROTOCOL, 1),
            ],
            &mut outgoing.out,
        );
        let more = whole - frame::WINDOW_USUAL as u32;
        if more > 0 {
            frame::window_update(0, more, &mut outgoing.out);
        }
        let inner = Inner {
            incoming: incoming::Incoming::new(i64::from(whole), i64::from(window)),
            outgoing,
            open: Vec::new(),
            last: 0,
            closed: VecDeque::new(),
            given_up: VecDeque::new(),
            going: Going::No,
            client_goes: false,
            over: None,
        };
        let watch = Watch::new(Rc::clone(&limits));
        Streams { inner: RefCell::new(inner), watch, limits, now: Cell::new(now), driver: RefCell::default() }
    }

    /// Whom to wake when there is something to be sent.
    pub fn wakes(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    /// It is so late now.
    pub fn at(&self, now: Tick) {
        self.now.set(now);
    }

    /// Has what waits sent.
    pub fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// Tells the client to make its further requests elsewhere; those that it has begun meanwhile are served (RFC 9113 §6.8; attack B21).
    pub fn say_goodbye(&self) {
        let Inner { going, outgoing, .. } = &mut *self.inner.borrow_mut();
        if *going == Going::No {
            *going = Going::Told;
            frame::go_away(frame::STREAM_MAX, Code::NO_ERROR, &mut outgoing.out);
            // When this is answered, the client has heard the other.
            frame::ping(0, GOODBYE, &mut outgoing.out);
        }
    }

    /// Says which streams are served, and that no further ones are looked at. `false`: that has been said.
    pub fn say_last(&self) -> bool {
        self.inner.borrow_mut().say_last()
    }

    /// How long the client may take to read what waits.
    pub fn time_to_send(&self) -> Duration {
        let waits = self.inner.borrow().outgoing.pending() as u64;
        let rate = self.limits.response_rate;
        waits
            .checked_div(rate)
            .map_or(Duration::MAX, Duration::from_secs)
            .saturating_add(self.limits.response_rate_after)
    }

    /// Ends everything at once; what was under way has this for a reason.
    pub fn cut(&self, crime: Crime) {
        let code = if crime == Crime::BadFrames { Code::PROTOCOL_ERROR } else { Code::ENHANCE_YOUR_CALM };
        let inner = &mut *self.inner.borrow_mut();
        inner.end(code, Over::Cut);
        inner.open.iter().for_each(|stream| stream.fail(Fault::Wrong(crime)));
    }

    /// Whether the connection is over, and why.
    pub fn over(&self) -> Option<Over> {
        self.inner.borrow().over
    }

    /// The number of the block of fields, or the other frame without a body, that the client is in the middle of.
    pub fn in_block(&self) -> Option<u32> {
        self.inner.borrow().incoming.in_block()
    }

    /// Whether all that was begun is over, and no more is begun.
    pub fn is_done(&self) -> bool {
        let inner = self.inner.borrow();
        (inner.client_goes || inner.going == Going::Last)
            && inner.open.is_empty()
            && inner.outgoing.is_empty()
    }

    /// Tells every stream that nobody is there any more.
    pub fn abandon(&self) {
        let open = std::mem::take(&mut self.inner.borrow_mut().open);
        for stream in open {
            stream.fail(Fault::Gone);
        }
    }

    /// Frees what a connection does not need that has nothing to do.
    pub fn rest(&self) {
        let inner = &mut *self.inner.borrow_mut();
        if inner.open.is_empty() {
            inner.open = Vec::new();
            inner.incoming.rest();
            inner.outgoing.rest();
            if inner.given_up.back().is_none_or(|one| one.is_old(self.now.get())) {
                inner.given_up = VecDeque::new();
            }
        }
    }
}

impl Inner {
    /// The stream with a number, if it is open.
    #[inline]
    fn find(&self, id: u32) -> Option<&Rc<Stream>> {
        let at = self.open.binary_search_by_key(&id, |stream| stream.id).ok()?;
        self.open.get(at)
    }

    /// Forgets a stream that is over. `ours`: the client may not know yet.
    fn forget(&mut self, id: u32, ours: Option<Tick>) {
        if let Ok(at) = self.open.binary_search_by_key(&id, |stream| stream.id) {
            let stream = self.open.remove(at);
            match ours {
                Some(now) => self.give_up(id, stream.window_in.get(), now),
                None => {
                    if self.closed.len() >= CLOSED {
                        self.closed.pop_front();
                    }
                    self.closed.push_back(id);
                }
            }
        }
    }

    /// Remembers a stream that we have ended before its client had.
    fn give_up(&mut self, id: u32, window: i64, now: Tick) {
        while self.given_up.len() >= GIVEN_UP || self.given_up.front().is_some_and(|one| one.is_old(now)) {
            self.given_up.pop_front();
        }
        self.given_up.push_back(GivenUp { id, at: now, window: window.max(0) });
    }

    /// Where a stream stands among those that we have ended before their clients had.
    fn find_given_up(&self, id: u32) -> Option<usize> {
        self.given_up.iter().rposition(|one| one.id == id)
    }

    /// A stream is over before its time; what has come of it and was not taken makes room for what comes on others.
    fn fail(&mut self, stream: &Stream, fault: Fault) {
        let left = stream.inbox.take().len();
        self.incoming.credit(left, &mut self.outgoing.out);
        stream.fail(fault);
    }

    /// Ends a stream whose client has broken a rule, or that is not wanted.
    fn reset(&mut self, id: u32, code: Code, now: Tick) {
        frame::reset(id, code, &mut self.outgoing.out);
        self.forget(id, Some(now));
    }

    /// Says which streams are served, unless that has been said.
    fn say_last(&mut self) -> bool {
        let is_new = self.going != Going::Last;
        if is_new {
            self.going = Going::Last;
            frame::go_away(self.last, Code::NO_ERROR, &mut self.outgoing.out);
        }
        is_new
    }

    /// Ends the connection.
    fn end(&mut self, code: Code, over: Over) {
        if self.over.is_none() {
            self.over = Some(over);
            frame::go_away(self.last, code, &mut self.outgoing.out);
        }
    }
}

impl GivenUp {
    fn is_old(&self, now: Tick) -> bool {
        now.since(self.at) > GIVEN_UP_FOR
    }
}

fn bounded(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(frame::WINDOW_MAX as u32)
}

/// What the fields of one head may take, all together.
fn fields_max(limits: &Limits) -> usize {
    limits.header_bytes + limits.url_bytes + PSEUDO_BYTES
}

/// What the four fields that every request has may take besides the path.
const PSEUDO_BYTES: usize = 512;
/// What is in the question that goes with the good-bye.
const GOODBYE: [u8; 8] = *b"good-bye";
/// How many streams that we have ended before their clients had are remembered, and for how long. What comes of others counts as wrong.
const GIVEN_UP: usize = 1000;
const GIVEN_UP_FOR: Duration = Duration::from_secs(30);
/// How many of those are remembered that were over for both.
const CLOSED: usize = 16;
