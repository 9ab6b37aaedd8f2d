//! Durations as text: `250ms`, `5s`, `1h30m`, read and written; for `serde` as `with = "duration"`.

use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::time::Duration;

/// Longest first; each may stand once, in this order.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000)];

/// The longest duration that can be written; no timer has to think about overflow.
pub const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// Reads a duration: numbers with the units `d`, `h`, `m`, `s`, `ms`, larger units first; up to three digits may
/// follow a point. A number without a unit is refused, but for `0`.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut microseconds = 0u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() || text.is_empty() {
        let (whole, after) = digits(rest);
        let (part, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("0", after),
        };
        let thousandths = match part.len() {
            1..=3 => part.parse::<u64>().ok()? * 10u64.pow(3 - u32::try_from(part.len()).ok()?),
            _ => return None,
        };
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let factor = units.find(|(name, _)| *name == unit)?.1;
        let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
        microseconds = microseconds.checked_add(whole)?.checked_add(thousandths * (factor / 1000))?;
        rest = after;
    }
    Some(Duration::from_micros(microseconds)).filter(|duration| *duration <= LONGEST)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Writes a duration so that [`parse`] reads the same; what is below a microsecond is left out.
pub fn text(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, factor) in UNITS {
        let count = left / factor;
        left %= factor;
        if name == "ms" && left > 0 {
            // Less than a millisecond is left: it is written as thousandths of one.
            text.push_str(format!("{count}.{left:03}").trim_end_matches('0'));
            text.push_str(name);
        } else if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// For `serde`.
pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&text(*duration))
}

/// For `serde`.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let written = String::deserialize(from)?;
    parse(&written)
        .ok_or_else(|| D::Error::custom(format!("`{written}` is not a duration, such as 250ms, 5s or 1h30m")))
}

/// The same for a duration that may be missing.
pub mod optional {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// For `serde`.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    /// For `serde`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Written(#[serde(with = "super")] Duration);
        Ok(Option::<Written>::deserialize(from)?.map(|Written(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (written, milliseconds) in [
            ("250ms", 250),
            ("5s", 5000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
            ("0ms", 0),
            ("90m", 5_400_000),
            ("1.5s", 1500),
            ("0.25s", 250),
            ("0", 0),
        ] {
            assert_eq!(parse(written), Some(Duration::from_millis(milliseconds)), "{written}");
        }
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "+5s",
            "1.s",
            ".5s",
            "1.2345s",
            "5S",
            "5sec",
            "30m1h",
            "1s1s",
            "5s5",
            "99999999999d",
            "18446744073709551616ms",
            "3651d",
            "5\u{e4}",
            "\u{661}s",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for milliseconds in [0, 1, 250, 999, 1000, 1001, 60_000, 90_000, 3_600_000, 86_400_000, 93_784_005] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse(&text(duration)), Some(duration));
        }
        assert_eq!(text(Duration::from_secs(5400)), "1h30m");
        assert_eq!(text(Duration::ZERO), "0s");
        assert_eq!(text(Duration::from_micros(1250)), "1.25ms");
        for microseconds in [1, 10, 999, 1001, 1_000_010] {
            let duration = Duration::from_micros(microseconds);
            assert_eq!(parse(&text(duration)), Some(duration));
        }
    }
}
