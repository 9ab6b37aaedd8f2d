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
/// How much is counted at most from one time that is heard to the next.
const STEP_MAX: Duration = Duration::from_millis(1500);
/// After so long without any request there is nothing left of it.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// How long a host has been silent, as all workers together have found.
#[derive(Debug, Default)]
pub struct Silence {
    /// Since when, in microseconds of a [`Tick`]; 0 while it is not.
    since: AtomicU64,
    /// When it was last heard that it has requests,
    last: AtomicU64,
    /// and how many it has, as was heard last.
    requests: AtomicU32,
    /// How long it has had any. Those that are given up by their clients are no answers.
    few: Watch,
    /// How long it has had many.
    many: Watch,
    /// Whether somebody has to look.
    is_suspect: AtomicBool,
    /// Whether nobody was there when somebody looked.
    is_mute: AtomicBool,
}

/// A time that is counted while a host gives no answers, and has requests.
#[derive(Debug, Default)]
struct Watch {
    /// In microseconds.
    silent: AtomicU64,
    /// How often the host has proved to be alive since its last answer.
    proofs: AtomicU32,
}

impl Silence {
    /// Hears, once a second of each worker, whether the host has answered it since the last time, and how many requests it has.
    pub fn hear(&self, answered: bool, requests: u32, now: Tick) {
        let before = self.requests.swap(requests, Relaxed);
        let last = Tick(self.last.load(Relaxed));
        if answered {
            self.speaks();
        }
        if answered || (last != Tick(0) && now.since(last) >= FORGOTTEN) {
            self.begin_anew();
            self.last.store(0, Relaxed);
        }
        if requests == 0 {
            return self.many.silent.store(0, Relaxed);
        }
        self.last.store(now.0.max(1), Relaxed);
        if answered {
            return;
        }
        let _ = self.since.compare_exchange(0, now.0.max(1), Relaxed, Relaxed);
        let step = now.since(last).min(STEP_MAX);
        if before > 0 {
            self.few.add(step);
        }
        if requests < BUSY {
            self.many.silent.store(0, Relaxed);
        } else if before >= BUSY {
            self.many.add(step);
        }
    }

    /// Whether nobody was there when somebody looked, and no answer has come since: whatever waits for one may go elsewhere.
    pub fn is_mute(&self) -> bool {
        self.is_mute.load(Relaxed)
    }

    /// Hears that somebody is there.
    pub fn speaks(&self) {
        self.is_mute.store(false, Relaxed);
    }

    fn begin_anew(&self) {
        self.since.store(0, Relaxed);
        self.few.clear();
        self.many.clear();
    }

    /// Whether it has been silent for so long, with so many requests now, that somebody should look: others of its pool have answered, last
    /// at `others`, or `idle`: they have nothing to do.
    pub fn is_long(&self, requests: u32, others: Tick, idle: bool) -> bool {
        let since = Tick(self.since.load(Relaxed));
        let (watch, least) = if requests < BUSY { (&self.few, LEAST_OF_FEW) } else { (&self.many, LEAST) };
        requests > 0 && since != Tick(0) && (others > since || idle) && watch.is_long(least)
    }

    /// Somebody has to look; says whether that is news.
    pub fn suspect(&self) -> bool {
        !self.is_suspect.swap(true, Relaxed)
    }

    /// Somebody has looked.
    pub fn looked(&self, alive: bool, now: Tick) {
        self.is_mute.store(!alive, Relaxed);
        if alive {
            self.few.proved(LEAST_OF_FEW);
            self.many.proved(LEAST);
            self.since.store(now.0.max(1), Relaxed);
        } else {
            self.begin_anew();
        }
    }

    /// Nobody looks any more.
    pub fn is_left(&self) {
        self.is_suspect.store(false, Relaxed);
    }
}

impl Watch {
    fn add(&self, step: Duration) {
        let step = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
        self.silent.store(self.silent.load(Relaxed).saturating_add(step), Relaxed);
    }

    fn clear(&self) {
        self.silent.store(0, Relaxed);
        self.proofs.store(0, Relaxed);
    }

    fn is_long(&self, least: Duration) -> bool {
        let doublings = self.proofs.load(Relaxed).min(DOUBLINGS_MAX);
        Duration::from_micros(self.silent.load(Relaxed)) >= least * (1 << doublings)
    }

