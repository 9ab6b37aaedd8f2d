//! metrics: what the workers have counted, in Prometheus' text format.
//!
//! Names are those of OpenTelemetry's HTTP conventions in Prometheus' spelling where there is one, and begin with
//! `portunus_` otherwise. Labels: `http_route` is the name of the route, empty for requests that found none;
//! `pool` and `server_address` are as written in the configuration.

use crate::boards::Found;
use crate::observe::process::Process;
use crate::state::State;
use portunus_message::Crime;
use portunus_relay::pressure::Level;
use portunus_relay::stats::{
    BUCKETS, HANDSHAKES, Histogram, HostStats, PoolStats, REFUSALS, RouteStats, Stats,
};
use std::fmt::{Display, Write};

/// What the control plane knows beside the workers' counters.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The program's version.
    pub version: &'static str,
    /// Threads that serve.
    pub workers: usize,
    /// The hash of the configuration in force.
    pub config_hash: String,
    /// When it came into force, in seconds since 1970.
    pub config_seconds: f64,
    /// Reloads that were applied.
    pub reloads: u64,
    /// Reloads that were refused.
    pub reloads_refused: u64,
    /// Whether the latest reload, if any, was applied.
    pub reload_ok: bool,
    /// Lines that the access log had to drop.
    pub log_dropped: u64,
    /// How short memory is.
    pub memory_level: Level,
    /// Every host as the Snapshot in force knows it.
    pub hosts: Vec<HostFacts>,
    /// Every name of a server.
    pub names: Vec<NameFacts>,
    /// Every canary.
    pub canaries: Vec<CanaryFacts>,
    /// Every certificate, and when it ends, in seconds since 1970.
    pub certificates: Vec<(String, i64)>,
    /// Changed certificates that were taken, and that were refused.
    pub certificate_changes: [u64; 2],
    /// Certificates whose files cannot be used now.
    pub certificates_failing: usize,
    /// Certificates that were got without the operator's doing, and tries that came to nothing.
    pub certificate_tries: [u64; 2],
    /// Names that have no certificate yet although they want one, or whose latest try came to nothing.
    pub certificates_wanting: usize,
    /// What the kernel says.
    pub process: Process,
}

/// One host as the Snapshot in force knows it.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Its pool.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// Whether it may be chosen.
    pub up: bool,
    /// What its standing is called.
    pub state: State,
    /// How often it was ejected, by reason.
    pub ejections: Vec<(&'static str, u64)>,
    /// What its health checks have found, when it has any.
    pub checks: Option<Found>,
    /// Its share.
    pub weight: u32,
}

/// One name of a server as discovery knows it.
#[derive(Clone, Debug, Default)]
pub struct NameFacts {
    /// The name, with its port.
    pub name: String,
    /// The addresses that it has now, or had last.
    pub addresses: Vec<String>,
    /// Why it cannot be resolved now.
    pub failing: Option<String>,
}

/// How far a canary has come.
#[derive(Clone, Debug, PartialEq)]
pub struct CanaryFacts {
    /// Its route.
    pub route: String,
    /// Its pool.
    pub pool: String,
    /// Its share of the route's requests, 0 to 1.
    pub share: f64,
    /// Whether it was given up.
    pub given_up: bool,
}

/// The whole page.
pub fn text(stats: &Stats, facts: &Facts) -> String {
    let mut page = Page { out: String::with_capacity(16 << 10) };
    requests(&mut page, stats);
    upstreams(&mut page, stats);
    hosts(&mut page, facts);
    canaries(&mut page, facts);
    connections(&mut page, stats);
    tls(&mut page, stats, facts);
    program(&mut page, facts);
    process(&mut page, &facts.process);
    page.out
}

/// The media type of the page.
pub const MEDIA: &str = "text/plain; version=0.0.4; charset=utf-8";

