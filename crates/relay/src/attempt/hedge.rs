//! hedge: a second host is asked when the first one is slow; the first good answer wins, the other attempt is cancelled.

use super::{Ask, bad_response, connect::open, door, is_race};
use crate::hosts::HostId;
use crate::pool::heads::{self, Asked, Prepared};
use crate::pool::{HostPool, Lease, dial};
use crate::tally;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Limits, Method, Phase, Response, Retry, Side, Tick};
use portunus_wire::h1::parse::ResponseHead;
use portunus_wire::h1::{Framing, HeadBounds};
use portunus_wire::preface::Preface;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often time is looked at while both are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An answer whose head has come.
pub struct Winner {
    /// Its connection.
    pub lease: Lease,
    /// What the head said of framing and reuse.
    pub head: ResponseHead,
    /// The head itself.
    pub response: Response,
    /// Who gave it.
    pub id: HostId,
    began: Tick,
}

/// One of the two attempts. Nothing of it is shared with the other, so that dropping it cancels it.
struct Try<'a> {
    id: HostId,
    began: Tick,
    host: Rc<HostPool>,
    run: Option<Pin<Box<dyn Future<Output = Sent> + 'a>>>,
    /// Whether it has been found to meet nobody.
    forsaken: bool,
}

/// What came of one attempt.
type Sent = Result<(Lease, ResponseHead, Response), Error>;

/// Asks the host `id`, and after `delay` another one, too, if the budget has room. Failures are heard here.
pub async fn race(ask: &mut Ask<'_>, id: HostId, delay: Duration) -> Result<Winner, Error> {
    let mut timer = pin!(tokio::time::sleep(delay));
    let mut tries = vec![begin(ask, id)?];
    let (mut may_follow, mut hedge) = (true, None);
    let mut poor = None;
    let mut failed = None;
    let done = poll_fn(|cx| {
        let now = ask.worker.clock.refresh();
        if may_follow && timer.as_mut().poll(cx).is_ready() {
            may_follow = false;
            hedge = second(ask, now);
            if let Some(other) = hedge {
                tries.push(begin(ask, other)?);
            }
        }
        let fresh = tries.iter().filter(|one| one.is_fresh()).count() as u32;
        ask.beside = fresh.saturating_sub(1);
        let mut running = tries.iter().filter(|one| one.run.is_some()).peekable();
        if !may_follow
            && running.peek().is_some()
            && running.all(|one| one.forsaken || ask.is_forsaken(&one.host, now))
            && (fresh > 0 || ask.has_tries() && ask.may_be_answered_elsewhere(now))
            && let Some(other) = ask.choose()
            && ask.mine.may_rescue(ask.pool, ask.rule.rescues_percent(), now)
        {
            ask.mine.cells.retries.add(1);
            (0..fresh).for_each(|_| ask.met_nobody());
            tries.iter_mut().for_each(|one| one.forsaken = true);
            let other = follow(ask, other);
            tries.push(begin(ask, other)?);
        }
        for one in &mut tries {
            match one.poll(cx, ask, now) {
                Poll::Pending => continue,
                // Another worker was quicker to take the last place there: that is no failure.
                Poll::Ready(Err(error)) if failed.is_some() && error.crime == Crime::QueueFull => {}
                Poll::Ready(Err(error)) => failed = Some(error),
                Poll::Ready(Ok(winner)) if winner.is_poor() => poor = Some(winner),
                Poll::Ready(Ok(winner)) => return Poll::Ready(Ok(winner)),
            }
            door::server_has_room(ask.pool);
        }
        if tries.iter().all(|one| one.run.is_none()) {
            let nothing = Error::proxy(Phase::Wait, Crime::Internal);
            return Poll::Ready(poor.take().ok_or(failed.unwrap_or(nothing)));
        }
        if let Poll::Ready(error) = ask.client.poll_gone(cx, now) {
            return Poll::Ready(Err(error));
        }
        if now >= ask.request_deadline() {
            return Poll::Ready(Err(Error::upstream(Phase::Wait, Crime::Deadline, Retry::Never)));
        }
        ask.client.deadline.set(ask.request_deadline().min(ask.client.patience_ends()).min(now + LOOK_EVERY));
        Poll::Pending
    })
    .await;
    ask.beside = 0;
    if tries.len() > 1 {
        drop(tries);
        door::server_has_room(ask.pool);
    }
    done.inspect(|winner| {
        if Some(winner.id) == hedge {
            ask.mine.cells.hedges_won.add(1);
        }
        ask.began = winner.began;
        ask.x.labels.host = Some(winner.id.0);
    })
}

/// The host for the second attempt, if there is one that nobody waits for and the budget has room for it.
fn second(ask: &mut Ask<'_>, now: Tick) -> Option<HostId> {
    let other = if ask.lets_pass(now) { ask.choose()? } else { return None };
    let mine = ask.mine;
    if !mine.may_try_again(ask.pool, ask.rule.budget_percent, now) {
        ask.x.refused_by_budget = true;
        mine.cells.hedges_refused.add(1);
        return None;
    }
    mine.cells.hedges.add(1);
    Some(follow(ask, other))
}

