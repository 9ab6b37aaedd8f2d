//! Rendezvous hashing: every host scores for a key, the highest wins; a host that goes moves only its own keys.

use crate::candidates::Candidate;
use crate::hosts::{Host, HostId};

/// The candidate with the highest score for `key`. Scores depend on nothing but key, host name and weight, so every
/// worker, every run and every proxy with the same hosts agrees.
pub(super) fn best<'a>(candidates: impl Iterator<Item = Candidate<'a>>, key: u64) -> Option<HostId> {
    let mut best = None::<(HostId, f64)>;
    for one in candidates {
        let score = score(of_host(one.host, key), one.share);
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((one.id, score));
        }
    }
    best.map(|(id, _)| id)
}

/// What a host and a key give together.
pub(super) fn of_host(host: &Host, key: u64) -> u64 {
    hash(host.name.as_bytes(), key)
}

/// `-weight / ln(u)` with `u` uniform between 0 and 1: a host wins as often as its weight says.
fn score(hash: u64, weight: u32) -> f64 {
    -f64::from(weight) / uniform(hash).ln()
}

/// A hash as a number between 0 and 1.
pub(super) fn uniform(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Where keys and names begin to be hashed.
pub(super) const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a with a last mix: short, well spread, and the same for ever.
pub(super) fn hash(bytes: &[u8], seed: u64) -> u64 {
    let folded =
        bytes.iter().fold(seed, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (folded ^ (folded >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(b"10.0.0.1:8080", hash(b"alice", SEED)), 0x12550d388e1c4503);
    }
}
