//! An answer on its way to the client, while the request's body may still be on its way up.

use super::{Pace, Transfer};
use crate::client::Client;
use crate::context::Bounds;
use crate::link::Link;
use crate::pressure::Level;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Limits, Phase, Retry, Side, Tick};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// What the two transfers of an exchange need.
pub struct Both<'a> {
    /// The client.
    pub client: &'a mut Client,
    /// The upstream's connection.
    pub link: &'a mut Link,
    /// The request's body.
    pub up: &'a mut Transfer,
    /// Whether the upstream has stopped taking it.
    pub up_failed: bool,
    /// The answer's body.
    pub down: &'a mut Transfer,
    /// Its bounds.
    pub bounds: &'a Bounds,
    /// Its limits.
    pub limits: &'a Limits,
    /// Whether nothing has been moved yet.
    pub first: bool,
}

impl Both<'_> {
    /// Moves both until both are over. The answer may end first: the client has it then, and what it still sends is
    /// passed on for as long as the upstream takes it, so that the client's connection stays of use.
    /// Says whether the request's body was over before the answer was: only then is the upstream's connection in a
    /// known state (attack A11).
    pub async fn run(&mut self, x: &mut Exchange, worker: &Worker) -> Result<bool, Error> {
        let mut in_order = false;
        poll_fn(|cx| {
            if !self.down.is_over() {
                in_order = self.up.is_over();
            }
            self.poll(cx, x, worker)
        })
        .await?;
        Ok(in_order)
    }

    fn poll(&mut self, cx: &mut Context<'_>, x: &mut Exchange, worker: &Worker) -> Poll<Result<(), Error>> {
        // The first look follows at once on the head of the answer, whose time is still good.
        let now = if std::mem::take(&mut self.first) { worker.clock.now() } else { worker.clock.refresh() };
        let mut upload_at = Tick::NEVER;
        if !self.up.is_over() && !self.up_failed {
            match self.up.poll(cx, &mut self.client.link, self.link, now) {
                // The answer is what counts: a body that cannot be moved on does not end it.
                Poll::Ready(Err(error)) if error.side == Side::Upstream || self.down.is_over() => {
                    self.up_failed = true
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            x.bytes_up = self.up.moved;
        }
        let moved = self.down.poll(cx, self.link, &mut self.client.link, now)?;
        x.bytes_down = self.down.moved;
        x.call_status = self.down.call_status;
        if moved.is_ready() && (self.up.is_over() || self.up_failed) {
            return Poll::Ready(Ok(()));
        }
        // A call that its client has cancelled ends at once, however silent the upstream is (attack J4).
        if let Link::Front(stream) = &mut self.client.link
            && !self.down.is_over()
            && let Poll::Ready(error) = stream.poll_over(cx, Phase::Body)
        {
            return Poll::Ready(Err(error));
        }
        if let Some(at) = self.up.overdue(Side::Upstream, now, &self.patience())
            && !self.up_failed
        {
            if at <= now {
                self.up_failed = true;
                if self.down.is_over() {
                    return Poll::Ready(Ok(()));
                }
            }
            upload_at = at;
        }
        if worker.level() >= Level::Ending
            && worker.census.must_go(self.client.deadline.key(), || self.held())
        {
            return Poll::Ready(Err(Error::proxy(Phase::Body, Crime::LowMemory)));
        }
        let (at, error) = self.next_deadline(x, now, worker);
        let at = if upload_at > now { at.min(upload_at) } else { at };
        if at > now {
            self.client.deadline.set(at);
            return Poll::Pending;
        }
        if self.down.is_over() {
            self.up_failed = true;
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(error))
    }

    /// What the exchange holds.
    fn held(&self) -> usize {
        self.client.link.held() + self.link.held() + self.up.held() + self.down.held()
    }

    /// How long the upstream may leave the request's body untaken: not long, once it has answered.
    fn patience(&self) -> Pace {
        Pace::of_upstream(if self.down.is_over() {
            self.limits.drain_time
        } else {
            self.bounds.upstream_idle
        })
    }

    fn next_deadline(&self, x: &Exchange, now: Tick, worker: &Worker) -> (Tick, Error) {
        let whole = self.bounds.request.map_or(Tick::NEVER, |time| x.times.began + time);
        let mut first = (whole, Error::upstream(Phase::Body, Crime::Deadline, Retry::Never));
        let level = worker.level();
        let stalled = match level {
            Level::Calm => Error::client(Phase::Body, Crime::ClientStalled),
            _ => Error::proxy(Phase::Body, Crime::LowMemory),
        };
        let reader = self.down.overdue(Side::Client, now, &Pace::of_response(self.limits).at(level));
        let writer = self.down.overdue(Side::Upstream, now, &Pace::of_upstream(self.bounds.upstream_idle));
        let mut pace = Pace::of_body(self.limits, self.bounds.conversation);
        if self.down.is_over() && self.client.link.is_stream() {
            // Whoever has the answer can be told that the rest is not wanted (RFC 9113 §8.1).
            pace = Pace::of_upstream(self.limits.drain_time);
        }
        let sender = self.up.overdue(Side::Client, now, &pace).filter(|_| !self.up_failed);
        for (at, error) in [
            (reader, stalled),
            (writer, Error::upstream(Phase::Body, Crime::UpstreamStalled, Retry::Never)),
            (sender, Error::client(Phase::Body, Crime::BodyTimeout)),
        ] {
            if let Some(at) = at.filter(|&at| at < first.0) {
                first = (at, error);
            }
        }
        first
    }
}

/// Sends a body of our own, and whatever waits before it.
pub async fn own(
    x: &mut Exchange,
    client: &mut Client,
    body: &[u8],
    limits: &Limits,
    worker: &Worker,
) -> Result<(), Error> {
    let mut until = worker.clock.now() + limits.response_idle;
    let mut sent = 0;
    poll_fn(|cx| {
        let before = (sent, client.link.waiting());
        if let Poll::Ready(done) = poll_own(cx, &mut client.link, body, &mut sent) {
            return Poll::Ready(done);
        }
        let now = worker.clock.refresh();
        if before != (sent, client.link.waiting()) {
            until = now + limits.response_idle;
        } else if now >= until {
            return Poll::Ready(Err(Error::client(Phase::Body, Crime::ClientStalled)));
        }
        client.deadline.set(until);
        Poll::Pending
    })
    .await?;
    x.bytes_down = sent as u64;
    Ok(())
}

fn poll_own(cx: &mut Context<'_>, link: &mut Link, body: &[u8], sent: &mut usize) -> Poll<Result<(), Error>> {
    while let Some(rest) = body.get(*sent..).filter(|rest| !rest.is_empty()) {
        *sent += ready!(link.poll_send(cx, rest))?;
    }
    link.finish(None)?;
    link.poll_flush(cx)
}
