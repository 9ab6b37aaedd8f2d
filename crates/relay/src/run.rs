//! Run: a Snapshot as one worker runs it, with that worker's own pools and counters.

use crate::breaker::spread::Spread;
use crate::buffers::Buffers;
use crate::cells::{PoolCells, RouteCells};
use crate::hosts::Host;
use crate::plan::{Hedge, InFlight, Listen};
use crate::pool::HostPool;
use crate::pool::h2::Bounds;
use crate::snapshot::{Pool, Route, Snapshot};
use crate::stats::{PoolStats, Stats};
use portunus_message::{Crime, Limits, Request, Tick};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Routes that are no longer there and still have their counters.
const RETIRED_MAX: usize = 1000;

/// Counters of routes that a worker has run before: taking a route away and putting it back does not turn them back.
#[derive(Debug, Default)]
pub struct Counters(RefCell<HashMap<Box<str>, Rc<RouteCells>>>);

/// A Snapshot as one worker runs it: with its own pools and counters.
pub struct Run {
    /// What it runs.
    pub snapshot: Arc<Snapshot>,
    /// Its pools, in the Snapshot's order.
    pub pools: Vec<Rc<RunPool>>,
    routes: Rc<Vec<Rc<RouteCells>>>,
    /// The bounds that hold before a route is known.
    pub limits: Rc<Limits>,
    /// Those of upstream connections that many requests share.
    shared: Bounds,
    /// Since when it is one too many of those that are not in force any more.
    pub retired: Cell<Option<Tick>>,
    /// The index of the listener by which the last request came: mostly the next one comes by it, too.
    last_listen: Cell<usize>,
}

/// A pool as one worker runs it.
pub struct RunPool {
    /// Its hosts, in the Snapshot's order.
    pub hosts: Vec<Rc<HostPool>>,
    /// What this worker has counted of it.
    pub cells: Rc<PoolCells>,
    /// How many of its requests the budget for further attempts has heard of.
    told: Cell<u64>,
    window: RefCell<Window>,
}

/// What a worker has seen of a pool's answers and has not told the others.
#[derive(Default)]
struct Window {
    seen: Spread,
    most: u32,
    told: Tick,
    /// Whether some of it is of routes that ask a second host when the first one is slow.
    hedged: bool,
}

/// How often workers tell each other how long answers take.
const TELL_EVERY: Duration = Duration::from_millis(50);

impl Run {
    /// Runs `snapshot` after `old`: connections and counters of what is in both go on.
    pub fn new(
        snapshot: Arc<Snapshot>,
        old: Option<&Run>,
        buffers: &Rc<Buffers>,
        workers: usize,
        counters: &Counters,
    ) -> Run {
        let before: HashMap<&str, (&Arc<Pool>, &Rc<RunPool>)> = old
            .into_iter()
            .flat_map(|old| old.snapshot.pools().iter().zip(&old.pools))
            .map(|pair| (&*pair.0.name, pair))
            .collect();
        let limits = Rc::new(snapshot.plan().settings.limits.clone());
        let shared = Bounds::new(&limits);
        let same_bounds = old.is_none_or(|old| old.shared == shared);
        let run_pool = |pool: &Arc<Pool>| match before.get(&*pool.name) {
            Some((same, known)) if same_bounds && Arc::ptr_eq(same, pool) => Rc::clone(known),
            other => {
                let before = other.map(|(old, known)| (&***old, &***known, same_bounds));
                Rc::new(RunPool::new(pool, before, workers, &limits, buffers))
            }
        };
        let pools: Vec<_> = snapshot.pools().iter().map(run_pool).collect();
        let routes = match old {
            Some(old) if old.snapshot.has_routes_of(&snapshot) => Rc::clone(&old.routes),
            _ => Rc::new(counters.take(&snapshot, old)),
        };
        let (retired, last_listen) = (Cell::new(None), Cell::new(0));
        Run { snapshot, pools, routes, limits, shared, retired, last_listen }
    }