    /// The host is alive; the next time is counted from now on, and it is longer if this one has led to the question.
    fn proved(&self, least: Duration) {
        if self.is_long(least) {
            self.proofs.fetch_add(1, Relaxed);
        }
        self.silent.store(0, Relaxed);
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
            assert!(!silence.is_long(BUSY, Tick::NEVER, false));
        }
        silence.hear(false, 0, Tick(9 * SECOND + SECOND / 2));
        silence.hear(false, BUSY, Tick(10 * SECOND));
        assert!(!silence.is_long(BUSY, Tick::NEVER, false), "they may just have come");
        silence.hear(false, BUSY, Tick(11 * SECOND));
        assert!(!silence.is_long(BUSY, Tick(10 * SECOND), false), "the others are silent, too");
        assert!(silence.is_long(BUSY, Tick(11 * SECOND), false));
        assert!(silence.suspect() && !silence.suspect());
    }

    #[test]
    fn one_that_proves_to_be_alive_is_looked_at_less_and_less() {
        for (requests, least) in [(BUSY, 1), (1, 10)] {
            let silence = Silence::default();
            let mut looks = Vec::new();
            for second in 1..=least * 128 {
                silence.hear(false, requests, Tick(second * SECOND));
                if silence.is_long(requests, Tick::NEVER, false) && silence.suspect() {
                    looks.push((second - 1) / least);
                    silence.looked(true, Tick(second * SECOND));
                    silence.is_left();
                }
            }
            assert_eq!(looks, [1, 3, 7, 15, 31, 63, 127], "{requests}");
            let end = least * 129;
            silence.hear(true, requests, Tick(end * SECOND));
            (end..=end + least).for_each(|second| silence.hear(false, requests, Tick(second * SECOND)));
            assert!(silence.is_long(requests, Tick::NEVER, false), "an answer is a new beginning");
        }
    }

    #[test]
    fn a_stream_that_stands_keeps_nobody_from_seeing_that_the_host_stops() {
        let silence = Silence::default();
        for second in 0..700 {
            silence.hear(false, 1, Tick(second * SECOND));
            if silence.is_long(1, Tick::NEVER, false) {
                silence.looked(true, Tick(second * SECOND));
            }
        }
        (700..702).for_each(|second| silence.hear(false, BUSY, Tick(second * SECOND)));
        assert!(silence.is_long(BUSY, Tick::NEVER, false));
    }

    #[test]
    fn only_time_with_requests_counts() {
        let silence = Silence::default();
        // One that is given up, nothing for long, and one that takes its time.
        for (second, requests) in (0..18).map(|second| (second, u32::from(!(3..15).contains(&second)))) {
            silence.hear(false, requests, Tick(second * SECOND));
            assert!(!silence.is_long(requests, Tick::NEVER, false), "{second}");
        }
        // A worker that slept has nothing to say of the time before.
        let silence = Silence::default();
        for minute in 0..6 {
            silence.hear(false, 1, Tick(minute * 50 * SECOND));
            assert!(!silence.is_long(1, Tick::NEVER, false), "{minute}");
        }
    }

    #[test]
    fn clients_that_give_up_one_by_one_are_no_answers() {
        let silence = Silence::default();
        for second in 0..40 {
            let requests = u32::from(second % 5 > 1); // three seconds of five one who leaves
            silence.hear(false, requests, Tick(second * SECOND));
            assert_eq!(
                silence.is_long(requests, Tick::NEVER, false),
                second > 23 && requests > 0,
                "{second}"
            );
        }
        silence.hear(false, 0, Tick(100 * SECOND));
        silence.hear(false, 1, Tick(101 * SECOND));
        assert!(!silence.is_long(1, Tick::NEVER, false), "it is long ago");
    }

    #[test]
    fn others_that_have_nothing_to_do_say_nothing_against_it() {
        let silence = Silence::default();
        (1..4).for_each(|second| silence.hear(false, BUSY, Tick(second * SECOND)));
        assert!(silence.is_long(BUSY, Tick(0), true));
        assert!(!silence.is_long(BUSY, Tick(0), false), "nobody answers anything");
        silence.looked(false, Tick(10 * SECOND));
        assert!(silence.is_mute());
        silence.hear(true, BUSY, Tick(11 * SECOND));
        assert!(!silence.is_mute());
    }
}
