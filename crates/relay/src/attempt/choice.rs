//! choice: which host has a request first, which one after that, and whether there may be another.

use super::{Asked, door};
use crate::client::{Client, Scratch};
use crate::context::{Bounds, Scope};
use crate::hosts::HostId;
use crate::pick::Key;
use crate::pump::Transfer;
use crate::run::RunPool;
use crate::snapshot::Pool;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Phase, Retry, Tick};

/// The host for the next attempt, waiting for one that has room where the servers of the pool are bounded.
#[allow(clippy::too_many_arguments)]
pub async fn first(
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
            let now = worker.clock.now();
            if !is_bounded || pool.hosts.candidates(&scratch.tried, now).next().is_none() {
                mine.cells.no_host.add(1);
                return Err(Error::upstream(Phase::Pick, Crime::NoHost, Retry::Never));
            }
        }
        since = Some(Box::pin(door::server(x, client, pool, since, bounds, worker)).await?);
    }
}

/// The host for another attempt, when a rule wants one: an untried host is left, all of the body can be sent again,
/// there is time, and the budget allows it.
#[allow(clippy::too_many_arguments)]
pub fn another(
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

/// One of the hosts that have not been tried and have room; those that have asked to be left alone only when too few
/// others are there.
pub fn choose(x: &Exchange, scratch: &mut Scratch, pool: &Pool, worker: &Worker) -> Option<HostId> {
    let now = worker.clock.now();
    let bound = pool.sticky.as_ref().and_then(|it| it.bound(&x.request, &pool.hosts, &scratch.tried, now));
    if let Some(id) = bound.filter(|&id| pool.hosts.get(id).is_some_and(|host| !host.is_full())) {
        return Some(id);
    }
    scratch.key.clear();
    if let Some(template) = pool.pick.key() {
        let scope = Scope {
            request: &x.request,
            response: None,
            peer: x.peer,
            proof: x.proof.as_deref(),
            client_ip: x.client_ip(),
            id: x.id,
            upstream: None,
        };
        template.render(&scope, &mut scratch.key);
    }
    let key = Key { text: &scratch.key, client_ip: x.client_ip(), random: worker.random(), now };
    if now >= pool.live.rest_until() && !pool.bound.per_server {
        return pool.pick.pick(&pool.hosts, &key, &scratch.tried);
    }
    let mut without = scratch.tried.clone();
    pool.hosts.iter().filter(|(_, host)| host.is_full()).for_each(|(id, _)| without.insert(id));
    let resting = || pool.hosts.iter().filter(|(_, host)| host.live.is_resting(now));
    // When most of them ask for it the others would have too much: then nobody is left alone.
    if resting().count() * 2 <= pool.hosts.len() {
        let mut rested = without.clone();
        resting().for_each(|(id, _)| rested.insert(id));
        if let Some(id) = pool.pick.pick(&pool.hosts, &key, &rested) {
            return Some(id);
        }
    }
    pool.pick.pick(&pool.hosts, &key, &without)
}
