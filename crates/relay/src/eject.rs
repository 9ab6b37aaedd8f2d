//! Ejection: a host whose attempts fail gets no more requests for a while, and is tried with a few before it is fully back.
//!
//! ```text
//!            failures in a row, rate, latency, a refused connect
//!   in ────────────────────────────────────────────────────────► out, until a moment
//!   ▲                                                              │ the moment comes, or a probe finds it alive
//!   │ a few good answers                                           ▼
//!   └──────────────────────────────────────────────────────────── on trial ──► out again, for longer, on a failure
//! ```

use crate::conduct::{Doubt, Reason};
use crate::hosts::{Host, Hosts};
use crate::plan::Eject;
use crate::standing::{Order, Probe};
use portunus_message::{Crime, Status, Tick};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How an attempt went, as far as it says something about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The host answered.
    Good,
    /// It answered that it, or somebody behind it, cannot: 502, 503 or 504. It counts for the rate only.
    Poor,
    /// There was no answer in time.
    Timeout,
    /// The connection broke, or what came was no answer.
    Broken,
    /// No connection could be made: nobody listens, or there is no way.
    Refused,
}

impl Heard {
    /// What an answer says.
    pub fn answer(status: Status) -> Heard {
        match status {
            Status::BAD_GATEWAY | Status::UNAVAILABLE | Status::GATEWAY_TIMEOUT => Heard::Poor,
            _ => Heard::Good,
        }
    }

    /// What the want of one says.
    pub fn crime(crime: Crime) -> Heard {
        match crime {
            Crime::ConnectFailed => Heard::Refused,
            _ if crime.status() == Status::GATEWAY_TIMEOUT => Heard::Timeout,
            _ => Heard::Broken,
        }
    }
}

/// Rings when the state of any host has changed; whoever listens looks for himself what it was.
#[derive(Debug)]
pub struct Alarm {
    rung: watch::Sender<u64>,
    /// Silent hosts. They may have left their pool, with requests on them.
    suspects: Mutex<Vec<Suspect>>,
}

/// A host that gives no answers: somebody has to find out whether it is there.
#[derive(Debug)]
pub struct Suspect {
    /// Which one.
    pub host: Arc<Host>,
    /// Of which pool.
    pub pool: Box<str>,
    /// Whom to tell.
    pub judge: Judge,
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm { rung: watch::Sender::new(0), suspects: Mutex::default() }
    }
}

impl Alarm {
    /// Rings.
    pub fn ring(&self) {
        self.rung.send_modify(|rung| *rung = rung.wrapping_add(1));
    }

