//! check: every mistake, or what the configuration means; also `adapt`.

use crate::boot::{environment, find_config};
use crate::exit::{Exit, shown};
use crate::output::say;
use portunus_config::{Loaded, Mistake, Mistakes};
use portunus_control::apply;
use portunus_control::source::Source;
use portunus_relay::plan::{CompileMistake, Plan, PoolPlan, RoutePlan};
use portunus_relay::snapshot::Snapshot;
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// Loads the configuration without running it.
pub fn load(config: Option<&Path>) -> Result<Loaded, Exit> {
    Ok(Source::File(find_config(config)?).load(&environment)?)
}

/// Loads and compiles it.
fn prove(path: &Path) -> Result<Loaded, Mistakes> {
    let mut loaded = Source::File(path.to_owned()).load(&environment)?;
    let certificates = Arc::new(std::mem::take(&mut loaded.certificates));
    let compiled = Snapshot::compile_with(Arc::clone(&loaded.plan), Arc::default(), certificates, None);
    let of_file = |mistake: &CompileMistake| Mistake::of_file(&path.display().to_string(), mistake);
    match compiled {
        Ok(_) => Ok(loaded),
        Err(mistakes) => Err(Mistakes(mistakes.iter().map(of_file).collect())),
    }
}

/// `check`: all mistakes, or what would run.
pub fn check(config: Option<&Path>, as_json: bool, verbose: bool) -> Result<(), Exit> {
    let path = find_config(config)?;
    match prove(&path) {
        Err(mistakes) if as_json => {
            say(&format!("{:#}", json!({ "ok": false, "mistakes": mistakes.to_json() })))?;
            Err(Exit::config(""))
        }
        Err(mistakes) => Err(mistakes.into()),
        Ok(Loaded { plan, warnings, .. }) => {
            let warnings = Mistakes(warnings);
            if as_json {
                let listen: Vec<_> = apply::listen(&plan).iter().map(ToString::to_string).collect();
                let answer = json!({ "ok": true, "warnings": warnings.to_json(), "listen": listen });
                return say(&format!("{answer:#}"));
            }
            if !warnings.0.is_empty() {
                // Warnings are no reason to fail; what follows says so.
                Exit::failed(shown(&warnings)).tell();
            }
            say(&format!("{}: ok\n{}", path.display(), summary(&plan, verbose)))
        }
    }
}

/// `adapt`: the configuration as JSON.
pub fn adapt(config: Option<&Path>) -> Result<(), Exit> {
    say(&portunus_config::adapt(&load(config)?.plan))
}

fn summary(plan: &Plan, verbose: bool) -> String {
    let mut out = String::new();
    for listen in apply::listen(plan) {
        let _ = writeln!(out, "listen {listen}");
    }
    let _ = writeln!(out, "workers {}", plan.settings.workers.unwrap_or_else(apply::cores));
    plan.pools.iter().for_each(|one| pool(one, &mut out));
    plan.sites.iter().flat_map(|site| &site.routes).for_each(|one| route(one, &mut out));
    if verbose {
        limits("limit", &plan.settings.limits, None, &mut out);
        for route in plan.sites.iter().flat_map(|site| &site.routes) {
            let place = format!("limit of {}", route.name);
            limits(&place, &route.limits, Some(&plan.settings.limits), &mut out);
        }
    }
    out
}

fn pool(pool: &PoolPlan, out: &mut String) {
    let _ = write!(out, "pool {}: {} over", pool.name, pool.balance.name);
    for server in &pool.servers {
        let _ = write!(out, " {}", server.address);
        if server.weight != 1 {
            let _ = write!(out, " weight={}", server.weight);
        }
        if server.backup {
            out.push_str(" backup");
        }
    }
    out.push('\n');
}

fn route(route: &RoutePlan, out: &mut String) {
    let _ = write!(out, "route {}:", route.name);
    for filter in &route.filters {
        let _ = write!(out, " {},", filter.name);
    }
    let mut pools: Vec<_> = match route.forward.as_slice() {
        [] => vec!["answered here".to_owned()],
        [one] => vec![format!("to {}", one.pool)],
        many => many.iter().map(|one| format!("to {} weight={}", one.pool, one.weight)).collect(),
    };
    pools.extend(
        route.canary.iter().map(|canary| format!("canary {} {}..{}", canary.pool, canary.from, canary.to)),
    );
    pools.extend(route.mirror.iter().map(|mirror| format!("mirror {} {}", mirror.pool, mirror.share)));
    let _ = writeln!(out, " {}", pools.join(", "));
}

/// All limits, or those that differ from `base`.
fn limits(
    place: &str,
    limits: &portunus_message::Limits,
    base: Option<&portunus_message::Limits>,
    out: &mut String,
) {
    let map = |limits| serde_json::to_value(limits).unwrap_or_default();
    let (limits, base) = (map(limits), base.map(map).unwrap_or_default());
    for (name, value) in limits.as_object().into_iter().flatten() {
        if base.get(name) != Some(value) {
            let value = match (name.as_str(), value) {
                ("connections", value) if *value == 0 => "from the descriptor limit".to_owned(),
                (_, serde_json::Value::String(text)) => text.clone(),
                (_, serde_json::Value::Array(names)) if names.is_empty() => "none".to_owned(),
                (_, serde_json::Value::Array(names)) => {
                    names.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(" ")
                }
                (name, value) => sized(name, value),
            };
            let _ = writeln!(out, "{place} {name} {value}");
        }
    }
}

/// A number; one of bytes in the unit that one would write it in.
fn sized(name: &str, value: &serde_json::Value) -> String {
    let unit = |bytes: u64| match bytes {
        bytes if bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
        bytes => bytes.to_string(),
    };
    match value.as_u64() {
        Some(bytes) if bytes > 0 && BYTE_LIMITS.iter().any(|end| name.ends_with(end)) => unit(bytes),
        _ => value.to_string(),
    }
}

const BYTE_LIMITS: [&str; 6] =
    ["-bytes", "header-line", "chunk-line", "chunk-extensions", "log-queue", "log-field"];
