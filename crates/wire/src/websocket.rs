//! websocket: the key and its accept value of the handshake (RFC 6455 §4; attack J1), where frames end, and how a connection is closed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What RFC 6455 §1.3 appends to every key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether `key` is what `Sec-WebSocket-Key` must hold: 16 bytes in base64.
pub fn is_key(key: &[u8]) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

/// A key made of `random` bytes.
pub fn key(random: [u8; 16]) -> [u8; 24] {
    let mut text = [0; 24];
    // Invariant: 16 bytes are always 24 characters of base64, so there is room.
    let written = STANDARD.encode_slice(random, &mut text);
    debug_assert_eq!(written, Ok(24));
    text
}

/// The `Sec-WebSocket-Accept` that belongs to `key`.
pub fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = [0; 28];
    // Invariant: 20 bytes are always 28 characters of base64, so there is room.
    let written = STANDARD.encode_slice(digest, &mut text);
    debug_assert_eq!(written, Ok(28));
    text
}

/// Whether an upstream that answered `accept` has understood `key`. A tunnel may be opened only then.
pub fn accepts(key: &[u8], answer: &[u8]) -> bool {
    accept(key) == answer
}

/// Follows the frames of one direction (RFC 6455 §5.2), to know where they end; what is in them is nobody's business here.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    /// How much of a frame's head is there.
    have: usize,
    /// How much of its payload is still to come.
    left: u64,
    closed: bool,
}

impl Frames {
    /// Whether nothing of a frame is under way, so that a frame of our own may go between (RFC 6455 §5.4).
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a close frame has passed: nothing may follow it (RFC 6455 §5.5.1).
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many of `bytes` belong to the frame that is under way, or to the next one. To be called when all before has been passed
    /// to [`Frames::advance`].
    pub fn first_frame(&self, bytes: &[u8]) -> usize {
        let mut frames = self.clone();
        for (at, _) in bytes.iter().enumerate() {
            if at > 0 && frames.is_between() {
                return at;
            }
            let skip = usize::try_from(frames.left).unwrap_or(usize::MAX);
            if skip > 0 {
                // The rest of the payload is one step.
                return at.saturating_add(skip).min(bytes.len());
            }
            frames.advance(bytes.get(at..at + 1).unwrap_or(&[]));
        }
        bytes.len()
    }

    /// Hears that `bytes` have passed.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skip as u64;
                bytes = bytes.get(skip..).unwrap_or(&[]);
                continue;
            }
            if let Some(place) = self.head.get_mut(self.have) {
                *place = byte;
            }
            self.have += 1;
            bytes = rest;
            if self.have >= 2 && self.have == self.head_length() {
                self.left = self.payload();
                self.closed |= self.head[0] & 0x0f == CLOSE;
                self.have = 0;
            }
        }
    }

    fn head_length(&self) -> usize {
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload(&self) -> u64 {
        let [_, first, rest @ ..] = &self.head;
        match first & 0x7f {
            126 => u64::from(u16::from_be_bytes([rest[0], rest[1]])),
            127 => rest.iter().take(8).fold(0, |length, &byte| length << 8 | u64::from(byte)),
            small => u64::from(small),
        }
    }
}

/// A close frame with code 1001, "going away" (RFC 6455 §7.4.1), as a server sends it: without a mask.
pub const GOING_AWAY: [u8; 4] = [0x80 | CLOSE, 2, 0x03, 0xe9];

/// The same as a client sends it: masked (RFC 6455 §5.3).
pub fn going_away(mask: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = mask;
    [0x80 | CLOSE, 0x80 | 2, a, b, c, d, 0x03 ^ a, 0xe9 ^ b]
}

const CLOSE: u8 = 8;
/// Two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(mask | length as u8),
            126..65536 => {
                bytes.push(mask | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend_from_slice(&[1, 2, 3, 4]);
        }
        bytes.resize(bytes.len() + length, b'x');
        bytes
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        let all = [
            (1, 0, true),
            (2, 5, false),
            (9, 125, true),
            (0, 126, false),
            (1, 65535, true),
            (2, 65536, false),
        ];
        for step in [1, 2, 3, 7, 1000, 1 << 20] {
            let mut frames = Frames::default();
            for (opcode, length, masked) in all {
                let bytes = frame(opcode, length, masked);
                for (at, piece) in bytes.chunks(step).enumerate() {
                    assert!(at == 0 || !frames.is_between());
                    frames.advance(piece);
                }
                assert!(frames.is_between() && !frames.is_closed(), "{length} by {step}");
            }
            frames.advance(&frame(8, 2, true));
            assert!(frames.is_between() && frames.is_closed());
        }
    }

    #[test]
    fn the_first_frame_is_found_in_what_is_there() {
        let (first, second) = (frame(1, 200, true), frame(2, 3, false));
        let both = [&first[..], &second[..]].concat();
        for cut in 0..first.len() {
            let mut frames = Frames::default();
            frames.advance(&both[..cut]);
            let mut rest = &both[cut..];
            let mut taken = 0;
            while taken == 0 || !frames.is_between() {
                let step = frames.first_frame(rest);
                frames.advance(&rest[..step]);
                taken += step;
                rest = &rest[step..];
            }
            assert_eq!(taken, first.len() - cut, "{cut}");
        }
    }

    #[test]
    fn a_close_frame_says_going_away() {
        let mut frames = Frames::default();
        frames.advance(&GOING_AWAY);
        assert!(frames.is_between() && frames.is_closed());
        let masked = going_away([9, 8, 7, 6]);
        assert_eq!([masked[6] ^ 9, masked[7] ^ 8], 1001u16.to_be_bytes());
        let mut frames = Frames::default();
        frames.advance(&masked);
        assert!(frames.is_between() && frames.is_closed());
    }

    #[test]
    fn j1_the_accept_value_is_that_of_rfc_6455() {
        let key = b"dGhlIHNhbXBsZSBub25jZQ==";
        assert!(is_key(key));
        assert_eq!(&accept(key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accepts(key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!accepts(key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo"));
        assert!(!accepts(key, b""));
        assert!(is_key(&super::key(*b"sixteen bytes...")));
    }

    #[test]
    fn j1_a_key_is_sixteen_bytes() {
        for bad in [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZQ=!",
            "dGhlIHNhbXBsZSBub25jZWFh",
        ] {
            assert!(!is_key(bad.as_bytes()), "{bad}");
        }
    }
}
