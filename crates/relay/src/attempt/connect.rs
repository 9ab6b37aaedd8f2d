//! connect: a connection to the host that was chosen, or to another one when that takes long (RFC 8305, "Happy Eyeballs").

use super::{Ask, choose};
use crate::client::Scratch;
use crate::context::Bounds;
use crate::deadlines::Deadline;
use crate::hosts::HostId;
use crate::pool::{HostPool, Lease, dial};
use crate::run::RunPool;
use crate::snapshot::Pool;
use crate::tally;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Side, Tick};
use portunus_wire::preface::Preface;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// How long a connect is waited for before the next host is asked beside it (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);
/// The most hosts that are asked for one attempt.
const HOSTS_MAX: usize = 4;

/// A connection to `host`, or to another one if that has one sooner. Nothing is sent meanwhile, so this is one attempt
/// whatever host it ends with: the exchange says which.
pub async fn connect(ask: &mut Ask<'_>, host: &Rc<HostPool>) -> Result<Lease, Error> {
    let overall = ask.request_deadline().min(ask.try_deadline());
    let (worker, pool, deadline) = (ask.worker, ask.pool, &ask.client.deadline);
    deadline.set(overall);
    let from = dial::preface_of(ask.x);
    let websocket = ask.x.request.websocket;
    let mut first = pin!(host.connect(from, websocket, deadline, &worker.clock));
    if pool.hosts.len() < 2 || !ask.rule.changes_host() {
        return first.await;
    }
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let done = poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        // A timer is made only for those who have to wait.
        Poll::Pending => {
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEAD_START)));
            timer.as_mut().poll(cx).map(|()| None)
        }
    })
    .await;
    if let Some(done) = done {
        return done;
    }
    let id = HostId(ask.x.labels.host.unwrap_or_default());
    let first = Try { id, began: ask.began, host: Rc::clone(host), run: Some(Box::pin(first)) };
    let (x, scratch, bounds, mine) = (&mut *ask.x, &mut *ask.scratch, ask.bounds, ask.mine);
    let mut race = Race { x, scratch, bounds, pool, worker, tries: vec![first], timer: None, failed: None };
    let (lease, began) = poll_fn(|cx| race.poll(cx, mine, overall)).await?;
    ask.began = began;
    Ok(lease)
}

/// A connection to `host` until then, for those who do not wait with the deadline of a client.
pub async fn open(
    host: Rc<HostPool>,
    from: Preface,
    websocket: bool,
    until: Tick,
    worker: &Worker,
) -> Result<Lease, Error> {
    let own: Deadline = worker.deadlines.add();
    own.set(until);
    poll_fn(|cx| {
        own.wakes(cx);
        Poll::Ready(())
    })
    .await;
    host.connect(from, websocket, &own, &worker.clock).await
}

/// Several hosts that are asked for a connection.
struct Race<'a> {
    x: &'a mut Exchange,
    scratch: &'a mut Scratch,
    bounds: &'a Bounds,
    pool: &'a Pool,
    worker: &'a Worker,
    tries: Vec<Try<'a>>,
    /// When the next one is asked; none: now.
    timer: Option<Pin<Box<Sleep>>>,
    failed: Option<Error>,
}

/// One of them. Dropped, it is given up.
struct Try<'a> {
    id: HostId,
    began: Tick,
    host: Rc<HostPool>,
    run: Option<Pin<Box<dyn Future<Output = Connected> + 'a>>>,
}

/// What comes of asking a host.
type Connected = Result<Lease, Error>;

impl Race<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mine: &RunPool,
        until: Tick,
    ) -> Poll<Result<(Lease, Tick), Error>> {
        loop {
            if self.timer.as_mut().is_none_or(|timer| timer.as_mut().poll(cx).is_ready()) {
                self.ask_another(mine, until);
            }
            let mut more = false;
            for at in 0..self.tries.len() {
                match self.look(cx, at) {
                    Some(Ok(lease)) => return Poll::Ready(Ok(self.win(at, lease))),
                    Some(Err(error)) => {
                        // Whoever has failed is not waited for: the next one is asked at once.
                        more |= self.timer.take().is_some() && self.tries.len() < HOSTS_MAX;
                        self.failed = Some(error);
                    }
                    None => {}
                }
            }
            if more {
                continue;
            }
            let is_over = self.tries.iter().all(|one| one.run.is_none());
            return match self.failed.filter(|_| is_over) {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            };
        }
    }

    /// Asks the next host, if there is one.
    fn ask_another(&mut self, mine: &RunPool, until: Tick) {
        self.timer = Some(Box::pin(tokio::time::sleep(HEAD_START)));
        if self.tries.len() >= HOSTS_MAX {
            return;
        }
        let Some(id) = choose(self.x, self.scratch, self.pool, self.worker) else { return };
        let Some(host) = mine.hosts.get(id.0 as usize) else { return };
        self.scratch.tried.insert(id);
        let (from, websocket) = (dial::preface_of(self.x), self.x.request.websocket);
        let run = Box::pin(open(Rc::clone(host), from, websocket, until, self.worker));
        let began = self.worker.clock.refresh();
        self.tries.push(Try { id, began, host: Rc::clone(host), run: Some(run) });
    }

    /// What has come of one of them. That it has failed is told to whoever has to know, unless it is the last: then the whole
    /// attempt has failed, and that is told by whoever made it.
    fn look(&mut self, cx: &mut Context<'_>, at: usize) -> Option<Result<Lease, Error>> {
        let one = self.tries.get_mut(at)?;
        let Poll::Ready(done) = one.run.as_mut()?.as_mut().poll(cx) else { return None };
        one.run = None;
        let (id, began, host) = (one.id, one.began, Rc::clone(&one.host));
        self.x.labels.host = Some(id.0);
        if let Err(error) = done
            && error.side == Side::Upstream
            && self.tries.iter().any(|one| one.run.is_some())
        {
            self.lost(id, &host, began, error.crime);
        }
        Some(done)
    }

    /// Those that began sooner and still have no connection have failed.
    fn win(&mut self, at: usize, lease: Lease) -> (Lease, Tick) {
        let tries = std::mem::take(&mut self.tries);
        let (sooner, rest) = tries.split_at(at);
        let websocket = self.x.request.websocket;
        let waiting = sooner.iter().filter(|one| one.run.is_some() && one.host.is_dialing(websocket));
        waiting.for_each(|one| self.lost(one.id, &one.host, one.began, Crime::ConnectTimeout));
        let (id, began) = rest.first().map_or((HostId(0), Tick(0)), |one| (one.id, one.began));
        self.x.labels.host = Some(id.0);
        (lease, began)
    }

    fn lost(&mut self, id: HostId, host: &HostPool, began: Tick, crime: Crime) {
        self.x.labels.host = Some(id.0);
        let now = self.worker.clock.now();
        tally::attempt(self.x, self.bounds, self.pool, host, Some(crime), began, now);
    }
}
