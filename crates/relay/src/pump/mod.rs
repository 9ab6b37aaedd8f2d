//! Bodies move, up and down, at the pace of the slower side.

pub mod answer;
pub mod tunnel;

use crate::grpc;
use crate::link::Link;
use crate::pressure::Level;
use portunus_message::{Crime, Error, Fields, Limits, Phase, Side, Stage, Tick};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// One body on its way from one link to another. Nothing is read before what was read has been taken by the
/// other side, so a slow reader slows its writer down and no body is ever held whole.
#[derive(Default)]
pub struct Transfer {
    /// There for the few bodies that do not just pass, so that the others are small: they move often.
    extra: Option<Box<Extra>>,
    source_ended: bool,
    /// Whether nobody wants the trailers.
    drops_trailers: bool,
    state: State,
    /// The status of a call of gRPC that stands behind the body.
    pub call_status: Option<u8>,
    /// Body bytes taken from the source.
    pub moved: u64,
    /// The most that may be moved.
    pub bytes_max: u64,
    /// Which side the transfer waits for, and since when.
    waits: Option<(Side, Tick)>,
    from: Option<Side>,
    /// Time spent waiting for the client.
    waited: Duration,
}

/// What a body needs that is changed on its way, or may be sent twice.
#[derive(Default)]
struct Extra {
    stages: Vec<Box<dyn Stage>>,
    /// What the stages gave, and how much of it has been sent.
    staged: Vec<u8>,
    staged_sent: usize,
    /// Bytes of an earlier attempt, to be sent before what is still to come.
    again: Vec<u8>,
    again_sent: usize,
    keep: Keep,
    /// What stands behind the body, from its end until it goes on.
    trailers: Option<Box<Fields>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Moving,
    Flushing,
    Over,
}

/// What is kept so that it can be sent again.
#[derive(Debug, Default)]
enum Keep {
    #[default]
    Nothing,
    UpTo(usize, Vec<u8>),
    TooMuch,
}

/// How fast a peer has to be (attack H1): not idle too long, and not too slow on average once it has been waited for
/// some time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    idle: Duration,
    rate: u64,
    rate_after: Duration,
}

impl Pace {
    /// For a client that sends a body; in a `conversation` it may be silent for long.
    pub fn of_body(limits: &Limits, conversation: bool) -> Pace {
        if conversation {
            return Pace::of_upstream(limits.tunnel_idle);
        }
        Pace { idle: limits.body_idle, rate: limits.body_rate, rate_after: limits.body_rate_after }
    }

    /// For a client that reads an answer.
    pub fn of_response(limits: &Limits) -> Pace {
        Pace {
            idle: limits.response_idle,
            rate: limits.response_rate,
            rate_after: limits.response_rate_after,
        }
    }

    /// The same while memory is short: whoever takes nothing, or little for longer, does not keep what waits for it.
    pub fn at(self, level: Level) -> Pace {
        let (idle, rate, rate_after) = match level {
            Level::Calm => return self,
            Level::Tight | Level::Refusing => TIGHT_PACE,
            Level::Ending => ENDING_PACE,
        };
        Pace {
            idle: self.idle.min(idle),
            rate: self.rate.max(rate),
            rate_after: self.rate_after.min(rate_after),
        }
    }

    /// For an upstream: only idleness counts.
    pub fn of_upstream(idle: Duration) -> Pace {
        Pace { idle, rate: 0, rate_after: Duration::MAX }
    }
}

