//! legacy: what a program finds when it takes another one's place — sockets that listen, the members its pools had.

use crate::canary::{Canaries, Kept};
use portunus_relay::clock;
use portunus_relay::members::Members;
use portunus_relay::net::Given;
use portunus_relay::plan::Address;
use portunus_relay::remembered::Remembered;
use portunus_relay::snapshot::Snapshot;

/// What was there before this program started.
#[derive(Default)]
pub struct Legacy {
    /// Sockets that listen already.
    pub sockets: Given,
    /// The addresses that names had, and what an operator wanted of hosts; none when there was no predecessor, and
    /// what was kept in a file counts.
    pub members: Option<Members>,
    /// What was known of hosts, each with its pool.
    pub hosts: Vec<(String, Address, Remembered)>,
    /// How far canaries had come.
    pub canaries: Vec<Kept>,
}

impl Legacy {
    /// Lets what runs now begin with what was known.
    pub fn tell(&mut self, snapshot: &Snapshot, canaries: &Canaries) {
        let now = clock::read();
        for (pool, address, known) in self.hosts.drain(..) {
            let pool = snapshot.pools().iter().find(|it| *it.name == *pool);
            let hosts = pool.into_iter().flat_map(|pool| pool.hosts.iter());
            if let Some((_, host)) = hosts.into_iter().find(|(_, host)| host.address == address) {
                known.tell(host, now);
            }
        }
        canaries.go_on(snapshot.canaries(), self.canaries.drain(..), now);
    }
}

/// What a successor shall know of the hosts of `snapshot`.
pub fn hosts(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &Address, Remembered)> {
    let now = clock::read();
    snapshot.hosts().filter_map(move |(pool, host)| Some((pool, &host.address, Remembered::of(host, now)?)))
}
