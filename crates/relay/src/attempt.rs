//! One try at one host; may another follow?

use crate::client::{Client, Scratch};
use crate::context::Bounds;
use crate::hosts::HostId;
use crate::mirror::{self, Mirror};
use crate::plan::Urgency;
use crate::pool::{HostPool, Lease, heads};
use crate::pump::Transfer;
use crate::retry::Rule;
use crate::run::{Run, RunPool};
use crate::snapshot::{Pool, Route};
use crate::tally;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Known, Limits, Method, Phase, Retry, Side, Status, Tick};
use portunus_wire::h1::HeadBounds;
use portunus_wire::h1::parse::ResponseHead;
use portunus_wire::h1::{Framing, Version};
use portunus_wire::websocket;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

mod choice;
mod connect;
mod door;
mod hedge;
mod wait;

use choice::{another, choose, first};
pub use door::Held;
use wait::Sending;

/// What is read of an answer that is not passed on, so that its connection can be kept.
const DROPPED_MAX: usize = 64 << 10;
/// The longest that a host is left alone because it asked for that (`Retry-After`).
const REST_MAX: Duration = Duration::from_secs(60);

/// A host that has answered: its connection, the head that came, and the request's body, which may still be moving.
pub struct Answered {
    /// The connection, and what the head said of it.
    pub answer: Answer,
    /// The request's body.
    pub up: Transfer,
    /// Its room on the pool, where that is counted to the end of the answer.
    pub held: Option<Held>,
}

/// Where a request goes, and by which rules.
#[derive(Clone, Copy)]
struct Way<'a> {
    pool: &'a Pool,
    mine: &'a RunPool,
    /// When it is sent to another host.
    rule: &'a Rule,
    /// Whether it waits before or after others where there is no room.
    urgency: Urgency,
    bounds: &'a Bounds,
    worker: &'a Worker,
}

impl Way<'_> {
    /// Whether the hosts may be spoken with in HTTP/2, as far as one of them has shown.
    fn may_speak_http2(&self) -> bool {
        self.pool.may_speak_http2() && self.mine.hosts.first().is_some_and(|host| !host.speaks_http1())
    }
}

/// An answer whose head has been read.
pub struct Answer {
    /// The connection it comes by.
    pub lease: Lease,
    /// Whether that may be used again after it.
    pub keep_alive: bool,
    /// Whether it becomes a tunnel.
    pub upgraded: bool,
    /// Whether the host has stopped taking the request's body.
    pub up_failed: bool,
}

