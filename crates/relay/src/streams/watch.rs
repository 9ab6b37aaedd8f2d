//! watch: what a client does on an HTTP/2 connection, counted, and when it is too much.

use portunus_message::{Crime, Limits, Tick};
use portunus_wire::h2::frame::{ACK, END_STREAM, Head, Kind};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What a client does on a connection.
#[derive(Debug)]
pub struct Watch {
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
    /// Which block of fields, or other frame, is under way, and since when.
    in_block: Cell<Option<(u32, Tick)>>,
    /// Since when nothing of what is to be sent has been taken.
    stalled: Cell<Option<Tick>>,
    verdict: Cell<Verdict>,
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
            limits,
            idle: Window::default(),
            resets: Window::default(),
            wrong: Cell::default(),
            open: Cell::default(),
            sent: Cell::new(0),
            in_block: Cell::default(),
            stalled: Cell::default(),
            verdict: Cell::default(),
        }
    }

    /// Hears which block of fields, or other frame, is under way.
    pub fn is_in(&self, block: Option<u32>, now: Tick) {
        if block != self.in_block.get().map(|(known, _)| known) {
            self.in_block.set(block.map(|block| (block, now)));
        }
    }

    /// Counts a frame that carries nothing, unless there is a reason for it (attacks B13, B15).
    pub fn see(&self, frame: &Head, now: Tick) {
        let excused = match frame.kind {
            Kind::Headers => {
                self.open.set(self.open.get().saturating_add(1));
                self.sent.set(self.sent.get() + EACH); // many open its window at once
                true
            }
            Kind::Continuation | Kind::PushPromise => true, // they are bounded elsewhere, or end the connection
            Kind::Data => frame.length > 0 || frame.has(END_STREAM),
            // One for each stream that has begun.
            Kind::Reset => {
                let open = self.open.get();
                self.open.set(open.saturating_sub(1));
                open > 0
            }
            Kind::Ping if frame.has(ACK) => false,
            // Who receives much also says much: that there is room for more, how fast it came, or what is wanted first.
            Kind::Ping | Kind::WindowUpdate | Kind::Priority => {
                let sent = self.sent.get();
                self.sent.set(sent.saturating_sub(EACH));
                sent >= EACH
            }
            Kind::Settings | Kind::GoAway | Kind::Unknown => false,
        };
        if !excused {
            self.count_idle(now);
        }
    }

    /// Counts a frame that carries nothing.
    pub fn count_idle(&self, now: Tick) {
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

    /// Since when a block of fields, or another frame, is under way.
    pub fn in_block(&self) -> Option<Tick> {
        self.in_block.get().map(|(_, since)| since)
    }

    /// Counts a request that came at `began` and was taken back before it was answered (attack B7). Whoever takes requests back later than
    /// at once, because a deadline has passed or somebody has changed his mind, asks for no more than other clients do.
    pub fn was_reset(&self, began: Tick, now: Tick) {
        if now.since(began) < self.limits.resets_early
            && self.resets.add(now, self.limits.resets_time) > self.limits.resets
        {
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
    }

    /// What is to become of the connection.
    pub fn verdict(&self) -> Verdict {
        self.verdict.get()
    }
}

/// How many bytes one word of acknowledgement has to be about.
const EACH: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_only_what_is_taken_back_at_once_is_too_much() {
        let watch = Watch::new(Rc::default());
        for number in 0..10_000 {
            let began = Tick(number * 1000);
            watch.was_reset(began, began + Duration::from_millis(100));
        }
        assert_eq!(watch.verdict(), Verdict::Good);
        for number in 0..=100 {
            assert_eq!(watch.verdict(), Verdict::Good, "{number}");
            watch.was_reset(Tick(20_000_000), Tick(20_099_999));
        }
        assert_eq!(watch.verdict(), Verdict::TooMuch(Crime::TooManyResets));
    }
}
