//! huffman: the code of RFC 7541 Appendix B, packed and unpacked. It is canonical: how long its codes are tells what they are.

use super::Bad;

/// Unpacks `packed` to the end of `room`; it may become `bytes_max` long.
pub(super) fn unpack(packed: &[u8], room: &mut Vec<u8>, bytes_max: usize) -> Result<(), Bad> {
    let start = room.len();
    let length_max = (packed.len().saturating_mul(8) / CODE_BITS_MIN).min(bytes_max);
    room.resize(start.saturating_add(length_max), 0);
    let left = unpack_to(packed, room.get_mut(start..).unwrap_or(&mut []))?;
    room.truncate(room.len().saturating_sub(left));
    Ok(())
}

/// Unpacks to the beginning of `slots`; says how many are left.
fn unpack_to(mut packed: &[u8], slots: &mut [u8]) -> Result<usize, Bad> {
    let mut slots = slots.iter_mut();
    // The next bits stand at the top of `bits`; `have` of them have been taken out of `packed`.
    let (mut bits, mut have) = (0u64, 0u32);
    while !packed.is_empty() {
        if let Some(word) = packed.first_chunk() {
            bits |= u64::from_be_bytes(*word) >> (have & 63);
            let bytes = (63 - have) / 8;
            packed = packed.get(bytes as usize..).unwrap_or(&[]);
            have += bytes * 8;
        } else {
            while have < 56 {
                let Some((byte, rest)) = packed.split_first() else { break };
                bits |= u64::from(*byte) << (56 - have);
                (packed, have) = (rest, have + 8);
            }
        }
        while have >= CODE_BITS_MAX {
            let short = SHORTS[(bits >> 56) as usize];
            let code = if short.bits != 0 { short } else { long(bits)? };
            *slots.next().ok_or(Bad::TooLong)? = code.byte;
            bits = bits.wrapping_shl(code.bits.into());
            have = have.wrapping_sub(code.bits.into());
        }
    }
    // Behind the last bits stands the padding (§5.2): the beginning of the end-of-string symbol, which is all ones, and less
    // than a byte of it. More ones behind it make no difference.
    bits |= u64::MAX >> (have & 63);
    while bits != u64::MAX {
        let short = SHORTS[(bits >> 56) as usize];
        let code = if short.bits != 0 { short } else { long(bits)? };
        have = have.checked_sub(code.bits.into()).ok_or(Bad::Huffman)?;
        *slots.next().ok_or(Bad::TooLong)? = code.byte;
        bits = !(!bits).wrapping_shl(code.bits.into());
    }
    if have < 8 { Ok(slots.len()) } else { Err(Bad::Huffman) }
}

/// How long `text` is when it is packed.
#[inline]
pub(super) fn packed_bytes(text: impl Iterator<Item = u8>) -> usize {
    text.map(|byte| usize::from(CODES[usize::from(byte)].bits)).sum::<usize>().div_ceil(8)
}

/// Appends `text`, packed.
pub(super) fn pack(text: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    // The last bits stand at the bottom of `bits`; `have` of them, never more than 31, have not been written.
    let (mut bits, mut have) = (0u64, 0u32);
    for byte in text {
        let code = &CODES[usize::from(byte)];
        bits = bits << code.bits | u64::from(code.code);
        have += u32::from(code.bits);
        if have >= 32 {
            have -= 32;
            out.extend_from_slice(&((bits >> have) as u32).to_be_bytes());
        }
    }
    let padding = (8 - have % 8) % 8;
    bits = bits << padding | ((1 << padding) - 1);
    have += padding;
    while have > 0 {
        have -= 8;
        out.push((bits >> have) as u8);
    }
}

/// What stands at the top of `bits`, if its code is longer than a byte: seldom, except in what is not ASCII.
#[cold]
fn long(bits: u64) -> Result<Short, Bad> {
    let top = (bits >> (64 - CODE_BITS_MAX)) as u32;
    let rank = RANKS.iter().find(|rank| top < rank.end).ok_or(Bad::Huffman)?;
    let nth = (top >> (CODE_BITS_MAX - u32::from(rank.bits))).wrapping_sub(rank.code);
    let symbol = SORTED.get(usize::from(rank.at).wrapping_add(nth as usize)).ok_or(Bad::Huffman)?;
    // The end-of-string symbol is no byte.
    let byte = u8::try_from(*symbol).map_err(|_| Bad::Huffman)?;
    Ok(Short { byte, bits: rank.bits })
}