fn requests(page: &mut Page, stats: &Stats) {
    page.family(
        "http_server_request_duration_seconds",
        "histogram",
        "From the first byte of a request to the end of its answer.",
    );
    for (route, seen) in &stats.routes {
        page.histogram("http_server_request_duration_seconds", &[("http_route", route)], &seen.duration);
    }
    page.family("portunus_requests_total", "counter", "Requests by the status they were answered with.");
    for (route, seen) in &stats.routes {
        for (status, count) in &seen.statuses {
            let status = status.to_string();
            let labels = [("http_route", route.as_str()), ("http_response_status_code", &status)];
            page.sample("portunus_requests_total", &labels, count);
        }
    }
    page.single("http_server_active_requests", "gauge", "Requests under way.", stats.active);
    page.per_route("http_server_request_body_bytes_total", "Body bytes from clients.", stats, |seen| {
        seen.bytes_up
    });
    page.per_route("http_server_response_body_bytes_total", "Body bytes to clients.", stats, |seen| {
        seen.bytes_down
    });
    page.family("portunus_errors_total", "counter", "Exchanges that did not come to their natural end.");
    for (crime, count) in Crime::ALL.iter().zip(&stats.crimes) {
        page.sample("portunus_errors_total", &[("reason", crime.word())], count);
    }
    let help = "Request fields dropped because of an underscore in their name.";
    page.single("portunus_underscores_dropped_total", "counter", help, stats.underscores_dropped);
}

fn upstreams(page: &mut Page, stats: &Stats) {
    let name = "http_client_request_duration_seconds";
    page.family(name, "histogram", "From choosing a host to the head of its answer.");
    for (labels, seen) in each_host(stats) {
        page.histogram(name, &labels, &seen.duration);
    }
    let name = "portunus_upstream_requests_total";
    page.family(name, "counter", "Attempts by the status of the answer.");
    for (labels, seen) in each_host(stats) {
        for (status, count) in &seen.statuses {
            let status = status.to_string();
            let [pool, host] = labels;
            page.sample(name, &[pool, host, ("http_response_status_code", &status)], count);
        }
    }
    let help = "Attempts that ended without an answer.";
    page.per_host("portunus_upstream_failures_total", "counter", help, stats, |seen| seen.failures);
    let help = "Connections opened.";
    page.per_host("portunus_upstream_connects_total", "counter", help, stats, |seen| seen.connects);
    let help = "Connections that could not be opened.";
    page.per_host("portunus_upstream_connect_failures_total", "counter", help, stats, |seen| {
        seen.connect_failures
    });
    let help = "Pooled connections that turned out closed.";
    page.per_host("portunus_upstream_stale_total", "counter", help, stats, |seen| seen.stale);
    let help = "Idle connections in the pool.";
    page.per_host("portunus_upstream_idle_connections", "gauge", help, stats, |seen| seen.idle);
    let help = "Requests that are on a host.";
    page.per_host("http_client_active_requests", "gauge", help, stats, |seen| seen.in_flight);
    page.per_pool("portunus_retries_total", "Attempts after the first.", stats, |seen| seen.retries);
    let help = "Attempts that were wanted and had no place in the budget.";
    page.per_pool("portunus_retries_refused_total", help, stats, |seen| seen.retries_refused);
    let help = "Requests for which no host could be chosen.";
    page.per_pool("portunus_no_host_total", help, stats, |seen| seen.no_host);
    let help = "Second hosts asked because the first was slow.";
    page.per_pool("portunus_hedges_total", help, stats, |seen| seen.hedges);
    let help = "Second hosts asked because the first was slow, that answered first.";
    page.per_pool("portunus_hedges_won_total", help, stats, |seen| seen.hedges_won);
    let help = "Second hosts that were wanted and had no place in the budget.";
    page.per_pool("portunus_hedges_refused_total", help, stats, |seen| seen.hedges_refused);
    let help = "Requests that wait for room on a pool.";
    page.now_per_pool("portunus_pool_queued", help, stats, |seen| seen.queued);
    let help = "Requests that count against the bound of a pool.";
    page.now_per_pool("portunus_pool_in_flight", help, stats, |seen| seen.in_flight);
    let help = "How many requests there may be on a pool at one time; 0: as many as come.";
    page.now_per_pool("portunus_pool_limit", help, stats, |seen| seen.limit);
    let help = "Requests that went to a host which was not good, because fewer were than shall be kept.";
    page.per_pool("portunus_forced_requests_total", help, stats, |seen| seen.forced);
    page.per_pool("portunus_mirrored_total", "Copies that were answered.", stats, |seen| seen.mirrored);
    let help = "Copies that were not answered.";
    page.per_pool("portunus_mirrors_failed_total", help, stats, |seen| seen.mirrors_failed);
    let help = "Requests that were to be copied and were not: too large, or too many copies under way.";
    page.per_pool("portunus_mirrors_skipped_total", help, stats, |seen| seen.mirrors_skipped);
}

