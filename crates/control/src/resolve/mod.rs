//! resolve: from the name of a server to its addresses, once.

mod client;
mod service;

pub use client::Resolver;
pub use service::Targets;

use client::{Answer, Family, Service};
use portunus_relay::members::{Found, Members};
use portunus_relay::plan::{Address, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::task::JoinSet;

/// Every name that has to be resolved.
pub fn names(plan: &Plan, members: &Members) -> BTreeSet<Address> {
    let written = plan.pools.iter().flat_map(|pool| &pool.servers).map(|server| &server.address);
    let wished = members.wishes.values().flat_map(BTreeMap::keys);
    written.chain(wished).filter(|address| address.is_name()).cloned().collect()
}

/// What is known before anybody is served: names that are not resolved yet are given a moment. Without DNS it starts all the same.
pub fn first(plan: &Plan, members: &Members) -> Members {
    let mut members = members.clone();
    let mut names = names(plan, &members);
    members.found.retain(|name, _| names.contains(name));
    names.retain(|name| !members.found.contains_key(name));
    if names.is_empty() {
        return members;
    }
    let resolver = Resolver::new(&plan.settings.resolver);
    // A thread of its own: whoever starts or reloads blocks, and may be in a runtime.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let found = runtime.block_on(async {
            let mut all = JoinSet::new();
            for name in names.into_iter().take(FIRST_MAX) {
                let resolver = resolver.clone();
                all.spawn(async move { (resolve(&resolver, &name, &[], &mut Targets::new()).await, name) });
            }
            let mut found = BTreeMap::new();
            let until = tokio::time::Instant::now() + FIRST_TIME;
            while let Ok(Some(Ok((result, name)))) = tokio::time::timeout_at(until, all.join_next()).await {
                if let Ok(resolved) = result {
                    found.insert(name, resolved.found);
                }
            }
            found
        });
        runtime.shutdown_background();
        Some(found)
    });
    members.found.extend(thread.join().ok().flatten().unwrap_or_default());
    members
}

/// What a name stands for.
#[derive(Debug)]
pub struct Resolved {
    /// Its addresses, in a fixed order.
    pub found: Vec<Found>,
    /// How long they hold.
    pub ttl: Duration,
    /// Why they are not all that it stands for: targets of a service that have no address now.
    pub missing: Option<String>,
}

/// The addresses of a name. `known` is what it had before, and `targets` where each target of a service was.
pub async fn resolve(
    resolver: &Resolver,
    name: &Address,
    known: &[Found],
    targets: &mut Targets,
) -> Result<Resolved, String> {
    let (found, missing, ttl) = match name {
        Address::Name { host, port } => {
            let answer = resolver.addresses(host, known.is_empty()).await?;
            let known: Vec<_> = known.iter().map(|found| found.address.ip()).collect();
            let one = |ip| Found { address: SocketAddr::new(ip, *port), weight: 1, backup: false };
            (usable(&answer, &known)?.into_iter().map(one).collect(), None, answer.ttl)
        }
        Address::Srv(name) => {
            let (services, mut ttl) = resolver.services(name).await?;
            if services.is_empty() {
                return Err("the service is not there".into());
            }
            let mut answers = Vec::with_capacity(services.len());
            for (service, answer) in services.iter().zip(all(resolver, &services, known.is_empty()).await) {
                let ips = answer.and_then(|answer| {
                    let ips = usable(&answer, &service::last(service, targets, known))?;
                    if ips.is_empty() {
                        return Err("it has no address".to_owned());
                    }
                    ttl = ttl.min(answer.ttl);
                    Ok(ips)
                });
                answers.push(ips);
            }
            let (found, missing) = service::settle(&services, answers, targets, known);
            (found, missing, ttl)
        }
        Address::Socket(_) | Address::Unix(_) => return Err("it is no name".into()),
    };
    if found.is_empty() {
        return Err(missing.unwrap_or_else(|| "it has no address".into()));
    }
    Ok(Resolved { found: found.into_iter().take(ADDRESSES_MAX).collect(), ttl, missing })
}

/// What all targets of a service stand for, in their order. They are asked for together, so that those that nobody answers for
/// cost the time of one.
async fn all(resolver: &Resolver, services: &[Service], urgent: bool) -> Vec<Result<Answer, String>> {
    let mut answers = vec![Err("it was not asked for".to_owned()); services.len()];
    let mut asked = JoinSet::new();
    for (at, service) in services.iter().enumerate() {
        let (resolver, target) = (resolver.clone(), service.target.clone());
        asked.spawn(async move { (at, resolver.addresses(&target, urgent).await) });
    }
    while let Some(Ok((at, answer))) = asked.join_next().await {
        if let Some(place) = answers.get_mut(at) {
            *place = answer;
        }
    }
    answers
}

/// The addresses of an answer that may be used. Link-local and other special addresses are not believed: a name that suddenly
/// points at a machine's metadata service is an attack (I13). Those that there is no way to (IPv6 on a machine without
/// it) are left out, as long as others are there.
fn usable(answer: &Answer, known: &[IpAddr]) -> Result<Vec<IpAddr>, String> {
    let special = answer.addresses.iter().filter(|ip| is_special(ip.to_canonical())).count();
    let mut addresses: Vec<IpAddr> =
        answer.addresses.iter().copied().filter(|ip| !is_special(ip.to_canonical())).collect();
    if let Some(family) = answer.incomplete {
        let fits = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
        addresses.extend(known.iter().copied().filter(fits));
    }
    if addresses.is_empty() && special > 0 {
        return Err(format!("its {special} addresses are link-local, multicast or unspecified"));
    }
    let reachable: Vec<_> = addresses.iter().copied().filter(|ip| has_way_to(*ip)).collect();
    Ok(if reachable.is_empty() { addresses } else { reachable })
}

fn is_special(ip: IpAddr) -> bool {
    ip.is_unspecified()
        || ip.is_multicast()
        || match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
}

/// Whether the kernel knows a way to `ip`; nothing is sent.
fn has_way_to(ip: IpAddr) -> bool {
    let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any).and_then(|socket| socket.connect((ip, 9))).is_ok()
}

const ADDRESSES_MAX: usize = 64;
const FIRST_TIME: Duration = Duration::from_secs(1);
const FIRST_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(texts: &[&str], incomplete: Option<Family>) -> Answer {
        let addresses = texts.iter().map(|text| text.parse().unwrap()).collect();
        Answer { addresses, ttl: Duration::ZERO, incomplete }
    }

    #[test]
    fn i13_special_addresses_are_not_believed() {
        let special = ["169.254.169.254", "fe80::1", "::ffff:169.254.1.1", "0.0.0.0", "224.0.0.1"];
        assert!(usable(&answer(&special, None), &[]).is_err());
        let both = usable(&answer(&["127.0.0.1", "169.254.169.254"], None), &[]).unwrap();
        assert_eq!(both, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_could_not_be_asked_for_stays() {
        let known: [IpAddr; 2] = ["127.0.0.2".parse().unwrap(), "::1".parse().unwrap()];
        let kept = usable(&answer(&["::1"], Some(Family::V4)), &known).unwrap();
        assert!(kept.contains(&"127.0.0.2".parse().unwrap()), "{kept:?}");
        let kept = usable(&answer(&["127.0.0.1"], None), &known).unwrap();
        assert_eq!(kept, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
