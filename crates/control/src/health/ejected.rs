//! ejected: follows every host that is ejected until it is back, and finds out in the background when that may be.

use super::tcp::Miss;
use super::{http, tcp};
use crate::boards::Name;
use crate::observe::log;
use portunus_relay::conduct::Reason;
use portunus_relay::hosts::{Host, Live};
use portunus_relay::plan::Check;
use portunus_relay::snapshot::Snapshot;
use portunus_relay::{clock, eject};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A host that is being followed.
pub struct Followed {
    live: Arc<Live>,
    checked: bool,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts to follow whom nobody follows yet; whoever has left the pool is not followed any more.
pub fn sync(snapshot: &Snapshot, followed: &mut BTreeMap<Name, Followed>) {
    let mut members = BTreeSet::new();
    for (pool, plan) in snapshot.pools().iter().zip(&snapshot.plan().pools) {
        let checked = plan.health.as_ref().is_some_and(|health| health.check != Check::Tcp);
        for (_, host) in pool.hosts.iter() {
            let name = (pool.name.to_string(), host.name.to_string());
            let known = followed
                .get(&name)
                .is_some_and(|known| known.checked == checked && Arc::ptr_eq(&known.live, &host.live));
            let begins = !known && host.live.standing.is_on_trial();
            if begins {
                let (live, bell) = (Arc::clone(&host.live), snapshot.alarm.listen());
                let task = tokio::spawn(follow(name.clone(), Arc::clone(host), checked, bell));
                followed.insert(name.clone(), Followed { live, checked, task });
            }
            if known || begins {
                members.insert(name);
            }
        }
    }
    followed.retain(|name, _| members.contains(name));
}

/// Says in the log what becomes of `host`, and probes it while it is out, for as long as it is a member of its pool.
async fn follow(name: Name, host: Arc<Host>, checked: bool, mut bell: watch::Receiver<u64>) {
    let (pool, what) = &name;
    let standing = &host.live.standing;
    let (mut told, mut is_out) = (0, false);
    let mut probing = Probing::begin(Reason::Errors);
    loop {
        let (now, ejections) = (clock::read(), host.live.conduct.ejections().map(|(_, count)| count).sum());
        if told != ejections {
            let (reason, time) = (host.live.conduct.reason(), standing.ejected_until().since(now));
            // One that goes on refusing is told of once, until it is back.
            if !is_out || reason != Reason::Refused {
                let (word, seconds) = (reason.word(), time.as_secs_f64());
                let detail = host.live.trouble.words().map(|words| format!(" ({words})")).unwrap_or_default();
                log::warn(format_args!("pool {pool}: {what} is ejected for {seconds:.1} s: {word}{detail}"));
            }
            probing = Probing::begin(reason);
            (told, is_out) = (ejections, true);
        }
        if is_out && !standing.is_on_trial() {
            log::info(format_args!("pool {pool}: {what} is back"));
            is_out = false;
        }
        let rung = tokio::select! {
            () = tokio::time::sleep_until(probing.due), if is_out => Ok(()),
            rung = bell.changed() => rung,
        };
        if rung.is_err() {
            return;
        }
        if is_out && probing.is_due() {
            probing.probe(&host, checked).await;
        }
    }
}

/// What is known of an ejected host.
struct Probing {
    reason: Reason,
    seen_dead: bool,
    pause: Duration,
    due: tokio::time::Instant,
}

impl Probing {
    fn begin(reason: Reason) -> Probing {
        let pause = if reason == Reason::Refused { FIRST_PAUSE } else { PAUSE };
        Probing {
            reason,
            seen_dead: reason == Reason::Refused,
            pause,
            due: tokio::time::Instant::now() + pause,
        }
    }

    /// A request is more than a connection, and all hosts of a pool may be silent.
    fn longest_pause(&self) -> Duration {
        if self.reason == Reason::Refused { PAUSE } else { PAUSE * 8 }
    }

    fn is_due(&self) -> bool {
        tokio::time::Instant::now() >= self.due
    }

    /// Asks once. A host that was seen dead, and is seen alive, is tried again at once; one that is seen dead stays out, whatever
    /// was said before. One that was never seen dead has other troubles, and its time is not shortened.
    async fn probe(&mut self, host: &Host, checked: bool) {
        self.pause = (self.pause * 2).min(self.longest_pause());
        self.due = tokio::time::Instant::now() + self.pause;
        if !host.live.standing.is_ejected(clock::read()) {
            return; // it is being tried with live requests
        }
        let result = match self.reason {
            Reason::Refused => in_time(async { tcp::connect(host).await.map(drop) }).await,
            // Where there are checks that would, they find out.
            Reason::Timeouts if !checked => in_time(http::is_anybody_there(host)).await,
            _ => return,
        };
        self.due = tokio::time::Instant::now() + self.pause;
        let now = clock::read();
        match result {
            Ok(()) if self.seen_dead => eject::try_now(host, now),
            Ok(()) | Err(Miss::NoLook) => {}
            Err(Miss::Bad(_)) => {
                self.seen_dead = true;
                if self.reason == Reason::Refused {
                    host.live.standing.refused(now);
                }
                eject::keep_out(host, now + PROBE_TIME + self.longest_pause() * 2);
            }
        }
    }
}

/// A probe takes no longer than this.
pub async fn in_time(probe: impl Future<Output = Result<(), Miss>>) -> Result<(), Miss> {
    tokio::time::timeout(PROBE_TIME, probe).await.unwrap_or_else(|_| Err(Miss::Bad("no answer".into())))
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(250);
const PROBE_TIME: Duration = Duration::from_secs(1);
