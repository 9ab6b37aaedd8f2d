//! dns: finds the addresses of hosts that are known by name, again when their time is over, and keeps the last good ones.

use crate::apply::{Supervisor, Trouble};
use crate::observe::log;
use crate::resolve::{Resolved, Resolver, Targets, names, resolve};
use portunus_relay::members::Found;
use portunus_relay::plan::{self, Address};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
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

/// What the log was last told of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It can be resolved.
    All,
    /// Some of it.
    Part,
    /// It cannot.
    Nothing,
}

/// Resolves one name again and again, and tells of every other set of addresses.
async fn keep(
    name: Address,
    settings: plan::Resolver,
    room: Arc<Semaphore>,
    tell: mpsc::Sender<(Address, Vec<Found>)>,
    supervisor: Arc<Supervisor>,
) {
    let (mut told, mut failures, mut targets) = (Told::All, 0u32, Targets::new());
    loop {
        let known = supervisor.running().snapshot.members().found.get(&name).cloned().unwrap_or_default();
        let place = room.acquire().await;
        let result = resolve(&Resolver::new(&settings), &name, &known, &mut targets).await;
        drop(place);
        let trouble = result.as_ref().map_or_else(Some, |resolved| resolved.missing.as_ref());
        supervisor.names().note(&name, trouble);
        let pause = match result {
            Ok(Resolved { found, ttl, missing }) => {
                match &missing {
                    Some(reason) if told != Told::Part => {
                        log::warn(format_args!("not all of {name} can be resolved: {reason}"));
                    }
                    None if told != Told::All => log::info(format_args!("{name} is resolved again")),
                    _ => {}
                }
                told = if missing.is_some() { Told::Part } else { Told::All };
                failures = 0;
                let ttl = if missing.is_some() { ttl.min(FAILED_PAUSE_MAX) } else { ttl };
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
                if told != Told::Nothing {
                    let kept = match known.len() {
                        0 => "it has no address yet".to_owned(),
                        count => format!("its last {count} addresses are kept"),
                    };
                    log::warn(format_args!("{name} cannot be resolved: {reason}; {kept}"));
                }
                (told, failures) = (Told::Nothing, failures.saturating_add(1));
                FAILED_PAUSE.saturating_mul(failures).min(FAILED_PAUSE_MAX)
            }
        };
        tokio::time::sleep(pause.clamp(TTL_MIN, TTL_MAX) + jitter()).await;
    }
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
