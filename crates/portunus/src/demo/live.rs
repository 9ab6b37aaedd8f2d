//! live: one line that shows the traffic, once a second, on a terminal.

use super::server::Server;
use portunus_control::apply::Supervisor;
use portunus_relay::stats::Stats;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

/// Shows the line until nobody runs any more; does nothing where standard output is no terminal.
pub async fn line(supervisor: Arc<Supervisor>, servers: Vec<Server>) {
    if !std::io::stdout().is_terminal() {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut before = 0;
    loop {
        ticks.tick().await;
        let own = Arc::clone(&supervisor);
        let Ok(Some(stats)) = tokio::task::spawn_blocking(move || own.stats()).await else { return };
        let requests = total(&stats);
        let text = text(&stats, requests.saturating_sub(before), &servers);
        before = requests;
        let mut out = std::io::stdout().lock();
        if write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn total(stats: &Stats) -> u64 {
    stats.routes.iter().flat_map(|(_, route)| &route.statuses).map(|(_, count)| count).sum()
}

fn text(stats: &Stats, a_second: u64, servers: &[Server]) -> String {
    let mut text = format!("{a_second} requests/s, {} in all", total(stats));
    let mut statuses = BTreeMap::<u16, u64>::new();
    for (status, count) in stats.routes.iter().flat_map(|(_, route)| &route.statuses) {
        *statuses.entry(*status).or_default() += count;
    }
    for (status, count) in statuses {
        let _ = write!(text, " | {status}: {count}");
    }
    for server in servers {
        let address = server.address.to_string();
        let hosts = stats.pools.iter().flat_map(|(_, pool)| &pool.hosts).filter(|(name, _)| *name == address);
        let (mut answered, mut failed) = (0, 0);
        for (_, host) in hosts {
            answered += host.statuses.iter().map(|(_, count)| count).sum::<u64>();
            failed += host.failures;
        }
        let _ = write!(text, " | {}: {answered}", server.name);
        if failed > 0 {
            let _ = write!(text, " and {failed} failed");
        }
    }
    let retries: u64 = stats.pools.iter().map(|(_, pool)| pool.retries).sum();
    if retries > 0 {
        let _ = write!(text, " | tried again: {retries}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_relay::stats::{HostStats, PoolStats, RouteStats};

    #[test]
    fn a_line_says_who_answered_what() {
        let server = Server { name: "alpha", address: "127.0.0.1:1".parse().unwrap() };
        let host = HostStats { statuses: vec![(200, 5)], failures: 2, ..HostStats::default() };
        let pool =
            PoolStats { hosts: vec![("127.0.0.1:1".into(), host)], retries: 2, ..PoolStats::default() };
        let route = RouteStats { statuses: vec![(200, 5), (404, 1)], ..RouteStats::default() };
        let stats =
            Stats { routes: vec![("r".into(), route)], pools: vec![("p".into(), pool)], ..Stats::default() };
        assert_eq!(
            text(&stats, 3, &[server]),
            "3 requests/s, 6 in all | 200: 5 | 404: 1 | alpha: 5 and 2 failed | tried again: 2"
        );
    }
}