    /// The hosts that are not in `next` any more: what runs on them comes to its end, nothing is kept for later.
    pub fn gone_from<'a>(&'a self, next: &Run) -> impl Iterator<Item = &'a Rc<HostPool>> {
        let stay: HashSet<*const HostPool> =
            next.pools.iter().flat_map(|pool| &pool.hosts).map(Rc::as_ptr).collect();
        let hosts = self.pools.iter().flat_map(|pool| &pool.hosts);
        hosts.filter(move |host| !stay.contains(&Rc::as_ptr(host)))
    }

    /// Whether the two differ in nothing but the members of pools.
    pub fn is_configured_like(&self, other: &Run) -> bool {
        Rc::ptr_eq(&self.routes, &other.routes)
    }

    /// Writes down what this worker has counted of each route and pool; `tells_in_flight` when it shall say what all
    /// workers have on a host.
    pub fn read(&self, tells_in_flight: bool, stats: &mut Stats) {
        let routes = self.snapshot.routes().iter().zip(&*self.routes);
        let routes = routes.map(|(route, cells)| (route.name.to_string(), cells.read()));
        let pools = self.snapshot.pools().iter().zip(&self.pools);
        let pools =
            pools.map(|(pool, mine)| (pool.name.to_string(), mine.read(tells_in_flight.then_some(pool))));
        stats.routes.extend(routes);
        stats.pools.extend(pools);
    }

    /// Looks, once a second, whether hosts give no answers while others of their pool do: its own, and those of `past` ones
    /// that have requests still.
    pub fn look_for_silence(&self, past: &[Rc<Run>], now: Tick) {
        for (pool, mine) in self.snapshot.pools().iter().zip(&self.pools) {
            mine.look_for_silence(pool, |_| true, now);
        }
        let mut seen: HashSet<*const HostPool> = HashSet::new();
        for past in past {
            let gone: HashSet<_> = past.gone_from(self).map(Rc::as_ptr).collect();
            for (pool, mine) in past.snapshot.pools().iter().zip(&past.pools) {
                let mut is_gone = |host: &Rc<HostPool>| gone.contains(&Rc::as_ptr(host));
                if mine.hosts.iter().any(&mut is_gone) {
                    mine.look_for_silence(pool, |host| is_gone(host) && seen.insert(Rc::as_ptr(host)), now);
                }
            }
        }
    }

    /// The counters of a route.
    pub fn route_cells(&self, at: u32) -> Option<&RouteCells> {
        self.routes.get(at as usize).map(|cells| &**cells)
    }

    /// The route for a request that came by `listen`.
    pub fn find(
        &self,
        listen: &Listen,
        request: &Request,
        client_ip: IpAddr,
    ) -> Result<(u32, &Route), Crime> {
        let table = &self.snapshot.table;
        if table.listens().get(self.last_listen.get()) != Some(listen) {
            self.last_listen.set(table.listens().binary_search(listen).map_err(|_| Crime::NoSite)?);
        }
        let at = table.find(self.last_listen.get(), request, client_ip)?;
        self.snapshot.route(at).map(|route| (at, route)).ok_or(Crime::Internal)
    }
}

impl RunPool {
    /// The same pool with other members keeps what it has of those that stay; with other settings only connections and counts.
    fn new(
        pool: &Pool,
        before: Option<(&Pool, &RunPool, bool)>,
        workers: usize,
        limits: &Rc<Limits>,
        buffers: &Rc<Buffers>,
    ) -> RunPool {
        let same_settings =
            before.is_some_and(|(old, _, same_bounds)| same_bounds && old.connects_like(pool));
        let before = before.map(|(_, run, _)| run);
        pool.live.gate.bound(&pool.bound);
        let hosts = pool.hosts.iter().map(|(_, host)| {
            let known =
                before.and_then(|before| before.hosts.iter().find(|old| Arc::ptr_eq(&old.host, host)));
            if let Some(known) = known.filter(|_| same_settings) {
                return Rc::clone(known);
            }
            let new = HostPool::new(
                Arc::clone(host),
                pool.keep_alive,
                pool.connect_timeout,
                workers,
                limits,
                Rc::clone(buffers),
            );
            let same = before.and_then(|pool| pool.hosts.iter().find(|old| old.host.address == host.address));
            match same {
                Some(same) => {
                    if !host.is_spoken_with_like(&same.host) {
                        same.clear(); // they were made by other rules
                    }
                    new.after(same)
                }
                None => Rc::new(new),
            }
        });
        RunPool {
            hosts: hosts.collect(),
            cells: before.map(|pool| Rc::clone(&pool.cells)).unwrap_or_default(),
            told: Cell::new(before.map_or(0, |pool| pool.told.get())),
            window: RefCell::default(),
        }
    }

