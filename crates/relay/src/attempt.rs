//! One try at one host; may another follow?

use crate::client::{Client, Scratch};
use crate::context::{Bounds, Scope};
use crate::hosts::HostId;
use crate::mirror::{self, Mirror};
use crate::pick::Key;
use crate::pool::{HostPool, Lease};
use crate::pump::{Pace, Transfer};
use crate::run::Run;
use crate::snapshot::{Pool, Route};
use crate::tally;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Limits, Method, Phase, Retry, Side, Status, Tick};
use portunus_wire::h1::HeadBounds;
use portunus_wire::h1::emit;
use portunus_wire::h1::parse::{self, ResponseHead};
use portunus_wire::h1::{Framing, Version};
use portunus_wire::websocket;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

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
    scratch.tried.clear();
    let framing = framing_upstream(x);
    let mirror = route.mirror.as_ref().filter(|it| !x.request.websocket && it.share.has(worker.random()));
    let mut up = upload(x, pool, bounds, &route.limits);
    if mirror.is_some() && !x.request.body.is_empty() {
        up.keep_up_to(route.limits.replay_bytes.max(mirror::BODY_BYTES_MAX));
    }
    let mut last = None;
    loop {
        let Some(id) = choose(x, scratch, pool, worker) else {
            if last.is_none() {
                mine.cells.no_host.add(1);
            }
            return Err(last.unwrap_or(Error::upstream(Phase::Pick, Crime::NoHost, Retry::Never)));
        };
        let Some(host) = mine.hosts.get(id.0 as usize) else {
            return Err(Error::proxy(Phase::Pick, Crime::Internal));
        };
        if last.is_some() {
            mine.cells.retries.add(1);
        }
        let began = worker.clock.now();
        if !host.host.is_usable(began) && pool.hosts.is_below_floor(began) {
            mine.cells.forced.add(1);
        }
        scratch.tried.insert(id);
        x.labels.host = Some(id.0);
        x.tries += 1;
        x.times.picked.get_or_insert(began);
        let mut ask = Ask { x, client, pool, began, bounds, limits: &route.limits, worker, framing };
        let error = match ask.one_host(host, &mut up).await {
            Ok((lease, head, up_failed)) => {
                if let Some(sticky) = &pool.sticky {
                    sticky.mark(&x.request, id, &mut x.response);
                }
                route.split.mark(place, &mut x.response);
                if let Some(mirror) = mirror {
                    copy_to(mirror, x, &up, scratch, route, run, worker);
                }
                return Ok(Answered { lease, head, up, up_failed });
            }
            Err(error) => error,
        };
        if error.side == Side::Upstream {
            tally::attempt(x, pool, host, false, began, worker.clock.now());
        }
        if x.tries >= pool.tries || !may_repeat(&error, x) || !up.rewind() {
            return Err(error);
        }
        last = Some(error);
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

fn choose(x: &Exchange, scratch: &mut Scratch, pool: &Pool, worker: &Worker) -> Option<HostId> {
    let now = worker.clock.now();
    let bound = pool.sticky.as_ref().and_then(|it| it.bound(&x.request, &pool.hosts, &scratch.tried, now));
    if bound.is_some() {
        return bound;
    }
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
    let key = Key { text: &scratch.key, client_ip: x.client_ip(), random: worker.random(), now };
    pool.pick.pick(&pool.hosts, &key, &scratch.tried)
}

fn upload(x: &mut Exchange, pool: &Pool, bounds: &Bounds, limits: &Limits) -> Transfer {
    let mut up = Transfer::new(Side::Client, std::mem::take(&mut x.request.body.stages), bounds.body_bytes);
    let may_be_sent_again = pool.tries > 1 || pool.keep_alive.idle > 0;
    if !x.request.body.is_empty() && may_be_sent_again && x.request.method.is_idempotent() {
        up.keep_up_to(limits.replay_bytes);
    }
    up
}

fn may_repeat(error: &Error, x: &Exchange) -> bool {
    match error.retry {
        Retry::Never => false,
        Retry::Untouched => true,
        Retry::IfIdempotent => x.request.method.is_idempotent() && !x.request.websocket,
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
                    if !may_repeat(&error, self.x) || !up.rewind() {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
        self.client.deadline.set(self.request_deadline());
        let lease = host.connect(&self.client.deadline, &self.worker.clock).await?;
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
        let mut sending = Sending { first: true, up_failed: None, sent_at: None };
        let mut informational = 0;
        loop {
            let head = poll_fn(|cx| self.poll_head(cx, link, up, &bounds, &mut sending)).await?;
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
            link.expect_body(head.framing, self.limits);
            self.x.times.first_byte = Some(self.worker.clock.now());
            tally::attempt(self.x, self.pool, &host, true, self.began, self.worker.clock.now());
            if let Some(idle) = head.idle {
                host.learn_idle_time(idle);
            }
            return Ok((lease, head, sending.up_failed.is_some()));
        }
    }

    fn parse(x: &mut Exchange, bytes: &[u8], limits: &Limits) -> Result<(ResponseHead, usize), Error> {
        x.response.clear();
        match parse::response(bytes, &mut x.response, x.request.method, x.request.websocket, limits) {
            Ok(head) => Ok((head, head.length)),
            Err(crime) => Err(Error::upstream(Phase::Wait, crime, Retry::Never)),
        }
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
    ) -> Poll<Result<ResponseHead, Error>> {
        // The first look follows at once on what came before, whose time is still good.
        let first = std::mem::take(&mut sending.first);
        let now = if first { self.worker.clock.now() } else { self.worker.clock.refresh() };
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
        let parse = |bytes: &[u8]| Ask::parse(self.x, bytes, self.limits);
        match link.poll_head(cx, bounds, parse) {
            Poll::Ready(Ok(Some(head))) => return Poll::Ready(Ok(head)),
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

    fn request_deadline(&self) -> Tick {
        self.bounds.request.map_or(Tick::NEVER, |time| self.x.times.began + time)
    }
}

/// How far the request has got.
struct Sending {
    first: bool,
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
    use portunus_message::Known;
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
