//! Draft → Plan: names resolved, defaults filled, every filter built once to prove that it can be.

use crate::args::{Registry, Scene};
use crate::choosing;
use crate::circle;
use crate::directives::{Form, Scope};
use crate::draft::Draft;
use crate::findings::{Findings, Span};
use crate::outside::Outside;
use crate::pool::Pools;
use crate::site::{Labels, SiteDefaults, Sites};
use crate::{pool, settings, site};
use portunus_relay::plan::{Plan, PoolPlan, SitePlan};
use std::collections::HashMap;
use std::sync::Arc;

/// The plan that `drafts` ask for. It may be run only when `findings` holds no error.
pub fn check(
    drafts: &[Draft],
    registry: Registry,
    outside: &mut Outside<'_>,
    findings: &mut Findings,
) -> Plan {
    let mut scene = Scene { registry, outside, findings, trusts_nobody: true };
    let top = scene.known(drafts, Scope::Top);
    let settings = settings::read(&top, &mut scene);
    scene.trusts_nobody = settings.trusted_proxies.is_empty();

    // Defaults hold wherever they are written, and names may be used before they are given: so defaults first, then pools, then sites.
    let mut pool_defaults = pool::PoolSettings::new(&settings.limits);
    let limits = Arc::new(settings.limits.clone());
    let mut site_defaults = SiteDefaults::new(&limits, &settings.acme);
    for block in blocks(&top, "defaults") {
        for (draft, _) in scene.known(block, Scope::Defaults) {
            unnamed(draft, &mut scene);
            let inner = draft.block.as_deref().unwrap_or(&[]);
            match &*draft.name {
                "pool" => pool_defaults.read(inner, Scope::DefaultPool, &mut scene),
                _ => site_defaults.read(inner, &mut scene),
            }
        }
    }
    let mut pools = Pools::new(pool_defaults);
    for (draft, _) in top.iter().filter(|(draft, _)| &*draft.name == "pool") {
        pools.define(draft, &mut scene);
    }
    let mut sites = Sites::default();
    let mut labels = Labels::default();
    let mut spans = Vec::new();
    for (draft, _) in top.iter().filter(|(draft, _)| &*draft.name == "site") {
        let read = site::read(draft, &site_defaults, &mut pools, &mut labels, &mut scene);
        sites.add(read, draft, &mut scene);
        spans.push(draft.words.first().map_or(draft.span, |word| word.span));
    }
    pools.warn_unused(&mut scene);
    let sites = sites.into_plans(&mut labels, &limits);
    let admin = top.iter().find(|(draft, _)| &*draft.name == "admin");
    if let (Some(wrong), Some((draft, _))) = (settings::taken(&settings.admin, &sites), admin) {
        let span = draft.words.first().map_or(draft.span, |word| word.span);
        scene.findings.error(span, wrong.reason).maybe_hint(wrong.hint);
    }
    let pools = pools.into_plans();
    warn_of_sites(&sites, &spans, &pools, scene.findings);
    choosing::warn_of_zones(drafts, settings.zone.as_deref(), &pools, scene.findings);
    Plan { settings, pools, sites }
}

fn blocks<'d>(top: &[(&'d Draft, &'static Form)], name: &str) -> impl Iterator<Item = &'d [Draft]> {
    top.iter().filter(move |(draft, _)| &*draft.name == name).filter_map(|(draft, _)| draft.block.as_deref())
}

/// Tells of sites, written at `spans`, whose requests come back to them, or whose pools know each other's clients no more.
fn warn_of_sites(sites: &[SitePlan], spans: &[Span], pools: &[PoolPlan], findings: &mut Findings) {
    if findings.any_error() {
        return;
    }
    let by_name: HashMap<&str, &PoolPlan> = pools.iter().map(|pool| (&*pool.name, pool)).collect();
    for (site, span) in sites.iter().zip(spans) {
        if let Some(server) = circle::server_of_itself(site, &by_name) {
            let reason = format!("this site forwards to {server}, where it listens itself");
            findings.warning(*span, reason).hint("a request may come back to it again and again");
        }
        if let Some((one, other, cookie)) = choosing::same_cookie(site, &by_name) {
            let reason = format!("pools `{one}` and `{other}` of this site use the same cookie `{cookie}`");
            findings
                .warning(*span, reason)
                .hint("a client of both keeps the server of neither: name them differently");
        }
    }
}

/// In `defaults`, `pool` and `site` have no name.
fn unnamed(draft: &Draft, scene: &mut Scene<'_, '_>) {
    if let Some(word) = draft.words.first() {
        let reason = format!("the `{}` of `defaults` has no name: it holds for all", draft.name);
        scene.findings.error(word.span, reason);
    }
}
