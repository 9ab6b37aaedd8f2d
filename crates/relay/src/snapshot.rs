//! Snapshot: a Plan compiled to run; immutable, shared, swapped whole.

use crate::canary::Canary;
use crate::context::Bounds;
use crate::dispatch::Table;
use crate::filter::chain::Chain;
use crate::filter::forwarded::Trust;
use crate::hosts::{Host, Hosts, Live, Rules};
use crate::mirror::Mirror;
use crate::pick::{self, Pick};
use crate::plan::{Address, CompileMistake, KeepAlive, Plan, PoolPlan, RoutePlan};
use crate::split::{By, Split};
use crate::sticky::Sticky;
use portunus_message::Limits;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A Plan compiled to run.
pub struct Snapshot {
    plan: Plan,
    /// Which route a request takes.
    pub table: Table,
    /// Whose forwarding headers are believed.
    pub trust: Trust,
    routes: Vec<Route>,
    pools: Vec<Pool>,
}

/// A route, compiled.
pub struct Route {
    /// What it is called.
    pub name: Box<str>,
    /// What may look at its requests.
    pub chain: Chain,
    /// The pools that get its requests.
    pub split: Split,
    /// The pool that gets copies of them.
    pub mirror: Option<Mirror>,
    /// Its bounds.
    pub limits: Arc<Limits>,
    /// Those of them that a filter may change.
    pub bounds: Bounds,
}

/// A pool, compiled.
pub struct Pool {
    /// What it is called.
    pub name: Box<str>,
    /// Its members.
    pub hosts: Hosts,
    /// How one is chosen.
    pub pick: Box<dyn Pick>,
    /// Idle connections.
    pub keep_alive: KeepAlive,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// Attempts in all.
    pub tries: u32,
    /// The cookie that brings a client back to its host.
    pub sticky: Option<Sticky>,
}

