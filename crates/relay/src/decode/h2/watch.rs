//! watch: what a client does on an HTTP/2 connection, counted, and when it is too much.

use portunus_message::{Crime, Limits, Tick};
use portunus_wire::frames::{Frame, Frames, Kind};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// What a client does on a connection.
#[derive(Debug)]
pub struct Watch {
    frames: RefCell<Frames>,
    limits: Rc<Limits>,
    /// Frames that carry nothing.
    idle: Window,
    /// Requests that were taken back unanswered.
    resets: Window,
    /// Requests that were so wrong that they were reset.
    wrong: Cell<usize>,
    /// Streams that may yet be reset by the client without more ado: those that have begun.
    open: Cell<u32>,
    /// Bytes sent since the last frame that acknowledged some.
    sent: Cell<u64>,
    /// Since when a block of fields is under way.
    in_fields: Cell<Option<Tick>>,
    /// Since when nothing of what is to be sent has been taken.
    stalled: Cell<Option<Tick>>,
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    #[default]
    Good,
    /// It may finish what it has begun.
    Enough,
    /// It ends now.
    TooMuch(Crime),
}

/// A count that starts anew after a time.
#[derive(Debug, Default)]
struct Window {
    since: Cell<Tick>,
    count: Cell<usize>,
}

impl Window {
    /// Counts one more; says how many that makes.
    fn add(&self, now: Tick, time: Duration) -> usize {
        if now.since(self.since.get()) >= time {
            self.since.set(now);
            self.count.set(0);
        }
        self.count.set(self.count.get().saturating_add(1));
        self.count.get()
    }
}

impl Watch {
    /// For a new connection.
    pub fn new(limits: Rc<Limits>) -> Watch {
        Watch {
            frames: RefCell::default(),
            limits,
            idle: Window::default(),
            resets: Window::default(),
            wrong: Cell::default(),
            open: Cell::default(),
            sent: Cell::new(0),
            in_fields: Cell::default(),
            stalled: Cell::default(),
            verdict: Cell::default(),
            waker: RefCell::default(),
        }
    }

    /// Hears of bytes that have come.
    pub fn received(&self, bytes: &[u8], now: Tick) {
        let mut frames = self.frames.borrow_mut();
        frames.advance(bytes, |frame| self.see(&frame, now));
        let since = frames.is_in_fields().then(|| self.in_fields.get().unwrap_or(now));
        self.in_fields.set(since);
    }

    /// Counts a frame that carries nothing, unless there is a reason for it (attacks B13, B15).
    fn see(&self, frame: &Frame, now: Tick) {
        let excused = match frame.kind {
            Kind::Headers if frame.is_bad_trailer => {
                self.judge(Verdict::TooMuch(Crime::BadFrames)); // attack B4
                true
            }
            Kind::Headers => {
                self.open.set(self.open.get().saturating_add(1));
                self.sent.set(self.sent.get() + EACH); // many open its window at once
                true
            }
            Kind::Continuation | Kind::GoAway | Kind::PushPromise => true, // the library bounds them
            Kind::Data => frame.length > 0 || frame.ends_stream(),
            // One for each stream that has begun.
            Kind::Reset => {
                let open = self.open.get();
                self.open.set(open.saturating_sub(1));
                open > 0
            }
            Kind::Ping | Kind::Settings if frame.is_ack() => true,
            // Who receives much also says much: that there is room for more, how fast it came, or what is wanted first.
            Kind::Ping | Kind::WindowUpdate | Kind::Priority => {
                let sent = self.sent.get();
                self.sent.set(sent.saturating_sub(EACH));
                sent >= EACH
            }
            Kind::Settings | Kind::Unknown => false,
        };
        if excused {
            return;
        }
        let count = self.idle.add(now, self.limits.idle_frames_time);
        if count > self.limits.idle_frames {
            self.judge(Verdict::TooMuch(Crime::TooManyFrames));
        } else if count > self.limits.idle_frames / 4 * 3 {
            self.judge(Verdict::Enough);
        }
    }

    /// Hears that so many bytes have been sent, or that none could be.
    pub fn sent(&self, count: Option<usize>, now: Tick) {
        match count {
            None => self.stalled.set(Some(self.stalled.get().unwrap_or(now))),
            Some(count) => {
                self.stalled.set(None);
                self.sent.set((self.sent.get() + count as u64).min(EACH * 4000));
            }
        }
    }

    /// Since when nothing of what is to be sent has been taken.
    pub fn stalled(&self) -> Option<Tick> {
        self.stalled.get()
    }

    /// Since when a block of fields is under way.
    pub fn in_fields(&self) -> Option<Tick> {
        self.in_fields.get()
    }

    /// Counts a request that was taken back before it was answered (attack B7).
    pub fn was_reset(&self, now: Tick) {
        if self.resets.add(now, self.limits.resets_time) > self.limits.resets {
            self.judge(Verdict::TooMuch(Crime::TooManyResets));
        }
    }

    /// Counts a request that was so wrong that it was reset (attack B8).
    pub fn was_wrong(&self) {
        self.wrong.set(self.wrong.get() + 1);
        if self.wrong.get() > self.limits.resets_sent {
            self.judge(Verdict::TooMuch(Crime::BadFrames));
        }
    }

    /// The connection may finish what it has begun.
    pub fn ask_to_go(&self) {
        self.judge(Verdict::Enough);
    }

    fn judge(&self, verdict: Verdict) {
        if matches!(self.verdict.get(), Verdict::TooMuch(_)) || self.verdict.get() == verdict {
            return;
        }
        self.verdict.set(verdict);
        self.wake();
    }

    /// What is to become of the connection.
    pub fn verdict(&self) -> Verdict {
        self.verdict.get()
    }

    /// Lets the task of the connection look around.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whom to wake.
    pub fn wakes(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

/// How many bytes one word of acknowledgement has to be about.
const EACH: u64 = 64;
