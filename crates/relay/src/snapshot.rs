//! Snapshot: a Plan compiled to run; immutable, shared, swapped whole.

use crate::breaker::spread::Pace;
use crate::breaker::{Bound, Gate};
use crate::canary::Canary;
use crate::challenges::Challenges;
use crate::context::Bounds;
use crate::demands::Demands;
use crate::dispatch::Table;
use crate::eject::{Alarm, Judge};
use crate::filter::chain::Chain;
use crate::filter::forwarded::Trust;
use crate::hosts::{Host, Hosts, Rules};
use crate::members::{Members, Wish};
use crate::mirror::Mirror;
use crate::pick::{self, Pick};
use crate::plan::{
    Address, CompileMistake, Hedge, KeepAlive, Plan, PoolPlan, RouteHedge, RoutePlan, ServerPlan, Urgency,
};
use crate::prefaces::Prefaces;
use crate::retry::{Budget, Rule};
use crate::split::{By, Split};
use crate::sticky::Sticky;
use crate::tls::{Back, Behind, Certificates, Fronts};
use portunus_message::{Limits, Tick};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A Plan compiled to run. What does not depend on the members of the pools is shared with the Snapshots of other members.
pub struct Snapshot {
    plan: Arc<Plan>,
    members: Arc<Members>,
    certificates: Arc<Certificates>,
    /// How its sites speak TLS.
    pub fronts: Arc<Fronts>,
    /// Where connections begin with a PROXY header.
    pub prefaces: Arc<Prefaces>,
    /// Which route a request takes.
    pub table: Arc<Table>,
    /// Whose forwarding headers are believed.
    pub trust: Arc<Trust>,
    /// Rings when the state of a host has changed.
    pub alarm: Arc<Alarm>,
    /// What is shown to CAs; belongs to the program, not to one Snapshot.
    pub challenges: Arc<Challenges>,
    /// The names without a certificate that clients ask for; likewise.
    pub demands: Arc<Demands>,
    routes: Arc<[Route]>,
    pools: Vec<Arc<Pool>>,
}

/// A route, compiled.
pub struct Route {
    /// What it is called.
    pub name: Box<str>,
    /// Its site, as an index into the plan's.
    pub site: u32,
    /// What may look at its requests.
    pub chain: Chain,
    /// The pools that get its requests.
    pub split: Split,
    /// The pool that gets copies of them.
    pub mirror: Option<Mirror>,
    /// How its requests are tried again, for each of its pools; empty where all do that by their own rules.
    again: Box<[Again]>,
    /// Whether its requests wait before or after others where a pool has no room.
    pub urgency: Urgency,
    /// Its bounds.
    pub limits: Arc<Limits>,
    /// Those of them that a filter may change.
    pub bounds: Bounds,
}

/// How the requests of one route are tried again on one pool.
struct Again {
    pool: u32,
    retry: Rule,
    hedge: Option<Hedge>,
}

impl Route {
    /// When a request that has gone to `pool`, with this index, is sent to another host; and whether a second host is asked when
    /// the first one is slow.
    pub fn again<'a>(&'a self, at: u32, pool: &'a Pool) -> (&'a Rule, Option<&'a Hedge>) {
        match self.again.iter().find(|again| again.pool == at) {
            Some(again) => (&again.retry, again.hedge.as_ref()),
            None => (&pool.retry, pool.hedge.as_ref()),
        }
    }
}

/// A pool, compiled.
pub struct Pool {
    /// What it is called.
    pub name: Box<str>,
    /// Its members.
    pub hosts: Arc<Hosts>,
    /// The same as plans, in the same order.
    servers: Vec<ServerPlan>,
    /// How one is chosen.
    pub pick: Box<dyn Pick>,
    /// Idle connections.
    pub keep_alive: KeepAlive,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// When a request is sent to another host.
    pub retry: Rule,
    /// How many requests it has at one time.
    pub bound: Bound,
    /// Whether a second host is asked when the first one is slow.
    pub hedge: Option<Hedge>,
    /// How long what is under way may take when it has to end.
    pub drain: Option<Duration>,
    /// Who ejects hosts of it.
    pub judge: Judge,
    /// The cookie that brings a client back to its host.
    pub sticky: Option<Sticky>,
    /// How hands are shaken with its hosts.
    tls: Option<Arc<Back>>,
    /// What every Snapshot shares of it.
    pub live: Arc<PoolLive>,
}