impl Snapshot {
    /// Compiles `plan`. Hosts that `previous` has, in a pool of the same name, keep their state and counters.
    pub fn compile(plan: &Plan, previous: Option<&Snapshot>) -> Result<Snapshot, Vec<CompileMistake>> {
        let mut mistakes = Vec::new();
        let old = previous.map(live_hosts).unwrap_or_default();
        let mut pools = Vec::with_capacity(plan.pools.len());
        for pool in &plan.pools {
            match compile_pool(pool, plan.settings.zone.as_deref(), &old) {
                Ok(pool) => pools.push(pool),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let index: HashMap<&str, u32> = plan.pools.iter().map(|pool| &*pool.name).zip(0..).collect();
        let canaries: HashMap<&str, &Canary> =
            previous.map(Snapshot::canaries).into_iter().flatten().collect();
        let mut shared = Shared::default();
        let mut routes = Vec::new();
        for route in plan.sites.iter().flat_map(|site| &site.routes) {
            let before = canaries.get(&*route.name).copied();
            match compile_route(route, &index, before, &mut shared) {
                Ok(route) => routes.push(route),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let table = Table::compile(plan).unwrap_or_else(|more| {
            mistakes.extend(more);
            Table::default()
        });
        if mistakes.is_empty() {
            let trust = Trust::new(&plan.settings.trusted_proxies);
            Ok(Snapshot { plan: plan.clone(), table, trust, routes, pools })
        } else {
            Err(mistakes)
        }
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
        self.pools.get(at as usize)
    }

    /// All pools.
    pub fn pools(&self) -> &[Pool] {
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

type LiveHosts = HashMap<(Box<str>, Address), Arc<Live>>;

fn live_hosts(snapshot: &Snapshot) -> LiveHosts {
    snapshot
        .hosts()
        .map(|(pool, host)| ((pool.into(), host.address.clone()), Arc::clone(&host.live)))
        .collect()
}

fn compile_pool(plan: &PoolPlan, zone: Option<&str>, old: &LiveHosts) -> Result<Pool, CompileMistake> {
    let mistake = |reason: String| CompileMistake { place: format!("pool {}", plan.name), reason };
    let entry = pick::LIST.iter().find(|entry| entry.name == plan.balance.name);
    let entry = entry.ok_or_else(|| mistake(format!("there is no policy `{}`", plan.balance.name)))?;
    let mut pick = (entry.build)(&plan.balance.args).map_err(|wrong| mistake(wrong.reason))?;
    let host = |server: &crate::plan::ServerPlan| {
        let live = old.get(&(plan.name.as_str().into(), server.address.clone())).cloned();
        // Whoever has no zone, proxy or server, is near everybody.
        let far = zone.zip(server.zone.as_deref()).is_some_and(|(own, its)| own != its);
        Arc::new(Host::new(server.address.clone(), server.weight, server.backup, live).placed(far))
    };
    let hosts = Hosts::new(plan.servers.iter().map(host).collect());
    pick.prepare(&hosts);
    let sticky = plan.sticky.as_ref().map(|sticky| Sticky::new(sticky, &plan.name, &hosts));
    let sticky = sticky.transpose().map_err(|reason| mistake(format!("sticky: {reason}")))?;
    let rules = Rules { keep: plan.keep.hosts, slow_start: plan.slow_start.time };
    Ok(Pool {
        name: plan.name.as_str().into(),
        hosts: hosts.ruled(rules),
        pick,
        keep_alive: plan.keep_alive,
        connect_timeout: plan.connect_timeout,
        tries: plan.tries.max(1),
        sticky,
    })
}

/// Limits that many routes have in common are stored once.
#[derive(Default)]
struct Shared(Vec<Arc<Limits>>);

impl Shared {
    fn limits(&mut self, limits: &Limits) -> Arc<Limits> {
        match self.0.iter().rev().take(16).find(|known| ***known == *limits) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(limits.clone());
                self.0.push(Arc::clone(&new));
                new
            }
        }
    }
}

fn compile_route(
    plan: &RoutePlan,
    pools: &HashMap<&str, u32>,
    previous: Option<&Canary>,
    shared: &mut Shared,
) -> Result<Route, CompileMistake> {
    let mistake = |reason: String| CompileMistake { place: format!("route {}", plan.name), reason };
    let chain = Chain::compile(&plan.filters).map_err(&mistake)?;
    let limits = shared.limits(&plan.limits);
    let bounds = Bounds {
        request: None,
        first_byte: limits.first_byte,
        upstream_idle: limits.upstream_idle,
        body_bytes: limits.body_bytes,
    };
    let split = compile_split(plan, pools, previous).map_err(&mistake)?;
    let mirror = plan.mirror.as_ref().map(|mirror| Ok((find_pool(pools, &mirror.pool)?, mirror.share)));
    let mirror = mirror.transpose().map_err(&mistake)?;
    let mirror = mirror.and_then(|(pool, share)| Mirror::new(pool, share));
    Ok(Route { name: plan.name.as_str().into(), chain, split, mirror, limits, bounds })
}

fn compile_split(
    plan: &RoutePlan,
    pools: &HashMap<&str, u32>,
    previous: Option<&Canary>,
) -> Result<Split, String> {
    let mut forward = Vec::with_capacity(plan.forward.len());
    let mut sum = 0u64;
    for share in &plan.forward {
        sum += u64::from(share.weight);
        forward.push((find_pool(pools, &share.pool)?, sum));
    }
    let canary = plan.canary.as_ref().map(|canary| {
        Ok::<_, String>(Arc::new(Canary::new(canary, find_pool(pools, &canary.pool)?, previous)?))
    });
    Ok(Split { forward, by: plan.split.as_ref().map(By::new).transpose()?, canary: canary.transpose()? })
}

fn find_pool(pools: &HashMap<&str, u32>, name: &str) -> Result<u32, String> {
    pools.get(name).copied().ok_or_else(|| format!("there is no pool `{name}`"))
}
