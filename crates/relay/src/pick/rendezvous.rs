//! Rendezvous hashing: every host scores for a key, the highest wins; a host that goes moves only its own keys.

use crate::hosts::{HostId, HostSet, Hosts};
use portunus_message::Tick;

/// The host with the highest score for `key`. Scores depend on nothing but key, host name and weight, so every worker,
/// every run and every proxy with the same hosts agrees.
pub(super) fn choose(hosts: &Hosts, key: &[u8], now: Tick, tried: &HostSet) -> Option<HostId> {
    let key = hash(key, SEED);
    let mut best = None::<(HostId, f64)>;
    for one in hosts.candidates(tried, now, key) {
        let score = score(hash(one.host.name.as_bytes(), key), one.share);
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((one.id, score));
        }
    }
    best.map(|(id, _)| id)
}

/// `-weight / ln(u)` with `u` uniform between 0 and 1: a host wins as often as its weight says.
fn score(hash: u64, weight: u32) -> f64 {
    let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight) / uniform.ln()
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a with a last mix: short, well spread, and the same for ever.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    let folded =
        bytes.iter().fold(seed, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (folded ^ (folded >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::tests::hosts;
    use super::*;

    fn counts(weights: &[u32], keys: u32) -> Vec<u32> {
        let hosts = hosts(weights);
        let mut counts = vec![0; weights.len()];
        for key in 0..keys {
            let HostId(id) = choose(&hosts, &key.to_be_bytes(), Tick(1), &HostSet::default()).unwrap();
            counts[id as usize] += 1;
        }
        counts
    }

    #[test]
    fn keys_spread_by_weight() {
        for count in counts(&[1, 1, 1, 1], 8_000) {
            assert!((1_850..2_150).contains(&count), "{count}");
        }
        let counts = counts(&[3, 1], 8_000);
        assert!((5_850..6_150).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_host_that_goes_moves_only_its_keys() {
        let hosts = hosts(&[1, 2, 1, 1]);
        let mut without = HostSet::default();
        without.insert(HostId(2));
        for key in 0..2_000u32 {
            let before = choose(&hosts, &key.to_be_bytes(), Tick(1), &HostSet::default());
            let after = choose(&hosts, &key.to_be_bytes(), Tick(1), &without);
            assert!(before == after || before == Some(HostId(2)));
        }
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(b"10.0.0.1:8080", hash(b"alice", SEED)), 0x12550d388e1c4503);
    }
}
