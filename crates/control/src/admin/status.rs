//! status: everything at a glance, as JSON.

use crate::apply::Supervisor;
use crate::automatic::Known;
use crate::boards::Found;
use crate::described;
use crate::observe::metrics::NameFacts;
use crate::observe::wall::rfc3339;
use crate::state::{self, State};
use portunus_relay::clock;
use portunus_relay::hosts::Host;
use portunus_relay::plan::{Signer, Wanted};
use portunus_relay::stats::{HostStats, PoolStats, RouteStats, Stats};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// What `GET /status` answers. It blocks until the workers have told what they have counted.
pub fn of(supervisor: &Supervisor) -> Value {
    let running = supervisor.running();
    let stats = supervisor.stats().unwrap_or_default();
    let facts = supervisor.facts();
    let latest = supervisor.latest().map(|latest| {
        let result = if latest.refused.is_none() { "ok" } else { "refused" };
        json!({ "time": rfc3339(latest.at), "result": result, "mistakes": latest.refused.unwrap_or_default() })
    });
    json!({
        "version": supervisor.version(),
        "pid": std::process::id(),
        "state": if supervisor.is_stopping() { "stopping" } else { "running" },
        "started": rfc3339(supervisor.started()),
        "uptime_seconds": supervisor.started().elapsed().unwrap_or_default().as_secs(),
        "config": {
            "source": supervisor.source().to_string(),
            "hash": running.hash,
            "since": rfc3339(running.since),
            "warnings": running.warnings,
        },
        "reloads": { "ok": facts.reloads, "refused": facts.reloads_refused, "latest": latest },
        "listen": running.sockets.addresses(),
        "workers": supervisor.worker_count(),
        "connections": {
            "open": stats.connections_open,
            "accepted": stats.connections,
            "refused": stats.connections_refused.iter().sum::<u64>(),
        },
        "requests_active": stats.active,
        "log_lines_dropped": facts.log_dropped,
        "memory_bytes": facts.process.resident_bytes,
        "memory_level": facts.memory_level.word(),
        "names": facts.names.iter().map(name).collect::<Vec<_>>(),
        "certificates": certificates(supervisor),
        "state_directory": state_directory(supervisor),
        "pools": pools(supervisor, &stats, running.snapshot.hosts()),
        "by_hand": described::by_hand(running.snapshot.plan(), running.snapshot.members()),
        "canaries": supervisor.canaries().status(running.snapshot.canaries()),
        "routes": stats.routes.iter().map(|(name, seen)| route(name, seen)).collect::<Vec<_>>(),
    })
}

/// Where accounts, keys and certificates are kept, wherever whoever asks is.
fn state_directory(supervisor: &Supervisor) -> String {
    let place = supervisor.automatic().place(&supervisor.running().snapshot.plan().settings);
    std::path::absolute(&place).unwrap_or(place).display().to_string()
}

/// The certificates that nobody wrote down.
fn certificates(supervisor: &Supervisor) -> Vec<Value> {
    let seconds = |at: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0));
    let known = supervisor.automatic().known().into_iter();
    let entry = |(wanted, known): (Wanted, Known)| {
        json!({
            "name": wanted.name,
            "by": match wanted.by { Signer::Acme => "acme", Signer::Internal => "internal" },
            "from": known.from,
            "until": known.not_after.map(|at| rfc3339(seconds(at))),
            "next": known.next.map(rfc3339),
            "error": known.error,
            "passed_over": known.passed_over,
        })
    };
    known.map(entry).collect()
}

/// The pools of the Snapshot in force, in its order, with what was counted of them.
fn pools<'a>(
    supervisor: &Supervisor,
    stats: &Stats,
    hosts: impl Iterator<Item = (&'a str, &'a Arc<Host>)>,
) -> Vec<Value> {
    let counted: BTreeMap<&str, &PoolStats> =
        stats.pools.iter().map(|(name, seen)| (name.as_str(), seen)).collect();
    let mut pools: Vec<(&str, Vec<Value>)> = Vec::new();
    for (pool, known) in hosts {
        let seen = counted
            .get(pool)
            .and_then(|seen| seen.hosts.iter().find(|(name, _)| **name == *known.name).map(|(_, seen)| seen));
        let entry = host(known, seen, supervisor.checks().of(pool, &known.name));
        match pools.last_mut() {
            Some((name, list)) if *name == pool => list.push(entry),
            _ => pools.push((pool, vec![entry])),
        }
    }
    let entry = |(name, hosts): (&str, Vec<Value>)| {
        let seen = counted.get(name);
        json!({
            "name": name,
            "retries": seen.map_or(0, |seen| seen.retries),
            "retries_refused": seen.map_or(0, |seen| seen.retries_refused),
            "in_flight": seen.map_or(0, |seen| seen.in_flight),
            "limit": seen.map_or(0, |seen| seen.limit),
            "queued": seen.map_or(0, |seen| seen.queued),
            "no_host": seen.map_or(0, |seen| seen.no_host),
            "forced": seen.map_or(0, |seen| seen.forced),
            "mirrored": seen.map_or(0, |seen| seen.mirrored),
            "mirrors_failed": seen.map_or(0, |seen| seen.mirrors_failed),
            "mirrors_skipped": seen.map_or(0, |seen| seen.mirrors_skipped),
            "hosts": hosts,
        })
    };
    pools.into_iter().map(entry).collect()
}

fn host(host: &Host, seen: Option<&HostStats>, checks: Option<Found>) -> Value {
    let now = clock::read();
    let state = State::of(host, now);
    let ejections: u64 = host.live.conduct.ejections().map(|(_, count)| count).sum();
    let nothing = HostStats::default();
    let seen = seen.unwrap_or(&nothing);
    let answered: u64 = seen.statuses.iter().map(|(_, count)| count).sum();
    json!({
        "name": host.name,
        "up": host.is_usable(now),
        "state": state.word(),
        "reason": state::reason(host, state, checks.and_then(|checks| checks.latest)),
        "ejected_ms": state::ejected_for(host, now).as_millis(),
        "ejections": ejections,
        "weight": host.share(),
        "backup": host.backup,
        "in_flight": host.in_flight(),
        "requests": answered + seen.failures,
        "failures": seen.failures,
        "connects": seen.connects,
        "connect_failures": seen.connect_failures,
        "idle": seen.idle,
        "statuses": statuses(&seen.statuses),
    })
}

fn name(known: &NameFacts) -> Value {
    json!({ "name": known.name, "addresses": known.addresses, "failing": known.failing })
}

fn route(name: &str, seen: &RouteStats) -> Value {
    let requests: u64 = seen.duration.counts.iter().sum();
    let mean = if requests == 0 { 0.0 } else { seen.duration.sum_us as f64 / requests as f64 / 1000.0 };
    json!({
        "name": name,
        "requests": requests,
        "statuses": statuses(&seen.statuses),
        "mean_ms": (mean * 1000.0).round() / 1000.0,
        "bytes_up": seen.bytes_up,
        "bytes_down": seen.bytes_down,
    })
}

fn statuses(counts: &[(u16, u64)]) -> Value {
    counts.iter().map(|(status, count)| (status.to_string(), json!(count))).collect()
}
