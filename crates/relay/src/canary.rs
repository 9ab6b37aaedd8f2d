//! Canary: a pool that gets a share of a route's requests which moves by itself; what was seen of it and of the others.

use crate::plan::{self, Share};
use crate::values;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A route's canary.
#[derive(Debug)]
pub struct Canary {
    /// What was asked.
    pub plan: plan::Canary,
    /// The index of its pool.
    pub pool: u32,
    /// What it is judged by.
    pub conditions: Vec<Condition>,
    /// What changes while it runs; kept over reloads that leave the plan of it as it is.
    pub live: Arc<Live>,
}

/// What changes of a canary while it runs.
#[derive(Debug)]
pub struct Live {
    /// Its share now, as a [`Share`]; written by whoever moves it, read for each request.
    share: AtomicU32,
    /// What was seen of the canary.
    pub new: Seen,
    /// What was seen of the route's other pools.
    pub old: Seen,
}

/// What was seen of the requests of one side, from the start; counted by all workers.
#[derive(Debug)]
pub struct Seen {
    requests: AtomicU64,
    errors: AtomicU64,
    times: Vec<AtomicU32>,
}

/// What was seen, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests that were answered, or failed.
    pub requests: u64,
    /// Those of them that failed, or were answered with a status of 500 or above.
    pub errors: u64,
    /// How many took how long, by class.
    times: Vec<u32>,
}

/// One reason to give up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// What is measured.
    pub measure: Measure,
    /// What it must not be above.
    pub bound: Bound,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// The share of requests that fail.
    Errors,
    /// How long all but this share of requests are answered in: 0.99 for `p99`.
    Percentile(f64),
}

/// What a measure must not be above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// A share of all requests.
    Share(Share),
    /// A time.
    Time(Duration),
    /// So many times what the others have.
    Times(f64),
}

/// Classes of time in each doubling: neighbours differ by 9 %.
const CLASSES_PER_DOUBLING: u32 = 8;
/// The shortest time that is told apart, in microseconds.
const SHORTEST_US: f64 = 32.0;
/// All classes: up to two minutes.
const CLASSES: usize = 22 * CLASSES_PER_DOUBLING as usize;

impl Canary {
    /// A canary whose pool has this index; `before` is what an earlier Snapshot had on the same route.
    pub fn new(plan: &plan::Canary, pool: u32, before: Option<&Canary>) -> Result<Canary, String> {
        let live = before.filter(|before| before.plan == *plan).map(|before| Arc::clone(&before.live));
        let live = live.unwrap_or_else(|| Arc::new(Live::new(plan.from)));
        Ok(Canary { plan: plan.clone(), pool, conditions: conditions(&plan.abort)?, live })
    }
}

impl Live {
    fn new(share: Share) -> Live {
        Live { share: AtomicU32::new(share.0), new: Seen::default(), old: Seen::default() }
    }

    /// Its share now.
    pub fn share(&self) -> Share {
        Share(self.share.load(Relaxed))
    }

    /// Moves it.
    pub fn set_share(&self, share: Share) {
        self.share.store(share.0, Relaxed);
    }
}

impl Default for Seen {
    fn default() -> Seen {
        let times = (0..CLASSES).map(|_| AtomicU32::new(0)).collect();
        Seen { requests: AtomicU64::new(0), errors: AtomicU64::new(0), times }
    }
}

impl Seen {
    /// Counts one request.
    pub fn count(&self, took: Duration, failed: bool) {
        self.requests.fetch_add(1, Relaxed);
        if failed {
            self.errors.fetch_add(1, Relaxed);
        }
        if let Some(class) = self.times.get(class_of(took)) {
            class.fetch_add(1, Relaxed);
        }
    }

    /// What was seen so far.
    pub fn read(&self) -> Sample {
        Sample {
            requests: self.requests.load(Relaxed),
            errors: self.errors.load(Relaxed),
            times: self.times.iter().map(|class| class.load(Relaxed)).collect(),
        }
    }
}

