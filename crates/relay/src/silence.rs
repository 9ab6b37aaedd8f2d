//! Silence: a host has requests and gives no answers, while others of its pool do: perhaps its process has stopped.

use portunus_message::Tick;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a host has to be silent until it is looked at; twice as long each time that it has proved to be alive since its last answer.
const LEAST: Duration = Duration::from_secs(1);
/// How often that doubles.
const DOUBLINGS_MAX: u32 = 6;
/// With fewer requests on it, silence says little,
const BUSY: u32 = 5;
/// and has to be longer.
const LEAST_OF_FEW: Duration = Duration::from_secs(10);
/// After so long a silence without any request there is nothing left of it.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// How long a host has been silent, as all workers together have found.
#[derive(Debug, Default)]
pub struct Silence {
    /// In microseconds of a [`Tick`]; 0 while it is not. Requests that are given up by their clients are no answers.
    since: AtomicU64,
    /// How often it has proved to be alive since its last answer.
    proofs: AtomicU32,
    /// Whether somebody has to look.
    is_suspect: AtomicBool,
}

impl Silence {
    /// Hears, once a second of each worker, whether the host has answered it since the last time, and how many requests it has.
    pub fn hear(&self, answered: bool, requests: u32, now: Tick) {
        if answered {
            self.proofs.store(0, Relaxed);
            self.since.store(0, Relaxed);
        } else if requests > 0 {
            let _ = self.since.compare_exchange(0, now.0.max(1), Relaxed, Relaxed);
        } else if now.since(Tick(self.since.load(Relaxed))) >= FORGOTTEN {
            self.since.store(0, Relaxed);
        }
    }

    /// Whether it has been silent for so long, with so many requests now, that somebody should look: others have answered, last
    /// at `others`.
    pub fn is_long(&self, requests: u32, others: Tick, now: Tick) -> bool {
        let since = Tick(self.since.load(Relaxed));
        let least = if requests >= BUSY { LEAST } else { LEAST_OF_FEW };
        requests > 0
            && since != Tick(0)
            && others > since
            && now.since(since) >= least * (1 << self.proofs.load(Relaxed).min(DOUBLINGS_MAX))
    }

    /// Somebody has to look; says whether that is news.
    pub fn suspect(&self) -> bool {
        !self.is_suspect.swap(true, Relaxed)
    }

    /// Whether somebody has to look.
    pub fn is_suspect(&self) -> bool {
        self.is_suspect.load(Relaxed)
    }

    /// Somebody has looked.
    pub fn looked(&self, alive: bool, now: Tick) {
        if alive {
            self.proofs.fetch_add(1, Relaxed);
            self.since.store(now.0.max(1), Relaxed);
        } else {
            self.since.store(0, Relaxed);
        }
        self.is_suspect.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_host_is_silent_only_with_requests_and_without_answers() {
        let silence = Silence::default();
        for second in 1..10 {
            silence.hear(false, 0, Tick(second * SECOND));
            silence.hear(second % 2 == 0, BUSY, Tick(second * SECOND));
            silence.hear(true, BUSY, Tick(second * SECOND));
            assert!(!silence.is_long(BUSY, Tick::NEVER, Tick(second * SECOND + SECOND / 2)));
        }
        silence.hear(false, BUSY, Tick(10 * SECOND));
        assert!(!silence.is_long(BUSY, Tick::NEVER, Tick(10 * SECOND + SECOND / 2)));
        silence.hear(false, BUSY, Tick(11 * SECOND));
        assert!(!silence.is_long(BUSY, Tick(10 * SECOND), Tick(11 * SECOND)), "the others are silent, too");
        assert!(silence.is_long(BUSY, Tick(11 * SECOND), Tick(11 * SECOND)));
        assert!(silence.suspect() && !silence.suspect());
    }

    #[test]
    fn one_that_proves_to_be_alive_is_looked_at_less_and_less() {
        let silence = Silence::default();
        let mut looks = Vec::new();
        for second in 1..100 {
            silence.hear(false, BUSY, Tick(second * SECOND));
            if silence.is_long(BUSY, Tick::NEVER, Tick(second * SECOND)) && silence.suspect() {
                looks.push(second);
                silence.looked(true, Tick(second * SECOND));
            }
        }
        assert_eq!(looks, [2, 4, 8, 16, 32, 64]);
        silence.hear(true, BUSY, Tick(100 * SECOND));
        silence.hear(false, BUSY, Tick(101 * SECOND));
        assert!(silence.is_long(BUSY, Tick::NEVER, Tick(102 * SECOND)), "an answer is a new beginning");
    }

    #[test]
    fn clients_that_give_up_one_by_one_are_no_answers() {
        let silence = Silence::default();
        for second in 1..20 {
            let requests = u32::from(second % 5 == 0); // one now and then, who leaves
            silence.hear(false, requests, Tick(second * SECOND));
            let is_long = silence.is_long(requests, Tick::NEVER, Tick(second * SECOND));
            assert_eq!(is_long, second == 15, "{second}");
        }
        silence.hear(false, 0, Tick(70 * SECOND));
        silence.hear(false, 1, Tick(71 * SECOND));
        assert!(!silence.is_long(1, Tick::NEVER, Tick(72 * SECOND)), "it is long ago");
    }
}