/// Tries hosts of the route's pool until one answers, within the rule of RFC 9110 §9.2.2: a request is sent again
/// only when nothing of it was processed, or when it is idempotent and all of its body can be sent again.
pub async fn until_answered(
    x: &mut Exchange,
    client: &mut Client,
    scratch: &mut Scratch,
    route: &Route,
    bounds: &Bounds,
    run: &Run,
    worker: &Worker,
) -> Result<Answered, Error> {
    let place = route.split.place(&x.request, worker.random());
    let place = place.ok_or(Error::proxy(Phase::Pick, Crime::NoRoute))?;
    let at = place.pool;
    let (Some(pool), Some(mine)) = (run.snapshot.pool(at), run.pools.get(at as usize)) else {
        return Err(Error::proxy(Phase::Pick, Crime::Internal));
    };
    x.labels.pool = Some(at);
    mine.cells.requests.add(1);
    if let Some(time) = pool.drain {
        client.deadline.allow(time);
    }
    scratch.tried.clear();
    let framing = framing_upstream(x);
    let mirror = route.mirror.as_ref().filter(|it| !x.request.websocket && it.share.has(worker.random()));
    let (rule, hedge) = route.again(at, pool);
    let way = Way { pool, mine, rule, urgency: route.urgency, bounds, worker };
    let mut up = upload(x, &way, &route.limits);
    if mirror.is_some() && !x.request.body.is_empty() {
        up.keep_up_to(route.limits.replay_bytes.max(mirror::BODY_BYTES_MAX));
    }
    let room = match door::at_once(pool, client) {
        Some(room) => room,
        None => Box::pin(door::room(x, client, &way)).await?,
    };
    let at_once = if pool.bound.per_server { None } else { choose(x, scratch, pool, worker) };
    let mut id = match at_once {
        Some(id) => id,
        None => first(x, client, scratch, &way, None).await?,
    };
    loop {
        let Some(host) = mine.hosts.get(id.0 as usize) else {
            return Err(Error::proxy(Phase::Pick, Crime::Internal));
        };
        let began = worker.clock.now();
        if !host.host.is_usable(began) && pool.hosts.is_below_floor(began) {
            mine.cells.forced.add(1);
        }
        scratch.tried.insert(id);
        x.labels.host = Some(id.0);
        x.tries += 1;
        x.times.picked.get_or_insert(began);
        let limits = &route.limits;
        let mut ask = Ask { x, client, pool, rule, began, bounds, limits, worker, framing };
        let hedged = hedge.and_then(|hedge| mine.hedge_after(pool, hedge)).filter(|_| ask.may_be_hedged());
        let asked = match hedged {
            Some(delay) => {
                up = Transfer::over(); // there is no body
                Box::pin(ask.either_host(scratch, mine, id, delay)).await
            }
            None => ask.one_host(scratch, mine, host, &mut up).await,
        };
        let again = match &asked {
            Err(error) if error.crime == Crime::QueueFull => {
                // Another worker was quicker to take the last place on the host.
                x.tries -= 1;
                scratch.tried.remove(id);
                id = first(x, client, scratch, &way, Some(began)).await?;
                continue;
            }
            Ok(_) => rule.follows_answer(&x.response, &x.request),
            Err(error) => {
                if error.side == Side::Upstream && hedged.is_none() {
                    let last = x.labels.host.and_then(|at| mine.hosts.get(at as usize)).unwrap_or(host);
                    tally::attempt(x, bounds, pool, last, Some(error.crime), began, worker.clock.now());
                }
                rule.follows(error, &x.request)
            }
        };
        let next = if again { another(x, scratch, &way, &mut up, &asked) } else { None };
        match (asked, next) {
            (Ok(answer), None) => {
                let now = worker.clock.now();
                // A pool without a bound counts nobody, but learns its pace all the same.
                if room.is_counted() || (hedge.is_some() && !pool.bound.is_adaptive()) {
                    // What it took us to look is not the host's doing.
                    let took = now.since(began).saturating_sub(worker.turnstile.turn());
                    mine.heard(pool, hedge.is_some(), took, now);
                }
                if let (Some(sticky), Some(id)) = (&pool.sticky, x.labels.host) {
                    sticky.mark(&x.request, HostId(id), &mut x.response);
                }
                route.split.mark(place, &mut x.response);
                if let Some(mirror) = mirror {
                    copy_to(mirror, x, &up, scratch, route, run, worker);
                }
                up.keep_nothing();
                return Ok(Answered { answer, up, held: room.hold() });
            }
            (Err(error), None) => return Err(error),
            (Ok(Answer { lease, keep_alive, up_failed, .. }), Some((next, _))) => {
                drop_answer(lease, keep_alive && !up_failed, worker).await;
                id = next;
            }
            (Err(_), Some((next, pause))) => {
                if !pause.is_zero() {
                    Box::pin(rest(client, pause, worker)).await?;
                }
                id = next;
            }
        }
    }
}

/// Lets a moment pass, unless the client leaves.
async fn rest(client: &mut Client, pause: Duration, worker: &Worker) -> Result<(), Error> {
    let mut timer = pin!(tokio::time::sleep(pause));
    poll_fn(|cx| {
        let now = worker.clock.refresh();
        // A body that still comes is no sign of anything.
        if client.link.is_read()
            && let Poll::Ready(error) = client.poll_gone(cx, now)
        {
            return Poll::Ready(Err(error));
        }
        timer.as_mut().poll(cx).map(Ok)
    })
    .await
}

impl Answer {
    fn new(lease: Lease, head: &ResponseHead, up_failed: bool) -> Answer {
        Answer { lease, keep_alive: head.keep_alive, upgraded: head.upgraded, up_failed }
    }
}

type Asked = Result<Answer, Error>;

/// Drops an answer that is not passed on. Its connection is kept when all of it is here already.
async fn drop_answer(mut lease: Lease, may_be_kept: bool, worker: &Worker) {
    let is_over = may_be_kept
        && poll_fn(|cx| {
            let Some(link) = lease.link() else { return Poll::Ready(false) };
            let mut left = DROPPED_MAX;
            while let Poll::Ready(Ok(more)) = link.poll_data(cx) {
                if !more {
                    return Poll::Ready(link.is_clean());
                }
                let count = link.data().len();
                link.consume(count);
                match left.checked_sub(count) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(false),
                }
            }
            Poll::Ready(false)
        })
        .await;
    if is_over {
        lease.give_back(worker.clock.now());
    }
}

