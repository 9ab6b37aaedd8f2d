//! A simulation in virtual time: hosts that are slow, quick, failing or back again, and where the requests go.

use super::super::tests::{Numbers, hosts, key};
use super::*;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How a host behaves from some moment on: milliseconds for an answer, and whether it fails.
type Manner = (u64, bool);

/// Requests come every millisecond; what each host got in each second.
fn simulate(seconds: u64, weights: &[u32], manner: impl Fn(usize, u64) -> Manner) -> Vec<Vec<u32>> {
    let (hosts, mut numbers) = (hosts(weights), Numbers(3));
    let mut counts = vec![vec![0; weights.len()]; usize::try_from(seconds).unwrap()];
    let mut under_way: Vec<(u64, HostId, u64, bool)> = Vec::new();
    for ms in 1..seconds * 1_000 {
        let now = Tick(ms * 1_000);
        under_way.retain(|&(until, id, took, failed)| {
            if until <= ms {
                hosts.get(id).unwrap().live.in_flight.fetch_sub(1, Relaxed);
                let latency = Duration::from_millis(took);
                LeastTime.heard(&hosts, id, &Outcome { latency, failed, at: now });
            }
            until > ms
        });
        let key = Key { random: numbers.next(), now, ..key() };
        let id = LeastTime.pick(&hosts, &key, &HostSet::default()).unwrap();
        let (took, failed) = manner(id.0 as usize, ms / 1_000);
        hosts.get(id).unwrap().live.in_flight.fetch_add(1, Relaxed);
        under_way.push((ms + took, id, took, failed));
        counts[usize::try_from(ms / 1_000).unwrap()][id.0 as usize] += 1;
    }
    counts
}

/// What a host got in these seconds.
fn sum(counts: &[Vec<u32>], seconds: std::ops::Range<usize>, host: usize) -> u32 {
    counts[seconds].iter().map(|second| second[host]).sum()
}

#[test]
fn a_host_that_fails_fast_gets_next_to_nothing() {
    let counts = simulate(60, &[1, 1, 1], |host, _| if host == 0 { (1, true) } else { (20, false) });
    let failing = sum(&counts, 0..60, 0);
    assert!(failing < 60, "{failing} of 60000");
}

#[test]
fn a_host_that_starts_to_fail_fast_loses_its_requests_at_once() {
    let fails = |host, second| if host == 0 && second >= 10 { (1, true) } else { (20, false) };
    let counts = simulate(60, &[1, 1, 1], fails);
    assert!(sum(&counts, 0..10, 0) > 2_000);
    let failing = sum(&counts, 10..60, 0);
    assert!(failing < 500, "{failing} of 50000");
    assert!(sum(&counts, 15..60, 0) < 60, "{failing}");
}

#[test]
fn a_slow_host_gets_little() {
    let counts = simulate(60, &[1, 1, 1], |host, _| if host == 0 { (400, false) } else { (20, false) });
    let slow = sum(&counts, 0..60, 0);
    assert!((1..1_500).contains(&slow), "{slow} of 60000");
}

#[test]
fn a_host_that_has_recovered_is_found_again() {
    let manner = |host, second| if host == 0 && second < 20 { (1, true) } else { (20, false) };
    let counts = simulate(120, &[1, 1, 1], manner);
    assert!(sum(&counts, 0..20, 0) < 30);
    let back = sum(&counts, 90..120, 0);
    assert!((8_000..12_000).contains(&back), "{back} of 30000");
}

#[test]
fn equals_share_by_weight() {
    let counts = simulate(30, &[3, 1], |_, _| (20, false));
    let (heavy, light) = (sum(&counts, 5..30, 0), sum(&counts, 5..30, 1));
    assert!((2.4..3.6).contains(&(f64::from(heavy) / f64::from(light))), "{heavy} {light}");
}
