//! Latency: how quick a host has been of late, and how often it failed; the live words that `least-time` weighs.

use portunus_message::Tick;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How fast the past is forgotten: after this time it counts for 37 %.
const DECAY: Duration = Duration::from_secs(10);
/// How many times faster a failure is learned than forgotten.
const ALARM: i32 = 10;

/// How quick a host has been of late. Its words are written one by one by whoever hears an answer: a lost race costs
/// one sample.
#[derive(Debug, Default)]
pub struct Latency {
    /// The estimate at `heard_at`, in microseconds: the bits of an `f64`, because thousands of samples in a second each
    /// move it by less than a whole number could hold.
    estimate_us: AtomicU64,
    /// The share of failures at `heard_at`, the bits of an `f64`.
    failing: AtomicU64,
    /// When something was heard last, in microseconds of a [`Tick`]; 0 for never.
    heard_at: AtomicU64,
}

/// What is believed of a host at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Belief {
    /// How long it takes to answer, in microseconds.
    pub latency_us: f64,
    /// How much of what it does fails, 0 to 1; failures count several times.
    pub failing: f64,
}

impl Latency {
    /// Hears of an attempt. The estimate follows a slower one at once and a quicker one by and by (peak-EWMA); a failure
    /// never makes it better, however quick it was.
    pub fn hear(&self, latency: Duration, failed: bool, now: Tick) {
        let before = self.believe(now);
        let kept = self.kept(now);
        let sample = latency.as_micros() as f64;
        let estimate = match before {
            None => sample,
            Some(before) if failed || sample > before.latency_us => sample.max(before.latency_us),
            // What was forgotten by now makes room for what is heard now.
            Some(before) => before.latency_us + sample * (1.0 - kept),
        };
        let failing = before.map_or(0.0, |before| before.failing);
        let failing = if failed { failing + (1.0 - failing) * (1.0 - kept.powi(ALARM)) } else { failing };
        self.estimate_us.store(estimate.to_bits(), Relaxed);
        self.failing.store(failing.min(1.0).to_bits(), Relaxed);
        self.heard_at.store(now.0.max(1), Relaxed);
    }

    /// What is believed of it now; none while nothing was ever heard. What was heard fades, so that a host that was
    /// bad, and therefore is not asked any more, is asked again some time.
    pub fn believe(&self, now: Tick) -> Option<Belief> {
        if self.heard_at.load(Relaxed) == 0 {
            return None;
        }
        let kept = self.kept(now);
        Some(Belief {
            latency_us: f64::from_bits(self.estimate_us.load(Relaxed)) * kept,
            failing: f64::from_bits(self.failing.load(Relaxed)) * kept,
        })
    }

    /// How much of what was heard last still counts: 1 for all.
    fn kept(&self, now: Tick) -> f64 {
        let heard_at = self.heard_at.load(Relaxed);
        if heard_at == 0 {
            return 0.0;
        }
        (-now.since(Tick(heard_at)).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn at(ms: u64) -> Tick {
        Tick(ms * 1000)
    }

    #[test]
    fn a_slower_answer_counts_at_once_and_a_quicker_one_slowly() {
        let latency = Latency::default();
        assert_eq!(latency.believe(at(0)), None);
        latency.hear(MS(10), false, at(1));
        latency.hear(MS(500), false, at(2));
        assert!(latency.believe(at(2)).unwrap().latency_us > 499_000.0);
        latency.hear(MS(10), false, at(1002));
        let after = latency.believe(at(1002)).unwrap().latency_us;
        assert!((440_000.0..460_000.0).contains(&after), "{after}");
        for ms in 0..60 {
            latency.hear(MS(10), false, at(2_000 + ms * 1_000));
        }
        let after = latency.believe(at(61_000)).unwrap().latency_us;
        assert!((10_000.0..12_000.0).contains(&after), "{after}");
    }

    #[test]
    fn a_quick_failure_is_no_good_news() {
        let latency = Latency::default();
        latency.hear(MS(20), false, at(1));
        latency.hear(MS(0), true, at(10_001));
        let belief = latency.believe(at(10_001)).unwrap();
        assert!(belief.failing > 0.6 && belief.latency_us > 7_000.0, "{belief:?}");
        let faded = latency.believe(at(60_000)).unwrap();
        assert!(faded.failing < 0.01, "{faded:?}");
    }

    #[test]
    fn failures_are_a_share_that_is_counted_several_times() {
        let latency = Latency::default();
        for ms in 0..50_000u64 {
            latency.hear(MS(5), ms % 10 == 0, at(ms + 1));
        }
        let belief = latency.believe(at(50_000)).unwrap();
        assert!((0.4..0.6).contains(&belief.failing), "{belief:?}");
    }
}
