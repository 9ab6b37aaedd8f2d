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
        Ok(Box::new(LeastRequests::default()))
    },
};

#[derive(Default)]
struct LeastRequests {
    turn: AtomicU64,
}

impl Pick for LeastRequests {
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId> {
        let candidates = hosts.candidates_for(tried, key.now, key.random);
        let candidates = candidates.map(|one| (one.id, Load::of(&one)));
        let (mut best, mut equal) = (None::<(HostId, Load)>, 0);
        for (id, load) in candidates.clone() {
            match best {
                Some((_, least)) if least.is_less(load) => {}
                Some((_, least)) if !load.is_less(least) => equal += load.weight,
                _ => (best, equal) = (Some((id, load)), load.weight),
            }
        }
        let (first, least) = best?;
        if equal <= least.weight {
            return Some(first);
        }
        let mut turn = spread(self.turn.fetch_add(1, Relaxed), equal);
        let mut alike = candidates.filter(|(_, load)| !least.is_less(*load));
        let chosen = alike.find(|(_, load)| {
            let is_his = turn < load.weight;
            turn = turn.saturating_sub(load.weight);
            is_his
        });
        // The counters go on while we look; when there are fewer equals by now, the first one is as good.
        chosen.map(|(id, _)| id).or(Some(first))
    }
}

/// A place below `all` for each number: each place once in `all` numbers, in steps of about the golden ratio, so that a heavy host gets its part in
/// between those of the others, and not all of it in a row.
fn spread(number: u64, all: u64) -> u64 {
    let golden = (all as f64 * 0.618_033_988_75) as u64;
    let step = (golden.max(1)..).find(|step| divisor(*step, all) == 1).unwrap_or(1);
    (number % all).wrapping_mul(step) % all
}

/// The greatest common one.
fn divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { divisor(other, one % other) }
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
        let (pick, hosts) = (LeastRequests::default(), hosts(&[1, 1, 2]));
        put(&hosts, &[1, 0, 3]);
        assert_eq!(pick.pick(&hosts, &key(), &HostSet::default()), Some(HostId(1)));
        put(&hosts, &[1, 1, 1]);
        assert_eq!(pick.pick(&hosts, &key(), &HostSet::default()), Some(HostId(2)));
    }

    #[test]
    fn equals_take_turns() {
        let (pick, hosts) = (LeastRequests::default(), hosts(&[1, 1, 1]));
        put(&hosts, &[0, 5, 0]);
        let turns: Vec<_> =
            (0..4).map(|_| pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0).collect();
        assert_eq!(turns, [0, 2, 0, 2]);
    }

    #[test]
    fn one_client_alone_is_served_by_the_weights() {
        let (pick, hosts) = (LeastRequests::default(), hosts(&[1, 2, 1]));
        let mut counts = [0; 3];
        for _ in 0..40 {
            counts[pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0 as usize] += 1;
        }
        assert_eq!(counts, [10, 20, 10]);
    }

    #[test]
    fn heavy_hosts_take_turns_too() {
        for weight in [2, 3, 24, 100, 120, 128, 999] {
            let (pick, hosts) = (LeastRequests::default(), hosts(&[weight, weight]));
            let turns: Vec<_> =
                (0..400).map(|_| pick.pick(&hosts, &key(), &HostSet::default()).unwrap().0).collect();
            let longest = turns.chunk_by(|one, next| one == next).map(<[_]>::len).max();
            assert!(longest <= Some(3), "{weight}: {turns:?}");
        }
    }
}
