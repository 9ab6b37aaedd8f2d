//! wall: moments of the wall clock as text, without a library and without allocation.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in UTC, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
    /// The year.
    pub year: u32,
    /// From 1 to 12.
    pub month: u32,
    /// From 1 to 31.
    pub day: u32,
    /// From 0 to 23.
    pub hour: u32,
    /// From 0 to 59.
    pub minute: u32,
    /// From 0 to 59.
    pub second: u32,
    /// From 0 to 999.
    pub millisecond: u32,
}

/// The names of the months in logs.
pub const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Wall {
    /// The moment `at`; anything before 1970 counts as 1970.
    pub fn new(at: SystemTime) -> Wall {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (year, month, day) = date(since.as_secs() / 86_400);
        let seconds = small(since.as_secs() % 86_400);
        Wall {
            year,
            month,
            day,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            millisecond: since.subsec_millis(),
        }
    }

    /// The month's name.
    pub fn month_name(&self) -> &'static str {
        MONTHS.get(self.month.saturating_sub(1) as usize).copied().unwrap_or("Jan")
    }

    /// Appends `2026-01-31T23:59:59.123Z` (RFC 3339).
    pub fn rfc3339(&self, out: &mut Vec<u8>) {
        digits(self.year, 4, out);
        for (mark, value) in [
            (b'-', self.month),
            (b'-', self.day),
            (b'T', self.hour),
            (b':', self.minute),
            (b':', self.second),
        ] {
            out.push(mark);
            digits(value, 2, out);
        }
        out.push(b'.');
        digits(self.millisecond, 3, out);
        out.push(b'Z');
    }

    /// Appends `31/Jan/2026:23:59:59 +0000`, as Apache's logs have it.
    pub fn common(&self, out: &mut Vec<u8>) {
        digits(self.day, 2, out);
        out.push(b'/');
        out.extend_from_slice(self.month_name().as_bytes());
        out.push(b'/');
        digits(self.year, 4, out);
        self.clock(b':', out);
        out.extend_from_slice(b" +0000");
    }

    /// Appends `Jan  1 23:59:59` (RFC 3164 §4.1.2).
    pub fn syslog(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.month_name().as_bytes());
        out.extend_from_slice(if self.day < 10 { b"  " } else { b" " });
        digits(self.day, if self.day < 10 { 1 } else { 2 }, out);
        self.clock(b' ', out);
    }

    fn clock(&self, before: u8, out: &mut Vec<u8>) {
        for (mark, value) in [(before, self.hour), (b':', self.minute), (b':', self.second)] {
            out.push(mark);
            digits(value, 2, out);
        }
    }
}

/// `at` in RFC 3339.
pub fn rfc3339(at: SystemTime) -> String {
    let mut out = Vec::with_capacity(24);
    Wall::new(at).rfc3339(&mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the last `count` decimal digits of `value`.
fn digits(value: u32, count: u32, out: &mut Vec<u8>) {
    for place in (0..count).rev() {
        let digit = value / 10u32.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or(0));
    }
}

/// The date of the day that is `days` after 1970-01-01 (Hinnant's civil-from-days).
fn date(days: u64) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (small(year), small(month), small(day))
}

fn small(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, ms: u64) -> Wall {
        Wall::new(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(ms))
    }

    fn text(of: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        of(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_have_their_texts() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_798_761_599, "2026-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(text(|out| at(seconds, 7).rfc3339(out)), expected);
        }
        assert_eq!(text(|out| at(971_211_336, 0).common(out)), "10/Oct/2000:20:55:36 +0000");
        assert_eq!(text(|out| at(0, 0).syslog(out)), "Jan  1 00:00:00");
        assert_eq!(text(|out| at(971_211_336, 0).syslog(out)), "Oct 10 20:55:36");
    }
}