fn each_host(stats: &Stats) -> impl Iterator<Item = ([(&str, &str); 2], &HostStats)> {
    stats.pools.iter().flat_map(|(pool, seen)| {
        let labels = move |host| [("pool", pool.as_str()), ("server_address", host)];
        seen.hosts.iter().map(move |(host, seen)| (labels(host.as_str()), seen))
    })
}

fn hosts(page: &mut Page, facts: &Facts) {
    let help = "Whether the host may be chosen.";
    page.per_known_host("portunus_upstream_up", help, facts, |host| host.up.into());
    let name = "portunus_upstream_state";
    page.family(name, "gauge", "1 for the state that the host is in, 0 for the others.");
    for host in &facts.hosts {
        for state in State::ALL {
            let labels = [("pool", &*host.pool), ("server_address", &*host.name), ("state", state.word())];
            page.sample(name, &labels, u8::from(host.state == state));
        }
    }
    let name = "portunus_upstream_ejections_total";
    page.family(name, "counter", "Times that the host was ejected.");
    for host in &facts.hosts {
        for (reason, count) in host.ejections.iter().filter(|(_, count)| *count > 0) {
            let labels = [("pool", &*host.pool), ("server_address", &*host.name), ("reason", *reason)];
            page.sample(name, &labels, count);
        }
    }
    let name = "portunus_health_checks_total";
    page.family(name, "counter", "Health checks of the host, by what became of them.");
    for (host, checks) in facts.hosts.iter().filter_map(|host| Some((host, host.checks.as_ref()?))) {
        for (result, count) in [("passed", checks.passed), ("failed", checks.failed)] {
            let labels = [("pool", &*host.pool), ("server_address", &*host.name), ("result", result)];
            page.sample(name, &labels, count);
        }
    }
    let help = "The host's share, against the others of its pool.";
    page.per_known_host("portunus_upstream_weight", help, facts, |host| host.weight.into());
    let name = "portunus_name_addresses";
    page.family(name, "gauge", "Addresses that the name of a server has, each of which is a host.");
    for known in &facts.names {
        page.sample(name, &[("name", &known.name)], known.addresses.len());
    }
    let name = "portunus_name_failing";
    page.family(
        name,
        "gauge",
        "Whether the name of a server cannot be resolved now; its last addresses are kept.",
    );
    for known in &facts.names {
        page.sample(name, &[("name", &known.name)], u8::from(known.failing.is_some()));
    }
}

fn canaries(page: &mut Page, facts: &Facts) {
    let mut each = |name: &str, help: &str, value: &dyn Fn(&CanaryFacts) -> f64| {
        page.family(name, "gauge", help);
        for one in &facts.canaries {
            page.sample(name, &[("http_route", one.route.as_str()), ("pool", one.pool.as_str())], value(one));
        }
    };
    each("portunus_canary_share", "The canary's share of the route's requests, 0 to 1.", &|one| one.share);
    let help = "Whether the canary was given up: it did worse than was allowed.";
    each("portunus_canary_given_up", help, &|one| f64::from(u8::from(one.given_up)));
}

fn connections(page: &mut Page, stats: &Stats) {
    page.single("portunus_connections_total", "counter", "Client connections accepted.", stats.connections);
    page.single("portunus_connections", "gauge", "Client connections open.", stats.connections_open);
    let name = "portunus_connections_refused_total";
    page.family(name, "counter", "Client connections refused, by the reason.");
    for (reason, count) in REFUSALS.iter().zip(stats.connections_refused) {
        page.sample(name, &[("reason", reason)], count);
    }
    let help = "Times that accepting failed for want of descriptors or memory.";
    page.single("portunus_accept_failures_total", "counter", help, stats.accept_failures);
}

