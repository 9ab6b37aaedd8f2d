//! Values: durations, sizes, shares and networks as an operator writes them, read and printed.

use ipnet::IpNet;
use portunus_message::duration;
use std::net::IpAddr;
use std::time::Duration;

/// Why a text is not the value it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueMistake {
    /// Why, as half a sentence: "is not a duration".
    pub reason: &'static str,
    /// What to write instead.
    pub hint: &'static str,
}

const DURATION: ValueMistake =
    ValueMistake { reason: "is not a duration", hint: "write it as `250ms`, `5s`, `1h30m` or `1d`" };
const SIZE: ValueMistake =
    ValueMistake { reason: "is not a size", hint: "write it as `4096`, `64KiB`, `100MiB` or `1GiB`" };
const SHARE: ValueMistake =
    ValueMistake { reason: "is not a share", hint: "write it as `5%`, from `0%` to `100%`" };
const NUMBER: ValueMistake = ValueMistake { reason: "is not a whole number", hint: "write digits only" };
const TOO_LARGE: ValueMistake =
    ValueMistake { reason: "is too large a number", hint: "no number here is that large" };
const NETWORK: ValueMistake = ValueMistake {
    reason: "is not an address or a network",
    hint: "write it as `10.0.0.0/8`, `192.0.2.1` or `2001:db8::/32`",
};
const NETWORKS: ValueMistake =
    ValueMistake { hint: "write it as `10.0.0.0/8`, `192.0.2.1`, `2001:db8::/32` or `all`", ..NETWORK };

/// The units of a size.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads `250ms`, `5s`, `1.5s`, `1h30m`, `1d`; a number without a unit is refused, but for `0`.
pub fn parse_duration(text: &str) -> Result<Duration, ValueMistake> {
    duration::parse(text).ok_or(DURATION)
}

/// Writes a duration so that [`parse_duration`] reads the same: `1h30m`, `250ms`, `0s`.
pub fn print_duration(duration: Duration) -> String {
    duration::text(duration)
}

/// Reads `4096`, `64KiB`, `1.5GiB`, `100MB`.
pub fn parse_size(text: &str) -> Result<u64, ValueMistake> {
    let (whole, thousandths, unit) = split_number(text).ok_or(SIZE)?;
    let &(_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(SIZE)?;
    if thousandths > 0 && bytes == 1 {
        return Err(SIZE);
    }
    let part = thousandths.checked_mul(bytes).ok_or(SIZE)? / 1_000;
    whole.checked_mul(bytes).and_then(|whole| whole.checked_add(part)).ok_or(SIZE)
}

/// Writes a size so that [`parse_size`] reads the same, with the largest unit that divides it.
pub fn print_size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Reads a share, `5%` or `0.5%`, as thousandths of a percent: `5%` is 5000.
pub fn parse_share(text: &str) -> Result<u32, ValueMistake> {
    let (whole, thousandths, unit) = split_number(text).ok_or(SHARE)?;
    let share = whole.checked_mul(1_000).and_then(|whole| whole.checked_add(thousandths)).ok_or(SHARE)?;
    if unit != "%" || share > 100_000 {
        return Err(SHARE);
    }
    u32::try_from(share).map_err(|_| SHARE)
}

/// Reads a whole number.
pub fn parse_number(text: &str) -> Result<u64, ValueMistake> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().map_err(|_| TOO_LARGE) } else { Err(NUMBER) }
}

/// Reads an address or a network; host bits are cleared. `all` is both families' whole space.
pub fn parse_networks(text: &str) -> Result<Vec<IpNet>, ValueMistake> {
    match text {
        "all" => Ok(vec![IpNet::from(ipnet::Ipv4Net::default()), IpNet::from(ipnet::Ipv6Net::default())]),
        _ => parse_network(text).map(|network| vec![network]).map_err(|_| NETWORKS),
    }
}

/// Reads one address or network; host bits are cleared.
pub fn parse_network(text: &str) -> Result<IpNet, ValueMistake> {
    if let Ok(network) = text.parse::<IpNet>() {
        return Ok(network.trunc());
    }
    text.parse::<IpAddr>().map(IpNet::from).map_err(|_| NETWORK)
}

