//! What every policy owes, whatever it decides by.

use super::*;
use crate::args::tests::example;
use crate::hosts::{Host, Rules};
use crate::plan::Address;
use crate::standing::Probe;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Hosts with these weights.
pub(super) fn hosts(weights: &[u32]) -> Hosts {
    let host = |(at, &weight): (usize, &u32)| {
        let address = Address::Name { host: format!("h{at}"), port: 80 };
        Arc::new(Host::new(address, weight, false, None))
    };
    Hosts::new(weights.iter().enumerate().map(host).collect())
}

/// A key without anything special.
pub(super) fn key() -> Key<'static> {
    Key { text: b"", client_ip: "192.0.2.1".parse().unwrap(), random: 0, now: Tick(1) }
}

/// Puts so many requests on each host.
pub(super) fn put(hosts: &Hosts, in_flight: &[u32]) {
    for ((_, host), &count) in hosts.iter().zip(in_flight) {
        host.live.in_flight.store(count, Relaxed);
    }
}

/// Numbers that look random and are always the same.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29).wrapping_mul(0x94d0_49bb_1331_11eb)
    }
}

#[test]
fn every_example_builds_and_nothing_unknown_does() {
    for entry in LIST {
        let mut args = example(entry.example);
        assert!((entry.build)(&args).is_ok(), "{}", entry.name);
        args.options.insert("nobody-knows".to_owned(), crate::plan::Text::plain("1"));
        assert!((entry.build)(&args).is_err(), "{}", entry.name);
        assert!(entry.manual.ends_with('.') && entry.example.starts_with(entry.name));
    }
}

#[derive(Clone, Debug)]
struct Member {
    weight: u32,
    backup: bool,
    up: bool,
    tried: bool,
    in_flight: u32,
}

fn member() -> impl Strategy<Value = Member> {
    (prop_oneof![0u32..4, Just(1_000_000)], any::<bool>(), any::<bool>(), any::<bool>(), 0u32..9)
        .prop_map(|(weight, backup, up, tried, in_flight)| Member { weight, backup, up, tried, in_flight })
}

proptest! {
    #[test]
    fn only_a_host_that_may_be_tried_is_picked(
        members in proptest::collection::vec(member(), 0..70),
        random in any::<u64>(),
        text in any::<[u8; 4]>(),
    ) {
        let host = |(at, member): (usize, &Member)| {
            let address = Address::Name { host: format!("h{at}"), port: 80 };
            let host = Host::new(address, member.weight, member.backup, None);
            host.live.standing.set_probe(if member.up { Probe::Passing } else { Probe::Failing });
            host.live.in_flight.store(member.in_flight, Relaxed);
            Arc::new(host)
        };
        let hosts = Hosts::new(members.iter().enumerate().map(host).collect());
        let mut tried = HostSet::default();
        for (at, _) in members.iter().enumerate().filter(|(_, member)| member.tried) {
            tried.insert(HostId(u32::try_from(at).unwrap()));
        }
        let usable = |member: &&Member| member.weight > 0 && member.up && !member.tried;
        let primary_left = members.iter().filter(usable).any(|member| !member.backup);
        let any_left = members.iter().any(|member| usable(&member));
        let key = Key { text: &text, client_ip: "::1".parse().unwrap(), random, now: Tick(1) };
        for entry in LIST {
            let mut pick = (entry.build)(&example(entry.example)).unwrap();
            pick.prepare(&hosts);
            for _ in 0..3 {
                let picked = pick.pick(&hosts, &key, &tried).map(|id| &members[id.0 as usize]);
                prop_assert_eq!(picked.is_some(), any_left, "{}", entry.name);
                if let Some(member) = picked {
                    prop_assert!(usable(&member) && member.backup != primary_left, "{}", entry.name);
                }
            }
        }
    }

    #[test]
    fn every_policy_chooses_among_the_candidates_and_whenever_there_are_any(
        members in proptest::collection::vec((member(), any::<bool>(), 0u64..40), 0..12),
        keep in 0u32..6,
        slow in any::<bool>(),
        random in any::<u64>(),
    ) {
        let now = Tick(100_000_000);
        let host = |(at, (member, far, back_ago)): (usize, &(Member, bool, u64))| {
            let address = Address::Name { host: format!("h{at}"), port: 80 };
            let host = Host::new(address, member.weight, member.backup, None).placed(*far);
            host.live.standing.set_probe(if member.up { Probe::Passing } else { Probe::Failing });
            host.live.standing.came_back(Tick(now.0 - back_ago * 1_000_000));
            if member.tried {
                host.live.standing.refused(now);
            }
            host.live.in_flight.store(member.in_flight, Relaxed);
            Arc::new(host)
        };
        let slow_start = if slow { Duration::from_secs(30) } else { Duration::ZERO };
        let hosts = Hosts::new(members.iter().enumerate().map(host).collect()).ruled(Rules { keep, slow_start });
        let key = Key { text: &random.to_be_bytes(), random, now, ..key() };
        let tried = HostSet::default();
        let may_serve = |id: HostId| {
            let (member, ..) = &members[id.0 as usize];
            member.weight > 0 && (member.up || hosts.is_below_floor(now) && !member.tried)
        };
        let any_left = hosts.iter().any(|(id, _)| may_serve(id));
        for entry in LIST {
            let mut pick = (entry.build)(&example(entry.example)).unwrap();
            pick.prepare(&hosts);
            let picked = pick.pick(&hosts, &key, &tried);
            prop_assert_eq!(picked.is_some(), any_left, "{}", entry.name);
            prop_assert!(picked.is_none_or(may_serve), "{}", entry.name);
        }
    }

    #[test]
    fn round_robin_gives_exact_shares(weights in proptest::collection::vec(0u32..6, 1..8)) {
        let total: u32 = weights.iter().sum();
        let hosts = hosts(&weights);
        let pick = (round_robin::ENTRY.build)(&Default::default()).unwrap();
        let mut counts = vec![0u32; weights.len()];
        for _ in 0..total * 2 {
            let HostId(id) = pick.pick(&hosts, &key(), &HostSet::default()).unwrap();
            counts[id as usize] += 1;
        }
        let twice: Vec<u32> = weights.iter().map(|weight| weight * 2).collect();
        prop_assert_eq!(counts, twice);
    }
}