impl Sample {
    /// What was seen after `earlier`.
    pub fn since(&self, earlier: &Sample) -> Sample {
        let before = earlier.times.iter().chain(std::iter::repeat(&0));
        Sample {
            requests: self.requests.wrapping_sub(earlier.requests),
            errors: self.errors.wrapping_sub(earlier.errors),
            times: self.times.iter().zip(before).map(|(now, before)| now.wrapping_sub(*before)).collect(),
        }
    }

    /// The part of requests that failed, 0 to 1.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// How many took surely longer than `time`.
    fn slower_than(&self, time: Duration) -> u64 {
        self.times.iter().skip(class_of(time) + 1).map(|&count| u64::from(count)).sum()
    }

    /// The time that this part of the requests did not exceed, to 9 %; zero when there was none.
    pub fn percentile(&self, part: f64) -> Duration {
        self.ranked(self.timed() * part)
    }

    /// The same, as long as it might be: chance has made it shorter.
    fn percentile_at_most(&self, part: f64) -> Duration {
        let all = self.timed();
        self.ranked((all * part + SURE * (all * part * (1.0 - part)).sqrt()).min(all))
    }

    /// Of how many it was counted how long they took: one that is counted at this moment may be among the others and not here.
    fn timed(&self) -> f64 {
        self.times.iter().map(|&count| f64::from(count)).sum()
    }

    fn ranked(&self, rank: f64) -> Duration {
        let wanted = rank.ceil().max(1.0);
        let mut sum = 0u64;
        for (class, &count) in (0u32..).zip(&self.times) {
            sum += u64::from(count);
            if sum as f64 >= wanted {
                let doublings = f64::from(class + 1) / f64::from(CLASSES_PER_DOUBLING);
                return Duration::from_micros((SHORTEST_US * doublings.exp2()) as u64);
            }
        }
        Duration::ZERO
    }
}

fn class_of(took: Duration) -> usize {
    let doublings = (took.as_micros() as f64 / SHORTEST_US).max(1.0).log2();
    // What is negative or too large becomes the nearest class.
    ((doublings * f64::from(CLASSES_PER_DOUBLING)) as usize).min(CLASSES - 1)
}

/// The least and the most that the part of all requests may be of which `of` were seen among `all` (Wilson's interval).
fn interval(of: u64, all: u64) -> (f64, f64) {
    if all == 0 {
        return (0.0, 1.0);
    }
    let (all, part, square) = (all as f64, of as f64 / all as f64, SURE * SURE);
    let middle = part + square / (2.0 * all);
    let width = SURE * (part * (1.0 - part) / all + square / (4.0 * all * all)).sqrt();
    let bounds = ((middle - width) / (1.0 + square / all), (middle + width) / (1.0 + square / all));
    // Where the interval ends at none, or at all, it does so exactly.
    (if part == 0.0 { 0.0 } else { bounds.0 }, if part == 1.0 { 1.0 } else { bounds.1 })
}

/// How many standard deviations what was seen has to be beyond a bound until it is not held to be chance: one look in a thousand errs.
const SURE: f64 = 3.0;

/// `errors > 1% or p99 > 1.5x or p50 > 200ms`.
pub fn conditions(text: &str) -> Result<Vec<Condition>, String> {
    text.split(" or ").map(|part| condition(part.trim())).collect()
}

