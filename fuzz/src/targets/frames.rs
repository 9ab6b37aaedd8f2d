//! frames: however HTTP/2's bytes are cut, the same frames are seen, and none that is not there.

use portunus_wire::frames::{Frame, Frames};

/// Looks at any bytes, whole, and cut in two ways.
pub fn run(bytes: &[u8]) {
    let seen = |step: usize| {
        let (mut frames, mut all) = (Frames::default(), Vec::<Frame>::new());
        for piece in bytes.chunks(step) {
            frames.advance(piece, |frame| all.push(frame));
        }
        (all, frames.is_in_fields())
    };
    let whole = seen(bytes.len().max(1));
    let cut = usize::from(bytes.last().copied().unwrap_or(0)) + 1;
    assert_eq!(seen(1), whole);
    assert_eq!(seen(cut), whole);
    let told: usize = whole.0.iter().map(|frame| 9 + frame.length as usize).sum();
    assert!(told + 24 <= bytes.len().max(24), "more frames than bytes");
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86\0\0\x01\0\x01\0\0\0\x01x",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x02\x01\0\0\0\0\x03\x82\x84\0\0\x01\x09\x04\0\0\0\x03\x86",
];

/// Pieces that mean something here.
pub const WORDS: &[&[u8]] = &[
    b"\0\0\0",
    b"\x01\x05\0\0\0\x01",
    b"\x01\x2c\0\0\0\x01\0\0\0\0\0\x10",
    b"\x06\0\0\0\0\0",
    b"\x40\x01:",
    b"\x3f\xe1\x1f",
];
