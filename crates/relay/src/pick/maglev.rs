//! Maglev: a table of fixed size in which every host has its part, filled by turns (Eisenbud and others, NSDI 2016, §3.4).

use super::rendezvous;
use crate::hosts::{HostId, Hosts};

/// The size of the table, a prime.
const SIZE: u32 = 65_537;

/// The table; empty when no host has weight.
#[derive(Debug, Default)]
pub(super) struct Maglev {
    table: Vec<HostId>,
}

/// A host that fills the table: its own order of all places, and how far it has come in it.
struct Member {
    id: HostId,
    name: u64,
    weight: u64,
    place: u64,
    step: u64,
    /// What its weight still owes it, in units of the largest weight.
    due: u64,
}

impl Maglev {
    /// The table of these hosts; backups have no part in it.
    pub(super) fn new(hosts: &Hosts) -> Maglev {
        let mut members: Vec<Member> = hosts
            .iter()
            .filter(|(_, host)| host.weight > 0 && !host.backup)
            .map(|(id, host)| {
                let name = rendezvous::hash(host.name.as_bytes(), rendezvous::SEED);
                let place = rendezvous::hash(b"place", name) % u64::from(SIZE);
                let step = rendezvous::hash(b"step", name) % u64::from(SIZE - 1) + 1;
                Member { id, name, weight: u64::from(host.weight), place, step, due: 0 }
            })
            .collect();
        // By name, not as written: two proxies with the same hosts agree.
        members.sort_unstable_by_key(|member| member.name);
        let Some(heaviest) = members.iter().map(|member| member.weight).max() else {
            return Maglev::default();
        };
        let mut table = vec![None; SIZE as usize];
        let mut free = SIZE;
        while free > 0 {
            for member in &mut members {
                member.due += member.weight;
                if member.due < heaviest || free == 0 {
                    continue;
                }
                member.due -= heaviest;
                while !take(&mut table, member) {}
                free -= 1;
            }
        }
        Maglev { table: table.into_iter().flatten().collect() }
    }

    /// The host at the place of `key`.
    pub(super) fn find(&self, key: u64) -> Option<HostId> {
        let at = key.checked_rem(self.table.len() as u64)?;
        self.table.get(usize::try_from(at).ok()?).copied()
    }
}

/// Goes on to the next place in the member's order; whether it was free and is now the member's. A step that is prime
/// to the size leads to every place, so a free one is found as long as there is any.
fn take(table: &mut [Option<HostId>], member: &mut Member) -> bool {
    let at = usize::try_from(member.place).unwrap_or(0);
    member.place = (member.place + member.step) % u64::from(SIZE);
    match table.get_mut(at) {
        Some(slot @ None) => {
            *slot = Some(member.id);
            true
        }
        _ => false,
    }
}
