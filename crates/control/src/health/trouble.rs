//! trouble: says in the log why no connection to a host comes about, where that is more than an ejection.

use crate::boards::Name;
use crate::observe::log;
use portunus_relay::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// When something was said of a host last.
pub type Told = BTreeMap<Name, Instant>;

/// Says what is new; whether there is something that may be said only later, because something was said of the same host lately.
pub fn tell(snapshot: &Snapshot, told: &mut Told) -> bool {
    let mut later = false;
    let now = Instant::now();
    told.retain(|_, at| now.duration_since(*at) < PAUSE);
    for pool in snapshot.pools() {
        for (_, host) in pool.hosts.iter().filter(|(_, host)| host.live.trouble.is_news()) {
            let name = (pool.name.to_string(), host.name.to_string());
            if told.contains_key(&name) {
                later = true;
                continue;
            }
            let Some(words) = host.live.trouble.news() else { continue };
            // Of an ejected one the ejection tells.
            if host.live.standing.is_on_trial() {
                continue;
            }
            log::warn(format_args!("pool {}: no connection to {}: {words}", name.0, name.1));
            told.insert(name, now);
        }
    }
    later
}

/// A host is told of once in this time.
pub const PAUSE: Duration = Duration::from_secs(10);
