//! schedule: when a certificate is renewed, and when it is tried again after a failure; a function of its arguments.

use std::time::{Duration, SystemTime};

/// A part of a whole that is the same each time for the same name: so that what was got together is not renewed together.
pub fn spread(name: &str, turn: u32) -> f64 {
    let hash = crate::described::fnv1a(format!("{turn} {name}").as_bytes());
    // The low bits of this hash are the better ones.
    (hash % 10_007) as f64 / 10_007.0
}

/// When a certificate with this lifetime is renewed: in the window that its CA has told (RFC 9773 §4.2), if it has; otherwise when a third of its
/// time is left, up to a thirtieth of it earlier.
pub fn renew_at([from, until]: [SystemTime; 2], window: Option<[SystemTime; 2]>, spread: f64) -> SystemTime {
    let lifetime = until.duration_since(from).unwrap_or_default();
    let latest = from + lifetime.mul_f64(LATEST);
    if let Some([begin, end]) = window.filter(|[begin, end]| begin < end) {
        let length = end.duration_since(begin).unwrap_or_default();
        // A window that lies behind the end of the certificate is no help.
        return (begin + length.mul_f64(spread)).min(latest);
    }
    from + lifetime.mul_f64(2.0 / 3.0 - spread / 30.0)
}

/// How long a certificate with these dates is left as it is, however due it looks: a clock that is wrong, or a CA whose window is over, must
/// not have it got again and again.
pub fn rest([from, until]: [SystemTime; 2]) -> Duration {
    (until.duration_since(from).unwrap_or_default() / REST).min(TOLD_MAX)
}

/// Why a try has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// Nobody has answered, or not as a CA does: nothing has been counted against us.
    Outage,
    /// The CA has said no. It counts that, and says no to everything when it is too often.
    Refused,
}

/// How long it is waited after so many failures in a row, of which the latest one was of this kind; at least as long as the CA has `told`.
/// Five refusals an hour is what CAs allow; a few of these steps are shorter, so that whoever has corrected something need not wait long.
pub fn pause(failures: u32, kind: Failing, told: Option<Duration>, spread: f64) -> Duration {
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let steps: &[u64] = match kind {
        Failing::Outage => &OUTAGE_SECONDS,
        Failing::Refused => &REFUSED_SECONDS,
    };
    let seconds = steps.get(step).or(steps.last()).copied().unwrap_or(3600);
    let own = Duration::from_secs(seconds).mul_f64(1.0 + spread * JITTER);
    own.max(told.map_or(Duration::ZERO, |told| told.min(TOLD_MAX)))
}

const OUTAGE_SECONDS: [u64; 8] = [2, 5, 10, 30, 60, 120, 300, 600];
const REFUSED_SECONDS: [u64; 8] = [60, 300, 900, 1800, 3600, 7200, 14_400, 21_600];
/// By how much of itself a pause may be longer.
const JITTER: f64 = 0.2;
/// How long it is waited before a CA is asked again when to renew, when it does not say it (RFC 9773 §4.3.2).
pub const LOOK_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// How long a CA can make us wait.
pub const TOLD_MAX: Duration = Duration::from_secs(8 * 24 * 3600);
/// A certificate is left as it is for one of so many parts of its time: 90 days are left for more than four, six days for seven hours.
const REST: u32 = 20;
/// At which part of its time a certificate is renewed whatever its CA has told.
const LATEST: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn two_thirds_of_the_time_and_never_all_at_once() {
        let from = SystemTime::UNIX_EPOCH;
        let dates = [from, from + 90 * DAY];
        let times: Vec<_> =
            (0..100).map(|at| renew_at(dates, None, spread(&format!("{at}.example"), 0))).collect();
        assert!(times.iter().all(|time| (from + 57 * DAY..=from + 60 * DAY).contains(time)));
        let mut days: Vec<_> =
            times.iter().map(|time| time.duration_since(from).unwrap().as_secs() / 3600).collect();
        days.sort_unstable();
        days.dedup();
        assert!(days.len() > 40, "{days:?}");
    }

    #[test]
    fn the_window_of_the_ca_counts_unless_it_is_too_late() {
        let from = SystemTime::UNIX_EPOCH;
        let dates = [from, from + 90 * DAY];
        let window = [from + 10 * DAY, from + 12 * DAY];
        assert_eq!(renew_at(dates, Some(window), 0.5), from + 11 * DAY);
        assert_eq!(renew_at(dates, Some([from + 100 * DAY, from + 101 * DAY]), 0.5), from + 81 * DAY);
        for end in [10, 12] {
            let none = [from + 12 * DAY, from + end * DAY];
            assert_eq!(renew_at(dates, Some(none), 0.5), renew_at(dates, None, 0.5));
        }
    }

    #[test]
    fn pauses_grow_and_the_ca_is_heard() {
        let pauses = |kind| (1..12).map(move |at| pause(at, kind, None, 0.0)).collect::<Vec<_>>();
        for kind in [Failing::Outage, Failing::Refused] {
            assert!(pauses(kind).is_sorted());
        }
        let in_an_hour = pauses(Failing::Refused).into_iter().scan(Duration::ZERO, |sum, pause| {
            *sum += pause;
            Some(*sum)
        });
        assert!(in_an_hour.filter(|sum| *sum <= Duration::from_secs(3600)).count() < 5);
        assert_eq!(pause(1, Failing::Refused, Some(3 * DAY), 0.0), 3 * DAY);
        assert_eq!(pause(1, Failing::Outage, Some(1000 * DAY), 0.0), TOLD_MAX);
        assert!(pause(3, Failing::Refused, None, 0.99) <= Duration::from_secs(900).mul_f64(1.2));
    }

    #[test]
    fn what_was_just_got_is_left_for_a_part_of_its_time() {
        let from = SystemTime::UNIX_EPOCH;
        assert_eq!(rest([from, from + 90 * DAY]), 90 * DAY / 20);
        assert_eq!(rest([from, from + Duration::from_secs(20)]), Duration::from_secs(1));
        assert_eq!(rest([from + DAY, from]), Duration::ZERO);
        assert_eq!(rest([from, from + 3650 * DAY]), TOLD_MAX);
    }
}
