//! lag: how late a worker is, and whether it should refuse requests before it does anything for them.

use portunus_message::Tick;
use std::cell::Cell;
use std::time::Duration;

/// How long the least lateness has to be too much until requests are refused, and how often it has to be felt: a pause
/// of the whole process, or a thousand new connections at once, are over by then.
const STANDING: (Duration, u32) = (Duration::from_secs(1), 8);
/// The same while requests are refused.
const LOOK_AGAIN: (Duration, u32) = (Duration::from_millis(200), 3);
/// How much more is refused after each such interval, in 256ths.
const STEP: u16 = 26;
/// The most that is refused: some must get through to show that it has become better.
const MOST: u16 = 230;

/// How late a worker is: from the moment when something was due to when it was done. A standing delay, not a peak, means
/// that more comes than can be done (as in CoDel, RFC 8289); then a share of the requests is refused, the more the
/// longer that lasts.
#[derive(Debug, Default)]
pub struct Lag {
    least: Cell<Option<Duration>>,
    felt: Cell<u32>,
    interval_ends: Cell<Tick>,
    share: Cell<u16>,
}

impl Lag {
    /// Hears that something was done so late. More than `most` is too much.
    pub fn feel(&self, late: Duration, most: Duration, now: Tick) {
        let least = self.least.get().map_or(late, |least| least.min(late));
        self.least.set(Some(least));
        self.felt.set(self.felt.get() + 1);
        let (_, felt_least) = self.interval();
        if now < self.interval_ends.get() || self.felt.get() < felt_least {
            return;
        }
        self.felt.set(0);
        let share = self.share.get();
        self.share.set(if least > most { (share + STEP).min(MOST) } else { share / 2 });
        self.least.set(None);
        self.interval_ends.set(now + self.interval().0);
    }

    fn interval(&self) -> (Duration, u32) {
        if self.is_felt() { LOOK_AGAIN } else { STANDING }
    }

    /// Whether requests are refused at all.
    pub fn is_felt(&self) -> bool {
        self.share.get() > 0
    }

    /// Whether this request is refused.
    pub fn refuses(&self, random: impl FnOnce() -> u64) -> bool {
        let share = self.share.get();
        share > 0 && (random() & 255) < share.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_LATE: Duration = Duration::from_millis(20);

    /// Feels lateness every 10 ms for `ms`.
    fn feel(lag: &Lag, from: u64, ms: u64, late: impl Fn(u64) -> u64) -> u64 {
        for at in (from..from + ms).step_by(10) {
            lag.feel(Duration::from_millis(late(at)), MOST_LATE, Tick(at * 1000));
        }
        (0..256).filter(|&random| lag.refuses(|| random)).count() as u64
    }

    #[test]
    fn a_standing_delay_is_answered_by_refusing_more_and_more() {
        let lag = Lag::default();
        assert_eq!(feel(&lag, 0, 1000, |_| 5), 0);
        let some = feel(&lag, 1000, 2200, |_| 50);
        assert!(some > 0 && lag.is_felt());
        assert!(feel(&lag, 3200, 500, |_| 50) > some);
        assert_eq!(feel(&lag, 3700, 10_000, |_| 50), u64::from(MOST));
        assert_eq!(feel(&lag, 13_700, 2_000, |_| 1), 0, "good again within two seconds");
    }

    #[test]
    fn peaks_are_nothing() {
        let lag = Lag::default();
        assert_eq!(feel(&lag, 0, 10_000, |at| if at % 100 == 0 { 1 } else { 80 }), 0);
        let lag = Lag::default();
        lag.feel(Duration::from_secs(5), MOST_LATE, Tick(20_000_000));
        assert!(!lag.is_felt(), "a pause of the whole process");
    }
}
