//! One try at one host; may another follow?

use crate::client::{Client, Scratch};
use crate::context::{Bounds, Scope};
use crate::hosts::HostId;
use crate::pick::Key;
use crate::pool::{HostPool, Lease};
use crate::pump::{Pace, Transfer};
use crate::run::{Run, RunPool};
use crate::snapshot::{Pool, Route};
use crate::tally;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Known, Limits, Method, Phase, Retry, Side, Status, Tick};
use portunus_wire::h1::HeadBounds;
use portunus_wire::h1::emit;
use portunus_wire::h1::parse::{self, ResponseHead};
use portunus_wire::h1::{Framing, Version};
use portunus_wire::websocket;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

mod door;
mod hedge;

pub use door::Held;

/// The longest that a host is left alone because it asked for that (`Retry-After`).
const REST_MAX: Duration = Duration::from_secs(60);

/// A host that has answered: its connection, the head that came, and the request's body, which may still be moving.
pub struct Answered {
    /// The connection the answer comes by.
    pub lease: Lease,
    /// What the head said of framing and reuse.
    pub head: ResponseHead,
    /// The request's body.
    pub up: Transfer,
    /// Whether the host has stopped taking the request's body.
    pub up_failed: bool,
    /// Its room on the pool, where that is counted to the end of the answer.
    pub held: Option<Held>,
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
    let at = route.choose_pool(worker.random()).ok_or(Error::proxy(Phase::Pick, Crime::NoRoute))?;
    let (Some(pool), Some(mine)) = (run.snapshot.pool(at), run.pools.get(at as usize)) else {
        return Err(Error::proxy(Phase::Pick, Crime::Internal));
    };
    x.labels.pool = Some(at);
    mine.cells.requests.add(1);
    scratch.tried.clear();
    let framing = framing_upstream(x);
    let mut up = upload(x, pool, bounds, &route.limits);
    let room = match door::at_once(pool, client) {
        Some(room) => room,
        None => Box::pin(door::room(x, client, pool, bounds, worker)).await?,
    };
    let at_once = if pool.bound.per_server { None } else { choose(x, scratch, pool, worker) };
    let mut id = match at_once {
        Some(id) => id,
        None => first(x, client, scratch, pool, mine, None, bounds, worker).await?,
    };
    loop {
        let Some(host) = mine.hosts.get(id.0 as usize) else {
            return Err(Error::proxy(Phase::Pick, Crime::Internal));
        };
        scratch.tried.insert(id);
        x.labels.host = Some(id.0);
        x.tries += 1;
        let began = worker.clock.now();
        x.times.picked.get_or_insert(began);
        let mut ask = Ask { x, client, pool, began, bounds, limits: &route.limits, worker, framing };
        let hedged = if ask.x.tries == 1 { mine.hedge_after(pool) } else { None };
        let asked = match hedged {
            Some(delay) if ask.may_be_hedged() => {
                up = Transfer::over(); // there is no body
                Box::pin(ask.either_host(scratch, mine, id, delay)).await
            }
            _ => ask.one_host(host, &mut up).await,
        };
        let again = match &asked {
            Err(error) if error.crime == Crime::QueueFull => {
                // Another worker was quicker to take the last place on the host.
                x.tries -= 1;
                scratch.tried.remove(id);
                id = first(x, client, scratch, pool, mine, Some(began), bounds, worker).await?;
                continue;
            }
            Ok(_) => pool.retry.follows_answer(x.response.status, &x.request),
            Err(error) => {
                if error.side == Side::Upstream && hedged.is_none() {
                    tally::attempt(x, pool, host, false, began, worker.clock.now());
                }
                pool.retry.follows(error, &x.request)
            }
        };
        let next =
            if again { another(x, scratch, pool, mine, &mut up, bounds, &asked, worker) } else { None };
        match (asked, next) {
            (Ok((lease, head, up_failed)), None) => {
                let now = worker.clock.now();
                if room.is_counted() {
                    mine.heard(pool, now.since(began), now);
                }
                return Ok(Answered { lease, head, up, up_failed, held: room.hold() });
            }
            (Err(error), None) => return Err(error),
            (Ok((lease, head, up_failed)), Some(next)) => {
                drop_answer(lease, head.keep_alive && !up_failed, worker).await;
                id = next;
            }
            (Err(_), Some(next)) => id = next,
        }
    }
}