/// Splits `1.25GiB` into 1, 250 and `GiB`; at most three digits may follow the point.
fn split_number(text: &str) -> Option<(u64, u64, &str)> {
    let (whole, rest) = split_digits(text);
    let whole = whole.parse().ok()?;
    let Some(rest) = rest.strip_prefix('.') else { return Some((whole, 0, rest)) };
    let (part, rest) = split_digits(rest);
    let scale = match part.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    Some((whole, part.parse::<u64>().ok()? * scale, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// The member of `known` that a person most likely meant by `word`: at most two letters away, and less than half of it.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.len() / 2).min(2);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be added, taken away, changed or swapped with their neighbour to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let width = b.len() + 1;
    let mut cost = vec![0usize; (a.len() + 1) * width];
    let at = |row: usize, column: usize| row * width + column;
    for row in 0..=a.len() {
        for column in 0..=b.len() {
            // Invariant: row and column stay within the table made above.
            cost[at(row, column)] = match (row, column) {
                (0, column) => column,
                (row, 0) => row,
                _ => {
                    let same = a[row - 1].eq_ignore_ascii_case(&b[column - 1]);
                    let changed = cost[at(row - 1, column - 1)] + usize::from(!same);
                    let moved = cost[at(row - 1, column)].min(cost[at(row, column - 1)]) + 1;
                    let crossed =
                        row > 1 && column > 1 && a[row - 1] == b[column - 2] && a[row - 2] == b[column - 1];
                    let swapped = if crossed { cost[at(row - 2, column - 2)] + 1 } else { usize::MAX };
                    changed.min(moved).min(swapped)
                }
            };
        }
    }
    cost[at(a.len(), b.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("1.5s", 1_500),
            ("0", 0),
            ("0s", 0),
            ("1m0s1ms", 60_001),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in [
            "",
            "5",
            "5 s",
            "s",
            "-5s",
            "5x",
            "5s5s",
            "5s1h",
            "1.s",
            "1.2345s",
            "99999999999999999999d",
            "5S",
        ] {
            assert_eq!(parse_duration(bad), Err(DURATION), "{bad}");
        }
    }

    #[test]
    fn sizes_shares_and_numbers_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("1GiB", 1 << 30),
            ("100MB", 100_000_000),
            ("1.5KiB", 1_536),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "K", "64kib", "1.5", "-1", "64 KiB", "99999999999GiB"] {
            assert_eq!(parse_size(bad), Err(SIZE), "{bad}");
        }
        assert_eq!(parse_share("5%"), Ok(5_000));
        assert_eq!(parse_share("0.5%"), Ok(500));
        assert_eq!(parse_share("100%"), Ok(100_000));
        assert!(parse_share("100.1%").is_err() && parse_share("5").is_err());
        assert_eq!(parse_number("12"), Ok(12));
        assert!(parse_number("+1").is_err() && parse_number("").is_err());
    }

    #[test]
    fn networks_are_read() {
        assert_eq!(parse_network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_network("::1").unwrap().to_string(), "::1/128");
        assert_eq!(parse_networks("all").unwrap().len(), 2);
        assert!(parse_network("10.0.0.0/33").is_err() && parse_network("localhost").is_err());
    }

    #[test]
    fn the_nearest_word_is_found() {
        assert_eq!(nearest("cleint.ip", ["client.ip", "client.port"]), Some("client.ip"));
        assert_eq!(nearest("hots", ["host", "path"]), Some("host"));
        assert_eq!(nearest("zzz", ["host", "path"]), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(us in 0u64..1_000_000_000_000, bytes in any::<u64>()) {
            let duration = Duration::from_micros(us);
            prop_assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&print_size(bytes)), Ok(bytes));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,20}", number in "[0-9.]{0,24}[a-zA-Z%]{0,3}") {
            for text in [text, number] {
                let _ = (parse_duration(&text), parse_size(&text), parse_share(&text), parse_network(&text));
                let _ = nearest(&text, ["client.ip"]);
            }
        }
    }
}
