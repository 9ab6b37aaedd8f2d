//! control: finds colons, and control bytes that no head may hold (RFC 9110 §5.5: all but tab), sixteen at a time; its three calls of SSE2 are `unsafe`.

/// Whether no byte is a control byte.
pub(super) fn is_clean(bytes: &[u8]) -> bool {
    first_control(bytes) == bytes.len()
}

/// How many bytes stand before the first control byte.
#[inline]
pub(super) fn first_control(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let mut at = 0;
    for block in blocks {
        let found = marks(block);
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 16;
    }
    at + (end_marks(bytes, rest.len()).trailing_zeros() as usize).min(rest.len())
}

/// A bit for each control byte among the last `count` bytes, fewer than sixteen. They are looked at together with those
/// before them, if there are so many.
#[inline]
fn end_marks(bytes: &[u8], count: usize) -> u32 {
    match bytes.last_chunk::<16>() {
        Some(last) => marks(last) >> (16 - count),
        None => marks(&padded(bytes)),
    }
}

/// How many bytes are control bytes.
pub(super) fn count_control(bytes: &[u8]) -> usize {
    // So few that a count for each of the sixteen columns fits a byte.
    let few = |bytes: &[u8]| {
        let (blocks, rest) = bytes.as_chunks::<16>();
        count(blocks) + end_marks(bytes, rest.len()).count_ones() as usize
    };
    bytes.chunks(16 * 255).map(few).sum()
}

/// How many bytes stand before the first colon.
#[inline]
pub(super) fn first_colon(bytes: &[u8]) -> usize {
    let start = bytes.first_chunk::<16>().map_or(0, colons);
    if start != 0 { start.trailing_zeros() as usize } else { later_colon(bytes) }
}

/// The same where no colon stands near the front.
#[cold]
fn later_colon(bytes: &[u8]) -> usize {
    memchr::memchr(b':', bytes).unwrap_or(bytes.len())
}

/// Fewer than sixteen bytes, filled up with spaces.
#[inline]
fn padded(bytes: &[u8]) -> [u8; 16] {
    let mut block = [b' '; 16];
    if let Some(start) = block.get_mut(..bytes.len()) {
        start.copy_from_slice(bytes);
    }
    block
}

/// A bit for each control byte of `block`, the lowest for the first.
#[inline]
#[allow(unsafe_code)]
fn marks(block: &[u8; 16]) -> u32 {
    // SAFETY: SSE2 belongs to every x86-64, so the processor has what the function asks for.
    #[cfg(target_arch = "x86_64")]
    return unsafe { sse2::marks(block) };
    #[cfg(not(target_arch = "x86_64"))]
    any::marks(block)
}

/// A bit for each colon of `block`.
#[inline]
#[allow(unsafe_code)]
fn colons(block: &[u8; 16]) -> u32 {
    // SAFETY: as above.
    #[cfg(target_arch = "x86_64")]
    return unsafe { sse2::colons(block) };
    #[cfg(not(target_arch = "x86_64"))]
    any::colons(block)
}

/// How many control bytes stand in at most 255 blocks.
#[inline]
#[allow(unsafe_code)]
fn count(blocks: &[[u8; 16]]) -> usize {
    // SAFETY: as above.
    #[cfg(target_arch = "x86_64")]
    return unsafe { sse2::count(blocks) };
    #[cfg(not(target_arch = "x86_64"))]
    any::count(blocks)
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::*;

    #[target_feature(enable = "sse2")]
    pub(super) fn marks(block: &[u8; 16]) -> u32 {
        _mm_movemask_epi8(controls(block)) as u32
    }

    #[target_feature(enable = "sse2")]
    pub(super) fn colons(block: &[u8; 16]) -> u32 {
        _mm_movemask_epi8(_mm_cmpeq_epi8(load(block), _mm_set1_epi8(b':' as i8))) as u32
    }

    #[target_feature(enable = "sse2")]
    pub(super) fn count(blocks: &[[u8; 16]]) -> usize {
        let mut counts = _mm_setzero_si128();
        for block in blocks {
            counts = _mm_sub_epi8(counts, controls(block));
        }
        let halves = _mm_sad_epu8(counts, _mm_setzero_si128());
        _mm_cvtsi128_si32(_mm_add_epi64(halves, _mm_unpackhi_epi64(halves, halves))) as usize
    }

    /// All bits of each byte that is a control byte.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn controls(block: &[u8; 16]) -> __m128i {
        let bytes = load(block);
        let low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        let delete = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        let tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\t' as i8));
        _mm_andnot_si128(tab, _mm_or_si128(low, delete))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(block: &[u8; 16]) -> __m128i {
        let word = u128::from_le_bytes(*block);
        _mm_set_epi64x((word >> 64) as i64, word as i64)
    }
}

/// For other processors, and to prove the above against.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod any {
    pub(super) fn marks(block: &[u8; 16]) -> u32 {
        let bits = block.iter().rev();
        bits.fold(0, |bits, &byte| bits << 1 | u32::from(is_control(byte)))
    }

    pub(super) fn colons(block: &[u8; 16]) -> u32 {
        let bits = block.iter().rev();
        bits.fold(0, |bits, &byte| bits << 1 | u32::from(byte == b':'))
    }

    pub(super) fn count(blocks: &[[u8; 16]]) -> usize {
        blocks.as_flattened().iter().filter(|&&byte| is_control(byte)).count()
    }

    /// RFC 9110 §5.5: what may stand neither in a field nor in a first line; a tab may.
    pub(super) const fn is_control(byte: u8) -> bool {
        ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
    }
}

#[cfg(test)]
mod tests {
    use super::any::is_control;
    use super::*;

    #[test]
    fn control_bytes_are_found_wherever_they_stand() {
        for byte in 0..=255u8 {
            for place in 0..40 {
                let mut bytes = [b'\t', 0x80, b'a', 0xff, b' '].repeat(8);
                bytes[place] = byte;
                let expected = if is_control(byte) { place } else { bytes.len() };
                assert_eq!(first_control(&bytes), expected, "{byte} at {place}");
                assert_eq!(count_control(&bytes), usize::from(is_control(byte)));
                assert_eq!(is_clean(&bytes), !is_control(byte));
            }
        }
        assert_eq!(first_control(b""), 0);
        assert_eq!(count_control(&[b'\r'; 100]), 100);
    }

    #[test]
    fn the_first_colon_is_found() {
        for length in 0..40 {
            let mut bytes = vec![b'a'; length];
            assert_eq!(first_colon(&bytes), length);
            for place in (0..length).rev() {
                bytes[place] = b':';
                assert_eq!(first_colon(&bytes), place);
            }
        }
    }

    #[test]
    fn every_processor_sees_the_same() {
        for start in 0..=240u8 {
            let mut block = [0; 16];
            for (at, byte) in (0..).zip(&mut block) {
                *byte = start.wrapping_add(at).wrapping_mul(7);
            }
            assert_eq!(marks(&block), any::marks(&block));
            assert_eq!(colons(&block), any::colons(&block));
            assert_eq!(count(&[block; 255]), any::count(&[block; 255]));
        }
    }
}