/// The host for the next attempt, waiting for one that has room where the servers of the pool are bounded.
#[allow(clippy::too_many_arguments)]
async fn first(
    x: &Exchange,
    client: &mut Client,
    scratch: &mut Scratch,
    pool: &Pool,
    mine: &RunPool,
    mut since: Option<Tick>,
    bounds: &Bounds,
    worker: &Worker,
) -> Result<HostId, Error> {
    loop {
        // Whoever comes goes behind those who wait; whoever was called goes before them.
        if since.is_some() || pool.live.gate.servers.is_empty() {
            if let Some(id) = choose(x, scratch, pool, worker) {
                return Ok(id);
            }
            let is_bounded = pool.bound.per_server;
            if !is_bounded || pool.hosts.candidates(&scratch.tried, worker.clock.now()).next().is_none() {
                mine.cells.no_host.add(1);
                return Err(Error::upstream(Phase::Pick, Crime::NoHost, Retry::Never));
            }
        }
        since = Some(Box::pin(door::server(x, client, pool, since, bounds, worker)).await?);
    }
}

type Asked = Result<(Lease, ResponseHead, bool), Error>;

/// The host for another attempt, when a rule wants one: an untried host is left, all of the body can be sent again,
/// there is time, and the budget allows it.
#[allow(clippy::too_many_arguments)]
fn another(
    x: &mut Exchange,
    scratch: &mut Scratch,
    pool: &Pool,
    mine: &RunPool,
    up: &mut Transfer,
    bounds: &Bounds,
    asked: &Asked,
    worker: &Worker,
) -> Option<HostId> {
    let now = worker.clock.now();
    if x.tries >= pool.retry.tries || bounds.request.is_some_and(|time| now >= x.times.began + time) {
        return None;
    }
    let next = choose(x, scratch, pool, worker)?;
    if !up.can_rewind() {
        return None;
    }
    let cost_nothing = asked.as_ref().is_err_and(|error| error.phase == Phase::Connect);
    if !cost_nothing && !mine.may_try_again(pool, now) {
        x.refused_by_budget = true;
        return None;
    }
    mine.cells.retries.add(1);
    up.rewind().then_some(next)
}

/// Drops an answer that is not passed on. Its connection is kept when all of it is here already.
async fn drop_answer(mut lease: Lease, may_be_kept: bool, worker: &Worker) {
    let is_over = may_be_kept
        && poll_fn(|cx| {
            let Some(link) = lease.link() else { return Poll::Ready(false) };
            while let Poll::Ready(Ok(more)) = link.poll_data(cx) {
                if !more {
                    return Poll::Ready(link.is_clean());
                }
                let count = link.data().len();
                link.consume(count);
            }
            Poll::Ready(false)
        })
        .await;
    if is_over {
        lease.give_back(worker.clock.now());
    }
}

/// One of the hosts that have not been tried and have room; those that have asked to be left alone only when no other
/// is there.
fn choose(x: &Exchange, scratch: &mut Scratch, pool: &Pool, worker: &Worker) -> Option<HostId> {
    scratch.key.clear();
    if let Some(template) = pool.pick.key() {
        let scope = Scope {
            request: &x.request,
            response: None,
            peer: x.peer,
            client_ip: x.client_ip(),
            id: x.id,
            upstream: None,
        };
        template.render(&scope, &mut scratch.key);
    }
    let now = worker.clock.now();
    let key = Key { text: &scratch.key, client_ip: x.client_ip(), random: worker.random(), now };
    if now >= pool.live.rest_until() && !pool.bound.per_server {
        return pool.pick.pick(&pool.hosts, &key, &scratch.tried);
    }
    let mut without = scratch.tried.clone();
    pool.hosts.iter().filter(|(_, host)| host.is_full()).for_each(|(id, _)| without.insert(id));
    let mut rested = without.clone();
    pool.hosts.iter().filter(|(_, host)| host.live.is_resting(now)).for_each(|(id, _)| rested.insert(id));
    pool.pick.pick(&pool.hosts, &key, &rested).or_else(|| pool.pick.pick(&pool.hosts, &key, &without))
}

fn upload(x: &mut Exchange, pool: &Pool, bounds: &Bounds, limits: &Limits) -> Transfer {
    let mut up = Transfer::new(Side::Client, std::mem::take(&mut x.request.body.stages), bounds.body_bytes);
    let may_be_sent_again = pool.retry.tries > 1 || pool.keep_alive.idle > 0;
    if !x.request.body.is_empty() && may_be_sent_again && pool.retry.is_repeatable(&x.request) {
        up.keep_up_to(limits.replay_bytes);
    }
    up
}