fn condition(text: &str) -> Result<Condition, String> {
    let wrong =
        || format!("`{text}` is not a condition; write it like `errors > 1%`, `p99 > 1.5x` or `p95 > 200ms`");
    let (measure, bound) = text.split_once('>').ok_or_else(wrong)?;
    let measure = match measure.trim() {
        "errors" => Measure::Errors,
        "p50" => Measure::Percentile(0.50),
        "p90" => Measure::Percentile(0.90),
        "p95" => Measure::Percentile(0.95),
        "p99" => Measure::Percentile(0.99),
        _ => return Err(wrong()),
    };
    let bound = bound.trim();
    let times = || bound.strip_suffix('x')?.parse().ok().filter(|times| (0.0..=1000.0).contains(times));
    let bound = match (measure, times(), values::parse_share(bound), values::parse_duration(bound)) {
        (_, Some(times), _, _) => Bound::Times(times),
        (Measure::Errors, _, Ok(share), _) => Bound::Share(Share(share)),
        (Measure::Percentile(_), _, _, Ok(time)) => Bound::Time(time),
        _ => return Err(wrong()),
    };
    Ok(Condition { measure, bound })
}

impl Condition {
    /// Why the canary must be given up by this condition, if it must; in words with figures. Few requests prove little: what may be chance
    /// is none, and others of which fewer than `least` were seen are no measure.
    pub fn broken_by(&self, new: &Sample, old: &Sample, least: u64) -> Option<String> {
        match self.measure {
            Measure::Errors => self.errs(new, old, least),
            Measure::Percentile(part) => self.is_slow(part, new, old, least),
        }
    }

    fn errs(&self, new: &Sample, old: &Sample, least: u64) -> Option<String> {
        let most = match self.bound {
            Bound::Share(share) => f64::from(share.0) / f64::from(Share::WHOLE.0),
            Bound::Times(_) if old.requests < least => return None,
            Bound::Times(times) => interval(old.errors, old.requests).1 * times,
            Bound::Time(_) => return None,
        };
        let percent = |rate: f64| (rate * 100_000.0).round() / 1000.0;
        let is_broken = interval(new.errors, new.requests).0 > most;
        is_broken.then(|| format!("errors {}% > {}%", percent(new.error_rate()), percent(most)))
    }

