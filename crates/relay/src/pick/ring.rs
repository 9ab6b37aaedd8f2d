//! Ring: every host stands many times on a circle, as ketama has it; a key goes to the first one after its own place.

use super::rendezvous;
use crate::hosts::{HostId, Hosts};

/// How often a host of the smallest weight stands on it.
const POINTS: u64 = 160;
/// How many points there are at most.
const POINTS_MAX: u64 = 1 << 17;
/// How many points a key looks at before it is looked for in another way.
const STEPS: usize = 64;

/// The circle.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: Vec<(u64, HostId)>,
}

impl Ring {
    /// The circle of these hosts; backups have no place on it.
    pub(super) fn new(hosts: &Hosts) -> Ring {
        let members = || hosts.iter().filter(|(_, host)| host.weight > 0 && !host.backup);
        let least = members().map(|(_, host)| u64::from(host.weight)).min().unwrap_or(1);
        let all: u64 = members().map(|(_, host)| u64::from(host.weight)).sum();
        let mut points = Vec::new();
        for (id, host) in members() {
            let weight = u64::from(host.weight);
            let count = (weight * POINTS / least).min(POINTS_MAX * weight / all.max(1)).max(1);
            let name = rendezvous::hash(host.name.as_bytes(), rendezvous::SEED);
            points.extend((0..count).map(|at| (rendezvous::hash(&at.to_be_bytes(), name), id)));
        }
        points.sort_unstable();
        Ring { points }
    }

    /// The hosts behind the place of `key`, one for each point, going round.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = HostId> + '_ {
        let at = self.points.partition_point(|(place, _)| *place < key);
        let (before, behind) = self.points.split_at(at);
        behind.iter().chain(before).map(|(_, id)| *id).take(STEPS)
    }
}
