//! Tiers, the floor, zones and slow start, whatever the policy.

use super::*;
use crate::hosts::Rules;
use crate::plan::Address;
use crate::standing::Probe;
use std::sync::Arc;

const NOW: Tick = Tick(100_000_000);

/// Hosts as (weight, backup, far), under these rules.
fn hosts(list: &[(u32, bool, bool)], rules: Rules) -> Hosts {
    let host = |(at, &(weight, backup, far)): (usize, &(u32, bool, bool))| {
        let address = Address::Name { host: format!("h{at}"), port: 80 };
        Arc::new(Host::new(address, weight, backup, None).placed(far))
    };
    Hosts::new(list.iter().enumerate().map(host).collect()).ruled(rules)
}

fn fail(hosts: &Hosts, ids: &[u32]) {
    for &id in ids {
        hosts.get(HostId(id)).unwrap().live.standing.set_probe(Probe::Failing);
    }
}

fn ids(hosts: &Hosts, tried: &[u32], draw: u64) -> Vec<u32> {
    let mut set = HostSet::default();
    tried.iter().for_each(|&id| set.insert(HostId(id)));
    hosts.candidates_for(&set, NOW, draw).map(|one| one.id.0).collect()
}

const NEAR: (u32, bool, bool) = (1, false, false);
const FAR: (u32, bool, bool) = (1, false, true);
const BACKUP: (u32, bool, bool) = (1, true, false);

#[test]
fn backups_come_only_when_no_primary_is_left() {
    let hosts = hosts(&[NEAR, NEAR, BACKUP], Rules { keep: 1, ..Rules::default() });
    assert_eq!(ids(&hosts, &[], 0), [0, 1]);
    assert_eq!(ids(&hosts, &[0], 0), [1]);
    assert_eq!(ids(&hosts, &[0, 1], 0), [2]);
    fail(&hosts, &[0, 1]);
    assert_eq!(ids(&hosts, &[], 0), [2]);
}

#[test]
fn below_the_floor_all_but_drained_and_refusing_hosts_are_used() {
    let hosts = hosts(&[NEAR, NEAR, NEAR, NEAR, BACKUP], Rules { keep: 2, ..Rules::default() });
    fail(&hosts, &[0, 1, 2, 4]);
    let standing = |id| &hosts.get(HostId(id)).unwrap().live.standing;
    assert!(hosts.is_below_floor(NOW));
    assert_eq!(ids(&hosts, &[], 0), [0, 1, 2, 3]);
    standing(1).set_order(Order::Drain);
    standing(2).refused(Tick(NOW.0 - 999_999));
    standing(3).refused(NOW);
    assert_eq!(ids(&hosts, &[], 0), [0, 3], "a good host is used whatever it refused");
    standing(2).refused(Tick(NOW.0 - 1_000_000));
    assert_eq!(ids(&hosts, &[], 0), [0, 2, 3]);
    standing(0).set_probe(Probe::Passing);
    assert_eq!(ids(&hosts, &[], 0), [0, 3], "two are good again");
}

#[test]
fn those_that_answer_nobody_come_last_of_all() {
    let hosts = hosts(&[NEAR, NEAR, BACKUP], Rules { keep: 1, ..Rules::default() });
    let silence = |id| &hosts.get(HostId(id)).unwrap().live.silence;
    let open = || (0..3).filter(|&id| hosts.open(NOW).has(HostId(id))).collect::<Vec<_>>();
    silence(0).looked(false, NOW);
    assert_eq!((ids(&hosts, &[], 0), ids(&hosts, &[1], 0), open()), (vec![1], vec![2], vec![1, 2]));
    fail(&hosts, &[1]);
    assert_eq!((ids(&hosts, &[], 0), open()), (vec![2], vec![2]));
    fail(&hosts, &[2]);
    assert_eq!((ids(&hosts, &[], 0), ids(&hosts, &[1], 0), open()), (vec![1], vec![2], vec![1, 2]));
    assert_eq!(ids(&hosts, &[1, 2], 0), [] as [u32; 0], "not for a further attempt");
    [1, 2].iter().for_each(|&id| silence(id).looked(false, NOW));
    assert_eq!((ids(&hosts, &[], 0), open()), (vec![0, 1], vec![0, 1, 2]));
}

#[test]
fn without_a_floor_no_bad_host_is_used() {
    let hosts = hosts(&[NEAR, NEAR], Rules::default());
    fail(&hosts, &[0, 1]);
    assert_eq!(ids(&hosts, &[], 0), [] as [u32; 0]);
}

#[test]
fn the_own_zone_takes_all_it_can_bear() {
    let of = |hosts: &Hosts, far: bool| {
        (0..1_000u64)
            .filter(|&draw| ids(hosts, &[], draw << 54 | draw).iter().any(|&id| (id > 3) == far))
            .count()
    };
    let hosts = hosts(&[NEAR, NEAR, NEAR, NEAR, FAR, FAR], Rules::default());
    assert_eq!((of(&hosts, false), of(&hosts, true)), (1_000, 0));
    fail(&hosts, &[0]);
    assert_eq!((of(&hosts, false), of(&hosts, true)), (1_000, 0), "three of four can still bear it");
    fail(&hosts, &[1]);
    let (own, far) = (of(&hosts, false), of(&hosts, true));
    assert!(own + far == 1_000 && (650..750).contains(&own), "{own}: half the weight bears 70 %");
    fail(&hosts, &[2, 3]);
    assert_eq!(ids(&hosts, &[], 7), [4, 5]);
    assert_eq!(ids(&hosts, &[4, 5], 7), [] as [u32; 0]);
}

#[test]
fn another_zone_is_used_when_the_own_one_was_tried() {
    let hosts = hosts(&[NEAR, FAR], Rules::default());
    assert_eq!(ids(&hosts, &[], 1), [0]);
    assert_eq!(ids(&hosts, &[0], 1), [1]);
    fail(&hosts, &[1]);
    assert_eq!(ids(&hosts, &[], 1), [0]);
}

#[test]
fn a_host_that_came_back_is_brought_up() {
    let rules = Rules { slow_start: Duration::from_secs(30), ..Rules::default() };
    let hosts = hosts(&[(2, false, false), NEAR], rules);
    let shares = |ago: u64| -> Vec<u32> {
        hosts.get(HostId(1)).unwrap().live.standing.came_back(Tick(NOW.0 - ago * 1_000_000));
        hosts.candidates(&HostSet::default(), NOW).map(|one| one.share).collect()
    };
    assert_eq!(shares(0), [200, 10]);
    assert_eq!(shares(15), [200, 50]);
    assert_eq!(shares(30), [200, 100]);
    // Nobody would be left at full weight.
    hosts.get(HostId(0)).unwrap().live.standing.came_back(NOW);
    assert_eq!(shares(1), [2, 1]);
    hosts.get(HostId(0)).unwrap().live.standing.came_back(Tick(1));
    assert_eq!(shares(15), [200, 50]);
}

#[test]
fn the_end_of_an_ejection_is_a_coming_back() {
    let rules = Rules { slow_start: Duration::from_secs(10), ..Rules::default() };
    let hosts = hosts(&[NEAR, NEAR], rules);
    hosts.get(HostId(1)).unwrap().live.standing.eject_until(Tick(NOW.0 - 5_000_000));
    let parts: Vec<f64> = hosts.candidates(&HostSet::default(), NOW).map(|one| one.part()).collect();
    assert_eq!(parts, [1.0, 0.5]);
}
