//! Two candidates at random, each with a chance by its weight: what the policies begin with that compare two.

use crate::candidates::{Candidate, Candidates};

/// Two different candidates; the second is none where there is only one.
pub(super) fn draw(
    candidates: Candidates<'_>,
    random: u64,
) -> Option<(Candidate<'_>, Option<Candidate<'_>>)> {
    let first = one(candidates, random & 0xffff_ffff)?;
    let others = candidates.filter(move |one| one.id != first.id);
    Some((first, one(others, random >> 32)))
}

/// The candidate at `random` (32 bits) of the way through the weights.
fn one<'a>(candidates: impl Iterator<Item = Candidate<'a>> + Clone, random: u64) -> Option<Candidate<'a>> {
    let total: u64 = candidates.clone().map(|one| u64::from(one.share)).sum();
    let mut place = u64::try_from((u128::from(random) * u128::from(total)) >> 32).ok()?;
    for one in candidates {
        let share = u64::from(one.share);
        if place < share {
            return Some(one);
        }
        place -= share;
    }
    None
}