    /// Hears every ring from now on.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.rung.subscribe()
    }

    /// Takes the hosts of which somebody has to find out whether they are there.
    pub fn take_suspects(&self) -> Vec<Suspect> {
        std::mem::take(&mut *self.suspects.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who decides for the hosts of one pool.
#[derive(Clone, Debug)]
pub struct Judge {
    plan: Eject,
    hosts: Arc<Hosts>,
    alarm: Arc<Alarm>,
}

impl Judge {
    /// For these hosts, by this plan.
    pub fn new(plan: Eject, hosts: Arc<Hosts>, alarm: Arc<Alarm>) -> Judge {
        Judge { plan, hosts, alarm }
    }

    /// Hears of an answer that `host` gave after so long. A good one of a host that has nothing against it is nothing new.
    pub fn answered(&self, host: &Host, heard: Heard, latency: Duration, now: Tick) {
        if heard != Heard::Good || !host.live.conduct.is_clean() {
            self.heard(host, heard, now);
        }
        if self.plan.latency_percent.is_some() {
            self.heard_latency(host, latency, now);
        }
    }

    /// Hears how an attempt at `host` went.
    pub fn heard(&self, host: &Host, heard: Heard, now: Tick) {
        if !self.plan.on {
            return;
        }
        let conduct = &host.live.conduct;
        let until = host.live.standing.ejected_until();
        if until != Tick(0) {
            if now >= until {
                self.heard_on_trial(host, heard, until, now);
            }
            // What was under way when it was ejected says nothing new.
            return;
        }
        if let Some(reason) = conduct.update(|before| weigh(before, heard, &self.plan)) {
            self.eject(host, reason, Tick(0), now);
        }
    }

    /// `host` of `pool` gives no answers while others do: somebody has to look whether it is there at all.
    pub fn suspect(&self, pool: &str, host: &Arc<Host>) {
        let is_in = host.live.standing.ejected_until() == Tick(0);
        if self.plan.on && is_in && host.live.silence.suspect() {
            let suspect = Suspect { host: Arc::clone(host), pool: pool.into(), judge: self.clone() };
            self.alarm.suspects.lock().unwrap_or_else(PoisonError::into_inner).push(suspect);
            self.alarm.ring();
        }
    }

    /// Somebody has to look at what is known of the hosts.
    pub fn call(&self) {
        self.alarm.ring();
    }

    /// Hears that nobody is there.
    pub fn is_silent(&self, host: &Host, now: Tick) {
        if self.plan.on && host.live.standing.ejected_until() == Tick(0) {
            self.eject(host, Reason::Timeouts, Tick(0), now);
        }
    }

    fn heard_latency(&self, host: &Host, latency: Duration, now: Tick) {
        let Some(percent) = self.plan.latency_percent.filter(|_| self.plan.on) else { return };
        let sample = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let count = host.live.conduct.heard_latency(sample);
        if count.is_multiple_of(LATENCY_EVERY)
            && host.live.standing.ejected_until() == Tick(0)
            && self.is_outlier(host, percent)
        {
            self.eject(host, Reason::Latency, Tick(0), now);
        }
    }

    /// Whether it takes so much longer than the median of the others: then more than half of them are faster by that
    /// factor, which needs no sorting.
    fn is_outlier(&self, host: &Host, percent: u32) -> bool {
        let Some(own) = host.live.conduct.latency_us().filter(|&own| own >= LATENCY_MIN_US) else {
            return false;
        };
        let (mut others, mut faster) = (0u32, 0u32);
        for (_, other) in self.hosts.iter().filter(|(_, other)| other.name != host.name) {
            if let Some(latency) = other.live.conduct.latency_us() {
                others += 1;
                faster += u32::from(latency.saturating_mul(percent.into()) < own.saturating_mul(100));
            }
        }
        others >= 2 && faster * 2 > others
    }

    fn heard_on_trial(&self, host: &Host, heard: Heard, until: Tick, now: Tick) {
        let conduct = &host.live.conduct;
        let reason = match heard {
            Heard::Good => {
                let passed = conduct.update(|before| {
                    let after = Doubt { trial: before.trial.saturating_sub(1), ..Doubt::default() };
                    (after, after.trial == 0)
                });
                if passed {
                    self.let_in(host, now);
                }
                return;
            }
            Heard::Poor if conduct.reason() == Reason::Rate => Reason::Rate,
            Heard::Poor => return,
            Heard::Timeout => Reason::Timeouts,
            Heard::Broken => Reason::Errors,
            Heard::Refused => Reason::Refused,
        };
        self.eject(host, reason, until, now);
    }

    /// Ejects `host`, if enough others are left. `before` is the moment that stood in its standing; only one of several
    /// workers that come to the same conclusion acts on it.
    fn eject(&self, host: &Host, reason: Reason, before: Tick, now: Tick) {
        let (standing, conduct) = (&host.live.standing, &host.live.conduct);
        let was_in = before == Tick(0);
        if reason != Reason::Refused && !self.can_spare(usize::from(was_in)) {
            return if was_in { conduct.set_doubt(Doubt::default()) } else { self.let_in(host, now) };
        }
        let strikes = match reason {
            Reason::Refused => conduct.strikes(),
            _ if was_in => self.strikes(host, now).saturating_add(1),
            _ => conduct.strikes().saturating_add(1),
        };
        if !standing.exchange_ejected(before, now + self.ban(reason, strikes)) {
            return;
        }
        conduct.set_doubt(Doubt { trial: TRIAL_ANSWERS, ..Doubt::default() });
        conduct.forget_latency();
        conduct.ejected(reason, strikes);
        if reason != Reason::Refused && !self.can_spare(0) {
            self.let_in(host, now); // another worker has ejected another host at this very moment
        }
        self.alarm.ring();
    }

    /// How often it was ejected, less one for each good stretch of the length of a ban since it came back.
    fn strikes(&self, host: &Host, now: Tick) -> u32 {
        let good = host.live.standing.back_since().map_or(0, |back| now.since(back).as_micros());
        let decay = good.checked_div(self.plan.time.as_micros()).unwrap_or(0);
        host.live.conduct.strikes().saturating_sub(u32::try_from(decay).unwrap_or(u32::MAX))
    }

    fn ban(&self, reason: Reason, strikes: u32) -> Duration {
        match reason {
            // A live request finds out at no cost, and a probe sooner.
            Reason::Refused => REFUSED_TIME.min(self.plan.time),
            _ => self.plan.time.saturating_mul(strikes.clamp(1, STRIKES_MAX)),
        }
    }

    /// Whether enough hosts are left when `more` of them go: the share that the plan keeps, and one in any case.
    fn can_spare(&self, more: usize) -> bool {
        let (mut all, mut out) = (0usize, more);
        for (_, host) in self.hosts.iter() {
            let standing = &host.live.standing;
            if host.share() > 0 && standing.order() == Order::Serve {
                all += 1;
                let is_out = standing.ejected_until() != Tick(0) || standing.probe() == Probe::Failing;
                out += usize::from(is_out || host.live.silence.is_mute());
            }
        }
        let keep = (all * self.plan.keep_percent as usize).div_ceil(100).max(1);
        all >= keep + out
    }

    fn let_in(&self, host: &Host, now: Tick) {
        let_in(host, now);
        self.alarm.ring();
    }
}

/// Takes back an ejection altogether.
pub fn let_in(host: &Host, now: Tick) {
    host.live.standing.eject_until(Tick(0));
    host.live.standing.came_back(now);
    host.live.conduct.set_doubt(Doubt::default());
}

/// Ends the ban of an ejected host, for which a probe has found a reason: from now on it is on trial.
pub fn try_now(host: &Host, now: Tick) {
    host.live.silence.speaks();
    let until = host.live.standing.ejected_until();
    if until > now {
        host.live.standing.exchange_ejected(until, Tick(now.0.max(1)));
    }
}

/// Keeps an ejected host out until `until` at least: a probe has found it as dead as it was.
pub fn keep_out(host: &Host, until: Tick) {
    let before = host.live.standing.ejected_until();
    if before != Tick(0) && before < until {
        host.live.standing.exchange_ejected(before, until);
    }
}

/// What stands against a host after one more attempt, and whether that is enough to eject it.
fn weigh(before: Doubt, heard: Heard, plan: &Eject) -> (Doubt, Option<Reason>) {
    let failed = matches!(heard, Heard::Timeout | Heard::Broken | Heard::Refused);
    let counts = failed || heard == Heard::Poor;
    let mut after = before;
    after.in_a_row = match heard {
        Heard::Good => 0,
        Heard::Poor => before.in_a_row,
        _ => before.in_a_row.saturating_add(1),
    };
    if counts || before.seen > 0 {
        after.seen = before.seen.saturating_add(1);
        after.failed = before.failed.saturating_add(counts.into());
    }
    let reason = if heard == Heard::Refused {
        Some(Reason::Refused)
    } else if failed && plan.errors > 0 && u32::from(after.in_a_row) >= plan.errors {
        Some(if heard == Heard::Timeout { Reason::Timeouts } else { Reason::Errors })
    } else if counts
        && plan.rate_percent > 0
        && u64::from(after.failed) * 100 >= u64::from(plan.rate_percent) * u64::from(plan.of)
    {
        Some(Reason::Rate)
    } else {
        None
    };
    if u32::from(after.seen) >= plan.of {
        (after.seen, after.failed) = (0, 0);
    }
    (after, reason)
}

/// Good answers that an ejected host has to give before it is fully back.
const TRIAL_ANSWERS: u16 = 3;
/// How long a host that refuses is out, unless a probe says otherwise.
const REFUSED_TIME: Duration = Duration::from_secs(1);
/// The longest ban, in times of the first.
const STRIKES_MAX: u32 = 30;
/// Every so many answers a host's latency is compared.
const LATENCY_EVERY: u64 = 32;
/// Nobody is ejected for being slower than others that are very fast.
const LATENCY_MIN_US: u64 = 10_000;

#[cfg(test)]
mod tests;
