//! floor: says in the log when a pool has fewer good hosts than it keeps, so that others are used as well, and when it has enough again.

use portunus_message::Tick;
use portunus_relay::snapshot::Pool;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What has changed since the last look, as lines for the log, each with whether it is a warning.
pub fn look(pools: &[Arc<Pool>], below: &mut BTreeSet<String>, now: Tick) -> Vec<(bool, String)> {
    // A pool without any host has nobody to fall back on; that is told by whoever looks for its hosts.
    let is_below = |pool: &&Arc<Pool>| !pool.hosts.is_empty() && pool.hosts.is_below_floor(now);
    let found: BTreeSet<String> = pools.iter().filter(is_below).map(|pool| pool.name.to_string()).collect();
    let begins = found.difference(below).map(|name| {
        (true, format!("pool {name}: too few of its servers are good; the others are tried as well"))
    });
    let ends =
        below.difference(&found).map(|name| (false, format!("pool {name}: enough servers are good again")));
    let lines = begins.chain(ends).collect();
    *below = found;
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_config::{Environment, load_text};
    use portunus_relay::snapshot::Snapshot;
    use portunus_relay::standing::Probe;

    #[test]
    fn it_is_said_once_when_it_begins_and_once_when_it_ends() {
        let text =
            "pool web { server 127.0.0.1:1; server 127.0.0.1:2; keep hosts=2 }\nsite :80 { proxy web }";
        let loaded = load_text("t", text, &Environment { variable: &|_| None, has_providers: true }).unwrap();
        let snapshot = Snapshot::compile(&loaded.plan, None).unwrap();
        let (mut below, now) = (BTreeSet::new(), Tick(1));
        assert!(look(snapshot.pools(), &mut below, now).is_empty());
        let (_, host) = snapshot.hosts().next().unwrap();
        host.live.standing.set_probe(Probe::Failing);
        assert_eq!(look(snapshot.pools(), &mut below, now).len(), 1);
        assert!(look(snapshot.pools(), &mut below, now).is_empty());
        host.live.standing.set_probe(Probe::Passing);
        assert!(look(snapshot.pools(), &mut below, now)[0].1.contains("enough"));
    }
}
