//! drive: one connection at work: what comes is taken over, what waits is sent, and it ends in time.

use super::{Arrived, Shared};
use crate::client::Active;
use crate::deadlines::Deadline;
use crate::net::Stream;
use crate::streams::{Begin, Event, Over, Place, Verdict};
use portunus_message::{Crime, Request, Scheme, Tick};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What drives a connection.
pub(super) struct Drive<'a> {
    pub(super) socket: Stream,
    pub(super) shared: &'a Rc<Shared>,
    pub(super) deadline: &'a Deadline,
    /// Since when no further requests are taken.
    pub(super) going: Option<Tick>,
    /// When one that misbehaves is no longer listened to.
    pub(super) cut_at: Option<Tick>,
    /// When all has to be sent, where nothing but that is left to be done.
    pub(super) sent_by: Option<Tick>,
}

impl Drive<'_> {
    /// Takes requests, and moves what belongs to them, until the connection is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Shared { worker, streams, .. } = &**self.shared;
        streams.wakes(cx);
        self.deadline.wakes(cx);
        streams.at(worker.clock.now());
        loop {
            let flushed = match streams.poll_flush(cx, &mut self.socket) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => false,
            };
            if let Some(over) = streams.over() {
                if over == Over::Wrong && self.cut_at.is_none() {
                    worker.cells.crime(Crime::BadFrames);
                }
                if flushed {
                    return Poll::Ready(());
                }
                return self.last_words();
            }
            if flushed && streams.is_done() {
                return Poll::Ready(());
            }
            if !streams.is_full() {
                match self.poll_hear(cx) {
                    Poll::Ready(true) => continue,
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            match self.look(flushed) {
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

    /// Waits until a client that is no longer listened to has taken our last words, though not for long.
    fn last_words(&mut self) -> Poll<()> {
        let now = self.shared.worker.clock.refresh();
        let at = *self.cut_at.get_or_insert(now + LAST_WORDS);
        if now >= at {
            return Poll::Ready(());
        }
        self.deadline.set(at);
        Poll::Pending
    }

    /// Reads what has come. `false`: nothing more comes.
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Shared { worker, streams, .. } = &**self.shared;
        if self.socket.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        let mut room = worker.buffers.small();
        let done = match self.socket.poll_read(cx, &mut room) {
            Poll::Ready(Ok(count @ 1..)) => {
                streams.at(worker.clock.refresh());
                self.hear(room.get(..count).unwrap_or(&[]));
                Poll::Ready(true)
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                if self.shared.requests.get() == 0 {
                    worker.cells.crime(Crime::ClientGone);
                }
                Poll::Ready(false)
            }
            Poll::Pending => Poll::Pending,
        };
        worker.buffers.give(room);
        done
    }

    /// Takes over what has come.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) {
        let Shared { worker, limits, streams, secured, running, waiting, .. } = &**self.shared;
        let take = || {
            let mut active = worker.take_active();
            active.exchange.clear();
            active
        };
        let give = |active| worker.give_active(active);
        let scheme = if secured.is_some() { Scheme::Https } else { Scheme::Http };
        self.shared.go_on();
        while !bytes.is_empty() && streams.over().is_none() {
            let has_room = running.get() + waiting.borrow().len() < limits.streams;
            match streams.receive(&mut bytes, &Begin { take: &take, give: &give, scheme, has_room }) {
                Some(Event::Request(head)) => {
                    self.shared.arrive(Arrived { head, at: worker.clock.now() });
                }
                Some(Event::Refused) => {
                    self.shared.requests.set(self.shared.requests.get() + 1);
                    worker.cells.crime(Crime::TooManyStreams);
                }
                Some(Event::Malformed) => streams.watch.was_wrong(),
                None => {}
            }
        }
        streams.watch.is_in(streams.in_block(), worker.clock.now());
    }

    /// Tells the client that the connection ends now, and why.
    fn cut(&mut self, crime: Crime, now: Tick) -> Look {
        self.shared.worker.cells.crime(crime);
        self.cut_at = Some(now + LAST_WORDS);
        self.shared.streams.cut(crime);
        Look::Changed
    }

    /// Looks whether the connection may go on, and until when. `flushed`: all that was to be sent has gone.
    fn look(&mut self, flushed: bool) -> Look {
        let Shared { worker, limits, streams, .. } = &**self.shared;
        let watch = &streams.watch;
        let now = worker.clock.refresh();
        if let Verdict::TooMuch(crime) = watch.verdict() {
            return self.cut(crime, now);
        }
        // A client that takes nothing keeps nothing (attack B12); streams have clocks of their own.
        let stalls_at = watch.stalled().map_or(Tick::NEVER, |since| since + limits.response_idle);
        if now >= stalls_at {
            worker.cells.crime(Crime::ClientStalled);
            return Look::Over;
        }
        let block_at = watch.in_block().map_or(Tick::NEVER, |since| since + limits.header_time);
        if now >= block_at {
            return self.cut(Crime::HeadTimeout, now);
        }
        let mut at = stalls_at.min(block_at).min(self.shared.look_in_line(now));
        let all_served = self.shared.running.get() == 0;
        if all_served && worker.is_draining() && worker.deadlines.is_cut(self.deadline.key(), now) {
            return Look::Over;
        }
        // What is left of the answers keeps the connection, though not for as long as the client likes.
        let is_quiet = all_served && flushed;
        if all_served && !flushed {
            self.shared.quiet_since.set(now);
            let sent_by = *self.sent_by.get_or_insert_with(|| now + streams.time_to_send());
            if now >= sent_by {
                worker.cells.crime(Crime::ClientStalled);
                return Look::Over;
            }
            at = at.min(sent_by);
        } else {
            self.sent_by = None;
        }
        match self.going {
            None if self.has_enough(now) => {
                self.going = Some(now);
                streams.say_goodbye(); // in two steps (RFC 9113 §6.8; attack B21)
                return Look::Changed;
            }
            Some(since) => {
                let quiet_since = self.shared.quiet_since.get();
                let over_at = if is_quiet { since.max(quiet_since) + GOODBYE } else { since + HEARD };
                if now < over_at {
                    at = at.min(over_at);
                } else if streams.say_last() {
                    return Look::Changed;
                } else if is_quiet {
                    return Look::Over;
                }
            }
            None => at = at.min(self.shared.opened + limits.age),
        }
        if is_quiet && self.going.is_none() {
            let fresh = self.shared.requests.get() == 0;
            let sent_away_at = if fresh { worker.sends_away_at(0, self.shared.opened) } else { Tick::NEVER };
            if now >= sent_away_at {
                return Look::Over;
            }
            let time = if fresh { limits.header_time } else { worker.keep_alive() };
            let since = self.shared.quiet_since.get();
            if now >= since + time {
                worker.cells.crime(if fresh { Crime::HeadTimeout } else { Crime::Idle });
                self.going = Some(now);
                streams.say_goodbye();
                return Look::Changed;
            }
            at = at.min(since + time).min(sent_away_at).min(worker.tight_until(now));
            streams.rest();
        }
        Look::Wait(at)
    }

    /// Whether the client is to make its further requests elsewhere (attack B20).
    fn has_enough(&self, now: Tick) -> bool {
        let Shared { worker, limits, streams, opened, requests, .. } = &**self.shared;
        worker.is_draining()
            || streams.watch.verdict() == Verdict::Enough
            || requests.get() >= limits.requests
            || now.since(*opened) >= limits.age
    }
}

impl Place for Box<Active> {
    fn request(&mut self) -> &mut Request {
        &mut self.exchange.request
    }
}

/// What has come of a look at a connection.
enum Look {
    /// Nothing; the next one is due then.
    Wait(Tick),
    /// Something is to be said.
    Changed,
    /// It is over.
    Over,
}

/// How long a client that is to go, and has nothing under way, is waited for.
const GOODBYE: Duration = Duration::from_secs(1);
/// When a client has heard that it is to go, whether it says so or not.
const HEARD: Duration = Duration::from_secs(10);
/// How long a client that misbehaves has to hear so.
const LAST_WORDS: Duration = Duration::from_secs(1);
