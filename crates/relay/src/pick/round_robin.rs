//! `round-robin`: one host after the other, each as often as its weight says, evenly mixed.

use super::room::{self, Room};
use super::{Key, Pick};
use crate::entry::Entry;
use crate::hosts::{HostId, HostSet, Hosts};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) const ENTRY: Entry<dyn Pick> = Entry {
    name: "round-robin",
    manual: "Gives requests to one server after the other. A server with `weight=2` gets twice as many as one with \
             `weight=1`, evenly mixed and never in a burst; one that has a quarter more under way than is its part, and 16 at least, is passed over. This is the default; it suits servers and requests that are much alike.",
    example: "round-robin",
    params: &[],
    answers: false,
    build: |args| {
        crate::args::Reader::new(&[], args)?;
        Ok(Box::new(RoundRobin::default()))
    },
};

/// Counts requests; the count and the weights together name the host, so a host that goes or comes changes nothing
/// but the shares.
#[derive(Default)]
struct RoundRobin {
    turn: AtomicU64,
}

impl Pick for RoundRobin {
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId> {
        if let Some(only) = hosts.only(tried, key.now) {
            return Some(only);
        }
        let candidates = hosts.candidates_for(tried, key.now, key.random);
        let (mut total, mut divisor, mut alike) = (0u64, 0u32, true);
        let (mut few, mut count) = ([(HostId(0), 0u32); FEW], 0usize);
        for one in candidates {
            alike &= divisor == 0 || divisor == one.share;
            divisor = common_divisor(divisor, one.share);
            total += u64::from(one.share);
            if let Some(slot) = few.get_mut(count) {
                *slot = (one.id, one.share);
            }
            count += 1;
        }
        let total = total.checked_div(u64::from(divisor))?;
        let of = |turn: u64| {
            let place = if alike { turn % total } else { mixed(turn % total, total) };
            match few.get(..count) {
                Some(all) => at(place, divisor, all.iter().copied()),
                None => at(place, divisor, candidates.map(|one| (one.id, one.share))),
            }
        };
        // Only a first choice takes a turn: a second one would make every host follow on the same one for ever.
        let first = of(if tried.is_empty() { self.turn.fetch_add(1, Relaxed) } else { key.random })?;
        if candidates.one(first).is_none_or(|one| room::has_few(&one)) {
            return Some(first);
        }
        let room = Room::new(candidates, PERCENT);
        let has_room = |id: &HostId| candidates.one(*id).is_some_and(|one| room.is_in(&one));
        let mut next = (0..count.min(FEW)).filter_map(|_| of(self.turn.fetch_add(1, Relaxed)));
        Some(first).filter(has_room).or_else(|| next.find(has_room)).or(Some(first))
    }
}

/// How far a host may be above its part, in percent: one that is slower than the others would gather what all may have.
const PERCENT: u32 = 125;
/// So many candidates are remembered between the two looks at them.
const FEW: usize = 16;

/// The host at `place` of the way through the shares. None: one went down between two looks, and the caller tries no
/// other at this moment.
fn at(mut place: u64, divisor: u32, shares: impl Iterator<Item = (HostId, u32)>) -> Option<HostId> {
    for (id, share) in shares {
        let share = u64::from(share / divisor);
        if place < share {
            return Some(id);
        }
        place -= share;
    }
    None
}

/// The `turn`-th of `total` places in an order that visits each place once and keeps neighbours apart: steps of the
/// golden section, made prime to `total` (three-distance theorem: the gaps between visits of one host stay even).
fn mixed(turn: u64, total: u64) -> u64 {
    let golden = u64::try_from(u128::from(total) * 618_034 / 1_000_000).unwrap_or(0) + 1;
    let step = (golden..total).find(|&step| gcd(step, total) == 1).unwrap_or(1);
    u64::try_from(u128::from(turn) * u128::from(step) % u128::from(total)).unwrap_or(0)
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if a == b || a == 1 { a } else { u32::try_from(gcd(u64::from(a), u64::from(b))).unwrap_or(1) }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hosts, key, put};
    use super::*;

    fn turns(weights: &[u32], count: usize) -> String {
        let (pick, hosts) = (RoundRobin::default(), hosts(weights));
        let letter = |id: HostId| char::from(b'a' + u8::try_from(id.0).unwrap());
        (0..count).map(|_| pick.pick(&hosts, &key(), &HostSet::default()).map(letter).unwrap()).collect()
    }

    #[test]
    fn shares_are_exact_and_mixed() {
        assert_eq!(turns(&[1, 1, 1], 6), "abcabc");
        assert_eq!(turns(&[7, 7, 7], 6), "abcabc");
        assert_eq!(turns(&[2, 1], 6), "abaaba");
        assert_eq!(turns(&[5, 1, 1], 7), "abaacaa");
        assert_eq!(turns(&[100, 300], 8), "abbbabbb");
        let many = turns(&[1_000_000, 999_999], 1_000);
        assert!(!many.contains("aaa") && !many.contains("bbb"));
    }

    #[test]
    fn a_slow_host_does_not_gather_what_all_have() {
        let (pick, hosts) = (RoundRobin::default(), hosts(&[1, 1, 1]));
        let chosen = |in_flight: &[u32]| {
            put(&hosts, in_flight);
            let mut counts = [0; 3];
            (0..30).for_each(|_| {
                counts[pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0 as usize] += 1
            });
            counts
        };
        assert_eq!(chosen(&[15, 0, 0]), [10, 10, 10], "few");
        assert_eq!(chosen(&[18, 14, 16]), [10, 10, 10], "not much more than the others");
        assert_eq!(chosen(&[40, 10, 10]), [0, 15, 15]);
        put(&hosts, &[40, 10, 10]);
        let mut others = HostSet::default();
        for id in [HostId(1), HostId(2)] {
            others.insert(id);
        }
        assert_eq!(pick.pick(&hosts, &key(), &others), Some(HostId(0)), "there is no other");
    }

    #[test]
    fn a_host_without_weight_or_down_gets_nothing() {
        let (pick, hosts) = (RoundRobin::default(), hosts(&[1, 0, 1]));
        hosts.get(HostId(2)).unwrap().live.standing.set_probe(crate::standing::Probe::Failing);
        for _ in 0..5 {
            assert_eq!(pick.pick(&hosts, &key(), &HostSet::default()), Some(HostId(0)));
        }
        let mut tried = HostSet::default();
        tried.insert(HostId(0));
        assert_eq!(pick.pick(&hosts, &key(), &tried), None);
    }
}
