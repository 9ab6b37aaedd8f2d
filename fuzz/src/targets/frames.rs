//! frames: however HTTP/2's bytes are cut, the same frames are seen, and none that is not there.

use portunus_wire::h2::frame::Head;
use portunus_wire::h2::passing::Passing;

/// Looks at any bytes, whole, and cut in two ways.
pub fn run(bytes: &[u8]) {
    let seen = |step: usize| {
        let (mut passing, mut all) = (Passing::default(), Vec::<Head>::new());
        for piece in bytes.chunks(step) {
            passing.advance(piece, |head| all.push(head));
        }
        all
    };
    let whole = seen(bytes.len().max(1));
    let cut = usize::from(bytes.last().copied().unwrap_or(0)) + 1;
    assert_eq!(seen(1), whole);
    assert_eq!(seen(cut), whole);
    assert!(whole.len() * 9 <= bytes.len(), "more frames than bytes");
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86\0\0\x01\0\x01\0\0\0\x01x",
    b"\0\0\x02\x01\0\0\0\0\x03\x82\x84\0\0\x01\x09\x04\0\0\0\x03\x86",
];

/// Pieces that mean something here.
pub const WORDS: &[&[u8]] = &[b"\0\0\0", b"\x01\x05\0\0\0\x01", b"\x01\x2c\0\0\0\x01", b"\x06\0\0\0\0\0"];
