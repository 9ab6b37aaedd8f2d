//! status: everything at a glance, as JSON.

use crate::apply::Supervisor;
use crate::observe::wall::rfc3339;
use portunus_relay::hosts::Host;
use portunus_relay::stats::{HostStats, PoolStats, RouteStats, Stats};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

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
            "refused": stats.connections_refused,
        },
        "requests_active": stats.active,
        "log_lines_dropped": facts.log_dropped,
        "memory_bytes": facts.process.resident_bytes,
        "pools": pools(&stats, running.snapshot.hosts()),
        "canaries": supervisor.canaries().status(running.snapshot.canaries()),
        "routes": stats.routes.iter().map(|(name, seen)| route(name, seen)).collect::<Vec<_>>(),
    })
}

/// The pools of the Snapshot in force, in its order, with what was counted of them.
fn pools<'a>(stats: &Stats, hosts: impl Iterator<Item = (&'a str, &'a Arc<Host>)>) -> Vec<Value> {
    let counted: BTreeMap<&str, &PoolStats> =
        stats.pools.iter().map(|(name, seen)| (name.as_str(), seen)).collect();
    let mut pools: Vec<(&str, Vec<Value>)> = Vec::new();
    for (pool, known) in hosts {
        let seen = counted
            .get(pool)
            .and_then(|seen| seen.hosts.iter().find(|(name, _)| **name == *known.name).map(|(_, seen)| seen));
        let entry = host(known, seen);
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

fn host(host: &Host, seen: Option<&HostStats>) -> Value {
    let nothing = HostStats::default();
    let seen = seen.unwrap_or(&nothing);
    let answered: u64 = seen.statuses.iter().map(|(_, count)| count).sum();
    let addresses: Vec<_> = host.live.addresses.load().iter().map(ToString::to_string).collect();
    json!({
        "name": host.name,
        "addresses": addresses,
        "up": host.is_usable(portunus_relay::clock::read()),
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