/// What changes of a pool while it runs. It outlives reloads that keep the pool.
#[derive(Debug, Default)]
pub struct PoolLive {
    /// How many further attempts its requests have had.
    pub budget: Budget,
    /// The same of those whose host has been found to answer nobody any more.
    pub rescues: Budget,
    /// Where its requests come in.
    pub gate: Gate,
    /// How long its answers take of late, where that is asked for.
    pub pace: Pace,
    /// Until when one of its hosts asked to be left alone, in microseconds of a [`Tick`].
    rests_until: AtomicU64,
    /// When one of its hosts was last known to have answered, likewise.
    answered: AtomicU64,
}

impl PoolLive {
    /// When one of its hosts was last known to have answered; `again`: one has now.
    pub fn answered(&self, again: bool, now: Tick) -> Tick {
        let last = if again { now.0 } else { 0 };
        Tick(self.answered.fetch_max(last, Relaxed).max(last))
    }

    /// Until when one of its hosts asked to be left alone.
    pub fn rest_until(&self) -> Tick {
        Tick(self.rests_until.load(Relaxed))
    }

    /// Hears that one of its hosts wants to be left alone until then.
    pub fn rests_until(&self, until: Tick) {
        self.rests_until.fetch_max(until.0, Relaxed);
    }
}

impl Pool {
    /// Whether its hosts may be spoken with in HTTP/2.
    pub fn may_speak_http2(&self) -> bool {
        self.hosts.iter().next().is_some_and(|(_, host)| host.may_speak_http2())
    }

    /// Whether connections to its hosts are made and kept in the same way as those of `other`.
    pub fn connects_like(&self, other: &Pool) -> bool {
        let same_tls = self.tls.as_ref().map(Arc::as_ptr) == other.tls.as_ref().map(Arc::as_ptr);
        same_tls && self.keep_alive == other.keep_alive && self.connect_timeout == other.connect_timeout
    }
}

impl Snapshot {
    /// Compiles `plan`, with the members that `previous` has. Hosts that it has, in a pool of the same name, keep their state and
    /// counters; pools of which nothing has changed are the same.
    pub fn compile(plan: &Plan, previous: Option<&Snapshot>) -> Result<Snapshot, Vec<CompileMistake>> {
        let members = previous.map(|previous| Arc::clone(&previous.members)).unwrap_or_default();
        let certificates = previous.map(|previous| Arc::clone(&previous.certificates)).unwrap_or_default();
        Snapshot::compile_with(Arc::new(plan.clone()), members, certificates, previous)
    }

