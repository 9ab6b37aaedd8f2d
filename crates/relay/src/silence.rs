//! Silence: a host has requests and gives no answers, while others of its pool do: perhaps its process has stopped.

use portunus_message::Tick;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a host has to be silent until it is looked at; twice as long each time that it has proved to be alive since its last answer.
const LEAST: Duration = Duration::from_secs(1);
/// How often that doubles.
const DOUBLINGS_MAX: u32 = 6;
/// With fewer requests on it, silence says nothing.
pub const BUSY: u32 = 5;

/// How long a host has been silent, as all workers together have found.
#[derive(Debug, Default)]
pub struct Silence {
    /// In microseconds of a [`Tick`]; 0 while it is not.
    since: AtomicU64,
    /// How often it has proved to be alive since its last answer.
    proofs: AtomicU32,
    /// Whether somebody has to look.
    is_suspect: AtomicBool,
}

impl Silence {
    /// Hears, once a second of each worker, whether the host has answered it since the last time, and whether it has enough
    /// requests that it should have.
    pub fn hear(&self, answered: bool, is_busy: bool, now: Tick) {
        if answered {
            self.proofs.store(0, Relaxed);
        }
        if answered || !is_busy {
            self.since.store(0, Relaxed);
        } else {
            let _ = self.since.compare_exchange(0, now.0.max(1), Relaxed, Relaxed);
        }
    }

    /// Whether it has been silent for so long that somebody should look.
    pub fn is_long(&self, now: Tick) -> bool {
        let since = self.since.load(Relaxed);
        since != 0 && now.since(Tick(since)) >= LEAST * (1 << self.proofs.load(Relaxed).min(DOUBLINGS_MAX))
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
            silence.hear(false, false, Tick(second * SECOND));
            silence.hear(second % 2 == 0, true, Tick(second * SECOND));
            silence.hear(true, true, Tick(second * SECOND));
            assert!(!silence.is_long(Tick(second * SECOND + SECOND / 2)));
        }
        silence.hear(false, true, Tick(10 * SECOND));
        assert!(!silence.is_long(Tick(10 * SECOND + SECOND / 2)));
        silence.hear(false, true, Tick(11 * SECOND));
        assert!(silence.is_long(Tick(11 * SECOND)) && silence.suspect() && !silence.suspect());
    }

    #[test]
    fn one_that_proves_to_be_alive_is_looked_at_less_and_less() {
        let silence = Silence::default();
        let mut looks = Vec::new();
        for second in 1..100 {
            silence.hear(false, true, Tick(second * SECOND));
            if silence.is_long(Tick(second * SECOND)) && silence.suspect() {
                looks.push(second);
                silence.looked(true, Tick(second * SECOND));
            }
        }
        assert_eq!(looks, [2, 4, 8, 16, 32, 64]);
        silence.hear(true, true, Tick(100 * SECOND));
        silence.hear(false, true, Tick(101 * SECOND));
        assert!(silence.is_long(Tick(102 * SECOND)), "an answer is a new beginning");
    }
}
