//! silent: asks hosts that have requests and give no answers whether anybody is there; one where nobody is, is ejected.

use super::ejected::in_time;
use super::{http, tcp};
use crate::boards::Name;
use portunus_relay::clock;
use portunus_relay::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Those that are being asked.
pub type Looks = BTreeMap<Name, JoinHandle<()>>;

/// Asks those that are suspected and not being asked yet. A host that answers is only slow, or has long answers.
pub fn look(snapshot: &Snapshot, looks: &mut Looks) {
    looks.retain(|_, look| !look.is_finished());
    for pool in snapshot.pools() {
        for (_, host) in pool.hosts.iter().filter(|(_, host)| host.live.silence.is_suspect()) {
            let name = (pool.name.to_string(), host.name.to_string());
            if looks.contains_key(&name) {
                continue;
            }
            let (pool, host) = (Arc::clone(pool), Arc::clone(host));
            let look = tokio::spawn(async move {
                let ask = async { http::is_anybody_there(tcp::connect(&host).await?.0, &host.name).await };
                let alive = in_time(ask).await.is_ok();
                let now = clock::read();
                if !alive {
                    pool.judge.is_silent(&host, now);
                }
                host.live.silence.looked(alive, now);
            });
            looks.insert(name, look);
        }
    }
}
