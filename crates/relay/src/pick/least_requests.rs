//! `least-requests`: the host with the fewest requests on it, for its weight.

use super::{Key, Pick};
use crate::candidates::Candidate;
use crate::entry::Entry;
use crate::hosts::{HostId, HostSet, Hosts};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) const ENTRY: Entry<dyn Pick> = Entry {
    name: "least-requests",
    manual: "Gives a request to the server that has the fewest under way, measured against its weight; equal ones take \
             turns, by their weights. It suits requests that take very different times.",
    example: "least-requests",
    params: &[],
    answers: false,
    build: |args| {
        crate::args::Reader::new(&[], args)?;
        Ok(Box::new(LeastRequests))
    },
};

struct LeastRequests;

/// How far its turn goes on when the lightest host is chosen among equals; those of the others go less far, by their weights.
const TURN: u64 = 1 << 30;

impl Pick for LeastRequests {
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId> {
        let candidates = hosts.candidates_for(tried, key.now, key.random);
        let candidates = candidates.map(|one| (one.id, Load::of(&one), &one.host.live.turn));
        let (mut best, mut alike) = (None::<(HostId, Load)>, false);
        let mut lightest = u64::MAX;
        for (id, load, _) in candidates.clone() {
            lightest = lightest.min(load.weight);
            match best {
                Some((_, least)) if least.is_less(load) => {}
                Some((_, least)) if !load.is_less(least) => alike = true,
                _ => (best, alike) = (Some((id, load)), false),
            }
        }
        let (first, least) = best?;
        if !alike {
            return Some(first);
        }
        let step = |load: Load| (TURN * lightest).div_ceil(load.weight.max(1));
        let starts = candidates.clone().map(|(_, load, turn)| turn.load(Relaxed).wrapping_sub(step(load)));
        let now = starts.reduce(|one, other| if ahead(other, one) > 0 { other } else { one })?;
        // Whoever was not among the equals for long, or is new, has lost his turns but for one.
        let place = |load: Load, turn: &AtomicU64| {
            ahead(turn.load(Relaxed), now).clamp(-(step(load) as i64), TURN as i64)
        };
        let equals = candidates.filter(|(_, load, _)| !least.is_less(*load));
        let next = equals.min_by_key(|(_, load, turn)| place(*load, turn));
        // The counters go on while we look; when there are fewer equals by now, the first one is as good.
        let Some((id, load, turn)) = next else { return Some(first) };
        turn.store(now.wrapping_add_signed(place(load, turn)).wrapping_add(step(load)), Relaxed);
        Some(id)
    }
}

/// How far `turn` is ahead of `other`, on a circle.
fn ahead(turn: u64, other: u64) -> i64 {
    turn.wrapping_sub(other) as i64
}

/// Requests for a weight; compared as fractions.
#[derive(Clone, Copy)]
struct Load {
    requests: u64,
    weight: u64,
}

impl Load {
    fn of(one: &Candidate<'_>) -> Load {
        Load { requests: u64::from(one.host.in_flight()), weight: u64::from(one.share) }
    }

    fn is_less(self, other: Load) -> bool {
        self.requests * other.weight < other.requests * self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hosts, key, put};
    use super::*;

    #[test]
    fn the_least_loaded_is_chosen() {
        let (pick, hosts) = (LeastRequests, hosts(&[1, 1, 2]));
        put(&hosts, &[1, 0, 3]);
        assert_eq!(pick.pick(&hosts, &key(), &HostSet::default()), Some(HostId(1)));
        put(&hosts, &[1, 1, 1]);
        assert_eq!(pick.pick(&hosts, &key(), &HostSet::default()), Some(HostId(2)));
    }

    #[test]
    fn equals_take_turns() {
        let (pick, hosts) = (LeastRequests, hosts(&[1, 1, 1]));
        put(&hosts, &[0, 5, 0]);
        let turns: Vec<_> =
            (0..4).map(|_| pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0).collect();
        assert_eq!(turns, [0, 2, 0, 2]);
    }

    #[test]
    fn one_client_alone_is_served_by_the_weights() {
        let (pick, hosts) = (LeastRequests, hosts(&[1, 2, 1]));
        let mut counts = [0; 3];
        for _ in 0..40 {
            counts[pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0 as usize] += 1;
        }
        assert_eq!(counts, [10, 20, 10]);
    }

