//! Tally closes every exchange exactly once: its counters, then its record; and every handshake that fails.

use crate::canary::Canary;
use crate::cells;
use crate::context::Bounds;
use crate::eject::Heard;
use crate::grpc;
use crate::hosts::HostId;
use crate::pick::Outcome;
use crate::pool::HostPool;
use crate::run::Run;
use crate::snapshot::Pool;
use crate::stats::{Handshake, Names, Unshaken};
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Phase, Side, Status, Tick};

/// The end of an exchange. Nothing else counts requests or writes records.
pub fn close(x: &mut Exchange, run: &Run, worker: &Worker) {
    let now = worker.clock.now();
    x.times.ended = Some(now);
    if let Some(error) = x.error {
        worker.cells.crime(error.crime);
    }
    let lasted = now.since(x.times.began);
    if x.call_status.is_none() && grpc::is_call(&x.request) {
        x.call_status = grpc::status_in(&x.response.fields);
    }
    if let Some(route) = x.labels.route.and_then(|at| run.route_cells(at)) {
        if let Some(status) = x.sent {
            route.statuses.add(status);
        }
        cells::observe(&route.duration, lasted);
        route.bytes_up.add(x.bytes_up);
        route.bytes_down.add(x.bytes_down);
    }
    if let Some(route) = x.labels.route.and_then(|at| run.snapshot.route(at))
        && let Some(canary) = &route.split.canary
    {
        watch(x, canary, now);
    }
    worker.cells.active.sub(1);
    worker.recorder.borrow_mut().record(x, &names(x, run));
}

/// A handshake has come to nothing. Of a client that has not said a word there is no record: those are checks of balancers, and
/// browsers that connect ahead.
pub fn unshaken(unshaken: &Unshaken<'_>, heard: bool, worker: &Worker) {
    worker.cells.handshake(unshaken.end);
    if heard && unshaken.end != Handshake::Challenge {
        worker.recorder.borrow_mut().unshaken(unshaken);
    }
}

/// A route with a canary compares what became of its requests with what became of the others.
fn watch(x: &Exchange, canary: &Canary, now: Tick) {
    let Some(pool) = x.labels.pool.filter(|_| !is_client_gone(x)) else { return };
    let failed = x.sent.is_none_or(|status| status.code() >= 500);
    let took = x.times.first_byte.unwrap_or(now).since(x.times.began);
    let seen = if pool == canary.pool { &canary.live.new } else { &canary.live.old };
    seen.count(took, failed);
}

/// One attempt at a host of `pool`, begun at `began`, is over: with the head of an answer, or for want of it. Whoever has
/// to hear how it went hears it here, once.
pub fn attempt(
    x: &Exchange,
    bounds: &Bounds,
    pool: &Pool,
    host: &HostPool,
    failed: Option<Crime>,
    began: Tick,
    now: Tick,
) {
    let latency = now.since(began);
    match failed {
        None => {
            host.cells.statuses.add(x.response.status);
            if let Some(picked) = x.times.picked {
                cells::observe(&host.cells.duration, now.since(picked));
            }
            pool.judge.answered(&host.host, Heard::answer(x.response.status), latency, now);
        }
        Some(crime) => {
            host.cells.failures.add(1);
            if host.host.live.trouble.is_news() {
                pool.judge.call();
            }
            // A client that gives its requests next to no time must not be able to take a host from the others.
            if crime == Crime::Deadline && bounds.hurried {
                return;
            }
            // What an earlier attempt has taken of the request's time is not this host's doing.
            if crime != Crime::Deadline || x.tries == 1 {
                pool.judge.heard(&host.host, Heard::crime(crime), now);
            }
        }
    }
    if let Some(id) = x.labels.host {
        let failed = failed.is_some() || x.response.status.code() >= 500;
        pool.pick.heard(&pool.hosts, HostId(id), &Outcome { latency, failed, at: now });
    }
}

fn names<'a>(x: &Exchange, run: &'a Run) -> Names<'a> {
    let route = x.labels.route.and_then(|at| run.snapshot.route(at)).map(|route| &*route.name);
    let pool = x.labels.pool.and_then(|at| run.snapshot.pool(at));
    let upstream = pool.zip(x.labels.host).and_then(|(pool, at)| pool.hosts.get(HostId(at)));
    let is_of_connect = |error: Error| error.side == Side::Upstream && error.phase == Phase::Connect;
    let detail =
        upstream.filter(|_| x.error.is_some_and(is_of_connect)).and_then(|host| host.live.trouble.words());
    Names { route, pool: pool.map(|pool| &*pool.name), upstream: upstream.map(|host| &*host.name), detail }
}

/// Whether the exchange ended by the client's doing, so that nobody is left to be answered.
pub fn is_client_gone(x: &Exchange) -> bool {
    x.error.is_some_and(|error| error.side == Side::Client && error.crime.status() == Status::CLIENT_GONE)
}
