//! One try at one host; may another follow?

use crate::call::Call;
use crate::client::{Client, Scratch};
use crate::context::Bounds;
use crate::deadlines::SWEEP_EVERY;
use crate::hosts::HostId;
use crate::mirror::{self, Mirror};
use crate::plan::Hedge;
use crate::pool::{HostPool, Lease, heads};
use crate::pump::Transfer;
use crate::retry::Rule;
use crate::run::{Run, RunPool};
use crate::snapshot::{Pool, Route};
use crate::split::Place;
use crate::tally;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Known, Method, Phase, Retry, Side, Status, Tick};
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

use choice::choose;
pub use door::Held;
use door::Room;
use wait::Sending;

/// What is read of an answer that is not passed on, so that its connection can be kept.
const DROPPED_MAX: usize = 64 << 10;
/// The longest that a host is left alone because it asked for that (`Retry-After`).
const REST_MAX: Duration = Duration::from_secs(60);

/// How often a connection is tried to be made when there is no descriptor for it.
const WANTS_MAX: usize = 3;

/// How long a server may take to reset a connection because of a request that it has not read: the way there and back.
const RACE_MAX: Duration = Duration::from_secs(1);

/// A host that has answered: its connection, the head that came, and the request's body, which may still be moving.
pub struct Answered {
    /// The connection, and what the head said of it.
    pub answer: Answer,
    /// The request's body.
    pub up: Transfer,
    /// Its room on the pool, where that is counted to the end of the answer.
    pub held: Option<Held>,
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

impl Answered {
    /// The answer has been passed on; `in_order`: the request's body was over before it. Says whether that is over now.
    pub fn end(self, in_order: bool, now: Tick) -> bool {
        let Answered { answer: Answer { mut lease, keep_alive, .. }, up, .. } = self;
        if keep_alive && in_order && lease.link().is_some_and(|link| link.is_clean()) {
            lease.give_back(now);
        }
        up.is_over()
    }
}

/// An exchange on its way to an answer: where it goes, by which rules, and how far it has got.
pub struct Ask<'a> {
    x: &'a mut Exchange,
    client: &'a mut Client,
    scratch: &'a mut Scratch,
    run: &'a Run,
    route: &'a Route,
    pool: &'a Pool,
    mine: &'a RunPool,
    /// When it is sent to another host.
    rule: &'a Rule,
    hedge: Option<&'a Hedge>,
    mirror: Option<&'a Mirror>,
    bounds: &'a Bounds,
    worker: &'a Worker,
    place: Place,
    framing: Framing,
    /// The request's body.
    up: Transfer,
    /// Whether it was sent on a kept connection that was at its end.
    met_stale: bool,
    /// Whether the host that has the request has been found to answer nobody any more.
    forsaken: bool,
    /// How many hosts nobody was met at: there was no connection, or whoever took the request was found to answer nobody.
    unmet: u32,
    /// How many others are asked beside the host that is waited for.
    beside: u32,
    /// When the first host of this attempt was chosen,
    chosen: Tick,
    /// and when the one was asked that has the request now: they differ when hosts are raced.
    began: Tick,
}