#[derive(Clone, Copy)]
struct Code {
    code: u32,
    bits: u8,
}

#[derive(Clone, Copy)]
struct Short {
    byte: u8,
    /// 0: the code is longer than a byte.
    bits: u8,
}

/// All codes of one length, longer than a byte.
#[derive(Clone, Copy)]
struct Rank {
    /// The first code of a longer rank, as it begins in `CODE_BITS_MAX` bits.
    end: u32,
    /// The first code of this one.
    code: u32,
    /// Where its symbol stands in `SORTED`.
    at: u16,
    bits: u8,
}

const CODE_BITS_MIN: usize = 5;
const CODE_BITS_MAX: u32 = 30;
const SYMBOLS: usize = 257;

/// How many bits the code of each byte has; the last one is the end-of-string symbol's.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

/// The symbols in the order of their codes: first the short ones, those of the same length by their numbers.
static SORTED: [u16; SYMBOLS] = sorted();
static CODES: [Code; 256] = codes();
static SHORTS: [Short; 256] = shorts();
static RANKS: [Rank; CODE_BITS_MAX as usize - 8] = ranks();

const fn sorted() -> [u16; SYMBOLS] {
    let (mut sorted, mut at, mut bits) = ([0; SYMBOLS], 0, 1);
    while bits <= CODE_BITS_MAX {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as u32 == bits {
                sorted[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    assert!(at == SYMBOLS);
    sorted
}

const fn codes() -> [Code; 256] {
    let (sorted, mut codes) = (sorted(), [Code { code: 0, bits: 0 }; 256]);
    let (mut at, mut code, mut bits) = (0, 0u32, 0);
    while at < SYMBOLS {
        let symbol = sorted[at] as usize;
        code <<= LENGTHS[symbol] - bits;
        bits = LENGTHS[symbol];
        if symbol < 256 {
            codes[symbol] = Code { code, bits };
        }
        code += 1;
        at += 1;
    }
    assert!(code == 1 << CODE_BITS_MAX); // every sequence of bits begins with a code
    codes
}

const fn shorts() -> [Short; 256] {
    let (codes, mut shorts) = (codes(), [Short { byte: 0, bits: 0 }; 256]);
    let mut byte = 0;
    while byte < 256 {
        let Code { code, bits } = codes[byte];
        if bits <= 8 {
            let (mut at, end) = ((code as usize) << (8 - bits), (code as usize + 1) << (8 - bits));
            while at < end {
                shorts[at] = Short { byte: byte as u8, bits };
                at += 1;
            }
        }
        byte += 1;
    }
    shorts
}

const fn ranks() -> [Rank; CODE_BITS_MAX as usize - 8] {
    let mut ranks = [Rank { end: 0, code: 0, at: 0, bits: 0 }; CODE_BITS_MAX as usize - 8];
    let (mut at, mut code, mut bits) = (0, 0u32, 1);
    while bits <= CODE_BITS_MAX {
        let (first, mut count, mut symbol) = (code, 0, 0);
        while symbol < SYMBOLS {
            count += (LENGTHS[symbol] as u32 == bits) as u16;
            symbol += 1;
        }
        code += count as u32;
        if bits > 8 {
            ranks[bits as usize - 9] =
                Rank { end: code << (CODE_BITS_MAX - bits), code: first, at, bits: bits as u8 };
        }
        at += count;
        code <<= 1;
        bits += 1;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        pack(text.iter().copied(), &mut out);
        assert_eq!(out.len(), packed_bytes(text.iter().copied()));
        out
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>, Bad> {
        let mut room = b"before".to_vec();
        unpack(packed, &mut room, 4096).map(|()| room.split_off(6))
    }

    /// A string of bits, as bytes; what is missing at the end is filled with `filler`.
    fn bytes_of(bits: &str, filler: char) -> Vec<u8> {
        let mut bits: Vec<char> = bits.chars().filter(|bit| *bit != ' ').collect();
        bits.resize(bits.len().next_multiple_of(8), filler);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit == '1'))).collect()
    }

    #[test]
    fn the_codes_are_those_of_the_appendix() {
        let of = |byte: u8| (CODES[usize::from(byte)].code, CODES[usize::from(byte)].bits);
        for (byte, code) in [
            (0, (0x1ff8, 13)),
            (1, (0x7f_ffd8, 23)),
            (b'\n', (0x3fff_fffc, 30)),
            (b' ', (0x14, 6)),
            (b'!', (0x3f8, 10)),
            (b'0', (0, 5)),
            (b'<', (0x7ffc, 15)),
            (b'\\', (0x7_fff0, 19)),
            (b'a', (3, 5)),
            (b'z', (0x7b, 7)),
            (b'~', (0x1ffd, 13)),
            (127, (0xfff_fffc, 28)),
            (128, (0xf_ffe6, 20)),
            (192, (0x3ff_ffe0, 26)),
            (249, (0xfff_fffe, 28)),
            (255, (0x3ff_ffee, 26)),
        ] {
            assert_eq!(of(byte), code, "{byte}");
        }
    }

    #[test]
    fn every_byte_comes_back_alone_and_in_company() {
        for byte in 0..=255u8 {
            assert_eq!(unpacked(&packed(&[byte])).unwrap(), [byte]);
            for other in 0..=255u8 {
                let text = [byte, other, other, byte, b'a', other];
                assert_eq!(unpacked(&packed(&text)).unwrap(), text);
            }
        }
        let all: Vec<u8> = (0..=255).cycle().take(2000).collect();
        assert_eq!(unpacked(&packed(&all)).unwrap(), all);
        for length in 0..100 {
            let text = vec![b'0'; length];
            assert_eq!(unpacked(&packed(&text)).unwrap(), text);
        }
    }

    #[test]
    fn padding_is_ones_and_less_than_a_byte() {
        assert_eq!(unpacked(&bytes_of("00011", '1')).unwrap(), b"a");
        assert_eq!(unpacked(&bytes_of("00011", '0')), Err(Bad::Huffman));
        assert_eq!(unpacked(&bytes_of("00011 110", '1')), Err(Bad::Huffman));
        assert_eq!(unpacked(&bytes_of("00011 111 11111111", '1')), Err(Bad::Huffman));
        assert_eq!(unpacked(&[0xff]), Err(Bad::Huffman));
        assert_eq!(unpacked(&[0xff; 3]), Err(Bad::Huffman));
        // seven bits and one of padding; and a byte that is full, and needs none
        assert_eq!(unpacked(&bytes_of("1111011 1", '1')).unwrap(), b"z");
        assert_eq!(unpacked(&bytes_of("11111000", '1')).unwrap(), b"&");
        assert_eq!(unpacked(&bytes_of("11111000 11111111", '1')), Err(Bad::Huffman));
        assert_eq!(unpacked(&[]).unwrap(), b"");
    }

    #[test]
    fn a_code_that_is_cut_is_refused() {
        for byte in 128..=255u8 {
            let whole = packed(&[byte]);
            for end in 1..whole.len() {
                assert_eq!(unpacked(&whole[..end]), Err(Bad::Huffman), "{byte}");
            }
        }
    }

    #[test]
    fn the_end_of_string_symbol_is_refused() {
        let eos = "1".repeat(30);
        for bits in [eos.clone(), format!("00011{eos}"), format!("00011{eos}00011"), eos.repeat(5)] {
            assert_eq!(unpacked(&bytes_of(&bits, '1')), Err(Bad::Huffman), "{bits}");
        }
    }

    #[test]
    fn a_string_ends_where_the_caller_says() {
        let text = vec![b'a'; 100];
        let packed = packed(&text);
        let mut room = Vec::new();
        assert_eq!(unpack(&packed, &mut room, 100), Ok(()));
        room.clear();
        assert_eq!(unpack(&packed, &mut room, 99), Err(Bad::TooLong));
        room.clear();
        assert_eq!(unpack(&packed, &mut room, 0), Err(Bad::TooLong));
        assert!(room.is_empty());
    }
}
