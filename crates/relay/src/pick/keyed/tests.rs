//! Every method: shares by weight, few keys that move, agreement, and the bound.

use super::super::room::FEW;
use super::super::tests::{hosts, put};
use super::*;
use crate::plan::{Args, Text};

fn keyed(hosts: &Hosts, method: &str, bounded: &str) -> Keyed {
    let mut args = Args::default();
    args.options.insert("method".into(), Text::plain(method));
    args.options.insert("bounded".into(), Text::plain(bounded));
    let mut keyed = Keyed::read(&Reader::new(&[METHOD, BOUNDED], &args).unwrap()).unwrap();
    keyed.prepare(hosts);
    keyed
}

const METHODS: [&str; 3] = ["rendezvous", "ring", "maglev"];

fn choose(keyed: &Keyed, hosts: &Hosts, key: u32, tried: &[u32]) -> u32 {
    let mut set = HostSet::default();
    tried.iter().for_each(|&id| set.insert(HostId(id)));
    keyed.choose(hosts, &key.to_be_bytes(), Tick(1), &set).unwrap().0
}

#[test]
fn keys_spread_by_weight() {
    for method in METHODS {
        let hosts = hosts(&[1, 1, 2, 4]);
        let keyed = keyed(&hosts, method, "off");
        let mut counts = [0u32; 4];
        (0..16_000).for_each(|key| counts[choose(&keyed, &hosts, key, &[]) as usize] += 1);
        for (count, expected) in counts.iter().zip([2_000u32, 2_000, 4_000, 8_000]) {
            assert!(count.abs_diff(expected) < expected / 6, "{method} {counts:?}");
        }
    }
}

#[test]
fn a_host_that_is_down_moves_only_its_keys() {
    for method in METHODS {
        let hosts = hosts(&[1, 2, 1, 1, 1]);
        let keyed = keyed(&hosts, method, "off");
        let mut moved_to = [0u32; 5];
        for key in 0..5_000 {
            let (before, after) = (choose(&keyed, &hosts, key, &[]), choose(&keyed, &hosts, key, &[2]));
            assert!(before == after || before == 2, "{method}");
            if before == 2 {
                moved_to[after as usize] += 1;
            }
        }
        assert!([0, 1, 3, 4].iter().all(|&id| moved_to[id] > 50), "{method}: spread over all {moved_to:?}");
    }
}

#[test]
fn another_host_moves_few_keys() {
    for (method, most) in [("rendezvous", 2_200), ("ring", 2_400), ("maglev", 3_000)] {
        let (five, four) = (hosts(&[1; 5]), hosts(&[1; 4]));
        let (with, without) = (keyed(&five, method, "off"), keyed(&four, method, "off"));
        let moved =
            (0..10_000).filter(|&key| choose(&with, &five, key, &[]) != choose(&without, &four, key, &[]));
        let moved = moved.count();
        assert!((1_700..most).contains(&moved), "{method} {moved}");
    }
}

#[test]
fn the_order_of_hosts_does_not_matter() {
    for method in METHODS {
        let hosts = hosts(&[1, 2, 3]);
        let turned = Hosts::new([2, 0, 1].map(|at| hosts.get(HostId(at)).unwrap().clone()).to_vec());
        let (one, other) = (keyed(&hosts, method, "off"), keyed(&turned, method, "off"));
        for key in 0..2_000 {
            let name = |hosts: &Hosts, id| hosts.get(HostId(id)).unwrap().name.clone();
            let (a, b) = (choose(&one, &hosts, key, &[]), choose(&other, &turned, key, &[]));
            assert_eq!(name(&hosts, a), name(&turned, b), "{method}");
        }
    }
}

#[test]
fn a_hot_key_is_spread_once_its_host_has_more_than_its_part() {
    for method in METHODS {
        let hosts = hosts(&[1; 4]);
        let (bounded, open) = (keyed(&hosts, method, "150%"), keyed(&hosts, method, "off"));
        let first = choose(&bounded, &hosts, 7, &[]);
        let mut load = [0u32; 4];
        for _ in 0..400 {
            load[choose(&bounded, &hosts, 7, &[]) as usize] += 1;
            put(&hosts, &load);
        }
        assert_eq!(load.iter().max(), load.get(first as usize), "{method} {load:?}");
        assert!(load.iter().all(|&one| one <= 151), "{method} {load:?}");
        assert_eq!(choose(&open, &hosts, 7, &[]), first);
        // As long as little is at stake a key stays.
        load = [0; 4];
        load[first as usize] = FEW - 1;
        put(&hosts, &load);
        assert_eq!(choose(&bounded, &hosts, 7, &[]), first, "{method}");
        load[first as usize] = FEW;
        put(&hosts, &load);
        assert_ne!(choose(&bounded, &hosts, 7, &[]), first, "{method}");
    }
}

#[test]
fn a_host_that_is_brought_up_gets_some_of_its_keys() {
    for method in METHODS {
        let rules =
            crate::hosts::Rules { slow_start: std::time::Duration::from_secs(100), ..Default::default() };
        let hosts = hosts(&[1, 1]).ruled(rules);
        let keyed = keyed(&hosts, method, "off");
        let at = |hosts: &Hosts, second: u64| {
            let mine = |key: &u32| {
                let now = Tick(1_000_000 * second);
                keyed.choose(hosts, &key.to_be_bytes(), now, &HostSet::default()) == Some(HostId(1))
            };
            (0..4_000u32).filter(mine).collect::<Vec<_>>()
        };
        let whole = at(&hosts, 9);
        hosts.get(HostId(1)).unwrap().live.standing.came_back(Tick(1));
        let (early, half) = (at(&hosts, 5), at(&hosts, 50));
        assert!(early.len() < half.len() && half.len() < whole.len(), "{method}");
        assert!((100..450).contains(&early.len()) && (850..1_500).contains(&half.len()), "{method}");
        assert!(early.iter().all(|key| half.contains(key)), "{method}: those that came stay");
    }
}

#[test]
fn what_is_no_bound_is_refused() {
    for text in ["100%", "1.5", "", "1001%", "on"] {
        assert!(percent(text).is_err(), "{text}");
    }
    assert_eq!(percent("125%").ok(), Some(125));
}