/// Whether what was written to a connection that turned out dead may be written to a new one to the same host. That is
/// no further attempt: whatever a pool wants of those, it is done.
fn may_repeat(error: &Error, pool: &Pool, x: &Exchange) -> bool {
    match error.retry {
        Retry::Never => false,
        Retry::Untouched => true,
        Retry::IfIdempotent => pool.retry.is_repeatable(&x.request),
    }
}

/// What one try needs.
struct Ask<'a> {
    x: &'a mut Exchange,
    client: &'a mut Client,
    pool: &'a Pool,
    /// When the host was chosen.
    began: Tick,
    bounds: &'a Bounds,
    limits: &'a Limits,
    worker: &'a Worker,
    framing: Framing,
}

impl Ask<'_> {
    /// Asks one host: over an idle connection first, and when that turns out to be dead, over a new one, which is not
    /// counted as another try.
    async fn one_host(
        &mut self,
        host: &Rc<HostPool>,
        up: &mut Transfer,
    ) -> Result<(Lease, ResponseHead, bool), Error> {
        let careful = !self.x.request.method.is_idempotent();
        if let Some(lease) = host.take_idle(self.worker.clock.now(), careful) {
            match self.over(lease, up).await {
                Err(error) if error.crime == Crime::UpstreamClosed => {
                    host.was_stale(self.worker.clock.now());
                    if !may_repeat(&error, self.pool, self.x) || !up.rewind() {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
        self.client.deadline.set(self.request_deadline().min(self.try_deadline()));
        let connected = host.connect(&self.client.deadline, &self.worker.clock).await;
        let lease = connected.map_err(|error| match error.crime {
            Crime::Deadline if self.worker.clock.now() < self.request_deadline() => {
                Error::upstream(Phase::Connect, Crime::ConnectTimeout, Retry::Untouched)
            }
            _ => error,
        })?;
        self.over(lease, up).await
    }

    /// Sends the request over this connection and waits for the head of the answer.
    async fn over(
        &mut self,
        mut lease: Lease,
        up: &mut Transfer,
    ) -> Result<(Lease, ResponseHead, bool), Error> {
        self.x.times.connected = Some(self.worker.clock.now());
        let framing = self.framing;
        let keeps = lease.pool().keeps();
        let host = Rc::clone(lease.pool());
        let link = lease.link().ok_or(Error::proxy(Phase::Send, Crime::Internal))?;
        emit::request_head(&self.x.request, framing, !keeps, link.begin_output());
        link.promise_body(framing);
        if !self.client.link.is_read() {
            self.client.welcome_body();
        }
        let bounds = HeadBounds::response(self.limits);
        let mut sending = Sending { up_failed: None, sent_at: None };
        let mut informational = 0;
        loop {
            let length = poll_fn(|cx| self.poll_head(cx, link, up, &bounds, &mut sending)).await?;
            let head = self.parse(link.here().get(..length).unwrap_or(&[]))?;
            link.take_head(length);
            if self.x.response.status.is_informational() && !head.upgraded {
                informational += 1;
                if informational > self.limits.informational {
                    return Err(bad_response());
                }
                self.inform();
                continue;
            }
            link.expect_body(head.framing, self.limits);
            self.has_answered(&host, &head);
            return Ok((lease, head, sending.up_failed.is_some()));
        }
    }

    /// Hears of an answer whose head has been read.
    fn has_answered(&mut self, host: &HostPool, head: &ResponseHead) {
        let now = self.worker.clock.now();
        self.x.times.first_byte = Some(now);
        tally::attempt(self.x, self.pool, host, true, self.began, now);
        if let Some(idle) = head.idle {
            host.learn_idle_time(idle);
        }
        if matches!(self.x.response.status, Status::TOO_MANY_REQUESTS | Status::UNAVAILABLE) {
            self.hear_retry_after(host);
        }
    }

    /// Whether another host may be asked while this one is: nothing is lost when either of them is cut short.
    fn may_be_hedged(&self) -> bool {
        self.framing == Framing::None
            && self.pool.retry.tries > 1
            && self.pool.retry.is_repeatable(&self.x.request)
    }

    /// Asks one host, and after `delay` another one, too.
    async fn either_host(
        &mut self,
        scratch: &mut Scratch,
        mine: &RunPool,
        id: HostId,
        delay: Duration,
    ) -> Asked {
        let mut winner = hedge::race(self, scratch, mine, id, delay).await?;
        self.x.times.connected = Some(self.worker.clock.now());
        let host = Rc::clone(winner.lease.pool());
        let link = winner.lease.link().ok_or(Error::proxy(Phase::Wait, Crime::Internal))?;
        let head = self.parse(link.here().get(..winner.length).unwrap_or(&[])).inspect_err(|_| {
            tally::attempt(self.x, self.pool, &host, false, self.began, self.worker.clock.now());
        })?;
        link.take_head(winner.length);
        link.expect_body(head.framing, self.limits);
        self.has_answered(&host, &head);
        Ok((winner.lease, head, false))
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

    fn parse(&mut self, head: &[u8]) -> Result<ResponseHead, Error> {
        let request = &self.x.request;
        self.x.response.clear();
        let parsed =
            parse::response(head, &mut self.x.response, request.method, request.websocket, self.limits)
                .map_err(|crime| Error::upstream(Phase::Wait, crime, Retry::Never))?;
        if parsed.upgraded && !accepts(self.x) {
            return Err(Error::upstream(Phase::Wait, Crime::BadSwitch, Retry::Never));
        }
        Ok(parsed)
    }

    /// Passes an informational head on: only 103, and only to those who know such things (RFC 8297, attack A37).
    fn inform(&mut self) {
        if self.x.response.status == Status::EARLY_HINTS && self.client.version == Version::Http11 {
            emit::informational(
                Status::EARLY_HINTS,
                &self.x.response.fields,
                self.client.link.begin_output(),
            );
        }
    }

    /// Moves the request's body while it waits for the head of the answer.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut crate::link::Link,
        up: &mut Transfer,
        bounds: &HeadBounds,
        sending: &mut Sending,
    ) -> Poll<Result<usize, Error>> {
        let now = self.worker.clock.refresh();
        let _ = self.client.link.poll_flush(cx)?; // 100 and 103
        if !up.is_over() && sending.up_failed.is_none() {
            match up.poll(cx, &mut self.client.link, link, now) {
                Poll::Ready(Ok(())) => sending.sent_at = Some(now),
                // The host may have answered before it stopped reading; its answer counts.
                Poll::Ready(Err(error)) if error.side == Side::Upstream => {
                    let untouched = up.moved == 0 && link.nothing_sent();
                    sending.up_failed =
                        Some(if untouched { Error { retry: Retry::Untouched, ..error } } else { error });
                    sending.sent_at = Some(now);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            self.x.bytes_up = up.moved;
        }
        match link.poll_head(cx, bounds) {
            Poll::Ready(Ok(Some(length))) => return Poll::Ready(Ok(length)),
            Poll::Ready(Ok(None)) => return Poll::Ready(Err(sending.up_failed.unwrap_or(closed()))),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(sending.up_failed.unwrap_or(error))),
            Poll::Pending => {}
        }
        if up.is_over()
            && let Poll::Ready(error) = self.client.poll_gone(cx, now)
        {
            return Poll::Ready(Err(error));
        }
        let (at, crime) = self.next_deadline(up, sending, now);
        if at <= now {
            return Poll::Ready(Err(crime));
        }
        self.client.deadline.set(at);
        Poll::Pending
    }

    /// What will be waited for, at most until when, and what it is when it does not come.
    fn next_deadline(&self, up: &Transfer, sending: &Sending, now: Tick) -> (Tick, Error) {
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
        } else if let Some(since) = up.waits_for(Side::Upstream) {
            may_be_earlier(since + self.bounds.upstream_idle, late(Crime::UpstreamStalled));
        } else if let Some(at) = up.overdue(Side::Client, now, &Pace::of_body(self.limits)) {
            may_be_earlier(at, Error::client(Phase::Body, Crime::BodyTimeout));
        }
        first
    }

    /// Until when this attempt may take.
    fn try_deadline(&self) -> Tick {
        self.pool.retry.per_try.map_or(Tick::NEVER, |time| self.began + time)
    }

    fn request_deadline(&self) -> Tick {
        self.bounds.request.map_or(Tick::NEVER, |time| self.x.times.began + time)
    }
}

/// How far the request has got.
struct Sending {
    up_failed: Option<Error>,
    sent_at: Option<Tick>,
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
