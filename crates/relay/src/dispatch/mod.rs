//! An exchange finds its route: first the host, then the path, then the rules of that path in order of precedence.

use crate::plan::{CompileMistake, HostPattern, Listen, Plan, RoutePlan, SitePlan};
use host::HostTable;
use path::PathTable;
use portunus_message::{Crime, Request, Target};
use rank::Rank;
use rule::Rule;
use std::collections::BTreeSet;
use std::net::IpAddr;

mod explain;
mod host;
mod path;
mod rank;
mod rule;
#[cfg(test)]
mod tests;

pub use explain::{Candidate, Explanation};

/// All sites and routes, compiled. Looking up costs the same for one route and for ten thousand.
#[derive(Default)]
pub struct Table {
    listens: Vec<Listen>,
    hosts: Vec<HostTable>,
    sites: Vec<PathTable>,
}

impl Table {
    /// Compiles the sites of `plan`; every mistake is named.
    pub fn compile(plan: &Plan) -> Result<Table, Vec<CompileMistake>> {
        let listens: BTreeSet<&Listen> = plan.sites.iter().flat_map(|site| &site.listen).collect();
        let listens: Vec<Listen> = listens.into_iter().cloned().collect();
        let mut hosts: Vec<HostTable> = listens.iter().map(|_| HostTable::default()).collect();
        let mut sites = Vec::with_capacity(plan.sites.len());
        let mut mistakes = Vec::new();
        let mut first_route = 0;
        for (at, site) in (0u32..).zip(&plan.sites) {
            for listen in &site.listen {
                let Ok(found) = listens.binary_search(listen) else { continue };
                let Some(table) = hosts.get_mut(found) else { continue };
                add_names(table, site, listen, at, &mut mistakes);
            }
            sites.push(compile_site(site, first_route, &mut mistakes));
            first_route += u32::try_from(site.routes.len()).unwrap_or(u32::MAX);
        }
        if mistakes.is_empty() { Ok(Table { listens, hosts, sites }) } else { Err(mistakes) }
    }

    /// Every address that some site listens at, sorted; its index is what [`Table::find`] takes.
    pub fn listens(&self) -> &[Listen] {
        &self.listens
    }

    /// The route for a request that came in by listener `listen`: its index when all routes of the plan are counted
    /// through in order.
    pub fn find(&self, listen: usize, request: &Request, client_ip: IpAddr) -> Result<u32, Crime> {
        let site = self.site(listen, request.target.host()).ok_or(Crime::NoSite)?;
        let paths = self.sites.get(site as usize).ok_or(Crime::NoSite)?;
        paths.find(request, client_ip).ok_or(Crime::NoRoute)
    }

    /// The index of the site for `host`, which is in its normal form, among those that listen at `listen`.
    pub fn site_at(&self, listen: &Listen, host: &str) -> Option<u32> {
        self.site(self.listens.binary_search(listen).ok()?, host)
    }

    /// The index of the site for `host`, which is in its normal form (attacks F5, F13). Nobody falls into a site that
    /// does not name the host (attack F12).
    fn site(&self, listen: usize, host: &str) -> Option<u32> {
        self.hosts.get(listen)?.find(host)
    }
}

/// Whether the first of two routes of one site, with their indices in it, is asked before the second, where both fit.
pub fn goes_before(first: (&RoutePlan, usize), second: (&RoutePlan, usize)) -> bool {
    let rank = |(route, at): (&RoutePlan, usize)| Rank::of(route, u32::try_from(at).unwrap_or(u32::MAX));
    rank(first) < rank(second)
}

fn add_names(
    table: &mut HostTable,
    site: &SitePlan,
    listen: &Listen,
    at: u32,
    mistakes: &mut Vec<CompileMistake>,
) {
    for pattern in &site.names {
        let place = || format!("site {pattern}");
        match normal_host(pattern) {
            Err(reason) => mistakes.push(CompileMistake { place: place(), reason }),
            Ok(name) if table.insert(&name, at) => {}
            Ok(_) => {
                let reason = format!("another site has this name at {listen}");
                mistakes.push(CompileMistake { place: place(), reason });
            }
        }
    }
}

fn compile_site(site: &SitePlan, first_route: u32, mistakes: &mut Vec<CompileMistake>) -> PathTable {
    let mut ranked: Vec<(Rank, &RoutePlan)> =
        (first_route..).zip(&site.routes).map(|(at, route)| (Rank::of(route, at), route)).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut table = PathTable::default();
    for (rank, route) in ranked {
        let added = Rule::compile(&route.matcher, rank.route()).and_then(|rule| table.add(route, rule));
        if let Err(reason) = added {
            mistakes.push(CompileMistake { place: format!("route {}", route.name), reason });
        }
    }
    table
}

/// A host pattern in the one form that hosts are compared in (attacks F5, F13).
fn normal_host(pattern: &HostPattern) -> Result<HostPattern, String> {
    let normal = |name: &str| {
        let mut target = Target::new();
        let taken = target.set_authority(name.as_bytes());
        match (taken, target.port()) {
            (Ok(()), None) => Ok(target.host().to_owned()),
            _ => Err(format!("`{name}` is not a host")),
        }
    };
    match pattern {
        HostPattern::Any => Ok(HostPattern::Any),
        HostPattern::Exact(name) => normal(name).map(HostPattern::Exact),
        HostPattern::Under(name) => normal(name).map(HostPattern::Under),
    }
}
