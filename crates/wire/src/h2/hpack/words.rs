//! words: short texts are looked at and compared eight bytes at a time.

/// Whether `text` and `other` are the same: mostly short ones, for which calling `memcmp` would cost more.
#[inline]
pub(super) fn is_same(text: &[u8], other: &[u8]) -> bool {
    if text.len() != other.len() {
        return false;
    }
    macro_rules! ends_match {
        ($chunk:ty) => {{
            let same = |a: Option<&$chunk>, b: Option<&$chunk>| a.zip(b).is_some_and(|(a, b)| a == b);
            same(text.first_chunk(), other.first_chunk()) && same(text.last_chunk(), other.last_chunk())
        }};
    }
    match text.len() {
        33.. => text == other,
        16.. => ends_match!([u8; 16]),
        8.. => ends_match!([u8; 8]),
        4.. => ends_match!([u8; 4]),
        _ => text.iter().eq(other),
    }
}

/// Whether `name` is `lower`, which is in lower case, in any letter case. Their lengths and ends are mostly the same.
#[inline]
pub(super) fn is_spelled(lower: &[u8], name: &[u8]) -> bool {
    let same = |lower: &[u8; 8], name: &[u8; 8]| {
        let (lower, name) = (u64::from_le_bytes(*lower), u64::from_le_bytes(*name));
        // The highest bit of each byte: whether it is `a` or above, and whether it is above `z`.
        let low = lower & (ONES * 0x7f);
        let letters = (low + ONES * (0x80 - 0x61)) & !(low + ONES * (0x80 - 0x7b)) & !lower & (ONES * 0x80);
        (lower ^ name) & !(letters >> 2) == 0
    };
    if lower.len() != name.len() {
        return false;
    }
    let (Some(lower_last), Some(name_last)) = (lower.last_chunk(), name.last_chunk()) else {
        return lower.eq_ignore_ascii_case(name);
    };
    let (lowers, names) = (lower.as_chunks().0, name.as_chunks().0);
    same(lower_last, name_last) && lowers.iter().zip(names).all(|(lower, name)| same(lower, name))
}

/// What tells texts from each other most of the time: the length, the first eight bytes and the last eight. Bits of `fold`
/// make no difference.
#[inline]
pub(super) fn print(text: &[u8], fold: u64) -> u32 {
    let (first, last) = match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (text.first_chunk(), text.last_chunk()) {
            (Some(first), Some(last)) => {
                (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
            }
            _ => (text.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0),
        },
    };
    let all = (first | fold) ^ (last | fold).rotate_left(23) ^ text.len() as u64;
    (all.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Whether `is` marks a byte of `text`.
#[inline]
pub(super) fn any(text: &[u8], is: impl Fn(u64) -> u64) -> bool {
    let is = |word: &[u8; 8]| is(u64::from_le_bytes(*word)) != 0;
    match text.last_chunk() {
        Some(last) => is(last) || text.as_chunks().0.iter().any(is),
        None => {
            let mut word = [b'a'; 8];
            word.iter_mut().zip(text).for_each(|(slot, byte)| *slot = *byte);
            is(&word)
        }
    }
}

/// Marks, by their highest bits, the bytes that are control bytes or spaces.
#[inline]
pub(super) fn blank(word: u64) -> u64 {
    let low = word & LOW;
    (!(low + ONES * (0x80 - 0x21)) | (low + ONES)) & !word & HIGH
}

/// Marks the bytes that are control bytes other than tab.
#[inline]
pub(super) fn control(word: u64) -> u64 {
    let low = word & LOW;
    let tabs = !((low ^ (ONES * 0x09)) + LOW) & HIGH;
    (!(low + ONES * (0x80 - 0x20)) | (low + ONES)) & !word & !tabs & HIGH
}

const ONES: u64 = 0x0101_0101_0101_0101;
const LOW: u64 = ONES * 0x7f;
const HIGH: u64 = ONES * 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_is_marked_as_it_is() {
        for byte in 0..=255u8 {
            for at in 0..8 {
                let mut word = [0xff; 8];
                word[at] = byte;
                let mark = |is: bool| u64::from(is) << (at * 8 + 7);
                let is_blank = byte <= b' ' || byte == 0x7f;
                let is_control = !portunus_message::fields::is_value_byte(byte);
                assert_eq!(blank(u64::from_le_bytes(word)), mark(is_blank), "{byte}");
                assert_eq!(control(u64::from_le_bytes(word)), mark(is_control), "{byte}");
            }
        }
    }

    #[test]
    fn names_are_the_same_in_any_letter_case_and_in_nothing_else() {
        for lower in [&b"x-^_`{|}~@[-az"[..], b"etag", b"x", b"server-timing-and-more-of-it"] {
            for place in 0..lower.len() {
                for byte in 0..=255u8 {
                    let mut name = lower.to_vec();
                    name[place] = byte;
                    assert_eq!(
                        is_spelled(lower, &name),
                        lower.eq_ignore_ascii_case(&name),
                        "{byte} at {place}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_the_same_is_found_to_be(text in proptest::collection::vec(proptest::num::u8::ANY, 0..60), at in 0..60usize, bit in 0..8u8) {
            let mut other = text.clone();
            prop_assert!(is_same(&text, &other));
            prop_assert_eq!(print(&text.to_ascii_uppercase(), ONES * 0x20), print(&text.to_ascii_lowercase(), ONES * 0x20));
            if let Some(byte) = other.get_mut(at) {
                *byte ^= 1 << bit;
                prop_assert!(!is_same(&text, &other));
            }
            other.pop();
            prop_assert_eq!(is_same(&text, &other), text.is_empty());
        }
    }
}