impl<'a> Ask<'a> {
    /// One of the route's pools shall answer.
    pub fn new(call: &'a mut Call<'_>, route: &'a Route, bounds: &'a Bounds) -> Result<Ask<'a>, Error> {
        let Call { x, client, scratch, run, worker } = call;
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
        let mirror = route.mirror.as_ref().filter(|it| !x.request.websocket && it.share.has(worker.random()));
        let (rule, hedge) = route.again(at, pool);
        let framing = framing_upstream(x);
        let stages = std::mem::take(&mut x.request.body.stages);
        let up = Transfer::new(Side::Client, stages, bounds.body_bytes);
        let began = x.times.began;
        let mut ask = Ask {
            x,
            client,
            scratch,
            run,
            route,
            pool,
            mine,
            rule,
            hedge,
            mirror,
            bounds,
            worker,
            place,
            framing,
            up,
            met_stale: false,
            forsaken: false,
            unmet: 0,
            beside: 0,
            chosen: began,
            began,
        };
        ask.prepare_upload();
        Ok(ask)
    }

    fn prepare_upload(&mut self) {
        if self.x.request.body.is_empty() {
            return self.up.expect_nothing();
        }
        let bytes = self.route.limits.replay_bytes;
        let may_be_sent_again = self.rule.tries > 1 || self.pool.keep_alive.idle > 0;
        if self.mirror.is_some() {
            self.up.keep_up_to(bytes.max(mirror::BODY_BYTES_MAX));
        } else if may_be_sent_again && (self.rule.keeps_body(&self.x.request) || self.may_speak_http2()) {
            // HTTP/2 tells of requests that were not looked at, whatever of them has been sent (RFC 9113 §8.7).
            self.up.keep_up_to(bytes);
        }
    }

    /// Whether the hosts may be spoken with in HTTP/2, as far as one of them has shown.
    fn may_speak_http2(&self) -> bool {
        self.pool.may_speak_http2() && self.mine.hosts.first().is_some_and(|host| !host.speaks_http1())
    }

    /// Tries hosts of the pool until one answers, within the rule of RFC 9110 §9.2.2: a request is sent again
    /// only when nothing of it was processed, or when it is idempotent and all of its body can be sent again.
    pub async fn until_answered(&mut self) -> Result<Answered, Error> {
        let mut room = match door::at_once(self.pool, self.client) {
            Some(room) => room,
            None => Box::pin(door::room(self)).await?,
        };
        let at_once = if self.pool.bound.per_server { None } else { self.choose() };
        let (mut id, mut waited_since) = match at_once {
            Some(id) => (id, None),
            None => self.first(&mut room, None).await?,
        };
        room.has_server();
        let mut goes_on = false;
        loop {
            let Some(host) = self.mine.hosts.get(id.0 as usize) else {
                return Err(Error::proxy(Phase::Pick, Crime::Internal));
            };
            if !std::mem::take(&mut goes_on) {
                self.begin(id, host);
            }
            let hedged = self.hedge_after();
            let knew_http1 = host.speaks_http1();
            let asked = match hedged {
                Some(delay) => {
                    self.up = Transfer::over(); // there is no body
                    Box::pin(self.either_host(id, delay)).await
                }
                None => self.one_host(host).await,
            };
            let again = match &asked {
                Err(error) if error.crime == Crime::QueueFull => {
                    // Another worker was quicker to take the last place on the host.
                    self.x.tries -= 1;
                    self.scratch.tried.remove(id);
                    (id, waited_since) = self.first(&mut room, waited_since).await?;
                    continue;
                }
                // The same host is asked by HTTP/1.1 in the same attempt.
                Err(error)
                    if hedged.is_none() && !knew_http1 && wants_http1(error, host) && self.up.rewind() =>
                {
                    self.x.labels.host = Some(id.0);
                    goes_on = true;
                    continue;
                }
                Ok(_) => self.rule.follows_answer(&self.x.response, &self.x.request),
                Err(error) => {
                    if error.side == Side::Upstream && hedged.is_none() {
                        self.has_failed(error, host);
                    }
                    self.rule.follows(error, &self.x.request)
                }
            };
            let next = if again { Box::pin(self.another(&asked, &mut room)).await? } else { None };
            match (asked, next) {
                (Ok(answer), None) => return Ok(self.answered(answer, room)),
                (Err(error), None) => return Err(error),
                (asked, Some(next)) => {
                    if let Ok(Answer { lease, keep_alive, up_failed, .. }) = asked {
                        Box::pin(drop_answer(lease, keep_alive && !up_failed, self.worker)).await;
                    }
                    if next.since.is_none() {
                        door::server_has_room(self.pool);
                    }
                    if !next.pause.is_zero() {
                        Box::pin(rest(self.client, next.pause, self.worker)).await?;
                    }
                    (id, waited_since) = (next.id, next.since);
                }
            }
        }
    }

    /// One more attempt begins.
    fn begin(&mut self, id: HostId, host: &HostPool) {
        self.began = self.worker.clock.now();
        self.chosen = self.began;
        if !host.host.is_usable(self.began) && self.pool.hosts.is_below_floor(self.began) {
            self.mine.cells.forced.add(1);
        }
        self.scratch.tried.insert(id);
        self.x.labels.host = Some(id.0);
        self.x.tries += 1;
        self.x.times.picked.get_or_insert(self.began);
    }

    /// After how long another host is asked beside the first one, where that is wanted and nothing is lost when either of them is cut
    /// short.
    fn hedge_after(&self) -> Option<Duration> {
        let hedge = self.hedge?;
        let may =
            self.framing == Framing::None && self.rule.tries > 1 && self.rule.is_repeatable(&self.x.request);
        let after = self.mine.hedge_after(self.pool, hedge).filter(|_| may);
        after.filter(|_| self.may_be_answered_elsewhere(self.worker.clock.now()))
    }

    /// An attempt has ended without an answer.
    fn has_failed(&self, error: &Error, host: &HostPool) {
        let last = self.x.labels.host.and_then(|at| self.mine.hosts.get(at as usize));
        let last = last.map_or(host, |last| &**last);
        let now = self.worker.clock.now();
        tally::attempt(self.x, self.bounds, self.pool, last, Some(error.crime), self.began, now);
    }

    /// This is the answer that is passed on.
    fn answered(&mut self, answer: Answer, room: Room<'_>) -> Answered {
        let (pool, now) = (self.pool, self.worker.clock.now());
        // A pool without a bound counts nobody, but learns its pace all the same.
        if room.is_counted() || (self.hedge.is_some() && !pool.bound.is_adaptive()) {
            // What it took us to look is not the host's doing.
            let took = now.since(self.chosen).saturating_sub(self.worker.turnstile.lateness());
            self.mine.heard(pool, self.hedge.is_some(), took, now);
        }
        if let (Some(sticky), Some(id)) = (&pool.sticky, self.x.labels.host) {
            // One whose server only had no room goes back to it the next time.
            let home = sticky.bound(&self.x.request, &pool.hosts, &self.scratch.tried, now);
            if home.is_none_or(|home| home.0 == id) {
                sticky.mark(&self.x.request, HostId(id), &mut self.x.response);
            }
        }
        self.route.split.mark(self.place, &mut self.x.response);
        if let Some(mirror) = self.mirror {
            self.copy_to(mirror);
        }
        self.up.keep_nothing();
        Answered { answer, up: std::mem::take(&mut self.up), held: room.hold() }
    }

    /// Sends a copy of a request whose answer has begun.
    fn copy_to(&mut self, mirror: &Mirror) {
        let pool = self.run.snapshot.pool(mirror.pool).zip(self.run.pools.get(mirror.pool as usize));
        let Some((pool, mine)) = pool else { return };
        self.scratch.tried.clear();
        let host = choose(self.x, self.scratch, pool, self.worker);
        let host = host.and_then(|id| mine.hosts.get(id.0 as usize));
        let body = self.up.whole().filter(|body| body.len() <= mirror::BODY_BYTES_MAX);
        match (host, body) {
            (Some(host), Some(body)) => {
                let (limits, deadlines) = (&self.route.limits, &self.worker.deadlines);
                mirror.send(self.x, body, host, &mine.cells, limits, deadlines);
                self.worker.wake_sweeper();
            }
            (None, _) => mine.cells.mirrors_failed.add(1),
            (_, None) => mine.cells.mirrors_skipped.add(1),
        }
    }

    /// Asks one host: over an idle connection first, and when that turns out to be dead, over a new one, which is not
    /// counted as another try.
    async fn one_host(&mut self, host: &Rc<HostPool>) -> Asked {
        let is_idempotent = self.x.request.method.is_idempotent();
        // What cannot be sent a second time is sent by a connection that had better be alive.
        let careful = !is_idempotent || self.may_outgrow_what_is_kept();
        let began = self.worker.clock.now();
        // Whoever has met an end on a kept connection is not sent to another one.
        let idle = match self.met_stale {
            false => host.take_idle(began, careful, self.x.request.websocket),
            true => None,
        };
        if let Some(mut lease) = idle {
            match self.over(&mut lease, host).await {
                Ok(heard) => return Ok(heard.by(lease)),
                // Of a connection at work nobody could expect that it would end: that is a failure of the host like others.
                Err(error)
                    if error.crime == Crime::UpstreamClosed
                        && (lease.was_idle || error.retry == Retry::Untouched) =>
                {
                    self.met_stale = true;
                    host.was_stale(self.worker.clock.now());
                    let unread = error.retry == Retry::Untouched
                        || (is_idempotent
                            && !self.x.request.websocket
                            && is_race(&error, &mut lease, began, self.worker));
                    if !(unread || self.may_repeat(&error)) || !self.up.rewind() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let mut lease = Box::pin(self.connect(host)).await?;
        let host = Rc::clone(lease.pool());
        let heard = self.over(&mut lease, &host).await?;
        Ok(heard.by(lease))
    }

    /// Whether there may be more of a body than is kept to be sent again.
    fn may_outgrow_what_is_kept(&self) -> bool {
        let body = &self.x.request.body;
        let bound = u64::try_from(self.route.limits.replay_bytes).unwrap_or(u64::MAX);
        !body.is_empty() && body.final_length().is_none_or(|length| length > bound)
    }

    /// Whether what was read of a connection that has ended then is written to a new one to the same host: a further attempt, if no other host is
    /// there for it.
    fn may_repeat(&mut self, error: &Error) -> bool {
        let now = self.worker.clock.now();
        let wants = self.rule.follows(error, &self.x.request)
            && self.has_tries()
            && self.up.can_rewind()
            && !self.may_be_answered_elsewhere(now);
        let may = wants && self.mine.may_try_again(self.pool, self.rule.budget_percent, now);
        self.x.refused_by_budget |= wants && !may;
        if may {
            self.x.tries += 1;
            self.mine.cells.retries.add(1);
        }
        may
    }

    /// Connects to `host`, or to another one.
    async fn connect(&mut self, host: &Rc<HostPool>) -> Result<Lease, Error> {
        let mut connected = connect::connect(self, host).await;
        for _ in 0..WANTS_MAX {
            if !matches!(&connected, Err(error) if error.crime == Crime::NoDescriptor) {
                break;
            }
            // What other workers keep for later is given up when they look.
            if !self.worker.give_up_idle() {
                rest(self.client, SWEEP_EVERY * 3 / 2, self.worker).await?;
            }
            connected = connect::connect(self, host).await;
        }
        connected.map_err(|error| match error.crime {
            Crime::Deadline if self.worker.clock.now() < self.request_deadline() => {
                let late = Error::upstream(Phase::Connect, Crime::ConnectTimeout, Retry::Untouched);
                Error { side: error.side, ..late }
            }
            _ => error,
        })
    }

    /// Sends the request over a connection of `host` and waits for the head of the answer.
    async fn over(&mut self, lease: &mut Lease, host: &HostPool) -> Result<Heard, Error> {
        self.x.times.connected = Some(self.worker.clock.now());
        let link = lease.link().ok_or(Error::proxy(Phase::Send, Crime::Internal))?;
        heads::send(link, &self.x.request, self.framing, !host.keeps())?;
        if !self.client.link.is_read() {
            self.client.welcome_body();
        }
        let mut sending = Sending { first: true, up_failed: None, sent_at: None };
        let mut informational = 0;
        loop {
            let head = poll_fn(|cx| self.poll_head(cx, link, host, &mut sending)).await;
            if head.is_err() && link.wants_http1() {
                host.wants_http1();
            }
            // Where an informational head has come, an answer has begun.
            let head = head.map_err(|error| match informational {
                0 => error,
                _ => Error { retry: Retry::Never, ..error },
            })?;
            if head.upgraded && !accepts(self.x) {
                return Err(Error::upstream(Phase::Wait, Crime::BadSwitch, Retry::Never));
            }
            if self.x.response.status.is_informational() && !head.upgraded {
                informational += 1;
                if informational > self.route.limits.informational {
                    return Err(bad_response());
                }
                self.inform();
                continue;
            }
            self.has_answered(host, &head);
            return Ok(Heard::new(&head, sending.up_failed.is_some()));
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

    /// Asks one host, and after `delay` another one, too.
    async fn either_host(&mut self, id: HostId, delay: Duration) -> Asked {
        let winner = hedge::race(self, id, delay).await?;
        self.x.times.connected = Some(self.worker.clock.now());
        let host = Rc::clone(winner.lease.pool());
        self.x.response = winner.response;
        self.has_answered(&host, &winner.head);
        Ok(Heard::new(&winner.head, false).by(winner.lease))
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

/// Whether a connection ended like one that its server has closed just before the request came, or with it unread: reset, soon, and
/// before anything of an answer.
fn is_race(error: &Error, lease: &mut Lease, asked: Tick, worker: &Worker) -> bool {
    let soon = worker.clock.now().since(asked) < RACE_MAX;
    error.retry == Retry::IfIdempotent && soon && lease.was_reset()
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

/// What the head of an answer said of its connection.
struct Heard {
    keep_alive: bool,
    upgraded: bool,
    up_failed: bool,
}

impl Heard {
    fn new(head: &ResponseHead, up_failed: bool) -> Heard {
        Heard { keep_alive: head.keep_alive, upgraded: head.upgraded, up_failed }
    }

    /// An answer that came by `lease`.
    fn by(self, lease: Lease) -> Answer {
        let Heard { keep_alive, upgraded, up_failed } = self;
        Answer { lease, keep_alive, upgraded, up_failed }
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

/// Whether the host has looked at nothing, because it wants HTTP/1.1 (RFC 9113 §7).
fn wants_http1(error: &Error, host: &HostPool) -> bool {
    error.crime == Crime::UpstreamReset && error.retry == Retry::Untouched && host.speaks_http1()
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

fn bad_response() -> Error {
    Error::upstream(Phase::Wait, Crime::BadResponse, Retry::Never)
}
