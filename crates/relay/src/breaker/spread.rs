//! spread: how times are spread, in steps of a fifth; what a quantile is read from.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Steps in each doubling.
const PER_OCTAVE: u32 = 4;
/// The shortest time that is told from shorter ones, as a power of two of microseconds.
const LEAST: u32 = 5;
/// Doublings: from 32 µs to more than a minute.
const OCTAVES: u32 = 22;
const STEPS: usize = (PER_OCTAVE * OCTAVES) as usize;

/// Counts by time.
#[derive(Clone, Debug)]
pub struct Spread {
    counts: [u32; STEPS],
    all: u32,
}

impl Default for Spread {
    fn default() -> Spread {
        Spread { counts: [0; STEPS], all: 0 }
    }
}

impl Spread {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        if let Some(count) = self.counts.get_mut(step(time)) {
            *count += 1;
            self.all += 1;
        }
    }

    /// Counts what another has counted.
    pub fn merge(&mut self, other: &Spread) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(to, from)| *to += from);
        self.all += other.all;
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.all
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all == 0
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Spread::default();
    }

    /// Lets everything count for half as much.
    pub fn fade(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.all = self.counts.iter().sum();
    }

    /// The time within which `percent` of them are, rounded up to the next step; none when there is nothing.
    pub fn quantile(&self, percent: u32) -> Option<Duration> {
        let wanted = (u64::from(self.all) * u64::from(percent)).div_ceil(100).max(1);
        let mut sum = 0u64;
        let at = self.counts.iter().position(|count| {
            sum += u64::from(*count);
            sum >= wanted
        })?;
        Some(end_of(at))
    }
}

/// Times that a quantile means anything from.
const ENOUGH: u32 = 50;
/// Times after which the older ones count for less.
const MANY: u32 = 2000;

/// The percentiles that are kept.
const PERCENTILES: std::ops::RangeInclusive<u32> = 50..=99;

/// How long a pool's answers take of late, for all workers.
#[derive(Debug)]
pub struct Pace {
    /// Each of [`PERCENTILES`], in microseconds; 0 while too little is known.
    slow_us: [AtomicU64; 50],
    /// Guards what it is read from.
    spread: Mutex<Spread>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { slow_us: [const { AtomicU64::new(0) }; 50], spread: Mutex::default() }
    }
}

impl Pace {
    /// Hears of further times.
    pub fn hear(&self, seen: &Spread) {
        let mut spread = self.spread.lock().unwrap_or_else(PoisonError::into_inner);
        spread.merge(seen);
        if spread.len() >= ENOUGH {
            for (slow_us, percent) in self.slow_us.iter().zip(PERCENTILES) {
                let slow = spread.quantile(percent).unwrap_or_default();
                slow_us.store(u64::try_from(slow.as_micros()).unwrap_or(u64::MAX), Relaxed);
            }
        }
        if spread.len() >= MANY {
            spread.fade();
        }
    }

    /// The time within which `percent` of the answers begin, 50 to 99, once enough is known.
    pub fn slow(&self, percent: u32) -> Option<Duration> {
        let at = percent.checked_sub(*PERCENTILES.start())?;
        let slow_us = self.slow_us.get(at as usize)?.load(Relaxed);
        Some(slow_us).filter(|&us| us > 0).map(Duration::from_micros)
    }
}

fn step(time: Duration) -> usize {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1 << LEAST);
    let octave = us.ilog2();
    let within = (us >> (octave - 2)) & 3; // the two bits after the first one
    let at = u64::from(octave - LEAST) * u64::from(PER_OCTAVE) + within;
    usize::try_from(at).unwrap_or(STEPS).min(STEPS - 1)
}

/// The longest time of a step.
fn end_of(at: usize) -> Duration {
    let at = at as u64 + 1;
    let (octave, within) = (at / u64::from(PER_OCTAVE), at % u64::from(PER_OCTAVE));
    Duration::from_micros((4 + within) << (octave + u64::from(LEAST) - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_a_quarter() {
        for us in [32u64, 50, 100, 999, 5000, 123_456, 1_000_000, 59_000_000] {
            let mut spread = Spread::default();
            spread.add(Duration::from_micros(us));
            let told = spread.quantile(50).unwrap().as_micros() as u64;
            assert!(told >= us && told <= us * 5 / 4 + 1, "{us} is told as {told}");
        }
        assert_eq!(Spread::default().quantile(95), None);
    }

    #[test]
    fn quantiles_are_told_apart() {
        let mut spread = Spread::default();
        (0..95).for_each(|_| spread.add(Duration::from_millis(1)));
        (0..5).for_each(|_| spread.add(Duration::from_secs(1)));
        assert!(spread.quantile(95).unwrap() < Duration::from_millis(2));
        assert!(spread.quantile(96).unwrap() >= Duration::from_secs(1));
        spread.fade();
        assert_eq!(spread.len(), 49);
        let mut other = Spread::default();
        other.merge(&spread);
        assert_eq!(other.quantile(50), spread.quantile(50));
    }

    #[test]
    fn a_pace_is_told_once_enough_is_known_and_follows() {
        let (pace, mut seen) = (Pace::default(), Spread::default());
        (0..49).for_each(|_| seen.add(Duration::from_millis(1)));
        pace.hear(&seen);
        assert_eq!(pace.slow(95), None);
        pace.hear(&seen);
        assert!(pace.slow(95).is_some_and(|slow| slow < Duration::from_millis(2)));
        seen.clear();
        (0..100).for_each(|_| seen.add(Duration::from_millis(100)));
        (0..100).for_each(|_| pace.hear(&seen));
        assert!(pace.slow(49).is_none() && pace.slow(100).is_none());
        assert!(pace.slow(50).is_some_and(|slow| slow >= Duration::from_millis(100)));
        assert!(pace.slow(99).is_some_and(|slow| slow >= Duration::from_millis(100)));
    }

    #[test]
    fn nothing_is_too_short_or_too_long() {
        let mut spread = Spread::default();
        spread.add(Duration::ZERO);
        spread.add(Duration::MAX);
        assert_eq!(spread.len(), 2);
        assert!(spread.quantile(100).unwrap() > Duration::from_secs(60));
    }
}
