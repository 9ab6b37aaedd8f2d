//! Stats: what the workers have counted, as plain data that can be added up.

use portunus_message::{Crime, Exchange, Peer, Side};
use std::sync::Arc;
use std::time::Duration;

/// Upper bounds of the duration buckets, in seconds, as OpenTelemetry's HTTP conventions advise.
pub const BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Why a client's connection may be refused, as in metrics.
pub const REFUSALS: [&str; 4] = ["too-many-connections", "unfair-share", "low-memory", "overloaded"];

/// How a TLS handshake with a client has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Well, and in full.
    Full,
    /// Well, by an earlier session.
    Resumed,
    /// Not within its time.
    Timeout,
    /// The client left.
    ClientGone,
    /// What came was no TLS.
    NotTls,
    /// The ClientHello broke the grammar, or was too long.
    BadHello,
    /// No site has the host that was asked for.
    UnknownName,
    /// The site has no certificate for the host yet.
    NoCertificate,
    /// A CA looked whether the host is ours.
    Challenge,
    /// No version, suite or group that both know.
    NothingInCommon,
    /// No protocol inside that both speak (ALPN).
    NoProtocol,
    /// The client did not like what it was shown; most often the certificate.
    ClientRefused,
    /// The client's certificate was missing or not good.
    ClientCertificate,
    /// The program was about to end.
    Stopping,
    /// The client broke the rules of TLS.
    Other,
}

impl Handshake {
    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        HANDSHAKES.get(self as usize).copied().unwrap_or_default()
    }

    /// Whose doing it is.
    pub fn side(self) -> Side {
        match self {
            Handshake::NoCertificate | Handshake::Stopping => Side::Proxy,
            _ => Side::Client,
        }
    }
}

/// The words for them in metrics, in their order.
pub const HANDSHAKES: [&str; 15] = [
    "full",
    "resumed",
    "timeout",
    "client-gone",
    "not-tls",
    "bad-hello",
    "unknown-name",
    "no-certificate",
    "challenge",
    "nothing-in-common",
    "no-protocol",
    "client-refused",
    "client-certificate",
    "stopping",
    "other",
];

/// The same in microseconds.
const BUCKETS_US: [u64; BUCKETS.len()] = {
    let mut us = [0; BUCKETS.len()];
    let mut at = 0;
    while at < us.len() {
        us[at] = (BUCKETS[at] * 1e6) as u64;
        at += 1;
    }
    us
};

/// What one worker, or all together, have counted since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Client connections accepted.
    pub connections: u64,
    /// Client connections open now.
    pub connections_open: u64,
    /// Client connections refused, in the order of [`REFUSALS`].
    pub connections_refused: [u64; REFUSALS.len()],
    /// Times that accepting failed for want of descriptors or memory.
    pub accept_failures: u64,
    /// TLS handshakes under way with clients.
    pub handshakes_open: u64,
    /// TLS handshakes with clients that have ended, in the order of [`HANDSHAKES`].
    pub handshakes: [u64; HANDSHAKES.len()],
    /// Requests under way now.
    pub active: u64,
    /// By route, in the order of [`Stats::route_names`] of the Snapshot in force; kept by name over reloads.
    pub routes: Vec<(String, RouteStats)>,
    /// By pool.
    pub pools: Vec<(String, PoolStats)>,
    /// Errors by crime, in the order of [`Crime::ALL`].
    pub crimes: Vec<u64>,
    /// Fields dropped because of an underscore in their name.
    pub underscores_dropped: u64,
}

impl Stats {
    /// Adds what another worker has counted under the same Snapshot; under another one, by name.
    pub fn add(&mut self, other: &Stats) {
        self.connections += other.connections;
        self.connections_open += other.connections_open;
        add_lists_of(&mut self.connections_refused, &other.connections_refused);
        self.accept_failures += other.accept_failures;
        self.handshakes_open += other.handshakes_open;
        add_lists_of(&mut self.handshakes, &other.handshakes);
        self.active += other.active;
        self.underscores_dropped += other.underscores_dropped;
        add_lists(&mut self.crimes, &other.crimes);
        add_named(&mut self.routes, &other.routes, RouteStats::add);
        add_named(&mut self.pools, &other.pools, PoolStats::add);
    }
}

impl Stats {
    /// The same, with nothing under way.
    pub fn without_gauges(self) -> Stats {
        let host = |(name, host)| (name, HostStats { idle: 0, in_flight: 0, ..host });
        let pool = |(name, pool): (String, PoolStats)| {
            let hosts = pool.hosts.into_iter().map(host).collect();
            (name, PoolStats { hosts, in_flight: 0, limit: 0, queued: 0, ..pool })
        };
        let pools = self.pools.into_iter().map(pool).collect();
        Stats { connections_open: 0, handshakes_open: 0, active: 0, pools, ..self }
    }
}

impl RouteStats {
    fn add(&mut self, other: &RouteStats) {
        add_statuses(&mut self.statuses, &other.statuses);
        self.duration.merge(&other.duration);
        self.bytes_up += other.bytes_up;
        self.bytes_down += other.bytes_down;
    }
}

impl PoolStats {
    fn add(&mut self, other: &PoolStats) {
        add_named(&mut self.hosts, &other.hosts, HostStats::add);
        self.requests += other.requests;
        self.retries += other.retries;
        self.retries_refused += other.retries_refused;
        self.no_host += other.no_host;
        self.hedges += other.hedges;
        self.hedges_won += other.hedges_won;
        self.hedges_refused += other.hedges_refused;
        self.in_flight += other.in_flight;
        self.limit += other.limit;
        self.queued += other.queued;
        self.forced += other.forced;
        self.mirrored += other.mirrored;
        self.mirrors_failed += other.mirrors_failed;
        self.mirrors_skipped += other.mirrors_skipped;
    }
}

