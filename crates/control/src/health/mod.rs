//! Probes: hosts are asked whether they are well, as the pool says, and ejected ones whether they are back.

mod count;
mod ejected;
mod grpc;
mod http;
mod silent;
mod tcp;
mod trouble;

use crate::apply::Supervisor;
use crate::boards::{Checks, Name};
use crate::observe::log;
use count::Count;
use portunus_relay::clock;
use portunus_relay::conduct::Reason;
use portunus_relay::eject;
use portunus_relay::hosts::Host;
use portunus_relay::plan::{Check, Health};
use portunus_relay::snapshot::Snapshot;
use portunus_relay::standing::Probe;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tcp::Miss;
use tokio::task::JoinHandle;

/// Keeps one task for every host that is to be checked, and one for every host that is ejected, as the configuration in force
/// wants them.
pub async fn run(supervisor: Arc<Supervisor>) {
    let mut changes = supervisor.host_changes();
    let mut bell = supervisor.running().snapshot.alarm.listen();
    let mut checks = BTreeMap::new();
    let mut ejected = BTreeMap::new();
    let mut told = trouble::Told::new();
    loop {
        let snapshot = Arc::clone(&supervisor.running().snapshot);
        sync_checks(&snapshot, &mut checks, &supervisor);
        ejected::sync(&snapshot, &mut ejected);
        silent::look(&supervisor);
        let later = trouble::tell(&snapshot, &mut told);
        drop(snapshot);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(trouble::PAUSE), if later => {}
            rung = bell.changed() => {
                if rung.is_err() {
                    return;
                }
                // What happens to several hosts at once is looked at once.
                tokio::time::sleep(TOGETHER).await;
            }
        }
    }
}

/// A host that is being checked.
struct Checked {
    plan: Health,
    host: Arc<Host>,
    task: JoinHandle<()>,
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts what is new, ends what is gone, and leaves alone what stays.
fn sync_checks(snapshot: &Snapshot, checks: &mut BTreeMap<Name, Checked>, supervisor: &Arc<Supervisor>) {
    let mut wanted = BTreeSet::new();
    for (pool, plan) in snapshot.pools().iter().zip(&snapshot.plan().pools) {
        let Some(plan) = &plan.health else { continue };
        for (_, host) in pool.hosts.iter() {
            let name = (pool.name.to_string(), host.name.to_string());
            let same = |known: &Checked| {
                known.plan == *plan
                    && Arc::ptr_eq(&known.host.live, &host.live)
                    && known.host.is_spoken_with_like(host)
            };
            if !checks.get(&name).is_some_and(same) {
                let asker = Asker {
                    name: name.clone(),
                    host: Arc::clone(host),
                    plan: plan.clone(),
                    board: Arc::clone(supervisor.checks()),
                    bell: snapshot.alarm.listen(),
                };
                let (plan, host) = (plan.clone(), Arc::clone(host));
                checks.insert(name.clone(), Checked { plan, host, task: tokio::spawn(asker.run()) });
            }
            wanted.insert(name);
        }
    }
    checks.retain(|name, checked| {
        let stays = wanted.contains(name);
        if !stays {
            // What nobody looks at any more is not held against it.
            checked.host.live.standing.set_probe(Probe::Unknown);
            supervisor.checks().forget(name);
        }
        stays
    });
}

/// Who asks one host.
struct Asker {
    name: Name,
    host: Arc<Host>,
    plan: Health,
    board: Arc<Checks>,
    bell: tokio::sync::watch::Receiver<u64>,
}

impl Asker {
    async fn run(mut self) {
        let mut count = Count::new(self.host.live.standing.probe());
        let (mut passed_in_a_row, mut was_out, mut has_failed) = (0, false, false);
        // Spread, so that a start is no burst.
        tokio::time::sleep(part(self.plan.every.min(Duration::from_secs(1)))).await;
        loop {
            let result = match ask(&self.host, &self.plan).await {
                Ok(()) => Ok(()),
                Err(Miss::Bad(reason)) => Err(reason),
                Err(Miss::NoLook) => {
                    self.pause(&count).await;
                    continue;
                }
            };
            self.board.note(&self.name, &result);
            let is_out = self.host.live.standing.is_ejected(clock::read());
            if is_out && !was_out {
                (passed_in_a_row, has_failed) = (0, result.is_err()); // what was passed before says nothing of it
            } else {
                passed_in_a_row = if result.is_ok() { passed_in_a_row + 1 } else { 0 };
                has_failed |= result.is_err();
            }
            was_out = is_out;
            if let Some(now) = count.heard(result.is_ok(), &self.plan) {
                self.changed(now, &result);
            }
            if is_out && passed_in_a_row >= self.plan.passes && self.proves_life(has_failed) {
                eject::try_now(&self.host, clock::read());
                (passed_in_a_row, was_out, has_failed) = (0, false, false);
            }
            if result.is_ok() && self.plan.check != Check::Tcp {
                self.host.live.silence.speaks();
            }
            self.pause(&count).await;
        }
    }