    /// The same with these members and certificates.
    pub fn compile_with(
        plan: Arc<Plan>,
        members: Arc<Members>,
        certificates: Arc<Certificates>,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Vec<CompileMistake>> {
        let mut mistakes = Vec::new();
        let alarm = previous.map(|previous| Arc::clone(&previous.alarm)).unwrap_or_default();
        let challenges = previous.map(|previous| Arc::clone(&previous.challenges)).unwrap_or_default();
        let demands = previous.map(|previous| Arc::clone(&previous.demands)).unwrap_or_default();
        let old = Old::new(previous);
        let mut pools = Vec::with_capacity(plan.pools.len());
        for pool in &plan.pools {
            match compile_pool(pool, plan.settings.zone.as_deref(), &members, &certificates, &old, &alarm) {
                Ok(pool) => pools.push(pool),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let index: HashMap<&str, u32> = plan.pools.iter().map(|pool| &*pool.name).zip(0..).collect();
        let canaries: HashMap<&str, &Canary> =
            previous.map(Snapshot::canaries).into_iter().flatten().collect();
        let plans = Pools { plans: &plan.pools, index };
        let mut routes = Vec::new();
        let all_routes =
            (0..).zip(&plan.sites).flat_map(|(at, site)| site.routes.iter().map(move |route| (at, route)));
        for (site, route) in all_routes {
            let before = canaries.get(&*route.name).copied();
            match compile_route(site, route, &plans, before) {
                Ok(route) => routes.push(route),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let table = Table::compile(&plan).unwrap_or_else(|more| {
            mistakes.extend(more);
            Table::default()
        });
        let fronts = Fronts::compile(&plan, &certificates, previous.map(|previous| &*previous.fronts));
        let fronts = fronts.unwrap_or_else(|more| {
            mistakes.extend(more);
            Fronts::default()
        });
        let prefaces = Prefaces::compile(&plan).unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            Prefaces::default()
        });
        if mistakes.is_empty() {
            let prefaces = Arc::new(prefaces);
            let trust = Arc::new(Trust::new(&plan.settings.trusted_proxies));
            let (table, routes) = (Arc::new(table), routes.into());
            let fronts = Arc::new(fronts);
            Ok(Snapshot {
                plan,
                members,
                certificates,
                fronts,
                prefaces,
                table,
                trust,
                alarm,
                challenges,
                demands,
                routes,
                pools,
            })
        } else {
            Err(mistakes)
        }
    }

    /// The same plan with other members: only the pools that they concern are compiled anew.
    pub fn with_members(&self, members: Arc<Members>) -> Result<Snapshot, Vec<CompileMistake>> {
        let old = Old::new(Some(self));
        let zone = self.plan.settings.zone.as_deref();
        let given = &self.certificates;
        let pools =
            self.plan.pools.iter().map(|pool| compile_pool(pool, zone, &members, given, &old, &self.alarm));
        Ok(Snapshot {
            plan: Arc::clone(&self.plan),
            prefaces: Arc::clone(&self.prefaces),
            table: Arc::clone(&self.table),
            trust: Arc::clone(&self.trust),
            alarm: Arc::clone(&self.alarm),
            challenges: Arc::clone(&self.challenges),
            demands: Arc::clone(&self.demands),
            routes: Arc::clone(&self.routes),
            pools: pools.collect::<Result<_, _>>().map_err(|mistake| vec![mistake])?,
            members,
            certificates: Arc::clone(&self.certificates),
            fronts: Arc::clone(&self.fronts),
        })
    }

    /// The same with other certificates.
    pub fn with_certificates(
        &self,
        certificates: Arc<Certificates>,
    ) -> Result<Snapshot, Vec<CompileMistake>> {
        let fronts = Fronts::compile(&self.plan, &certificates, Some(&self.fronts))?;
        let (old, zone) = (Old::new(Some(self)), self.plan.settings.zone.as_deref());
        let pools = self.plan.pools.iter();
        let pools =
            pools.map(|pool| compile_pool(pool, zone, &self.members, &certificates, &old, &self.alarm));
        let pools = pools.collect::<Result<_, _>>().map_err(|mistake| vec![mistake])?;
        Ok(Snapshot {
            plan: Arc::clone(&self.plan),
            prefaces: Arc::clone(&self.prefaces),
            members: Arc::clone(&self.members),
            certificates,
            fronts: Arc::new(fronts),
            table: Arc::clone(&self.table),
            trust: Arc::clone(&self.trust),
            alarm: Arc::clone(&self.alarm),
            challenges: Arc::clone(&self.challenges),
            demands: Arc::clone(&self.demands),
            routes: Arc::clone(&self.routes),
            pools,
        })
    }

    /// The certificates of its sites.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Who is in the pools beside what the plan says.
    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// Whether both lead requests by the same routes.
    pub fn has_routes_of(&self, other: &Snapshot) -> bool {
        Arc::ptr_eq(&self.routes, &other.routes)
    }

    /// What it was compiled from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The route with this index.
    pub fn route(&self, at: u32) -> Option<&Route> {
        self.routes.get(at as usize)
    }

    /// All routes.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The pool with this index.
    pub fn pool(&self, at: u32) -> Option<&Pool> {
        self.pools.get(at as usize).map(|pool| &**pool)
    }

    /// All pools.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// Every canary with the name of its route.
    pub fn canaries(&self) -> impl Iterator<Item = (&str, &Canary)> {
        self.routes.iter().filter_map(|route| Some((&*route.name, &**route.split.canary.as_ref()?)))
    }

    /// Every host with the name of its pool.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &Arc<Host>)> {
        self.pools.iter().flat_map(|pool| pool.hosts.iter().map(|(_, host)| (&*pool.name, host)))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} routes, {} pools)", self.routes.len(), self.pools.len())
    }
}

/// What an earlier Snapshot has, by the names of its pools.
struct Old<'a> {
    snapshot: Option<&'a Snapshot>,
    pools: HashMap<&'a str, (&'a PoolPlan, &'a Arc<Pool>)>,
}