    fn is_slow(&self, part: f64, new: &Sample, old: &Sample, least: u64) -> Option<String> {
        let most = match self.bound {
            Bound::Time(time) => time,
            // Of fewer the slowest one would be the measure, which is chance.
            Bound::Times(_) if old.requests < least.max((SURE * SURE * part / (1.0 - part)) as u64) => {
                return None;
            }
            Bound::Times(times) => old.percentile_at_most(part).mul_f64(times),
            Bound::Share(_) => return None,
        };
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1000.0;
        let is_broken = interval(new.slower_than(most), new.requests).0 > 1.0 - part;
        let name = (part * 100.0).round();
        is_broken.then(|| format!("p{name} {} ms > {} ms", ms(new.percentile(part)), ms(most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(times_ms: impl Iterator<Item = u64>, errors: u64) -> Sample {
        let seen = Seen::default();
        for (at, ms) in (0..).zip(times_ms) {
            seen.count(Duration::from_millis(ms), at < errors);
        }
        seen.read()
    }

    #[test]
    fn percentiles_are_right_to_a_tenth() {
        let sample = seen(1..=1000, 0);
        for (part, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = sample.percentile(part).as_secs_f64() * 1000.0;
            assert!((ms * 0.99..ms * 1.1).contains(&found), "{part} {found}");
        }
        assert_eq!(Sample::default().percentile(0.99), Duration::ZERO);
        let sum = seen([0, 200_000].into_iter(), 0);
        assert!(
            sum.percentile(0.5) < Duration::from_millis(1) && sum.percentile(1.0) > Duration::from_secs(100)
        );
    }

    #[test]
    fn conditions_are_read_and_break() {
        let all = conditions("errors > 1% or p99 > 1.5x or p50>200ms").unwrap();
        assert_eq!(all.len(), 3);
        let old = seen((0..1000).map(|_| 20), 1);
        let broken =
            |new: &Sample| all.iter().filter_map(|one| one.broken_by(new, &old, 20)).collect::<Vec<_>>();
        assert!(broken(&seen((0..1000).map(|_| 22), 10)).is_empty());
        assert_eq!(broken(&seen((0..1000).map(|_| 22), 20)), ["errors 2% > 1%"]);
        assert_eq!(broken(&seen((0..100_000).map(|_| 22), 1100)), ["errors 1.1% > 1%"]);
        assert_eq!(broken(&seen((0..1000).map(|at| if at < 20 { 50 } else { 20 }), 0)).len(), 1);
        assert_eq!(broken(&seen((0..1000).map(|_| 300), 0)).len(), 2);
        for bad in
            ["", "errors", "errors > 1", "errors > 5ms", "p98 > 1x", "p99 > 1%", "p99 > -1x", "errors > 200%"]
        {
            assert!(conditions(bad).is_err(), "{bad}");
        }
        assert!(conditions("errors > 2x").is_ok());
    }

    #[test]
    fn chance_is_no_reason() {
        let all = conditions("errors > 1% or p99 > 1.5x or errors > 2x").unwrap();
        let broken = |new: &Sample, old: &Sample| {
            all.iter().filter_map(|one| one.broken_by(new, old, 20)).collect::<Vec<_>>()
        };
        let old = seen((0..1000).map(|_| 20), 0);
        assert!(broken(&seen((0..32).map(|_| 20), 1), &old).is_empty(), "one error of 32");
        assert!(
            broken(&seen((0..30).map(|at| if at == 7 { 80 } else { 20 }), 0), &old).is_empty(),
            "one slow one"
        );
        assert_eq!(broken(&seen((0..30).map(|_| 80), 0), &old).len(), 1, "all of 30");
        assert_eq!(broken(&seen((0..30).map(|_| 20), 15), &old).len(), 2, "half of 30");
        let none = conditions("errors > 0%").unwrap();
        for count in 1..2000 {
            let clean = Sample { requests: count, ..Sample::default() };
            assert_eq!(none[0].broken_by(&clean, &old, 1), None, "{count} without an error");
        }
        // Nothing can be said beside others of which there are few.
        assert!(broken(&seen((0..1000).map(|_| 80), 0), &seen((0..99).map(|_| 20), 0)).is_empty());
        assert!(broken(&seen((0..1000).map(|_| 20), 5), &seen((0..19).map(|_| 20), 0)).is_empty());
    }

    #[test]
    fn two_alike_are_not_told_apart() {
        // The same spread on both sides, with a long tail: as many looks as a busy day has.
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        };
        let condition = conditions("p99 > 1.5x").unwrap();
        let mut given_up = 0;
        for _ in 0..300 {
            let mut times = |count: usize| {
                let all: Vec<u64> =
                    (0..count).map(|_| (10.0 / (1.0 - random()).sqrt()).min(60_000.0) as u64).collect();
                seen(all.into_iter(), 0)
            };
            let (new, old) = (times(100), times(150));
            given_up += usize::from(condition[0].broken_by(&new, &old, 20).is_some());
        }
        assert!(given_up <= 3, "{given_up} of 300");
    }

    #[test]
    fn a_window_is_what_came_since() {
        let seen = Seen::default();
        seen.count(Duration::from_millis(100), true);
        let before = seen.read();
        seen.count(Duration::from_millis(1), false);
        let window = seen.read().since(&before);
        assert_eq!((window.requests, window.errors), (1, 0));
        assert!(window.percentile(0.99) < Duration::from_millis(2));
    }

    #[test]
    fn a_reload_keeps_the_share_of_an_unchanged_canary() {
        let plan = |to: u32| plan::Canary {
            pool: "next".into(),
            from: Share(1_000),
            to: Share(to),
            step: Share(5_000),
            every: Duration::from_secs(1),
            abort: "errors > 1%".into(),
            requests: 1,
        };
        let first = Canary::new(&plan(50_000), 1, None).unwrap();
        first.live.set_share(Share(11_000));
        assert_eq!(Canary::new(&plan(50_000), 3, Some(&first)).unwrap().live.share(), Share(11_000));
        assert_eq!(Canary::new(&plan(20_000), 3, Some(&first)).unwrap().live.share(), Share(1_000));
    }
}
