//! Keyed choice: a key finds its host by a method, and another one while that has far more than its part of the requests.

use super::room::Room;
use super::{maglev::Maglev, rendezvous, ring::Ring};
use crate::args::Reader;
use crate::candidates::Candidate;
use crate::entry::{ArgMistake, Kind, Param, Place};
use crate::hosts::{HostId, HostSet, Hosts};
use portunus_message::Tick;

/// The option that names the method.
pub(super) const METHOD: Param = Param {
    name: "method",
    place: Place::Option,
    kind: Kind::OneOf(&["rendezvous", "ring", "maglev"]),
    manual: "`rendezvous` unless written: nothing to build, exact shares, each choice looks at every server. `ring` (as ketama) and `maglev` \
             look into a table: for pools of a hundred servers and more. Of a server that goes they move only its keys; \
             when servers are added or taken away, a ring moves the fewest others, Maglev spreads more evenly.",
};

/// The option that bounds the load.
pub(super) const BOUNDED: Param = Param {
    name: "bounded",
    place: Place::Option,
    kind: Kind::Text,
    manual: "How much more than its part of the requests under way a server may have before the next one for the key gets them, `150%` \
             unless written, or `off`. With 16 or fewer under way a server is never passed over.",
};

/// How far a server may be above its part, in percent, unless written.
const BOUNDED_PERCENT: u32 = 150;
/// How often a table is asked before every host is looked at.
const PROBES: u64 = 16;

/// A method and a bound, with the table for the hosts at hand.
pub(super) struct Keyed {
    table: Table,
    bounded_percent: Option<u32>,
}

enum Table {
    Rendezvous,
    Ring(Ring),
    Maglev(Maglev),
}

impl Keyed {
    /// As `method=` and `bounded=` say.
    pub(super) fn read(reader: &Reader<'_>) -> Result<Keyed, ArgMistake> {
        let table = match reader.option("method") {
            Some("ring") => Table::Ring(Ring::default()),
            Some("maglev") => Table::Maglev(Maglev::default()),
            _ => Table::Rendezvous,
        };
        let bounded_percent = match reader.option("bounded") {
            None => Some(BOUNDED_PERCENT),
            Some("off") => None,
            Some(text) => Some(percent(text)?),
        };
        Ok(Keyed { table, bounded_percent })
    }

    /// Learns the hosts: what can be computed once is.
    pub(super) fn prepare(&mut self, hosts: &Hosts) {
        match &mut self.table {
            Table::Rendezvous => {}
            Table::Ring(ring) => *ring = Ring::new(hosts),
            Table::Maglev(maglev) => *maglev = Maglev::new(hosts),
        }
    }

    /// The host for `key`: the same one for all workers, runs and proxies that have the same hosts and the same load.
    pub(super) fn choose(&self, hosts: &Hosts, key: &[u8], now: Tick, tried: &HostSet) -> Option<HostId> {
        let key = rendezvous::hash(key, rendezvous::SEED);
        let candidates = hosts.candidates_for(tried, now, key);
        let room = self.bounded_percent.map(|percent| Room::new(candidates, percent));
        let fits = |one: &Candidate<'_>| room.is_none_or(|room| room.is_in(one));
        let takes = |id: HostId| {
            let one = candidates.one(id)?;
            let part = one.part();
            // A host that is brought up gets the same keys each time, and more of them by and by.
            let wanted = part >= 1.0 || rendezvous::uniform(rendezvous::of_host(one.host, key)) < part;
            (wanted && fits(&one)).then_some(id)
        };
        let found = match &self.table {
            Table::Rendezvous => None,
            Table::Ring(ring) => ring.walk(key).find_map(takes),
            Table::Maglev(maglev) => (0..PROBES).find_map(|probe| takes(maglev.find(again(key, probe))?)),
        };
        found
            .or_else(|| rendezvous::best(candidates.filter(fits), key))
            .or_else(|| rendezvous::best(candidates, key))
    }
}

/// Another place for the same key: far from the first and from the other keys' (Envoy's random jump), so that what one host
/// cannot take is spread over all.
fn again(key: u64, probe: u64) -> u64 {
    if probe == 0 { key } else { rendezvous::hash(&probe.to_be_bytes(), key) }
}

fn percent(text: &str) -> Result<u32, ArgMistake> {
    let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
    let wrong = || {
        ArgMistake::option("bounded", "is not a bound")
            .hint("write it as `150%`, from `101%` to `1000%`, or `off`")
    };
    number.filter(|percent| (101..=1000).contains(percent)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