/// How long a client may take nothing, and what it has to take in a second after that time on average, while memory is short.
const TIGHT_PACE: (Duration, u64, Duration) = (Duration::from_secs(5), 8 << 10, Duration::from_secs(5));
/// The same while it has to be freed at once.
const ENDING_PACE: (Duration, u64, Duration) = (Duration::from_secs(1), 32 << 10, Duration::from_secs(3));
/// How often the pace of a waiting transfer is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Transfer {
    /// A transfer of a body with these stages, out of `from`.
    pub fn new(from: Side, stages: Vec<Box<dyn Stage>>, bytes_max: u64) -> Transfer {
        let extra = (!stages.is_empty()).then(|| Box::new(Extra { stages, ..Extra::default() }));
        Transfer { extra, bytes_max, from: Some(from), ..Transfer::default() }
    }

    /// A transfer of nothing, that is over.
    pub fn over() -> Transfer {
        Transfer { state: State::Over, ..Transfer::default() }
    }

    /// Nothing will come from the source; what waits in the sink is flushed.
    pub fn expect_nothing(&mut self) {
        self.source_ended = self.extra.is_none();
    }

    /// Passes no trailers on: who gets the body has not said that it understands such (RFC 9110 §6.5.1).
    pub fn drop_trailers(&mut self) {
        self.drops_trailers = true;
    }

    /// Keeps up to `bytes_max` bytes so that they can be sent again.
    pub fn keep_up_to(&mut self, bytes_max: usize) {
        self.extra.get_or_insert_default().keep = Keep::UpTo(bytes_max, Vec::new());
    }

    /// Forgets what was kept, and keeps no more: it will not be sent again.
    pub fn keep_nothing(&mut self) {
        if let Some(extra) = &mut self.extra {
            extra.keep = Keep::Nothing;
            if extra.stages.is_empty() && extra.trailers.is_none() && !extra.has_more() {
                self.extra = None;
            }
        }
    }

    /// Whether [`Transfer::rewind`] would be possible.
    pub fn can_rewind(&self) -> bool {
        let Some(extra) = &self.extra else { return self.moved == 0 };
        let kept = match &extra.keep {
            Keep::UpTo(..) => true,
            Keep::Nothing => self.moved == 0,
            Keep::TooMuch => false,
        };
        kept && (extra.stages.is_empty() || self.moved == 0)
    }

    /// Starts again for another attempt: possible while all that was taken from the source has been kept.
    pub fn rewind(&mut self) -> bool {
        let rewound = match &mut self.extra {
            None => self.moved == 0,
            Some(extra) => extra.rewind(self.moved),
        };
        if !rewound {
            return false;
        }
        self.state = State::Moving;
        self.waits = None;
        true
    }

    /// The whole body, where all of it has been moved, and kept as it came.
    pub fn whole(&self) -> Option<&[u8]> {
        let (stages, keep) = match &self.extra {
            Some(extra) => (extra.stages.as_slice(), &extra.keep),
            None => (&[][..], &Keep::Nothing),
        };
        match keep {
            _ if !self.is_over() || !stages.is_empty() => None,
            _ if self.moved == 0 => Some(&[]),
            Keep::UpTo(_, kept) => Some(kept.as_slice()).filter(|kept| kept.len() as u64 == self.moved),
            Keep::Nothing | Keep::TooMuch => None,
        }
    }

    /// Bytes that it keeps.
    pub fn held(&self) -> usize {
        let Some(extra) = &self.extra else { return 0 };
        let kept = if let Keep::UpTo(_, kept) = &extra.keep { kept.len() } else { 0 };
        kept + extra.again.len() + extra.staged.len()
    }

    /// Whether everything has been moved and flushed.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether it waits for the client, and since when.
    pub fn waits_for(&self, side: Side) -> Option<Tick> {
        self.waits.filter(|(whom, _)| *whom == side).map(|(_, since)| since)
    }

    /// When the transfer has to be looked at again because it waits for `side`; `now` or earlier: it is over.
    pub fn overdue(&self, side: Side, now: Tick, pace: &Pace) -> Option<Tick> {
        let since = self.waits_for(side)?;
        let idle_at = since + pace.idle;
        let waited = self.waited + now.since(since);
        let slow = waited > pace.rate_after
            && u128::from(self.moved) * 1_000_000 < u128::from(pace.rate) * waited.as_micros();
        Some(if slow { now } else { idle_at.min(now + LOOK_EVERY) })
    }

    /// Moves what can be moved now.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Link,
        to: &mut Link,
        now: Tick,
    ) -> Poll<Result<(), Error>> {
        loop {
            match self.state {
                State::Over => return Poll::Ready(Ok(())),
                State::Flushing => {
                    ready!(self.poll_flush(cx, to, now))?;
                    self.waits = None;
                    self.state = State::Over;
                }
                State::Moving if self.extra.as_ref().is_some_and(|extra| extra.has_more()) => {
                    if self.poll_extra(cx, to, now)?.is_pending() {
                        from.gather(cx);
                        return Poll::Pending;
                    }
                }
                State::Moving if self.source_ended => {
                    let trailers = match &mut self.extra {
                        Some(extra) => extra.trailers(),
                        None => self.hear(from.take_trailers()),
                    };
                    to.finish(trailers.filter(|_| !self.drops_trailers))?;
                    self.state = State::Flushing;
                }
                State::Moving => ready!(self.poll_step(cx, from, to, now))?,
            }
        }
    }

    /// What the source says behind its body.
    fn hear(&mut self, trailers: Option<Box<Fields>>) -> Option<Box<Fields>> {
        self.call_status = trailers.as_deref().and_then(grpc::status_in);
        trailers
    }

    /// Takes one piece from the source and hands it on.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Link,
        to: &mut Link,
        now: Tick,
    ) -> Poll<Result<(), Error>> {
        let more = match from.poll_data(cx) {
            Poll::Ready(more) => more?,
            Poll::Pending => {
                // The source has nothing now: what it gave must not wait for it.
                let _ = to.poll_flush(cx)?;
                self.wait_for(self.from.unwrap_or(Side::Client), now);
                return Poll::Pending;
            }
        };
        if !more {
            self.source_ended = true;
            if self.extra.is_none() {
                return Poll::Ready(Ok(()));
            }
            let trailers = self.hear(from.take_trailers());
            return Poll::Ready(self.extra.as_mut().map_or(Ok(()), |extra| extra.finish(trailers)));
        }
        if let Some(extra) = self.extra.as_mut().filter(|extra| !extra.stages.is_empty()) {
            let taken = from.data().len();
            extra.push(from.data())?;
            from.consume(taken);
            self.count(taken, now)?;
            return Poll::Ready(Ok(()));
        }
        let taken = match to.poll_send(cx, from.data()) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => {
                from.gather(cx);
                return self.pend_on_sink(now);
            }
        };
        if let Some(extra) = &mut self.extra {
            extra.keep(from.data(), taken);
        }
        from.consume(taken);
        self.count(taken, now)?;
        self.foresee(from)?;
        self.source_ended = self.extra.is_none() && from.is_read();
        Poll::Ready(Ok(()))
    }

    /// Sends what does not come from the source.
    fn poll_extra(&mut self, cx: &mut Context<'_>, to: &mut Link, now: Tick) -> Poll<Result<(), Error>> {
        let Some(extra) = &mut self.extra else { return Poll::Ready(Ok(())) };
        match to.poll_send(cx, extra.more()) {
            Poll::Ready(taken) => extra.sent(taken?),
            Poll::Pending => return self.pend_on_sink(now),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut Link, now: Tick) -> Poll<Result<(), Error>> {
        match to.poll_flush(cx) {
            Poll::Pending => self.pend_on_sink(now),
            done => done,
        }
    }

    fn pend_on_sink(&mut self, now: Tick) -> Poll<Result<(), Error>> {
        let sink = if self.from == Some(Side::Upstream) { Side::Client } else { Side::Upstream };
        self.wait_for(sink, now);
        Poll::Pending
    }

    fn wait_for(&mut self, side: Side, now: Tick) {
        if self.waits.is_none_or(|(whom, _)| whom != side) {
            self.waits = Some((side, now));
        }
    }

    /// A chunk that has been announced and is too long is refused before it comes.
    fn foresee(&self, from: &Link) -> Result<(), Error> {
        match from.announced() {
            more if self.moved.saturating_add(more) > self.bytes_max => {
                Err(Error::client(Phase::Body, Crime::BodyTooLarge))
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, taken: usize, now: Tick) -> Result<(), Error> {
        self.moved += taken as u64;
        // Only a client has to keep a pace: what the upstream took is not laid at its door.
        if let Some((Side::Client, since)) = self.waits.take() {
            self.waited += now.since(since);
        }
        if self.moved > self.bytes_max {
            return Err(Error::client(Phase::Body, Crime::BodyTooLarge));
        }
        Ok(())
    }
}

impl Extra {
    /// Whether there is something to be sent that does not come from the source.
    fn has_more(&self) -> bool {
        self.staged_sent < self.staged.len() || self.again_sent < self.again.len()
    }

    /// What is to be sent of that now.
    fn more(&self) -> &[u8] {
        let staged = self.staged.get(self.staged_sent..).filter(|staged| !staged.is_empty());
        staged.or(self.again.get(self.again_sent..)).unwrap_or(&[])
    }

    /// So much of [`Extra::more`] has been sent.
    fn sent(&mut self, taken: usize) {
        if self.staged_sent < self.staged.len() {
            self.staged_sent += taken;
            return;
        }
        let sent = self.again.get(self.again_sent..self.again_sent + taken).unwrap_or(&[]);
        if let Keep::UpTo(_, kept) = &mut self.keep {
            kept.extend_from_slice(sent);
        }
        self.again_sent += taken;
    }

    /// Leads data through the stages.
    fn push(&mut self, data: &[u8]) -> Result<(), Error> {
        self.staged.clear();
        self.staged_sent = 0;
        push_stages(&mut self.stages, data, &mut self.staged)
    }

    /// The source has ended, with these trailers.
    fn finish(&mut self, trailers: Option<Box<Fields>>) -> Result<(), Error> {
        self.trailers = self.stages.iter_mut().fold(trailers, |trailers, stage| stage.trailers(trailers));
        self.staged.clear();
        self.staged_sent = 0;
        finish_stages(&mut self.stages, &mut self.staged)
    }

    /// What goes behind the body; it may have to go once more.
    fn trailers(&mut self) -> Option<Box<Fields>> {
        match self.keep {
            Keep::UpTo(..) => self.trailers.clone(),
            Keep::Nothing | Keep::TooMuch => self.trailers.take(),
        }
    }

    fn keep(&mut self, data: &[u8], taken: usize) {
        if let Keep::UpTo(bytes_max, kept) = &mut self.keep {
            if kept.len() + taken > *bytes_max {
                self.keep = Keep::TooMuch;
            } else {
                kept.extend_from_slice(data.get(..taken).unwrap_or(&[]));
            }
        }
    }

    /// Makes what was kept the next to be sent; says whether that is all of what was `moved`.
    fn rewind(&mut self, moved: u64) -> bool {
        let kept = match std::mem::take(&mut self.keep) {
            Keep::UpTo(bytes_max, kept) => {
                self.keep = Keep::UpTo(bytes_max, Vec::new());
                kept
            }
            Keep::Nothing if moved == 0 => Vec::new(),
            Keep::Nothing | Keep::TooMuch => return false,
        };
        if !self.stages.is_empty() && moved > 0 {
            return false; // a stage has seen the bytes and cannot unsee them
        }
        // What an earlier rewind had not sent yet comes after what was sent of it.
        let unsent = self.again.split_off(self.again_sent.min(self.again.len()));
        self.again = kept;
        self.again.extend_from_slice(&unsent);
        self.again_sent = 0;
        true
    }
}

fn push_stages(stages: &mut [Box<dyn Stage>], data: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    match stages {
        [] => out.extend_from_slice(data),
        [only] => only.push(data, out)?,
        [first, rest @ ..] => {
            let mut between = Vec::new();
            first.push(data, &mut between)?;
            push_stages(rest, &between, out)?;
        }
    }
    Ok(())
}

fn finish_stages(stages: &mut [Box<dyn Stage>], out: &mut Vec<u8>) -> Result<(), Error> {
    if let [first, rest @ ..] = stages {
        let mut held = Vec::new();
        first.finish(&mut held)?;
        if !held.is_empty() {
            push_stages(rest, &held, out)?;
        }
        finish_stages(rest, out)?;
    }
    Ok(())
}