impl HostStats {
    fn add(&mut self, other: &HostStats) {
        add_statuses(&mut self.statuses, &other.statuses);
        self.failures += other.failures;
        self.connects += other.connects;
        self.connect_failures += other.connect_failures;
        self.stale += other.stale;
        self.idle += other.idle;
        self.in_flight += other.in_flight;
        self.duration.merge(&other.duration);
    }
}

fn add_lists_of(to: &mut [u64], from: &[u64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

fn add_lists(to: &mut Vec<u64>, from: &[u64]) {
    to.resize(to.len().max(from.len()), 0);
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

fn add_statuses(to: &mut Vec<(u16, u64)>, from: &[(u16, u64)]) {
    for &(code, count) in from {
        match to.iter_mut().find(|(known, _)| *known == code) {
            Some((_, sum)) => *sum += count,
            None => to.push((code, count)),
        }
    }
    to.sort_unstable();
}

/// Adds lists that nearly always have the same names in the same order.
fn add_named<T: Clone>(to: &mut Vec<(String, T)>, from: &[(String, T)], add: impl Fn(&mut T, &T)) {
    let mut at = 0;
    for (name, one) in from {
        let found = match to.get(at) {
            Some((known, _)) if known == name => Some(at),
            _ => to.iter().position(|(known, _)| known == name),
        };
        match found.and_then(|found| to.get_mut(found)) {
            Some((_, sum)) => add(sum, one),
            None => to.push((name.clone(), one.clone())),
        }
        at = found.map_or(at, |found| found + 1);
    }
}

/// What one route has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteStats {
    /// Requests by status.
    pub statuses: Vec<(u16, u64)>,
    /// How long they took.
    pub duration: Histogram,
    /// Body bytes from clients.
    pub bytes_up: u64,
    /// Body bytes to clients.
    pub bytes_down: u64,
}

/// What one pool has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolStats {
    /// By host.
    pub hosts: Vec<(String, HostStats)>,
    /// Requests.
    pub requests: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Attempts that were wanted and had no place in the budget.
    pub retries_refused: u64,
    /// Requests for which no host could be chosen.
    pub no_host: u64,
    /// Second hosts asked because the first was slow.
    pub hedges: u64,
    /// Those of them that answered first.
    pub hedges_won: u64,
    /// Those that had no place in the budget.
    pub hedges_refused: u64,
    /// Requests that count against its bound now.
    pub in_flight: u64,
    /// How many there may be; 0: as many as come.
    pub limit: u64,
    /// Requests that wait for room now.
    pub queued: u64,
    /// Requests that went to a host which was not good, because too few were.
    pub forced: u64,
    /// Copies of requests that were answered.
    pub mirrored: u64,
    /// Copies that were not answered.
    pub mirrors_failed: u64,
    /// Requests that were to be copied and were not.
    pub mirrors_skipped: u64,
}

/// What one host has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostStats {
    /// Attempts by the status of the answer.
    pub statuses: Vec<(u16, u64)>,
    /// Attempts that ended without an answer.
    pub failures: u64,
    /// Connections opened.
    pub connects: u64,
    /// Connections that could not be opened.
    pub connect_failures: u64,
    /// Pooled connections that turned out closed.
    pub stale: u64,
    /// Idle connections now.
    pub idle: u64,
    /// Requests on it now.
    pub in_flight: u64,
    /// From choosing it to the head of its answer.
    pub duration: Histogram,
}

/// Counts by duration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many fell into each bucket (not summed up); the last is for all that is longer than the last bound.
    pub counts: [u64; BUCKETS.len() + 1],
    /// All durations together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, duration: std::time::Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let at = BUCKETS_US.iter().position(|&bound| us <= bound).unwrap_or(BUCKETS.len());
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
    }

    fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(to, from)| *to += from);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }
}

/// A handshake with a client that came to nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unshaken<'a> {
    /// Who it was.
    pub peer: Peer,
    /// The host that was asked for, as the client wrote it; none when it named none, or did not get so far.
    pub name: Option<&'a str>,
    /// How it has ended.
    pub end: Handshake,
    /// The words of the TLS library, where it has some.
    pub detail: Option<&'a str>,
    /// How long it took.
    pub lasted: Duration,
}

/// Hears of every exchange when it is over, on the worker that served it. It must not block.
pub trait Recorder {
    /// The exchange is complete; the names belong to its labels.
    fn record(&mut self, exchange: &Exchange, names: &Names<'_>);
    /// A client has said something, and hands were not shaken with it (TLS).
    fn unshaken(&mut self, unshaken: &Unshaken<'_>);
    /// Called now and then, when the worker has nothing else to do.
    fn flush(&mut self);
}

/// The words behind the labels of an exchange.
#[derive(Clone, Debug, Default)]
pub struct Names<'a> {
    /// The route.
    pub route: Option<&'a str>,
    /// The pool.
    pub pool: Option<&'a str>,
    /// The host of the last attempt.
    pub upstream: Option<&'a str>,
    /// What is known, beyond the error's word, of why there was no connection to it.
    pub detail: Option<Arc<str>>,
}

/// The index of `crime` in [`Crime::ALL`].
pub fn index_of(crime: Crime) -> usize {
    crime as usize
}
