//! Tally closes every exchange exactly once: its counters, then its record.

use crate::cells;
use crate::eject::Heard;
use crate::hosts::HostId;
use crate::pool::HostPool;
use crate::run::Run;
use crate::stats::Names;
use crate::worker::Worker;
use portunus_message::{Crime, Exchange, Side, Status, Tick};

/// The end of an exchange. Nothing else counts requests or writes records.
pub fn close(x: &mut Exchange, run: &Run, worker: &Worker) {
    let now = worker.clock.now();
    x.times.ended = Some(now);
    if let Some(error) = x.error {
        worker.cells.crime(error.crime);
    }
    let lasted = now.since(x.times.began);
    if let Some(route) = x.labels.route.and_then(|at| run.route_cells(at)) {
        if let Some(status) = x.sent {
            route.statuses.add(status);
        }
        cells::observe(&route.duration, lasted);
        route.bytes_up.add(x.bytes_up);
        route.bytes_down.add(x.bytes_down);
    }
    worker.cells.active.sub(1);
    worker.recorder.borrow_mut().record(x, &names(x, run));
}

/// One attempt at a host is over: with the head of an answer, or for want of it.
pub fn attempt(x: &Exchange, pool: &HostPool, failed: Option<Crime>, now: Tick) {
    match failed {
        None => {
            pool.cells.statuses.add(x.response.status);
            let took = x.times.picked.map(|picked| now.since(picked));
            if let Some(took) = took {
                cells::observe(&pool.cells.duration, took);
            }
            // The time of a further attempt is not the host's alone.
            pool.heard(Heard::answer(x.response.status), took.filter(|_| x.tries == 1), now);
        }
        Some(crime) => {
            pool.cells.failures.add(1);
            // What an earlier attempt has taken of the request's time is not this host's doing.
            if crime != Crime::Deadline || x.tries == 1 {
                pool.heard(Heard::crime(crime), None, now);
            }
        }
    }
}

fn names<'a>(x: &Exchange, run: &'a Run) -> Names<'a> {
    let route = x.labels.route.and_then(|at| run.snapshot.route(at)).map(|route| &*route.name);
    let pool = x.labels.pool.and_then(|at| run.snapshot.pool(at));
    let upstream = pool.zip(x.labels.host).and_then(|(pool, at)| pool.hosts.get(HostId(at)));
    Names { route, pool: pool.map(|pool| &*pool.name), upstream: upstream.map(|host| &*host.name) }
}

/// Whether the exchange ended by the client's doing, so that nobody is left to be answered.
pub fn is_client_gone(x: &Exchange) -> bool {
    x.error.is_some_and(|error| error.side == Side::Client && error.crime.status() == Status::CLIENT_GONE)
}
