//! Conduct: what ejection has counted against a host; written by `eject` alone.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What ejection has counted against a host. While nothing is, hearing of a good answer costs one load.
#[derive(Debug, Default)]
pub struct Conduct {
    /// A [`Doubt`], packed; 0 when there is none.
    doubt: AtomicU64,
    /// The [`Reason`] of the latest ejection.
    reason: AtomicU8,
    /// How often it was ejected shortly after it had come back.
    strikes: AtomicU32,
    /// Samples in the upper half, their moving average in microseconds in the lower; only where latency counts.
    latency: AtomicU64,
    /// Ejections since the start, in the order of [`Reason::ALL`].
    ejections: [AtomicU64; Reason::ALL.len()],
}

/// Why a host was ejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A connection to it was refused, or there is no way to it.
    Refused,
    /// Attempts in a row failed, the last of them for want of an answer.
    Timeouts,
    /// Attempts in a row failed.
    #[default]
    Errors,
    /// Too large a share of its attempts failed.
    Rate,
    /// It is much slower than the others of its pool.
    Latency,
}

impl Reason {
    /// Every reason, in order.
    pub const ALL: [Reason; 5] =
        [Reason::Refused, Reason::Timeouts, Reason::Errors, Reason::Rate, Reason::Latency];

    /// The word in logs, metrics and the status.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Refused => "refused",
            Reason::Timeouts => "timeouts",
            Reason::Errors => "errors",
            Reason::Rate => "rate",
            Reason::Latency => "latency",
        }
    }
}

/// What stands against a host now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Failures since the last good answer.
    pub in_a_row: u16,
    /// Attempts of the window that began with a failure.
    pub seen: u16,
    /// Those of them that failed.
    pub failed: u16,
    /// Good answers that are still missing until an ejected host is fully back.
    pub trial: u16,
}

impl Doubt {
    fn pack(self) -> u64 {
        let [a, b, c, d] = [self.in_a_row, self.seen, self.failed, self.trial].map(u64::from);
        a | b << 16 | c << 32 | d << 48
    }

    fn unpack(word: u64) -> Doubt {
        let part = |shift: u32| u16::try_from(word >> shift & 0xffff).unwrap_or(u16::MAX);
        Doubt { in_a_row: part(0), seen: part(16), failed: part(32), trial: part(48) }
    }
}

impl Conduct {
    /// Whether nothing at all stands against it.
    pub fn is_clean(&self) -> bool {
        self.doubt.load(Relaxed) == 0
    }

    /// What stands against it.
    pub fn doubt(&self) -> Doubt {
        Doubt::unpack(self.doubt.load(Relaxed))
    }

    /// Sets what stands against it.
    pub fn set_doubt(&self, doubt: Doubt) {
        self.doubt.store(doubt.pack(), Relaxed);
    }

    /// Lets `change` decide what stands against it, whoever else hears of it at the same time.
    pub fn update<T>(&self, change: impl Fn(Doubt) -> (Doubt, T)) -> T {
        let mut before = self.doubt.load(Relaxed);
        loop {
            let (after, told) = change(Doubt::unpack(before));
            match self.doubt.compare_exchange_weak(before, after.pack(), Relaxed, Relaxed) {
                Ok(_) => return told,
                Err(now) => before = now,
            }
        }
    }

    /// Why it was ejected last.
    pub fn reason(&self) -> Reason {
        let stored = self.reason.load(Relaxed);
        Reason::ALL.into_iter().find(|reason| *reason as u8 == stored).unwrap_or_default()
    }

    /// How often it was ejected shortly after it had come back.
    pub fn strikes(&self) -> u32 {
        self.strikes.load(Relaxed)
    }

    /// Notes an ejection.
    pub fn ejected(&self, reason: Reason, strikes: u32) {
        self.reason.store(reason as u8, Relaxed);
        self.strikes.store(strikes, Relaxed);
        if let Some(count) = self.ejections.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Ejections since the start, by reason.
    pub fn ejections(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(&self.ejections).map(|(reason, count)| (reason, count.load(Relaxed)))
    }

    /// The moving average of its answers' latency in microseconds, once there are enough samples of it.
    pub fn latency_us(&self) -> Option<u64> {
        let word = self.latency.load(Relaxed);
        (word >> 32 >= SAMPLES_MIN).then_some(word & u64::from(u32::MAX))
    }

    /// Hears of one answer's latency; gives back how many samples there are now.
    pub fn heard_latency(&self, sample_us: u64) -> u64 {
        let sample = sample_us.min(u64::from(u32::MAX));
        let before = self.latency.load(Relaxed);
        let (count, average) = (before >> 32, before & u64::from(u32::MAX));
        let average = if count == 0 { sample } else { (average * 7 + sample) / 8 };
        let count = (count + 1).min(u64::from(u32::MAX));
        // Two workers at the same moment lose one sample of many; that is no reason to try again.
        self.latency.store(count << 32 | average, Relaxed);
        count
    }

    /// Forgets its latency.
    pub fn forget_latency(&self) {
        self.latency.store(0, Relaxed);
    }
}

/// Fewer samples say nothing.
const SAMPLES_MIN: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_keeps_its_parts() {
        let doubt = Doubt { in_a_row: 1, seen: u16::MAX, failed: 3, trial: 4 };
        assert_eq!(Doubt::unpack(doubt.pack()), doubt);
        assert_eq!(Doubt::default().pack(), 0);
    }

    #[test]
    fn latency_is_known_after_enough_samples() {
        let conduct = Conduct::default();
        for _ in 0..SAMPLES_MIN - 1 {
            conduct.heard_latency(1000);
        }
        assert_eq!(conduct.latency_us(), None);
        conduct.heard_latency(1000);
        assert_eq!(conduct.latency_us(), Some(1000));
        (0..64).for_each(|_| _ = conduct.heard_latency(9000));
        assert!(conduct.latency_us().unwrap() > 8900);
    }
}
