//! A tunnel: bytes both ways until both sides have ended, each half by itself; and the good-byes of one that has to end.

use crate::client::Client;
use crate::link::Link;
use crate::worker::{CLOSE_TIME, Worker};
use portunus_message::{Crime, Error, Exchange, Phase, Tick};
use portunus_wire::h1::Framing;
use portunus_wire::websocket::{self, Frames};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What bounds a tunnel.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// How long it may be silent.
    pub idle: Duration,
    /// How long its pool lets it go on when it has to end.
    pub drain: Option<Duration>,
    /// Since when its host, or the configuration that it began under, is a thing of the past.
    pub retired: &'a dyn Fn() -> Option<Tick>,
}

/// Moves bytes both ways until both halves have ended, nothing has moved for `idle`, or one side breaks. When the program stops, or the
/// host is taken out of the configuration, both sides are sent a close frame in time.
pub async fn run(
    x: &mut Exchange,
    client: &mut Client,
    upstream: &mut Link,
    bounds: Bounds<'_>,
    worker: &Worker,
) -> Result<(), Error> {
    for link in [&mut client.link, &mut *upstream] {
        link.expect_raw();
        link.promise_body(Framing::UntilClose);
    }
    // Whoever ends the tunnel is in here, not outside: the close frames come first.
    client.deadline.allow(UNBOUNDED);
    let (mut up, mut down) = (Half::default(), Half::default());
    let mut last = worker.clock.now();
    let mut closing_until = None;
    let end = poll_fn(|cx| {
        let now = worker.clock.refresh();
        let before = (up.moved, down.moved);
        let closes_at = worker.tunnel_closes_at(bounds.drain, (bounds.retired)());
        if now >= closes_at && closing_until.is_none() {
            closing_until = Some(now + CLOSE_TIME);
            // What both say in the end has the same words, but a client masks them.
            let mask = (worker.random() as u32).to_be_bytes();
            up.begin_close(websocket::going_away(mask).to_vec());
            down.begin_close(websocket::GOING_AWAY.to_vec());
        }
        let up_over = up.poll(cx, &mut client.link, upstream)?.is_ready();
        let down_over = down.poll(cx, upstream, &mut client.link)?.is_ready();
        (x.bytes_up, x.bytes_down) = (up.moved, down.moved);
        let stopped = Err(Error::proxy(Phase::Body, Crime::Stopping));
        if up_over && down_over {
            return Poll::Ready(if closing_until.is_some() { stopped } else { Ok(()) });
        }
        if before != (x.bytes_up, x.bytes_down) {
            last = now;
        }
        if now >= closing_until.unwrap_or(Tick::NEVER) {
            return Poll::Ready(stopped);
        }
        if now >= last + bounds.idle {
            return Poll::Ready(Err(Error::proxy(Phase::Body, Crime::TunnelIdle)));
        }
        client.deadline.set((last + bounds.idle).min(closing_until.unwrap_or(closes_at)));
        Poll::Pending
    })
    .await;
    client.deadline.allow_usual();
    end
}

/// Longer than any end of the program.
const UNBOUNDED: Duration = Duration::from_secs(24 * 3600);

/// One direction of a tunnel; when its source ends, its sink's half is ended too.
#[derive(Default)]
struct Half {
    state: State,
    /// Where the frames of the source end.
    frames: Frames,
    /// What the sink is told between two frames.
    last_words: Vec<u8>,
    said: usize,
    moved: u64,
}

///```text
/// Open ──close asked──▶ Closing ──frame ends──▶ Saying ──said──▶ Listening ──close frame or end──▶ Flushing ──▶ Over
///   └──────────────end of the source──────────────────────────────────────────────────────────────▶
///```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Everything passes.
    #[default]
    Open,
    /// Everything passes to the end of the frame.
    Closing,
    /// The sink is told that this was all.
    Saying,
    /// What the source says now is for nobody; only its own good-bye is waited for.
    Listening,
    /// What is in the sink's buffer is written, and its half is ended.
    Flushing,
    Over,
}

impl Half {
    /// Lets the frame under way be the last one, and `last_words` follow it.
    fn begin_close(&mut self, last_words: Vec<u8>) {
        if self.state == State::Open {
            self.state = State::Closing;
            self.last_words = last_words;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Link, to: &mut Link) -> Poll<Result<(), Error>> {
        loop {
            match self.state {
                // A side that has said good-bye already is told nothing more (RFC 6455 §5.5.1).
                State::Closing if self.frames.is_closed() && self.frames.is_between() => {
                    self.state = State::Flushing;
                }
                State::Closing if self.frames.is_between() => self.state = State::Saying,
                State::Open | State::Closing => ready!(self.poll_pass(cx, from, to))?,
                State::Saying => {
                    while let Some(rest) = self.last_words.get(self.said..).filter(|rest| !rest.is_empty()) {
                        self.said += ready!(to.poll_send(cx, rest))?;
                    }
                    ready!(to.poll_flush(cx))?;
                    self.state = State::Listening;
                }
                State::Listening if self.frames.is_closed() => self.state = State::Flushing,
                State::Listening => ready!(self.poll_drop(cx, from)),
                State::Flushing => {
                    ready!(to.poll_flush(cx))?;
                    // The other side may be gone already, which ends this half as well.
                    let _ = ready!(to.poll_end(cx));
                    self.state = State::Over;
                }
                State::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Passes on what there is; while it is closing, not beyond the end of a frame.
    fn poll_pass(&mut self, cx: &mut Context<'_>, from: &mut Link, to: &mut Link) -> Poll<Result<(), Error>> {
        match from.poll_data(cx) {
            Poll::Ready(Ok(true)) => {}
            Poll::Ready(Ok(false)) => {
                self.state = State::Flushing;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                // The source has nothing now: what it gave must not wait for it.
                let _ = to.poll_flush(cx)?;
                return Poll::Pending;
            }
        }
        let data = from.data();
        let whole = if self.state == State::Closing { self.frames.first_frame(data) } else { data.len() };
        let data = data.get(..whole).unwrap_or(data);
        let taken = ready!(to.poll_send(cx, data))?;
        self.frames.advance(data.get(..taken).unwrap_or(data));
        from.consume(taken);
        self.moved += taken as u64;
        Poll::Ready(Ok(()))
    }

    /// Reads what nobody wants any more.
    fn poll_drop(&mut self, cx: &mut Context<'_>, from: &mut Link) -> Poll<()> {
        match ready!(from.poll_data(cx)) {
            Ok(true) => {
                let count = from.data().len();
                self.frames.advance(from.data());
                from.consume(count);
            }
            Ok(false) | Err(_) => self.state = State::Flushing,
        }
        Poll::Ready(())
    }
}
