//! dns: finds the addresses of hosts that are known by name, again when their time is over, and keeps the last good ones.

use super::resolver::{Answer, Family, Resolver};
use crate::apply::{Supervisor, Trouble};
use crate::observe::log;
use portunus_relay::members::{Found, Members};
use portunus_relay::plan::{self, Address, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Resolves every name that the configuration in force has, or an operator has added, as often as its answers ask for.
pub async fn run(supervisor: Arc<Supervisor>) {
    let mut changes = supervisor.host_changes();
    let (tell, mut told) = mpsc::channel(FOUND_QUEUE);
    let room = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut tasks: BTreeMap<Address, Task> = BTreeMap::new();
    let mut settings = supervisor.running().snapshot.plan().settings.resolver.clone();
    loop {
        let snapshot = Arc::clone(&supervisor.running().snapshot);
        let now = snapshot.plan().settings.resolver.clone();
        if now != settings {
            tasks.clear();
            settings = now;
        }
        let names = names(snapshot.plan(), snapshot.members());
        drop(snapshot);
        tasks.retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                supervisor.names().forget(name);
            }
            stays
        });
        for name in names {
            tasks.entry(name.clone()).or_insert_with(|| {
                let (settings, room, tell) = (settings.clone(), Arc::clone(&room), tell.clone());
                Task(tokio::spawn(keep(name, settings, room, tell, Arc::clone(&supervisor))))
            });
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            found = told.recv() => {
                let mut all: Vec<_> = found.into_iter().collect();
                // What comes at nearly the same time is put into force together.
                tokio::time::sleep(TOGETHER).await;
                while let Ok(more) = told.try_recv() {
                    all.push(more);
                }
                put_in_force(&supervisor, all).await;
            }
        }
    }
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Every name that has to be resolved.
fn names(plan: &Plan, members: &Members) -> BTreeSet<Address> {
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
            let mut all = tokio::task::JoinSet::new();
            for name in names.into_iter().take(FIRST_MAX) {
                let resolver = resolver.clone();
                all.spawn(async move { (resolve(&resolver, &name, &[]).await, name) });
            }
            let mut found = BTreeMap::new();
            let until = tokio::time::Instant::now() + FIRST_TIME;
            while let Ok(Some(Ok((result, name)))) = tokio::time::timeout_at(until, all.join_next()).await {
                if let Ok((addresses, _)) = result {
                    found.insert(name, addresses);
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

/// Resolves one name again and again, and tells of every other set of addresses.
async fn keep(
    name: Address,
    settings: plan::Resolver,
    room: Arc<Semaphore>,
    tell: mpsc::Sender<(Address, Vec<Found>)>,
    supervisor: Arc<Supervisor>,
) {
    let (mut failing, mut failures) = (false, 0u32);
    loop {
        let known = supervisor.running().snapshot.members().found.get(&name).cloned().unwrap_or_default();
        let place = room.acquire().await;
        let result = resolve(&Resolver::new(&settings), &name, &known).await;
        drop(place);
        supervisor.names().note(&name, result.as_ref().err());
        let pause = match result {
            Ok((found, ttl)) => {
                if failing {
                    log::info(format_args!("{name} is resolved again"));
                }
                (failing, failures) = (false, 0);
                if found != known {
                    let texts: Vec<_> = found.iter().map(|found| found.address.to_string()).collect();
                    log::info(format_args!("{name} is at {}", texts.join(", ")));
                    if tell.send((name.clone(), found)).await.is_err() {
                        return;
                    }
                }
                ttl
            }
            Err(reason) => {
                if !failing {
                    let kept = match known.len() {
                        0 => "it has no address yet".to_owned(),
                        count => format!("its last {count} addresses are kept"),
                    };
                    log::warn(format_args!("{name} cannot be resolved: {reason}; {kept}"));
                }
                (failing, failures) = (true, failures.saturating_add(1));
                FAILED_PAUSE.saturating_mul(failures).min(FAILED_PAUSE_MAX)
            }
        };
        tokio::time::sleep(pause.clamp(TTL_MIN, TTL_MAX) + jitter()).await;
    }
}

/// The addresses of a name, in a fixed order, and how long they hold. `known` is what it had before.
async fn resolve(
    resolver: &Resolver,
    name: &Address,
    known: &[Found],
) -> Result<(Vec<Found>, Duration), String> {
    let mut found = BTreeSet::new();
    let ttl = match name {
        Address::Name { host, port } => {
            let answer = resolver.addresses(host).await?;
            let one = |ip| Found { address: SocketAddr::new(ip, *port), weight: 1, backup: false };
            found.extend(usable(&answer, known)?.into_iter().map(one));
            answer.ttl
        }
        Address::Srv(name) => {
            let (services, mut ttl) = resolver.services(name).await?;
            let first =
                services.iter().map(|service| service.priority).min().ok_or("the service is not there")?;
            for service in services {
                let answer = match resolver.addresses(&service.target).await {
                    Ok(answer) => answer,
                    // One target that is gone is no reason to keep the others from being used, unless something better is known.
                    Err(_) if known.is_empty() => continue,
                    Err(reason) => return Err(format!("{}: {reason}", service.target)),
                };
                ttl = ttl.min(answer.ttl);
                let (weight, backup) = (u32::from(service.weight.max(1)), service.priority > first);
                let one = |ip| Found { address: SocketAddr::new(ip, service.port), weight, backup };
                found.extend(usable(&answer, known)?.into_iter().map(one));
            }
            ttl
        }
        Address::Socket(_) | Address::Unix(_) => return Err("it is no name".into()),
    };
    if found.is_empty() {
        return Err("it has no address".into());
    }
    Ok((found.into_iter().take(ADDRESSES_MAX).collect(), ttl))
}

/// The addresses of an answer that may be used. Link-local and other special addresses are not believed: a name that suddenly
/// points at a machine's metadata service is an attack (I13). Those that there is no way to (IPv6 on a machine without
/// it) are left out, as long as others are there.
fn usable(answer: &Answer, known: &[Found]) -> Result<Vec<IpAddr>, String> {
    let special = answer.addresses.iter().filter(|ip| is_special(ip.to_canonical())).count();
    let mut addresses: Vec<IpAddr> =
        answer.addresses.iter().copied().filter(|ip| !is_special(ip.to_canonical())).collect();
    if let Some(family) = answer.incomplete {
        let fits = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
        addresses.extend(known.iter().map(|found| found.address.ip()).filter(fits));
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

/// Puts other addresses into force.
async fn put_in_force(supervisor: &Arc<Supervisor>, found: Vec<(Address, Vec<Found>)>) {
    let own = Arc::clone(supervisor);
    // It takes the turn of reloads, for which it may have to wait.
    let done = tokio::task::spawn_blocking(move || {
        own.change_members(|_, members| {
            members.found.extend(found);
            Ok::<(), Trouble>(())
        })
    });
    if let Ok(Err(trouble)) = done.await {
        log::error(format_args!("other addresses cannot be used: {trouble}"));
    }
}

/// What became of the latest look at each name, for status and metrics.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<Address, Option<String>>>);

impl Board {
    /// Every name, with why it cannot be resolved now.
    pub fn all(&self) -> Vec<(Address, Option<String>)> {
        self.lock().iter().map(|(name, failing)| (name.clone(), failing.clone())).collect()
    }

    fn note(&self, name: &Address, failing: Option<&String>) {
        self.lock().insert(name.clone(), failing.cloned());
    }

    fn forget(&self, name: &Address) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to a tenth of a second, so that many names do not ask at the same moment.
fn jitter() -> Duration {
    Duration::from_millis(RandomState::new().hash_one(0) % 100)
}

const AT_ONCE_MAX: usize = 16;
const FOUND_QUEUE: usize = 64;
const TOGETHER: Duration = Duration::from_millis(5);
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);
const FAILED_PAUSE: Duration = Duration::from_secs(1);
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(5);
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
        let found = |text: &str| Found { address: text.parse().unwrap(), weight: 1, backup: false };
        let known = [found("127.0.0.2:80"), found("[::1]:80")];
        let kept = usable(&answer(&["::1"], Some(Family::V4)), &known).unwrap();
        assert!(kept.contains(&"127.0.0.2".parse().unwrap()), "{kept:?}");
        let kept = usable(&answer(&["127.0.0.1"], None), &known).unwrap();
        assert_eq!(kept, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