    /// Whether a check that is passed says that the reason of the ejection is gone: a connection is accepted by the kernel even for a
    /// process that has stopped, and one that never failed meanwhile knows nothing of what requests have met.
    fn proves_life(&self, has_failed: bool) -> bool {
        match self.host.live.conduct.reason() {
            Reason::Refused => true,
            Reason::Timeouts => self.plan.check != Check::Tcp,
            Reason::Errors | Reason::Rate | Reason::Latency => self.plan.check != Check::Tcp && has_failed,
        }
    }

    /// Waits for the time of the next check, which comes sooner when the host is ejected meanwhile.
    async fn pause(&mut self, count: &Count) {
        let began = tokio::time::Instant::now();
        loop {
            let in_doubt = count.in_doubt() || self.host.live.standing.is_on_trial();
            let pause = jittered(interval(&self.plan, in_doubt));
            tokio::select! {
                () = tokio::time::sleep_until(began + pause) => return,
                rung = self.bell.changed() => if rung.is_err() {
                    return tokio::time::sleep_until(began + pause).await;
                },
            }
        }
    }

    fn changed(&self, now: Probe, result: &Result<(), String>) {
        let standing = &self.host.live.standing;
        let before = standing.set_probe(now);
        let (pool, host) = &self.name;
        match (now, result) {
            (Probe::Failing, Err(reason)) => {
                log::warn(format_args!("pool {pool}: {host} fails its health check: {reason}"));
            }
            _ if before == Probe::Failing => {
                standing.came_back(clock::read());
                log::info(format_args!("pool {pool}: {host} passes its health check again"));
            }
            _ => log::debug(format_args!("pool {pool}: {host} passes its health check")),
        }
    }
}

/// One check.
async fn ask(host: &Host, plan: &Health) -> Result<(), Miss> {
    let check = async {
        let stream = tcp::connect(host).await?;
        match &plan.check {
            Check::Tcp => {}
            Check::Http(check) => http::ask(stream, &host.name, check).await?,
            Check::Grpc(check) => grpc::ask(stream.0, &host.name, check).await?,
        }
        Ok(())
    };
    let late = || Miss::Bad(format!("no answer within {} ms", plan.timeout.as_millis()));
    tokio::time::timeout(plan.timeout, check).await.unwrap_or_else(|_| Err(late()))
}

/// How long until the next check: a fifth while a state is in doubt, but not less than half a second.
fn interval(plan: &Health, in_doubt: bool) -> Duration {
    if in_doubt { (plan.every / 5).max(DOUBT_MIN).min(plan.every) } else { plan.every }
}

/// A tenth more or less, so that many proxies do not ask at the same moment.
fn jittered(time: Duration) -> Duration {
    time * 9 / 10 + part(time / 5)
}

/// Some part of `time`.
fn part(time: Duration) -> Duration {
    let thousandths = u32::try_from(RandomState::new().hash_one(0) % 1000).unwrap_or(0);
    time * thousandths / 1000
}

const TOGETHER: Duration = Duration::from_millis(5);
const DOUBT_MIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_come_faster_in_doubt_but_not_too_fast() {
        let plan = |every| Health {
            check: Check::Tcp,
            every: Duration::from_millis(every),
            timeout: Duration::from_millis(1),
            fails: 3,
            passes: 2,
        };
        let ms = |every, in_doubt| interval(&plan(every), in_doubt).as_millis();
        assert_eq!((ms(5000, false), ms(5000, true), ms(1000, true), ms(100, true)), (5000, 1000, 500, 100));
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(10));
            assert!((Duration::from_secs(9)..Duration::from_secs(11)).contains(&pause));
        }
    }
}