fn tls(page: &mut Page, stats: &Stats, facts: &Facts) {
    let name = "portunus_tls_handshakes_total";
    page.family(name, "counter", "TLS handshakes with clients that have ended, by how.");
    for (end, count) in HANDSHAKES.iter().zip(stats.handshakes) {
        page.sample(name, &[("result", end)], count);
    }
    let help = "TLS handshakes with clients that are under way.";
    page.single("portunus_tls_handshakes", "gauge", help, stats.handshakes_open);
    let name = "portunus_certificate_not_after_seconds";
    page.family(name, "gauge", "When the certificate in use ends, in seconds since 1970.");
    for (certificate, until) in &facts.certificates {
        page.sample(name, &[("certificate", certificate)], until);
    }
    let name = "portunus_certificate_changes_total";
    page.family(name, "counter", "Certificates that have changed on disk, by what became of that.");
    for (result, count) in ["ok", "refused"].iter().zip(facts.certificate_changes) {
        page.sample(name, &[("result", result)], count);
    }
    let help = "Certificates whose files cannot be used now; the ones before go on.";
    page.single("portunus_certificates_failing", "gauge", help, facts.certificates_failing);
    let name = "portunus_certificate_tries_total";
    page.family(name, "counter", "Tries to get a certificate automatically, by what became of them.");
    for (result, count) in ["ok", "failed"].iter().zip(facts.certificate_tries) {
        page.sample(name, &[("result", result)], count);
    }
    let help = "Names that want a certificate and have none, or whose latest try has failed.";
    page.single("portunus_certificates_wanting", "gauge", help, facts.certificates_wanting);
}

fn program(page: &mut Page, facts: &Facts) {
    page.family("portunus_build_info", "gauge", "Always 1; the label says which version runs.");
    page.sample("portunus_build_info", &[("version", facts.version)], 1);
    page.single("portunus_workers", "gauge", "Threads that serve.", facts.workers);
    page.family("portunus_reloads_total", "counter", "Reloads of the configuration, by what became of them.");
    page.sample("portunus_reloads_total", &[("result", "ok")], facts.reloads);
    page.sample("portunus_reloads_total", &[("result", "refused")], facts.reloads_refused);
    let help = "Whether the latest reload was applied; 1 before the first.";
    page.single("portunus_config_last_reload_successful", "gauge", help, u8::from(facts.reload_ok));
    page.family(
        "portunus_config_info",
        "gauge",
        "Always 1; the label is the hash of the configuration in force.",
    );
    page.sample("portunus_config_info", &[("hash", &facts.config_hash)], 1);
    let help = "When the configuration in force was loaded, in seconds since 1970.";
    page.single("portunus_config_timestamp_seconds", "gauge", help, facts.config_seconds);
    let help = "How short memory is: 0 there is enough, 1 stocks are given up, 2 new work is refused, 3 slow transfers are ended.";
    page.single("portunus_memory_level", "gauge", help, facts.memory_level as u8);
    let help = "Lines that the access log had to drop.";
    page.single("portunus_log_dropped_lines_total", "counter", help, facts.log_dropped);
}

fn process(page: &mut Page, process: &Process) {
    page.single("process_cpu_seconds_total", "counter", "Processor time used.", process.cpu_seconds);
    page.single("process_resident_memory_bytes", "gauge", "Memory in use.", process.resident_bytes);
    page.single("process_virtual_memory_bytes", "gauge", "Address space in use.", process.virtual_bytes);
    page.single("process_open_fds", "gauge", "Open file descriptors.", process.descriptors);
    page.single("process_max_fds", "gauge", "File descriptors that may be open.", process.descriptors_max);
    page.single("process_threads", "gauge", "Threads.", process.threads);
    let help = "When the process started, in seconds since 1970.";
    page.single("process_start_time_seconds", "gauge", help, process.start_seconds);
}

/// The text as it grows.
struct Page {
    out: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn per_route(&mut self, name: &str, help: &str, stats: &Stats, of: impl Fn(&RouteStats) -> u64) {
        self.family(name, "counter", help);
        for (route, seen) in &stats.routes {
            self.sample(name, &[("http_route", route)], of(seen));
        }
    }

    fn per_pool(&mut self, name: &str, help: &str, stats: &Stats, of: impl Fn(&PoolStats) -> u64) {
        self.family(name, "counter", help);
        for (pool, seen) in &stats.pools {
            self.sample(name, &[("pool", pool)], of(seen));
        }
    }

    fn now_per_pool(&mut self, name: &str, help: &str, stats: &Stats, of: impl Fn(&PoolStats) -> u64) {
        self.family(name, "gauge", help);
        for (pool, seen) in &stats.pools {
            self.sample(name, &[("pool", pool)], of(seen));
        }
    }

