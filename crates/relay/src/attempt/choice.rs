//! choice: which host has a request first, which one after that, and whether there may be another.

use super::door::{self, Room};
use super::{Ask, Asked};
use crate::client::Scratch;
use crate::context::Scope;
use crate::hosts::{HostId, HostSet};
use crate::pick::Key;
use crate::snapshot::Pool;
use crate::worker::Worker;
use portunus_message::{Crime, Error, Exchange, Phase, Retry, Side, Tick};
use std::time::Duration;

/// How long the same host is left alone before it is asked again, the first time; twice as long each further time.
const BACK_OFF: Duration = Duration::from_millis(25);
/// But never longer than this.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// How many hosts, at which nobody is met, may be passed over beyond the tries.
const UNMET_MAX: u32 = 8;

/// Where a further attempt goes,
pub struct Next {
    /// to this host,
    pub id: HostId,
    /// after this time,
    pub pause: Duration,
    /// and since when it was waited for, if it was.
    pub since: Option<Tick>,
}

impl Ask<'_> {
    /// One of the pool's hosts.
    pub fn choose(&mut self) -> Option<HostId> {
        choose(self.x, self.scratch, self.pool, self.worker)
    }

    /// The host for the next attempt, waiting for one that has room where the servers of the pool are bounded; and since when it was
    /// waited for, which whoever was called in vain keeps. Who waits for some of them only does it without the `room` on the pool: that may be
    /// of use to others meanwhile.
    pub async fn first(
        &mut self,
        room: &mut Room<'_>,
        mut since: Option<Tick>,
    ) -> Result<(HostId, Option<Tick>), Error> {
        let pool = self.pool;
        let mut goes_home = true;
        loop {
            let now = self.worker.clock.now();
            let home = if goes_home { self.full_home(now) } else { None };
            // Whoever comes goes behind those who wait; whoever was called goes before them.
            if since.is_some() || self.lets_pass(now) {
                if let Some(id) = if home.is_none() { self.choose() } else { None } {
                    return Ok((id, since));
                }
                if !pool.bound.per_server || !self.has_elsewhere(now) {
                    self.mine.cells.no_host.add(1);
                    return Err(Error::upstream(Phase::Pick, Crime::NoHost, Retry::Never));
                }
                door::pass_on(pool, now); // room on a server that is of no use here is room for somebody else
            }
            let without = home.map_or_else(|| self.scratch.tried.clone(), |home| all_but(home, pool));
            let lent = !without.is_empty() && room.lend();
            let waited = Box::pin(door::server(self, without, home, since)).await;
            since = match waited {
                Ok(since) => Some(since),
                // Its client finds another server better than none.
                Err(error) if home.is_some() && error.side == Side::Proxy => {
                    goes_home = false;
                    if error.crime == Crime::QueueTimeout { since.or(Some(now)) } else { since }
                }
                Err(error) => return Err(error),
            };
            if lent {
                room.enter_again(self).await?;
            }
        }
    }

    /// The server that the client has to come back to, when it only has no room now.
    fn full_home(&self, now: Tick) -> Option<HostId> {
        let hosts = &self.pool.hosts;
        let home = self.pool.sticky.as_ref()?.bound(&self.x.request, hosts, &self.scratch.tried, now)?;
        hosts.get(home).is_some_and(|host| host.is_full()).then_some(home)
    }

    /// Whether one who comes now overtakes nobody who waits for a server.
    pub fn lets_pass(&self, now: Tick) -> bool {
        let servers = &self.pool.live.gate.servers;
        if !self.pool.bound.per_server || servers.is_empty() {
            return true;
        }
        let open = self.pool.hosts.open(now);
        servers.lets_pass(|tried| open.has_beside(tried))
    }

    /// Whether another attempt may follow by their number: those that met nobody have not tried anything.
    pub fn has_tries(&self) -> bool {
        self.x.tries < self.rule.tries.saturating_add(self.unmet)
    }

    /// Whether another one may follow if the last one, and those beside it, have met nobody.
    pub fn may_pass_over(&self) -> bool {
        let tries = self.x.tries.saturating_sub(self.beside);
        self.rule.tries > 1 && self.unmet < UNMET_MAX && tries <= self.rule.tries.saturating_add(self.unmet)
    }

    /// The last one has met nobody.
    pub fn met_nobody(&mut self) {
        self.unmet += u32::from(self.unmet < UNMET_MAX);
    }

    /// The host for another attempt, when a rule wants one: an untried host is left, all of the body can be sent again,
    /// there is time, and the budget allows it. Where only the same host is left, it is asked again when nothing was sent
    /// to it, after a moment; and where the others have no room, it is waited for, without the `room` on the pool.
    pub async fn another(&mut self, asked: &Asked, room: &mut Room<'_>) -> Result<Option<Next>, Error> {
        let now = self.worker.clock.now();
        let left = self.request_deadline().since(now);
        let forsaken = std::mem::take(&mut self.forsaken);
        let no_connection = asked.as_ref().is_err_and(|error| error.phase == Phase::Connect);
        if forsaken || no_connection {
            self.met_nobody();
        }
        if self.rule.tries <= 1 || !self.has_tries() || left.is_zero() || !self.up.can_rewind() {
            return Ok(None);
        }
        let free = if self.lets_pass(now) { self.choose() } else { None };
        // One that answers nobody is for those who would have nobody else, and have not heard anything yet.
        let is_mute = |id| self.pool.hosts.get(id).is_some_and(|host| host.live.silence.is_mute());
        let free = free.filter(|&id| !is_mute(id));
        let next = match free {
            Some(id) => Next { id, pause: Duration::ZERO, since: None },
            None if asked.is_err() && self.pool.bound.per_server && self.may_be_answered_elsewhere(now) => {
                if !no_connection && !self.is_allowed(forsaken, now) {
                    self.mine.cells.retries_refused.add(1);
                    self.x.refused_by_budget = true;
                    return Ok(None);
                }
                door::server_has_room(self.pool);
                match self.first(room, None).await {
                    Ok((id, since)) => Next { id, pause: Duration::ZERO, since },
                    Err(error) if error.side == Side::Client || error.crime == Crime::Deadline => {
                        return Err(error);
                    }
                    Err(_) => return Ok(None),
                }
            }
            // The same host is not asked again because nobody was met.
            None if self.x.tries >= self.rule.tries => return Ok(None),
            None => match self.same(asked) {
                Some(id) => Next { id, pause: back_off(self.x.tries, self.worker.random()), since: None },
                None => return Ok(None),
            },
        };
        let now = self.worker.clock.now();
        let may = no_connection
            || match forsaken {
                true => self.mine.may_rescue(self.pool, self.rule.rescues_percent(), now),
                false => self.mine.may_try_again(self.pool, self.rule.budget_percent, now),
            };
        self.x.refused_by_budget |= !may;
        if next.pause >= left || !may || !self.up.rewind() {
            return Ok(None);
        }
        self.mine.cells.retries.add(1);
        Ok(Some(next))
    }

    /// Whether the budget has a further attempt left.
    fn is_allowed(&self, forsaken: bool, now: Tick) -> bool {
        self.mine.tell_budget(self.pool, now);
        let live = &self.pool.live;
        match forsaken {
            true => live.rescues.has_left(self.rule.rescues_percent(), now),
            false => live.budget.has_left(self.rule.budget_percent, now),
        }
    }

    /// The host that has just refused a connection, when there is no other: whoever restarts it would have every request of that
    /// moment fail otherwise.
    fn same(&mut self, asked: &Asked) -> Option<HostId> {
        // What was refused by a host that is there, before it looked at it, may be welcome a moment later.
        let refused = |error: &Error| {
            let untouched = error.phase != Phase::Connect && error.retry == Retry::Untouched;
            error.side == Side::Upstream && (error.crime == Crime::ConnectFailed || untouched)
        };
        if !asked.as_ref().is_err_and(refused) || self.pool.hosts.len() > 1 {
            return None;
        }
        let host = HostId(self.x.labels.host?);
        self.scratch.tried.remove(host);
        Some(host)
    }
}

/// A half to one and a half times as long, by chance: whoever failed together should not come back together.
fn back_off(tries: u32, random: u64) -> Duration {
    let whole = BACK_OFF.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(BACK_OFF_MAX);
    whole / 2 + whole.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
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
    let without = with_full(&scratch.tried, pool);
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

/// All hosts but one.
fn all_but(one: HostId, pool: &Pool) -> HostSet {
    let mut all = HostSet::default();
    pool.hosts.iter().for_each(|(id, _)| all.insert(id));
    all.remove(one);
    all
}

/// These hosts, and those that have no room.
fn with_full(tried: &HostSet, pool: &Pool) -> HostSet {
    let mut without = tried.clone();
    pool.hosts.iter().filter(|(_, host)| host.is_full()).for_each(|(id, _)| without.insert(id));
    without
}