/// Another attempt goes to this host.
fn follow(ask: &mut Ask<'_>, other: HostId) -> HostId {
    ask.scratch.tried.insert(other);
    ask.x.tries += 1;
    other
}

fn begin<'a>(ask: &Ask<'a>, id: HostId) -> Result<Try<'a>, Error> {
    let host = ask.mine.hosts.get(id.0 as usize).ok_or(Error::proxy(Phase::Pick, Crime::Internal))?;
    let head = Prepared::new(&ask.x.request, Framing::None, !host.keeps(), host.may_share());
    let run = Box::pin(send(
        Rc::clone(host),
        dial::preface_of(ask.x),
        head,
        &ask.route.limits,
        ask.worker,
        ask.x.request.method,
        ask.request_deadline(),
    ));
    Ok(Try { id, began: ask.worker.clock.now(), host: Rc::clone(host), run: Some(run), forsaken: false })
}

impl Try<'_> {
    /// Whether its answer may come.
    fn is_fresh(&self) -> bool {
        self.run.is_some() && !self.forsaken
    }

    fn poll(&mut self, cx: &mut Context<'_>, ask: &mut Ask<'_>, now: Tick) -> Poll<Result<Winner, Error>> {
        let Some(run) = self.run.as_mut() else { return Poll::Pending };
        let late = |crime| Poll::Ready(Err(Error::upstream(Phase::Wait, crime, Retry::Never)));
        let done = match run.as_mut().poll(cx) {
            Poll::Pending if ask.rule.per_try.is_some_and(|time| now >= self.began + time) => {
                late(Crime::TryTimeout)
            }
            Poll::Pending if now >= self.began + ask.bounds.first_byte => late(Crime::FirstByteTimeout),
            done => done,
        };
        let Poll::Ready(done) = done else { return Poll::Pending };
        self.run = None;
        Poll::Ready(match done {
            Ok((lease, head, response)) => {
                Ok(Winner { lease, head, response, id: self.id, began: self.began })
            }
            Err(error) => {
                ask.x.labels.host = Some(self.id.0);
                if error.side == Side::Upstream {
                    let failed = Some(error.crime);
                    tally::attempt(ask.x, ask.bounds, ask.pool, &self.host, failed, self.began, now);
                }
                Err(error)
            }
        })
    }
}

/// Sends a request without a body and waits for the head of its answer: over an idle connection first, and when that
/// turns out to be dead, over a new one.
async fn send(
    host: Rc<HostPool>,
    from: Preface,
    head: Prepared,
    limits: &Limits,
    worker: &Worker,
    method: Method,
    deadline: Tick,
) -> Sent {
    let began = worker.clock.now();
    if let Some(mut lease) = host.take_idle(began, false, false) {
        match over(&mut lease, &head, method, limits).await {
            Err(error) if error.crime == Crime::UpstreamClosed && lease.was_idle => {
                host.was_stale(worker.clock.now());
                if error.retry != Retry::Untouched && !is_race(&error, &mut lease, began, worker) {
                    return Err(error);
                }
            }
            done => return done.map(|(head, response)| (lease, head, response)),
        }
    }
    let mut lease = open(host, from, false, deadline, worker).await?;
    let (head, response) = over(&mut lease, &head, method, limits).await?;
    Ok((lease, head, response))
}

async fn over(
    lease: &mut Lease,
    head: &Prepared,
    method: Method,
    limits: &Limits,
) -> Result<(ResponseHead, Response), Error> {
    let host = Rc::clone(lease.pool());
    let link = lease.link().ok_or(Error::proxy(Phase::Send, Crime::Internal))?;
    head.send(link)?;
    link.finish(None)?;
    let bounds = HeadBounds::response(limits);
    let mut response = Response::default();
    let mut informational = 0;
    loop {
        let head = poll_fn(|cx| {
            if let Poll::Ready(done) = link.poll_flush(cx) {
                done?;
            }
            heads::poll_answer(link, cx, Asked::plain(method), &mut response, &bounds, limits)
        })
        .await;
        if head.is_err() && link.wants_http1() {
            host.wants_http1();
        }
        let head = head.and_then(|head| head.ok_or_else(|| heads::ended(link, Framing::None, 0)));
        // Where an informational head has come, an answer has begun.
        let head =
            head.map_err(
                |error| if informational == 0 { error } else { Error { retry: Retry::Never, ..error } },
            )?;
        if !response.status.is_informational() {
            return Ok((head, response));
        }
        if informational >= limits.informational {
            return Err(bad_response());
        }
        informational += 1; // what comes before an answer cannot be passed on before it is chosen
    }
}

impl Winner {
    /// Whether it is only passed on when the other attempt gives none: the server has failed.
    fn is_poor(&self) -> bool {
        self.response.status.code() >= 500
    }
}