    fn per_host(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        stats: &Stats,
        of: impl Fn(&HostStats) -> u64,
    ) {
        self.family(name, kind, help);
        for (labels, seen) in each_host(stats) {
            self.sample(name, &labels, of(seen));
        }
    }

    fn per_known_host(&mut self, name: &str, help: &str, facts: &Facts, of: impl Fn(&HostFacts) -> u64) {
        self.family(name, "gauge", help);
        for host in &facts.hosts {
            self.sample(name, &[("pool", &host.pool), ("server_address", &host.name)], of(host));
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(name);
        let mut open = '{';
        for (key, text) in labels {
            self.out.push(open);
            let _ = write!(self.out, "{key}=\"");
            escape(text, &mut self.out);
            self.out.push('"');
            open = ',';
        }
        if open == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    /// Buckets are counted singly by the workers, and summed up here as Prometheus wants them.
    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], seen: &Histogram) {
        let bounds = BUCKETS.iter().map(f64::to_string).chain([String::from("+Inf")]);
        let bucket = format!("{name}_bucket");
        let mut total = 0;
        for (bound, count) in bounds.zip(seen.counts) {
            total += count;
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, total);
        }
        self.sample(&format!("{name}_sum"), labels, seen.sum_us as f64 / 1e6);
        self.sample(&format!("{name}_count"), labels, total);
    }
}

/// Appends a label's value: backslash, quotation mark and line end are escaped.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            character => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use std::time::Duration;

    fn page() -> String {
        let mut duration = Histogram::default();
        for ms in [1, 1, 30, 60_000] {
            duration.add(Duration::from_millis(ms));
        }
        let route = RouteStats {
            statuses: vec![(200, 3), (502, 1)],
            duration: duration.clone(),
            ..RouteStats::default()
        };
        let host = HostStats { statuses: vec![(200, 3)], failures: 1, duration, ..HostStats::default() };
        let pool =
            PoolStats { hosts: vec![("10.0.0.1:80".into(), host)], retries: 2, ..PoolStats::default() };
        let stats = Stats {
            connections: 9,
            routes: vec![("odd\"\\\nname/*".into(), route)],
            pools: vec![("web".into(), pool)],
            crimes: vec![1; Crime::ALL.len()],
            ..Stats::default()
        };
        let host = HostFacts {
            pool: "web".into(),
            name: "10.0.0.1:80".into(),
            up: true,
            weight: 1,
            ..HostFacts::default()
        };
        text(&stats, &Facts { version: "0.0.0", hosts: vec![host], ..Facts::default() })
    }

    #[test]
    fn every_sample_has_a_family_and_no_family_stands_twice() {
        let page = page();
        let mut kinds = HashMap::new();
        let mut seen = HashSet::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(kinds.insert(name, kind).is_none(), "{name}");
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap();
                assert!(seen.insert(series), "{series}");
                let name = series.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| {
                        name.strip_suffix(end).filter(|name| kinds.get(name) == Some(&"histogram"))
                    })
                    .unwrap_or(name);
                assert!(kinds.contains_key(family), "{name}");
                let counter = kinds.get(family) == Some(&"counter");
                assert_eq!(counter, name.ends_with("_total"), "{name}");
            }
        }
    }

    #[test]
    fn buckets_are_summed_up() {
        let page = page();
        let line = |name: &str| {
            let start = format!("http_client_request_duration_seconds{name}");
            page.lines().find_map(|line| line.strip_prefix(&start)).map(str::trim).unwrap().to_owned()
        };
        let labels = r#"{pool="web",server_address="10.0.0.1:80""#;
        assert_eq!(line(&format!("_bucket{labels},le=\"0.005\"}}")), "2");
        assert_eq!(line(&format!("_bucket{labels},le=\"0.05\"}}")), "3");
        assert_eq!(line(&format!("_bucket{labels},le=\"10\"}}")), "3");
        assert_eq!(line(&format!("_bucket{labels},le=\"+Inf\"}}")), "4");
        assert_eq!(line(&format!("_count{labels}}}")), "4");
        assert_eq!(line(&format!("_sum{labels}}}")), "60.032");
    }

    #[test]
    fn i1_label_values_are_escaped() {
        assert!(page().contains(
            r#"portunus_requests_total{http_route="odd\"\\\nname/*",http_response_status_code="502"} 1"#
        ));
    }
}