/// Sends a copy of a request whose answer has begun.
fn copy_to(
    mirror: &Mirror,
    x: &mut Exchange,
    up: &Transfer,
    scratch: &mut Scratch,
    route: &Route,
    run: &Run,
    worker: &Worker,
) {
    let (Some(pool), Some(mine)) = (run.snapshot.pool(mirror.pool), run.pools.get(mirror.pool as usize))
    else {
        return;
    };
    scratch.tried.clear();
    let host = choose(x, scratch, pool, worker).and_then(|id| mine.hosts.get(id.0 as usize));
    let body = up.whole().filter(|body| body.len() <= mirror::BODY_BYTES_MAX);
    match (host, body) {
        (Some(host), Some(body)) => {
            mirror.send(x, body, host, &mine.cells, &route.limits, &worker.deadlines);
            worker.wake_sweeper();
        }
        (None, _) => mine.cells.mirrors_failed.add(1),
        (_, None) => mine.cells.mirrors_skipped.add(1),
    }
}

fn upload(x: &mut Exchange, way: &Way<'_>, limits: &Limits) -> Transfer {
    let stages = std::mem::take(&mut x.request.body.stages);
    let mut up = Transfer::new(Side::Client, stages, way.bounds.body_bytes);
    let may_be_sent_again = way.rule.tries > 1 || way.pool.keep_alive.idle > 0;
    if x.request.body.is_empty() {
        up.expect_nothing();
    } else if may_be_sent_again && (way.rule.keeps_body(&x.request) || way.may_speak_http2()) {
        // HTTP/2 tells of requests that were not looked at, whatever of them has been sent (RFC 9113 §8.7).
        up.keep_up_to(limits.replay_bytes);
    }
    up
}

/// Whether what was written to a connection that turned out dead may be written to a new one to the same host. That is
/// no further attempt: whatever a pool wants of those, it is done.
fn may_repeat(error: &Error, rule: &Rule, x: &Exchange) -> bool {
    match error.retry {
        Retry::Never => false,
        Retry::Untouched => true,
        Retry::IfIdempotent => rule.is_repeatable(&x.request),
    }
}

/// What one try needs.
struct Ask<'a> {
    x: &'a mut Exchange,
    client: &'a mut Client,
    pool: &'a Pool,
    rule: &'a Rule,
    /// When the host was chosen.
    began: Tick,
    bounds: &'a Bounds,
    limits: &'a Limits,
    worker: &'a Worker,
    framing: Framing,
}