impl<'a> Old<'a> {
    fn new(snapshot: Option<&'a Snapshot>) -> Old<'a> {
        let pairs = snapshot.into_iter().flat_map(|old| old.plan.pools.iter().zip(&old.pools));
        Old { snapshot, pools: pairs.map(|(plan, pool)| (&*plan.name, (plan, pool))).collect() }
    }

    /// The old pool, when it would be compiled to the same one.
    fn same(
        &self,
        plan: &PoolPlan,
        zone: Option<&str>,
        servers: &[ServerPlan],
        members: &Members,
        tls: Option<&Arc<Back>>,
    ) -> Option<Arc<Pool>> {
        let (old_plan, old) = self.pools.get(&*plan.name)?;
        let snapshot = self.snapshot?;
        let same_wishes = snapshot.members.wishes_of(&plan.name) == members.wishes_of(&plan.name);
        let same_zone = snapshot.plan.settings.zone.as_deref() == zone;
        let same_tls = tls.map(Arc::as_ptr) == old.tls.as_ref().map(Arc::as_ptr);
        let same = same_tls && same_wishes && same_zone && *old_plan == plan && old.servers == servers;
        same.then(|| Arc::clone(old))
    }

    /// How hands were shaken with its hosts.
    fn tls(&self, pool: &str) -> Option<&Arc<Back>> {
        self.pools.get(pool).and_then(|(_, pool)| pool.tls.as_ref())
    }

    /// What is shared of a pool.
    fn live(&self, pool: &str) -> Arc<PoolLive> {
        self.pools.get(pool).map(|(_, pool)| Arc::clone(&pool.live)).unwrap_or_default()
    }

    /// The old host for a server: itself when nothing about it has changed, or with its state.
    fn host(
        &self,
        pool: &PoolPlan,
        zone: Option<&str>,
        server: &ServerPlan,
        tls: Option<Behind>,
    ) -> Arc<Host> {
        let known = self.pools.get(&*pool.name).and_then(|(_, pool)| {
            let hosts = pool.servers.iter().zip(pool.hosts.iter());
            hosts.map(|(plan, (_, host))| (plan, host)).find(|(plan, _)| plan.address == server.address)
        });
        // Whoever has no zone, proxy or server, is near everybody.
        let far = zone.zip(server.zone.as_deref()).is_some_and(|(own, its)| own != its);
        let same_tls = |host: &Host| match (&host.tls, &tls) {
            (Some(old), Some(new)) => old.is_same(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let same = |host: &Host| {
            let spoken_alike = host.protocol == pool.protocol && host.preface == pool.proxy_protocol;
            host.far == far && spoken_alike && same_tls(host)
        };
        match known {
            Some((written, host)) if written == server && same(host) => Arc::clone(host),
            _ => {
                let live = known.map(|(_, host)| Arc::clone(&host.live));
                let host = Host::new(server.address.clone(), server.weight, server.backup, live);
                let host = host.placed(far).bounded(server.max_in_flight);
                Arc::new(host.behind(tls).speaking(pool.protocol).prefaced(pool.proxy_protocol))
            }
        }
    }
}

fn compile_pool(
    plan: &PoolPlan,
    zone: Option<&str>,
    members: &Members,
    certificates: &Certificates,
    old: &Old<'_>,
    alarm: &Arc<Alarm>,
) -> Result<Arc<Pool>, CompileMistake> {
    let mistake = |reason: String| CompileMistake { place: format!("pool {}", plan.name), reason };
    let servers = members.of(plan);
    let tls =
        plan.tls.as_ref().map(|tls| Back::compile(tls, plan.protocol, certificates, old.tls(&plan.name)));
    let tls = tls.transpose().map_err(&mistake)?;
    if let Some(same) = old.same(plan, zone, &servers, members, tls.as_ref()) {
        return Ok(same);
    }
    let entry = pick::LIST.iter().find(|entry| entry.name == plan.balance.name);
    let entry = entry.ok_or_else(|| mistake(format!("there is no policy `{}`", plan.balance.name)))?;
    let mut pick = (entry.build)(&plan.balance.args).map_err(|wrong| mistake(wrong.reason))?;
    let mut hosts = Vec::with_capacity(servers.len());
    for server in &servers {
        let behind = tls.as_ref().map(|back| back.behind(&proved_by(server)));
        hosts.push(old.host(plan, zone, server, behind.transpose().map_err(&mistake)?));
    }
    for host in &hosts {
        let wishes = members.wishes_of(&plan.name);
        let wish = wishes.and_then(|wishes| wishes.get(&host.address)).copied().unwrap_or_default();
        obey(host, wish);
    }
    let hosts = Hosts::new(hosts);
    pick.prepare(&hosts);
    let sticky = plan.sticky.as_ref().map(|sticky| Sticky::new(sticky, &plan.name, &hosts));
    let sticky = sticky.transpose().map_err(|reason| mistake(format!("sticky: {reason}")))?;
    let rules = Rules { keep: plan.keep.hosts, slow_start: plan.slow_start.time };
    let hosts = Arc::new(hosts.ruled(rules));
    let judge = Judge::new(plan.eject, Arc::clone(&hosts), Arc::clone(alarm));
    let bounded = servers.iter().filter(|server| server.max_in_flight.is_some()).count();
    let bound = Bound::new(&plan.queue, servers.len(), bounded);
    Ok(Arc::new(Pool {
        name: plan.name.as_str().into(),
        hosts,
        servers,
        pick,
        keep_alive: plan.keep_alive,
        connect_timeout: plan.connect_timeout,
        retry: Rule::new(&plan.retry),
        bound,
        hedge: plan.hedge,
        live: old.live(&plan.name),
        drain: plan.drain,
        judge,
        sticky,
        tls,
    }))
}

/// What a server has to prove by its certificate, unless its pool says so: its name or address.
fn proved_by(server: &ServerPlan) -> String {
    match (&server.found_by, &server.address) {
        (Some(name), _) => name.clone(),
        (None, Address::Socket(address)) => address.ip().to_string(),
        (None, Address::Name { host, .. }) => host.clone(),
        (None, Address::Srv(name)) => name.clone(),
        (None, Address::Unix(_)) => "localhost".to_owned(),
    }
}

/// What an operator wants of a host holds from the moment that the Snapshot is made, also for exchanges of an earlier one.
fn obey(host: &Host, wish: Wish) {
    host.live.standing.set_weight(wish.weight);
    host.live.standing.set_order(wish.order());
}

/// The pools of a plan, with their indices by name.
struct Pools<'a> {
    plans: &'a [PoolPlan],
    index: HashMap<&'a str, u32>,
}

impl Pools<'_> {
    fn find(&self, name: &str) -> Result<u32, String> {
        self.index.get(name).copied().ok_or_else(|| format!("there is no pool `{name}`"))
    }
}

fn compile_route(
    site: u32,
    plan: &RoutePlan,
    pools: &Pools<'_>,
    previous: Option<&Canary>,
) -> Result<Route, CompileMistake> {
    let mistake = |reason: String| CompileMistake { place: format!("route {}", plan.name), reason };
    let chain = Chain::compile(&plan.filters).map_err(&mistake)?;
    let limits = Arc::clone(&plan.limits);
    let bounds = Bounds::of(&limits);
    let split = compile_split(plan, pools, previous).map_err(&mistake)?;
    let mirror = plan.mirror.as_ref().map(|mirror| Ok((pools.find(&mirror.pool)?, mirror.share)));
    let mirror = mirror.transpose().map_err(&mistake)?;
    let mirror = mirror.and_then(|(pool, share)| Mirror::new(pool, share));
    let again = compile_again(plan, &split, pools);
    let name = plan.name.as_str().into();
    Ok(Route { name, site, chain, split, mirror, again, urgency: plan.urgency, limits, bounds })
}

/// What the route wants of trying again, on each of its pools; nothing when that is what they do by themselves.
fn compile_again(plan: &RoutePlan, split: &Split, pools: &Pools<'_>) -> Box<[Again]> {
    if plan.retry.is_empty() && plan.hedge.is_none() {
        return Box::default();
    }
    let canary = split.canary.iter().map(|canary| canary.pool);
    let all = split.forward.iter().map(|(pool, _)| *pool).chain(canary);
    let again = all.filter_map(|pool| {
        let its = pools.plans.get(pool as usize)?;
        let hedge = match plan.hedge {
            None => its.hedge,
            Some(RouteHedge::Off) => None,
            Some(RouteHedge::After(hedge)) => Some(hedge),
        };
        Some(Again { pool, retry: Rule::new(&plan.retry.on(&its.retry)), hedge })
    });
    again.collect()
}

fn compile_split(plan: &RoutePlan, pools: &Pools<'_>, previous: Option<&Canary>) -> Result<Split, String> {
    let mut forward = Vec::with_capacity(plan.forward.len());
    let mut sum = 0u64;
    for share in &plan.forward {
        sum += u64::from(share.weight);
        forward.push((pools.find(&share.pool)?, sum));
    }
    let canary = plan
        .canary
        .as_ref()
        .map(|canary| Ok::<_, String>(Arc::new(Canary::new(canary, pools.find(&canary.pool)?, previous)?)));
    Ok(Split { forward, by: plan.split.as_ref().map(By::new).transpose()?, canary: canary.transpose()? })
}
