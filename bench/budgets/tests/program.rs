//! Budgets of the release binary: system calls, upstream connections, memory, start.

#![allow(clippy::unwrap_used, clippy::expect_used)] // it is a test from end to end

use portunus_budgets::client::Client;
use portunus_budgets::origin::Origin;
use portunus_budgets::program::{Program, binary};
use portunus_budgets::report;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 64;

#[test]
fn a_warm_request_takes_four_system_calls_and_a_share_of_a_wait() {
    // What the program does by the clock, it does in both.
    let (many, lasted) = system_calls(180, Duration::ZERO);
    let (few, _) = system_calls(30, lasted);
    let requests = 150.0 * CONNECTIONS as f64;
    let mut per_request = 0.0;
    let mut parts = Vec::new();
    for (name, count) in &many {
        let each = (*count as f64 - few.get(name).copied().unwrap_or(0) as f64) / requests;
        per_request += each;
        if each > 0.004 {
            parts.push(format!("{name} {each:.2}"));
        }
    }
    report("system calls per request", format!("{per_request:.2}: {}", parts.join(", ")), 4.3);
    assert!(per_request > 3.5, "a request cannot cost {per_request:.2}: were they counted?");
    assert!(per_request <= 4.3, "{per_request:.2}");
}

/// The system calls of one run, from start to end, with `rounds` requests on each connection; it lasts for `at_least`, and this long.
fn system_calls(rounds: usize, at_least: Duration) -> (BTreeMap<String, u64>, Duration) {
    let origin = Origin::start().unwrap();
    let tracer = |folder: &std::path::Path| {
        let file = folder.join("calls").display().to_string();
        ["strace", "-f", "-c", "-o", &file].map(str::to_owned).to_vec()
    };
    let mut program =
        Program::start_under(origin.address, tracer).expect("strace has to be there, and allowed to trace");
    let mut client = Client::new(program.address);
    client.connect(CONNECTIONS).unwrap();
    let begun = Instant::now();
    client.ask_on_all(rounds).unwrap();
    while let Some(left) = at_least.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
    let lasted = begun.elapsed();
    drop(client);
    program.stop().unwrap();
    let table = std::fs::read_to_string(program.folder().join("calls")).unwrap();
    (table.lines().filter_map(calls_of_line).collect(), lasted)
}

/// `45.01    0.001234           3       400        12 recvfrom`: share, seconds, microseconds each, calls, errors, name.
fn calls_of_line(line: &str) -> Option<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = words.last().filter(|name| **name != "total")?;
    words.first()?.parse::<f64>().ok()?;
    Some(((*name).to_owned(), words.get(3)?.parse().ok()?))
}

#[test]
fn upstream_connections_are_kept() {
    let origin = Origin::start().unwrap();
    let program = Program::start(origin.address).unwrap();
    let mut client = Client::new(program.address);
    client.connect(CONNECTIONS).unwrap();
    client.ask_on_all(20).unwrap();
    let before = origin.connections();
    let requests = client.ask_on_all(500).unwrap();
    let each = (origin.connections() - before) as f64 / requests as f64;
    report("upstream connections per request", format!("{each:.5}"), 0.001);
    report("peak memory under load", megabytes(program.peak_bytes().unwrap()), "reported only");
    assert!(each <= 0.001, "{each:.5}");
}

#[test]
fn ten_thousand_idle_connections_are_small() {
    const BYTES_EACH: u64 = 1200;
    let connections = descriptors().saturating_sub(300).min(10_000);
    let origin = Origin::start().unwrap();
    let program = Program::start(origin.address).unwrap();
    let mut warm = Client::new(program.address);
    warm.connect(CONNECTIONS).unwrap();
    warm.ask_on_all(20).unwrap();
    let before = program.anonymous_bytes().unwrap();
    let mut idle = Client::new(program.address);
    idle.connect(connections).unwrap();
    idle.ask_on_each().unwrap();
    let allowed = BYTES_EACH * connections as u64;
    let grown = settled(|| program.anonymous_bytes().unwrap().saturating_sub(before), allowed);
    let each = grown / connections as u64;
    report(
        &format!("memory of {connections} idle connections"),
        format!("{}, {each} bytes each", megabytes(grown)),
        megabytes(allowed),
    );
    assert_eq!(idle.connections(), connections);
    assert!(grown <= allowed, "{grown}");
}

/// The value of `measure` once it is within `allowed`, or after two seconds: what was lent may take a moment to come back.
fn settled(measure: impl Fn() -> u64, allowed: u64) -> u64 {
    let began = Instant::now();
    loop {
        let value = measure();
        if value <= allowed || began.elapsed() > Duration::from_secs(2) {
            return value;
        }
        std::thread::yield_now();
    }
}

/// Raises this process's descriptor limit as far as it may go, and says how far that is.
fn descriptors() -> usize {
    let hard = Command::new("sh").args(["-c", "ulimit -H -n"]).output().unwrap();
    let hard = String::from_utf8(hard.stdout).unwrap().trim().parse().unwrap_or(1 << 20);
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &own, &format!("--nofile={hard}:{hard}")]).status();
    if raised.is_ok_and(|status| status.success()) { hard } else { 1024 }
}

#[test]
fn it_answers_soon_after_it_was_started() {
    let origin = Origin::start().unwrap();
    let times = (0..5).map(|_| {
        let began = Instant::now();
        let program = Program::start(origin.address).unwrap();
        let mut client = Client::new(program.address);
        client.connect(1).unwrap();
        client.ask_on_all(1).unwrap();
        began.elapsed()
    });
    let best = times.min().unwrap();
    report("start to first answer", format!("{best:.1?}"), "50ms; fails above 250ms, for slow machines");
    report("size of the binary", megabytes(std::fs::metadata(binary()).unwrap().len()), "reported only");
    assert!(best < Duration::from_millis(250), "{best:?}");
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