    /// Hears how long a host took to answer; `hedged` if it would not have been waited for alone for ever.
    pub fn heard(&self, pool: &Pool, hedged: bool, time: Duration, now: Tick) {
        if !pool.bound.is_adaptive() && !hedged {
            return;
        }
        let window = &mut *self.window.borrow_mut();
        window.hedged |= hedged;
        window.seen.add(time);
        window.most = window.most.max(pool.live.gate.in_flight());
        if now.since(window.told) >= TELL_EVERY {
            if pool.bound.is_adaptive() {
                pool.live.gate.hear(&window.seen, window.most, now);
            }
            if window.hedged {
                pool.live.pace.hear(&window.seen);
            }
            *window = Window { told: now, ..Window::default() };
        }
    }

    /// Looks, once a second, whether one of its hosts gives no answers while others do, or have nothing to do. Those that
    /// are not `its_own` have been looked at.
    fn look_for_silence(&self, pool: &Pool, mut its_own: impl FnMut(&Rc<HostPool>) -> bool, now: Tick) {
        let own = self.hosts.iter().filter(|host| its_own(host));
        let answered = own.filter(|host| host.has_answered(now)).count();
        let last = pool.live.answered(answered > 0, now);
        let is_busy = |host: &Host| host.in_flight() > 0;
        let may_answer = |host: &Host| host.is_usable(now) || host.may_be_well(now);
        let others_idle = pool.hosts.iter().any(|(_, host)| !is_busy(host) && may_answer(host));
        for (_, host) in pool.hosts.iter().filter(|(_, host)| is_busy(host)) {
            if host.live.silence.is_long(host.in_flight(), last, others_idle) {
                pool.judge.suspect(&pool.name, host);
            }
        }
    }

    /// Tells the budget, which all workers share, of the requests it has not heard of.
    pub fn tell_budget(&self, pool: &Pool, now: Tick) {
        let requests = self.cells.requests.get();
        let more = requests.saturating_sub(self.told.replace(requests));
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        pool.live.budget.requests(more, now);
        pool.live.rescues.requests(more, now);
    }

    /// After how long another host is asked, too; none while too little is known of the pool.
    pub fn hedge_after(&self, pool: &Pool, hedge: &Hedge) -> Option<Duration> {
        pool.live.pace.slow(hedge.percentile).into_iter().chain(hedge.max).min()
    }

    /// Takes one further attempt out of the budget for requests whose host has been found to answer nobody, if one is left in it.
    pub fn may_rescue(&self, pool: &Pool, percent: u32, now: Tick) -> bool {
        self.tell_budget(pool, now);
        let may = pool.live.rescues.take(percent, now);
        if !may {
            self.cells.retries_refused.add(1);
        }
        may
    }

    /// Takes one further attempt out of the budget of so many percent, if one is left in it.
    pub fn may_try_again(&self, pool: &Pool, percent: u32, now: Tick) -> bool {
        self.tell_budget(pool, now);
        let may = pool.live.budget.take(percent, now);
        if !may {
            self.cells.retries_refused.add(1);
        }
        may
    }

    /// `pool`: what all workers have on it is to be told, too.
    fn read(&self, pool: Option<&Pool>) -> PoolStats {
        let hosts = self.hosts.iter().map(|host| {
            let in_flight = if pool.is_some() { host.host.in_flight() } else { 0 };
            (host.host.name.to_string(), host.cells.read(host.idle_count(), in_flight))
        });
        let gate = pool.filter(|pool| !matches!(pool.bound.most, InFlight::Unlimited));
        let gate = gate.map(|pool| &pool.live.gate);
        PoolStats {
            in_flight: gate.map_or(0, |gate| gate.in_flight().into()),
            limit: gate.map_or(0, |gate| gate.limit().into()),
            queued: pool.map_or(0, |pool| pool.live.gate.queued()),
            ..self.cells.read(hosts.collect())
        }
    }
}

impl Counters {
    /// The counters for the routes of `snapshot`, in order, after those of `old` have been put away.
    fn take(&self, snapshot: &Snapshot, old: Option<&Run>) -> Vec<Rc<RouteCells>> {
        let mut known = self.0.borrow_mut();
        if let Some(old) = old {
            let names = old.snapshot.routes().iter().map(|route| route.name.clone());
            known.extend(names.zip(old.routes.iter().map(Rc::clone)));
        }
        let cells =
            snapshot.routes().iter().map(|route| known.remove(&route.name).unwrap_or_default()).collect();
        if known.len() > RETIRED_MAX {
            known.clear();
        }
        cells
    }
}
