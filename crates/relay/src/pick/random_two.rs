//! `random-two`: two hosts at random, by weight; the less loaded of them.

use super::{Key, Pick, two};
use crate::candidates::Candidate;
use crate::entry::Entry;
use crate::hosts::{HostId, HostSet, Hosts};

pub(super) const ENTRY: Entry<dyn Pick> = Entry {
    name: "random-two",
    manual: "Draws two servers at random, each with a chance by its weight, and gives the request to the one with fewer \
             under way for its weight. It balances nearly as well as `least-requests` and does not flock when several \
             proxies share the servers.",
    example: "random-two",
    params: &[],
    answers: false,
    build: |args| {
        crate::args::Reader::new(&[], args)?;
        Ok(Box::new(RandomTwo))
    },
};

struct RandomTwo;

impl Pick for RandomTwo {
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId> {
        let (first, second) = two::draw(hosts.candidates_for(tried, key.now, key.random), key.random)?;
        let Some(second) = second else { return Some(first.id) };
        let load = |one: &Candidate<'_>, against: &Candidate<'_>| {
            u64::from(one.host.in_flight()) * u64::from(against.share)
        };
        // Equal loads: the first draw decides, so that idle servers get their shares.
        Some(if load(&second, &first) < load(&first, &second) { second.id } else { first.id })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Numbers, hosts, key, put};
    use super::*;

    #[test]
    fn of_two_the_less_loaded_is_chosen() {
        let hosts = hosts(&[1, 1]);
        put(&hosts, &[4, 3]);
        let mut numbers = Numbers(1);
        for _ in 0..50 {
            let key = Key { random: numbers.next(), ..key() };
            assert_eq!(RandomTwo.pick(&hosts, &key, &HostSet::default()), Some(HostId(1)));
        }
    }

    #[test]
    fn idle_hosts_get_their_shares() {
        let (hosts, mut numbers, mut counts) = (hosts(&[3, 1]), Numbers(7), [0u32; 2]);
        for _ in 0..4_000 {
            let key = Key { random: numbers.next(), ..key() };
            let HostId(id) = RandomTwo.pick(&hosts, &key, &HostSet::default()).unwrap();
            counts[id as usize] += 1;
        }
        assert!((2_850..3_150).contains(&counts[0]), "{counts:?}");
    }
}
