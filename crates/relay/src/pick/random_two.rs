//! `random-two`: two hosts at random, by weight; the less loaded of them.

use super::{Key, Pick};
use crate::entry::Entry;
use crate::hosts::{Host, HostId, HostSet, Hosts};

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
        let candidates = hosts.candidates(tried, key.now);
        let (low, high) = (key.random & 0xffff_ffff, key.random >> 32);
        let (first, one) = draw(candidates.clone(), low)?;
        let Some((second, other)) = draw(candidates.filter(|(id, _)| *id != first), high) else {
            return Some(first);
        };
        let load = |host: &Host, against: &Host| u64::from(host.in_flight()) * u64::from(against.share());
        // Equal loads: the first draw decides, so that idle servers get their shares.
        Some(if load(other, one) < load(one, other) { second } else { first })
    }
}

/// The host at `random` (32 bits) of the way through the weights.
fn draw<'a, H: AsRef<Host> + 'a>(
    candidates: impl Iterator<Item = (HostId, &'a H)> + Clone,
    random: u64,
) -> Option<(HostId, &'a Host)> {
    let weight = |host: &Host| u64::from(host.share());
    let total: u64 = candidates.clone().map(|(_, host)| weight(host.as_ref())).sum();
    let mut place = u64::try_from((u128::from(random) * u128::from(total)) >> 32).ok()?;
    for (id, host) in candidates {
        let host = host.as_ref();
        if place < weight(host) {
            return Some((id, host));
        }
        place -= weight(host);
    }
    None
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
