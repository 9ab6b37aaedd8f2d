//! room: how many of a pool's requests one host may have, so that one that is slower than the others does not gather them all.

use crate::candidates::{Candidate, Candidates};

/// A host with so few requests is never passed over: nothing is at stake.
pub(super) const FEW: u32 = 16;

/// How much one host may have while all together have so much.
#[derive(Clone, Copy)]
pub(super) struct Room {
    requests: u64,
    shares: u64,
    percent: u32,
}

impl Room {
    /// What there is among `candidates`.
    pub(super) fn new(candidates: Candidates<'_>, percent: u32) -> Room {
        let (mut requests, mut shares) = (1, 0);
        for one in candidates {
            requests += u64::from(one.host.in_flight());
            shares += u64::from(one.share);
        }
        Room { requests, shares, percent }
    }

    /// Whether one more request is within its part, and the allowance.
    pub(super) fn is_in(self, one: &Candidate<'_>) -> bool {
        let most = u128::from(self.percent) * u128::from(self.requests) * u128::from(one.share);
        has_few(one) || u128::from(one.host.in_flight()) * u128::from(self.shares) * 100 < most
    }
}

/// Whether a host has so few that nobody need look at the others.
pub(super) fn has_few(one: &Candidate<'_>) -> bool {
    one.host.in_flight() < FEW
}
