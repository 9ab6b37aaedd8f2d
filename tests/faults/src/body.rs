//! body: bodies that say whose they are — an id, a checksum, who made them — and the judgement of one that arrived.

/// What a body that arrived is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// As it was made, for this id.
    Right,
    /// Not as it was made.
    Changed,
    /// Made for another id.
    Strange,
}

/// A body of `bytes` bytes (more when the first line takes more) for request `id`, made by `maker`.
pub fn make(id: &str, maker: &str, bytes: usize) -> Vec<u8> {
    let line_bytes = id.len() + maker.len() + SUM_BYTES + 3;
    let mut fill = Vec::with_capacity(bytes);
    let mut state = checksum(id.as_bytes()) | 1;
    while fill.len() + line_bytes < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        fill.extend_from_slice(&state.to_le_bytes());
    }
    fill.truncate(bytes.saturating_sub(line_bytes));
    let mut body = format!("{id} {:016x} {maker}\n", checksum(&fill)).into_bytes();
    body.append(&mut fill);
    body
}

/// Whether `body` is one that `make` made for `id`, whole.
pub fn judge(body: &[u8], id: &str) -> Judgement {
    let Some(end) = body.iter().position(|&byte| byte == b'\n') else { return Judgement::Changed };
    let line = String::from_utf8_lossy(&body[..end]);
    let mut words = line.split(' ');
    let (Some(whose), Some(sum), Some(_)) = (words.next(), words.next(), words.next()) else {
        return Judgement::Changed;
    };
    if u64::from_str_radix(sum, 16) != Ok(checksum(&body[end + 1..])) {
        return Judgement::Changed;
    }
    if whose == id { Judgement::Right } else { Judgement::Strange }
}

/// A checksum that sees changed, missing, added and exchanged bytes; eight at a time, for it is taken of everything.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    for part in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }
    sum
}

const SUM_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_right_only_for_its_id_and_only_whole() {
        for bytes in [0, 60, 1024, 4096, 65_537] {
            let body = make("7-12", "a", bytes);
            assert_eq!(body.len(), bytes.max(24));
            assert_eq!(judge(&body, "7-12"), Judgement::Right);
            assert_eq!(judge(&body, "7-1"), Judgement::Strange);
        }
        let mut body = make("1", "a", 1024);
        assert_eq!(judge(&body[..1023], "1"), Judgement::Changed);
        body.swap(500, 501);
        assert_eq!(judge(&body, "1"), Judgement::Changed);
        assert_eq!(judge(b"", "1"), Judgement::Changed);
    }
}
