//! Remembered: what is known of a host, as plain data: for a program that takes the place of this one.

use crate::conduct::{Doubt, Reason};
use crate::hosts::Host;
use crate::standing::Probe;
use portunus_message::Tick;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What is known of a host. Moments are told as spans of time, for no two programs have the same clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Remembered {
    /// Whether active checks have found it well; none: they have found nothing.
    passing: Option<bool>,
    /// Its ejection; none: it is in.
    ejected: Option<Ejected>,
    /// How long it keeps idle connections open, in milliseconds; 0: not known.
    idle_ms: u32,
}

/// An ejection that has not come to its good end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Ejected {
    /// For how much longer it is out; 0: it is on trial.
    left_us: u64,
    /// Why: the word of a [`Reason`].
    reason: String,
    /// How often it was ejected shortly after it had come back.
    strikes: u32,
    /// Good answers that are missing until it is fully back.
    trial: u16,
}

impl Remembered {
    /// What is known of `host`; none when that is nothing.
    pub fn of(host: &Host, now: Tick) -> Option<Remembered> {
        let (standing, conduct) = (&host.live.standing, &host.live.conduct);
        let passing = match standing.probe() {
            Probe::Unknown => None,
            probe => Some(probe == Probe::Passing),
        };
        let ejected = standing.is_on_trial().then(|| Ejected {
            left_us: u64::try_from(standing.ejected_until().since(now).as_micros()).unwrap_or(0),
            reason: conduct.reason().word().to_owned(),
            strikes: conduct.strikes(),
            trial: conduct.doubt().trial,
        });
        let idle_ms = host.live.idle_ms.load(Relaxed);
        Some(Remembered { passing, ejected, idle_ms }).filter(|known| *known != Remembered::default())
    }

    /// Lets `host` begin with it.
    pub fn tell(&self, host: &Host, now: Tick) {
        let (standing, conduct) = (&host.live.standing, &host.live.conduct);
        if let Some(passing) = self.passing {
            standing.set_probe(if passing { Probe::Passing } else { Probe::Failing });
        }
        if let Some(ejected) = &self.ejected {
            let reason = Reason::ALL.into_iter().find(|reason| reason.word() == ejected.reason);
            conduct.ejected(reason.unwrap_or_default(), ejected.strikes);
            conduct.set_doubt(Doubt { trial: ejected.trial.max(1), ..Doubt::default() });
            let left = Duration::from_micros(ejected.left_us).min(LONGEST);
            standing.eject_until((now + left).max(Tick(1)));
        }
        host.live.idle_ms.store(self.idle_ms, Relaxed);
    }
}

/// Whatever is told, a host is not out for ever.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Address;

    fn host() -> Host {
        Host::new(Address::Socket("127.0.0.1:80".parse().unwrap()), 1, false, None)
    }

    #[test]
    fn a_host_of_which_nothing_is_known_is_not_told_of() {
        assert_eq!(Remembered::of(&host(), Tick(5)), None);
    }

    #[test]
    fn another_program_goes_on_with_what_is_known() {
        let (old, new) = (host(), host());
        old.live.standing.set_probe(Probe::Failing);
        old.live.standing.eject_until(Tick(9_000_000));
        old.live.conduct.ejected(Reason::Rate, 3);
        old.live.conduct.set_doubt(Doubt { trial: 2, ..Doubt::default() });
        old.live.idle_ms.store(1600, Relaxed);
        let known = Remembered::of(&old, Tick(4_000_000)).unwrap();
        let text = serde_json::to_string(&known).unwrap();
        let told: Remembered = serde_json::from_str(&text).unwrap();
        told.tell(&new, Tick(1_000_000));
        assert_eq!(new.live.standing.probe(), Probe::Failing);
        assert_eq!(new.live.standing.ejected_until(), Tick(6_000_000));
        assert_eq!((new.live.conduct.reason(), new.live.conduct.strikes()), (Reason::Rate, 3));
        assert_eq!((new.live.conduct.doubt().trial, new.live.idle_ms.load(Relaxed)), (2, 1600));
    }

    #[test]
    fn a_trial_stays_one() {
        let (old, new) = (host(), host());
        old.live.standing.eject_until(Tick(1));
        let known = Remembered::of(&old, Tick(4_000_000)).unwrap();
        known.tell(&new, Tick(0));
        assert!(new.live.standing.is_on_trial() && !new.live.standing.is_ejected(Tick(2)));
    }
}
