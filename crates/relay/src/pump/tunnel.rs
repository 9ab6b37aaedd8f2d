//! A tunnel: bytes both ways until both sides have ended, each half by itself.

use super::Transfer;
use crate::client::Client;
use crate::link::Link;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Phase, Side, Tick};
use portunus_wire::h1::Framing;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Moves bytes both ways until both halves have ended, nothing has moved for `idle`, or one side breaks.
pub async fn run(
    x: &mut Exchange,
    client: &mut Client,
    upstream: &mut Link,
    idle: Duration,
    worker: &Worker,
) -> Result<(), Error> {
    let now = worker.clock.now();
    let half = |from| Half { transfer: Transfer::new(from, Vec::new(), u64::MAX), ended: false };
    let (mut up, mut down) = (half(Side::Client), half(Side::Upstream));
    for link in [&mut client.link, &mut *upstream] {
        link.expect_raw();
        link.promise_body(Framing::UntilClose);
    }
    let mut last = now;
    poll_fn(|cx| {
        let now = worker.clock.refresh();
        let before = (up.transfer.moved, down.transfer.moved);
        let up_over = up.poll(cx, &mut client.link, upstream, now)?.is_ready();
        let down_over = down.poll(cx, upstream, &mut client.link, now)?.is_ready();
        (x.bytes_up, x.bytes_down) = (up.transfer.moved, down.transfer.moved);
        if up_over && down_over {
            return Poll::Ready(Ok(()));
        }
        if before != (x.bytes_up, x.bytes_down) {
            last = now;
        }
        if now >= last + idle || worker.is_over(now) {
            return Poll::Ready(Err(Error::proxy(Phase::Body, Crime::TunnelIdle)));
        }
        client.deadline.set((last + idle).min(worker.over_at()));
        Poll::Pending
    })
    .await
}

/// One direction of a tunnel; when its source ends, its sink's half is ended too.
struct Half {
    transfer: Transfer,
    ended: bool,
}

impl Half {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Link,
        to: &mut Link,
        now: Tick,
    ) -> Poll<Result<(), Error>> {
        ready!(self.transfer.poll(cx, from, to, now))?;
        if !self.ended {
            // The other side may be gone already, which ends this half as well.
            let _ = ready!(to.stream.poll_end(cx));
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}