    #[test]
    fn heavy_hosts_take_turns_too() {
        for weight in [2, 3, 24, 100, 120, 128, 999] {
            let (pick, hosts) = (LeastRequests, hosts(&[weight, weight]));
            let turns: Vec<_> =
                (0..400).map(|_| pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0).collect();
            let longest = turns.chunk_by(|one, next| one == next).map(<[_]>::len).max();
            assert!(longest <= Some(3), "{weight}: {turns:?}");
        }
    }

    /// Serves `count` requests, `at_once` of them at a time, each as long as the others.
    fn in_lockstep(weights: &[u32], at_once: usize, count: u32) -> Vec<u32> {
        let (pick, hosts) = (LeastRequests, hosts(weights));
        let (mut counts, mut open) = (vec![0; weights.len()], std::collections::VecDeque::new());
        for _ in 0..count {
            if open.len() == at_once {
                let done: HostId = open.pop_front().unwrap();
                hosts.get(done).unwrap().live.in_flight.fetch_sub(1, Relaxed);
            }
            let id = pick.pick(&hosts, &key(), &HostSet::default()).unwrap();
            hosts.get(id).unwrap().live.in_flight.fetch_add(1, Relaxed);
            counts[id.0 as usize] += 1;
            open.push_back(id);
        }
        counts
    }

    #[test]
    fn equals_take_turns_whoever_is_among_them() {
        for hosts in 2..9 {
            for at_once in 1..12 {
                let counts = in_lockstep(&vec![1; hosts], at_once, 10_000);
                let each = 10_000 / hosts as u32;
                assert!(counts.iter().all(|count| count.abs_diff(each) <= 2), "{at_once}: {counts:?}");
            }
        }
    }

    #[test]
    fn who_is_new_or_was_busy_for_long_has_a_turn_of_his_own_and_no_more() {
        let (pick, hosts) = (LeastRequests, hosts(&[1, 1, 1]));
        let next = || pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0;
        put(&hosts, &[0, 0, 5]);
        (0..1000).for_each(|_| _ = next());
        put(&hosts, &[0, 0, 0]);
        let turns: Vec<_> = (0..30).map(|_| next()).collect();
        assert!(turns.iter().filter(|turn| **turn == 2).count() <= 12, "{turns:?}");
    }

    #[test]
    fn a_light_one_that_comes_back_takes_no_row_of_turns() {
        for weights in [[1, 1000, 1000], [1000, 1, 1000], [1, 6_553_500, 5_600_000]] {
            let (pick, hosts) = (LeastRequests, hosts(&weights));
            let next = || pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0;
            put(&hosts, &[0, 0, u32::MAX]);
            (0..990).for_each(|_| _ = next());
            put(&hosts, &[0, 0, 0]);
            let turns: Vec<_> = (0..10_000).map(|_| next()).collect();
            let count = |host: u32| turns.iter().filter(|turn| **turn == host).count() as u64;
            let whole: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            for (host, weight) in (0..).zip(weights) {
                assert!(
                    count(host).abs_diff(10_000 * u64::from(weight) / whole) <= 4,
                    "{weights:?} {host} {}",
                    count(host)
                );
            }
            let mine = turns.iter().take(10).filter(|turn| **turn == 2).count();
            assert!(mine <= 8, "{weights:?}: {:?}", &turns[..10]);
        }
    }

    #[test]
    fn turns_go_round_the_circle() {
        let (pick, hosts) = (LeastRequests, hosts(&[1, 1, 2]));
        for start in [u64::MAX - 3 * TURN, 1 << 63, 0] {
            for id in 0..3 {
                let far = start.wrapping_add(u64::from(id) << 62); // as after a very long time out
                hosts.get(HostId(id)).unwrap().live.turn.store(far, Relaxed);
            }
            let mut counts = [0u32; 3];
            for _ in 0..400 {
                counts[pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0 as usize] += 1;
            }
            assert!(counts[0].abs_diff(100) <= 3 && counts[2].abs_diff(200) <= 3, "{start} {counts:?}");
        }
    }
}
