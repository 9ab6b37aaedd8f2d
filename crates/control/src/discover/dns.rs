//! dns: finds the addresses of hosts that are known by name, again and again, and keeps the last good ones.

use crate::apply::Supervisor;
use crate::observe::log;
use portunus_relay::hosts::Live;
use portunus_relay::plan::Address;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Resolves every name of the configuration in force, at once and then every half minute; never waited for.
pub async fn run(supervisor: Arc<Supervisor>) {
    let mut changes = supervisor.changes();
    let mut failing = BTreeSet::new();
    loop {
        round(&supervisor, &mut failing).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause()) => {}
        }
    }
}

/// Resolves every name once, a few at a time; `failing` are the names that could not be resolved before.
async fn round(supervisor: &Supervisor, failing: &mut BTreeSet<Name>) {
    let mut waiting = names(supervisor).into_iter();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < AT_ONCE_MAX
            && let Some((name, hosts)) = waiting.next()
        {
            under_way.spawn(async move { (resolve(&name).await, name, hosts) });
        }
        match under_way.join_next().await {
            None => return,
            Some(Ok((Ok(found), name, hosts))) => {
                if failing.remove(&name) {
                    log::info(format_args!("{} is resolved again", name.0));
                }
                keep(&name, found, &hosts);
            }
            Some(Ok((Err(reason), name, _))) => {
                if failing.insert(name.clone()) {
                    log::warn(format_args!("{} cannot be resolved: {reason}", name.0));
                }
            }
            Some(Err(error)) => log::error(format_args!("resolving has failed: {error}")),
        }
    }
}

/// Host and port.
type Name = (String, u16);

fn names(supervisor: &Supervisor) -> BTreeMap<Name, Vec<Arc<Live>>> {
    let mut names: BTreeMap<Name, Vec<Arc<Live>>> = BTreeMap::new();
    for (_, host) in supervisor.running().snapshot.hosts() {
        if let Address::Name { host: name, port } = &host.address {
            names.entry((name.clone(), *port)).or_default().push(Arc::clone(&host.live));
        }
    }
    names
}

async fn resolve(name: &Name) -> Result<Vec<SocketAddr>, String> {
    let mut reason = String::new();
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(ATTEMPT_TIME, tokio::net::lookup_host((name.0.as_str(), name.1))).await {
            Ok(Ok(found)) => return usable(found),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("no answer within {} s", ATTEMPT_TIME.as_secs()),
        }
    }
    Err(reason)
}

/// Each address once, in the resolver's order. Link-local and other special addresses are not believed: a name that
/// suddenly points at a machine's metadata service is an attack (I13).
fn usable(found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    let mut addresses = Vec::new();
    let mut refused = 0;
    for address in found {
        if is_special(address.ip().to_canonical()) {
            refused += 1;
        } else if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    match (addresses.is_empty(), refused) {
        (false, _) => Ok(addresses),
        (true, 0) => Err("it has no address".into()),
        (true, count) => Err(format!("its {count} addresses are link-local, multicast or unspecified")),
    }
}

fn is_special(ip: IpAddr) -> bool {
    ip.is_unspecified()
        || ip.is_multicast()
        || match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
}

/// Hands new addresses to the hosts; the same set in another order is no change, because resolvers rotate it.
fn keep(name: &Name, found: Vec<SocketAddr>, hosts: &[Arc<Live>]) {
    let sorted = |list: &[SocketAddr]| list.iter().copied().collect::<BTreeSet<_>>();
    for live in hosts {
        if sorted(&live.addresses.load()) != sorted(&found) {
            log::debug(format_args!("{} is at {found:?}", name.0));
            live.addresses.store(Arc::new(found.clone()));
        }
    }
}

/// Half a minute, a tenth more or less, so that many proxies do not ask at the same moment.
fn pause() -> Duration {
    let random = RandomState::new().hash_one(0) % 6000;
    Duration::from_millis(27_000 + random)
}

const AT_ONCE_MAX: usize = 8;
const ATTEMPTS: usize = 2;
const ATTEMPT_TIME: Duration = Duration::from_secs(2);
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(texts: &[&str]) -> Result<Vec<SocketAddr>, String> {
        usable(texts.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn i13_special_addresses_are_not_believed() {
        assert!(
            found(&["169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.1.1]:80", "0.0.0.0:80"]).is_err()
        );
        assert!(found(&[]).is_err());
        let both = found(&["10.0.0.1:80", "169.254.169.254:80", "10.0.0.1:80", "[2001:db8::1]:80"]).unwrap();
        assert_eq!(both, ["10.0.0.1:80".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap()]);
    }

    #[test]
    fn the_last_good_addresses_stay() {
        let live = Arc::new(Live::new(&Address::Name { host: "a".into(), port: 80 }));
        let name = ("a".to_owned(), 80);
        let (one, two) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        keep(&name, vec![one, two], &[Arc::clone(&live)]);
        let before = live.addresses.load_full();
        keep(&name, vec![two, one], &[Arc::clone(&live)]);
        assert!(Arc::ptr_eq(&before, &live.addresses.load_full()));
        keep(&name, vec![two], &[Arc::clone(&live)]);
        assert_eq!(**live.addresses.load(), [two]);
    }
}
