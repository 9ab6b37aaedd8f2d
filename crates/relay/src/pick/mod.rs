//! Which host shall have it: one policy a file, one list here.

use crate::entry::Entry;
use crate::hosts::{HostId, HostSet, Hosts};
use portunus_message::Tick;
use std::time::Duration;

mod client_ip;
mod hash;
mod keyed;
mod least_requests;
mod least_time;
mod maglev;
mod random_two;
mod rendezvous;
mod ring;
mod room;
mod round_robin;
mod two;

/// The policies, in the order of the manual. A new one is a file and a line.
pub const LIST: &[Entry<dyn Pick>] = &[
    round_robin::ENTRY,
    least_requests::ENTRY,
    random_two::ENTRY,
    least_time::ENTRY,
    hash::ENTRY,
    client_ip::ENTRY,
];

/// Chooses among hosts. A pure function of its arguments but for its own cursor.
pub trait Pick: Send + Sync {
    /// Chooses one of `hosts` that is not in `tried`, up, and has weight; backups only when no other is left.
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId>;

    /// Learns its hosts, once, before the first choice: what can be computed in advance is.
    fn prepare(&mut self, _hosts: &Hosts) {}

    /// Hears how an attempt at a host went. Most policies do not care.
    fn heard(&self, _hosts: &Hosts, _id: HostId, _outcome: &Outcome) {}

    /// The template whose text is the key, when this policy needs one.
    fn key(&self) -> Option<&crate::template::Template> {
        None
    }
}

/// What a policy may decide by.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The filled template of [`Pick::key`]; empty when there is none.
    pub text: &'a [u8],
    /// Who asks.
    pub client_ip: std::net::IpAddr,
    /// A random number, fresh for each choice.
    pub random: u64,
    /// When.
    pub now: Tick,
}

/// How an attempt at a host went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// From choosing the host to the head of its answer, or to the failure.
    pub latency: Duration,
    /// Whether there was no answer, or one that says that the server failed (5xx).
    pub failed: bool,
    /// When it was over.
    pub at: Tick,
}

#[cfg(test)]
mod tests;
