//! trouble: says in the log why no connection to a host comes about, where that is more than an ejection.

use crate::boards::Name;
use crate::observe::log;
use portunus_relay::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// When something was said of a host last.
pub type Told = BTreeMap<Name, Instant>;

/// Says what is new. One whose connections come and go is not told of at each turn.
pub fn tell(snapshot: &Snapshot, told: &mut Told) {
    let now = Instant::now();
    told.retain(|_, at| now.duration_since(*at) < PAUSE);
    for pool in snapshot.pools() {
        for (_, host) in pool.hosts.iter().filter(|(_, host)| host.live.trouble.is_news()) {
            let name = (pool.name.to_string(), host.name.to_string());
            let Some(words) = host.live.trouble.news() else { continue };
            // Of an ejected one the ejection tells.
            if host.live.standing.is_on_trial() || told.contains_key(&name) {
                continue;
            }
            log::warn(format_args!("pool {}: no connection to {}: {words}", name.0, name.1));
            told.insert(name, now);
        }
    }
}

/// A host is told of once in this time.
const PAUSE: Duration = Duration::from_secs(10);