impl Ask<'_> {
    /// Asks one host, and once more over HTTP/1.1 when it says that it wants that: then it has looked at nothing (RFC 9113 §7).
    async fn one_host(
        &mut self,
        scratch: &mut Scratch,
        mine: &RunPool,
        host: &Rc<HostPool>,
        up: &mut Transfer,
    ) -> Asked {
        let knew = host.speaks_http1();
        match self.one_connection(scratch, mine, host, up).await {
            Err(error)
                if !knew
                    && error.crime == Crime::UpstreamReset
                    && error.retry == Retry::Untouched
                    && host.speaks_http1()
                    && up.rewind() =>
            {
                Box::pin(self.one_connection(scratch, mine, host, up)).await
            }
            done => done,
        }
    }

    /// Asks one host: over an idle connection first, and when that turns out to be dead, over a new one, which is not
    /// counted as another try.
    async fn one_connection(
        &mut self,
        scratch: &mut Scratch,
        mine: &RunPool,
        host: &Rc<HostPool>,
        up: &mut Transfer,
    ) -> Asked {
        let careful = !self.x.request.method.is_idempotent();
        if let Some(lease) = host.take_idle(self.worker.clock.now(), careful, self.x.request.websocket) {
            let was_idle = lease.was_idle;
            match self.over(lease, up).await {
                // Of a connection at work nobody could expect that it would end: that is a failure of the host like others.
                Err(error)
                    if error.crime == Crime::UpstreamClosed
                        && (was_idle || error.retry == Retry::Untouched) =>
                {
                    host.was_stale(self.worker.clock.now());
                    if !may_repeat(&error, self.rule, self.x) || !up.rewind() {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
        let connected = connect::connect(self, scratch, mine, host).await;
        let lease = connected.map_err(|error| match error.crime {
            Crime::Deadline if self.worker.clock.now() < self.request_deadline() => {
                let late = Error::upstream(Phase::Connect, Crime::ConnectTimeout, Retry::Untouched);
                Error { side: error.side, ..late }
            }
            _ => error,
        })?;
        self.over(lease, up).await
    }

    /// Sends the request over this connection and waits for the head of the answer.
    async fn over(&mut self, mut lease: Lease, up: &mut Transfer) -> Asked {
        self.x.times.connected = Some(self.worker.clock.now());
        let framing = self.framing;
        let keeps = lease.pool().keeps();
        let host = Rc::clone(lease.pool());
        let link = lease.link().ok_or(Error::proxy(Phase::Send, Crime::Internal))?;
        heads::send(link, &self.x.request, framing, !keeps)?;
        if !self.client.link.is_read() {
            self.client.welcome_body();
        }
        let bounds = HeadBounds::response(self.limits);
        let mut sending = Sending { first: true, up_failed: None, sent_at: None };
        let mut informational = 0;
        loop {
            let head = poll_fn(|cx| self.poll_head(cx, link, up, &host, &bounds, &mut sending)).await;
            if head.is_err() && link.wants_http1() {
                host.wants_http1();
            }
            let head = head?;
            if head.upgraded && !accepts(self.x) {
                return Err(Error::upstream(Phase::Wait, Crime::BadSwitch, Retry::Never));
            }
            if self.x.response.status.is_informational() && !head.upgraded {
                informational += 1;
                if informational > self.limits.informational {
                    return Err(bad_response());
                }
                self.inform();
                continue;
            }
            self.has_answered(&host, &head);
            return Ok(Answer::new(lease, &head, sending.up_failed.is_some()));
        }
    }

    /// Hears of an answer whose head has been read.
    fn has_answered(&mut self, host: &HostPool, head: &ResponseHead) {
        let now = self.worker.clock.now();
        self.x.times.first_byte = Some(now);
        tally::attempt(self.x, self.bounds, self.pool, host, None, self.began, now);
        if let Some(idle) = head.idle {
            host.learn_idle_time(idle);
        }
        // Not with 429: that is said to one client, who must not be able to take a host from the others.
        if self.x.response.status == Status::UNAVAILABLE {
            self.hear_retry_after(host);
        }
    }

    /// Whether another host may be asked while this one is: nothing is lost when either of them is cut short.
    fn may_be_hedged(&self) -> bool {
        self.framing == Framing::None && self.rule.tries > 1 && self.rule.is_repeatable(&self.x.request)
    }

    /// Asks one host, and after `delay` another one, too.
    async fn either_host(
        &mut self,
        scratch: &mut Scratch,
        mine: &RunPool,
        id: HostId,
        delay: Duration,
    ) -> Asked {
        let winner = hedge::race(self, scratch, mine, id, delay).await?;
        self.x.times.connected = Some(self.worker.clock.now());
        let host = Rc::clone(winner.lease.pool());
        self.x.response = winner.response;
        self.has_answered(&host, &winner.head);
        Ok(Answer::new(winner.lease, &winner.head, false))
    }

    /// A host that says when to come back gets no new requests until then, while others are there (RFC 9110 §10.2.3).
    fn hear_retry_after(&self, host: &HostPool) {
        let Some(value) = self.x.response.fields.get(Known::RETRY_AFTER) else { return };
        let seconds = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        let Some(time) = seconds.map(Duration::from_secs).or_else(|| self.worker.clock.until(value)) else {
            return;
        };
        let until = self.worker.clock.now() + time.min(REST_MAX);
        host.host.live.rest_until(until);
        self.pool.live.rests_until(until);
    }

    /// Passes an informational head on: only 103, and only to those who know such things (RFC 8297, attack A37).
    fn inform(&mut self) {
        if self.x.response.status == Status::EARLY_HINTS && self.client.version == Version::Http11 {
            self.client.inform(Status::EARLY_HINTS, &self.x.response.fields);
        }
    }

    /// Until when this attempt may take.
    fn try_deadline(&self) -> Tick {
        self.rule.per_try.map_or(Tick::NEVER, |time| self.began + time)
    }

    fn request_deadline(&self) -> Tick {
        self.bounds.request.map_or(Tick::NEVER, |time| self.x.times.began + time)
    }
}

/// How the request's body is framed on its way up: our own way of writing it, whatever way it came.
fn framing_upstream(x: &Exchange) -> Framing {
    match (x.request.body.is_empty(), x.request.body.final_length()) {
        // RFC 9110 §8.6: methods that usually have content say when they have none.
        (true, _) if matches!(x.request.method, Method::POST | Method::PUT | Method::PATCH) => {
            Framing::Length(0)
        }
        (true, _) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Chunked,
    }
}

fn accepts(x: &Exchange) -> bool {
    let key = x.request.fields.get(Known::SEC_WEBSOCKET_KEY);
    let accept = x.response.fields.get(Known::SEC_WEBSOCKET_ACCEPT);
    key.zip(accept).is_some_and(|(key, accept)| websocket::accepts(key, accept))
}

fn closed() -> Error {
    Error::upstream(Phase::Wait, Crime::UpstreamClosed, Retry::IfIdempotent)
}

fn bad_response() -> Error {
    Error::upstream(Phase::Wait, Crime::BadResponse, Retry::Never)
}
