//! wait: what is waited for while a request is with a host — its body's way up, the head of the answer — and for how long.

use super::Ask;
use crate::conduct::Reason;
use crate::link::Link;
use crate::pool::HostPool;
use crate::pool::heads::{self, Asked};
use crate::pressure::Level;
use crate::pump::Pace;
use portunus_message::{Crime, Error, Phase, Retry, Side, Tick};
use portunus_wire::h1::HeadBounds;
use portunus_wire::h1::parse::ResponseHead;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often one who waits for an answer looks whether there may still be one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far the request has got.
pub struct Sending {
    /// Whether nothing has been looked at yet.
    pub first: bool,
    /// Why the host has stopped taking the body.
    pub up_failed: Option<Error>,
    /// When all of it was sent, or could not be.
    pub sent_at: Option<Tick>,
}

impl Ask<'_> {
    /// Moves the request's body while it waits for the head of the answer.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        host: &HostPool,
        sending: &mut Sending,
    ) -> Poll<Result<ResponseHead, Error>> {
        // The first look follows at once on what came before, whose time is still good.
        let first = std::mem::take(&mut sending.first);
        let now = if first { self.worker.clock.now() } else { self.worker.clock.refresh() };
        let _ = self.client.link.poll_flush(cx)?; // 100 and 103
        if !self.up.is_over() && sending.up_failed.is_none() {
            match self.up.poll(cx, &mut self.client.link, link, now) {
                Poll::Ready(Ok(())) => sending.sent_at = Some(now),
                // The host may have answered before it stopped reading; its answer counts.
                Poll::Ready(Err(error)) if error.side == Side::Upstream => {
                    let untouched = self.up.moved == 0 && link.nothing_sent();
                    sending.up_failed =
                        Some(if untouched { Error { retry: Retry::Untouched, ..error } } else { error });
                    sending.sent_at = Some(now);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            self.x.bytes_up = self.up.moved;
        }
        let asked = Asked::of(&self.x.request);
        let limits = &*self.route.limits;
        let bounds = HeadBounds::response(limits);
        match heads::poll_answer(link, cx, asked, &mut self.x.response, &bounds, limits) {
            Poll::Ready(Ok(Some(head))) => return Poll::Ready(Ok(head)),
            Poll::Ready(Ok(None)) => {
                let ended = || heads::ended(link, self.framing, self.up.moved);
                return Poll::Ready(Err(sending.up_failed.unwrap_or_else(ended)));
            }
            // The end of a stream says more than what became of sending.
            Poll::Ready(Err(error)) if error.retry == Retry::Untouched || link.is_stream() => {
                return Poll::Ready(Err(error));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(sending.up_failed.unwrap_or(error))),
            Poll::Pending => {}
        }
        // While a body is on its way, a client of HTTP/1 has nothing to say but that.
        if (self.up.is_over() || self.client.link.is_stream())
            && let Poll::Ready(error) = self.client.poll_gone(cx, now)
        {
            return Poll::Ready(Err(error));
        }
        if sending.sent_at.is_none() && self.worker.level() >= Level::Ending {
            let held = || self.client.link.held() + link.held() + self.up.held();
            if self.worker.census.must_go(self.client.deadline.key(), held) {
                return Poll::Ready(Err(Error::proxy(Phase::Body, Crime::LowMemory)));
            }
        }
        let (at, crime) = self.next_deadline(sending, now);
        if at <= now {
            return Poll::Ready(Err(crime));
        }
        let waits_long = sending.sent_at.is_some_and(|sent_at| now.since(sent_at) >= LOOK_EVERY);
        if waits_long && self.is_forsaken(host, now) {
            self.forsaken = true;
            return Poll::Ready(Err(Error::upstream(Phase::Wait, Crime::TryTimeout, Retry::IfIdempotent)));
        }
        self.client.deadline.set(at.min(now + LOOK_EVERY));
        Poll::Pending
    }

    /// Whether there is another host that has not been tried.
    pub fn has_elsewhere(&self, now: Tick) -> bool {
        self.pool.hosts.candidates(&self.scratch.tried, now).next().is_some()
    }

    /// Whether one of them is not mute.
    pub fn may_be_answered_elsewhere(&self, now: Tick) -> bool {
        self.pool.hosts.candidates(&self.scratch.tried, now).any(|one| !one.host.live.silence.is_mute())
    }

    /// Whether the host has been found to answer nobody any more, and the request can go to another one.
    pub fn is_forsaken(&self, host: &HostPool, now: Tick) -> bool {
        let live = &host.host.live;
        let is_out = || live.standing.is_ejected(now) && live.conduct.reason() == Reason::Timeouts;
        (live.silence.is_mute() || is_out())
            && self.may_pass_over()
            && self.rule.follows_silence(&self.x.request)
            && self.up.can_rewind()
            && self.may_be_answered_elsewhere(now)
            && self.pool.live.rescues.has_left(self.rule.rescues_percent(), now)
    }

    /// What will be waited for, at most until when, and what it is when it does not come.
    fn next_deadline(&self, sending: &Sending, now: Tick) -> (Tick, Error) {
        let late = |crime| Error::upstream(Phase::Wait, crime, Retry::Never);
        let mut first = (self.request_deadline(), late(Crime::Deadline));
        let mut may_be_earlier = |at: Tick, error: Error| {
            if at < first.0 {
                first = (at, error);
            }
        };
        may_be_earlier(self.try_deadline(), late(Crime::TryTimeout));
        may_be_earlier(self.client.patience_ends(), Error::client(Phase::Wait, Crime::ClientGone));
        if let Some(sent_at) = sending.sent_at {
            may_be_earlier(sent_at + self.bounds.first_byte, late(Crime::FirstByteTimeout));
        } else if let Some(since) = self.up.waits_for(Side::Upstream) {
            may_be_earlier(since + self.bounds.upstream_idle, late(Crime::UpstreamStalled));
        } else if let Some(at) =
            self.up.overdue(Side::Client, now, &Pace::of_body(&self.route.limits, self.bounds.conversation))
        {
            may_be_earlier(at, Error::client(Phase::Body, Crime::BodyTimeout));
        }
        first
    }
}
