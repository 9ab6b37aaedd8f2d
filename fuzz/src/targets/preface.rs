//! preface: a PROXY header is read the same however it is cut, and what was told can be told on.

use portunus_wire::preface::{Preface, read, write_v1, write_v2};

const BYTES_MAX: usize = 4 << 10;

/// Takes any bytes; panics when a promise is broken. The first byte says how the rest is cut.
pub fn run(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let data = &data[..data.len().min(BYTES_MAX + 100)];
    let step = 1 + usize::from(choice % 13);
    let mut decided = None;
    for end in (0..data.len()).step_by(step).chain([data.len()]) {
        let now = read(&data[..end], BYTES_MAX);
        match &decided {
            None if now != Ok(None) => decided = Some(now),
            None => assert!(end < BYTES_MAX, "it waits for ever"),
            Some(before) => assert_eq!(*before, now),
        }
    }
    let Some(Ok(Some((told, end)))) = decided else { return };
    assert!(end <= BYTES_MAX && end <= data.len());
    let (mut one, mut two) = (Vec::new(), Vec::new());
    write_v1(&told, &mut one);
    write_v2(&told, &mut two);
    let (as_v1, length) = read(&one, BYTES_MAX).unwrap().unwrap();
    assert!(length == one.len() && length <= 107);
    let (as_v2, length) = read(&two, BYTES_MAX).unwrap().unwrap();
    assert_eq!(length, two.len());
    match (told, as_v1, as_v2) {
        (Preface::Of { .. }, one, two) => assert_eq!(one, two),
        (_, one, two) => assert_eq!((one, two), (Preface::Unknown, told)),
    }
}

pub const SEEDS: &[&[u8]] = &[
    b"\x05PROXY TCP4 192.0.2.7 198.51.100.9 56789 443\r\nGET / HTTP/1.1\r\n\r\n",
    b"\x00PROXY TCP6 2001:db8::7 ::ffff:198.51.100.9 0 65535\r\n",
    b"\x03PROXY UNKNOWN\r\n",
    b"\x01\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x07\xc6\x33\x64\x09\xdd\xd5\x01\xbb\x04\0\x01x\x16\x03\x01",
    b"\x02\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24aaaabbbbccccddddaaaabbbbccccdddd\0\x01\0\x02",
    b"\x00\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
];

pub const WORDS: &[&[u8]] = &[
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"\r\n",
    b" 65535",
    b" ::1",
    b" 10.0.0.1",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
    b"\x21\x21\0\x24",
    b"\x20\0\0\0",
    b"\x03\0\x04",
    b"\x20\0\x05\x01\0\0\0\0",
    b"\xff\xff",
];
