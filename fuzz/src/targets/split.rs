//! split: bytes mean the same however they are cut, to the scan and to the chunk decoder.

use super::chunks::decode;
use portunus_message::{Crime, Limits, Side};
use portunus_wire::h1::{Chunks, HeadBounds, Piece, Scan};

/// Takes any bytes; panics when a promise is broken. The first byte says how the rest is cut.
pub fn run(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let step = 1 + usize::from(choice % 13);
    for side in [Side::Client, Side::Upstream] {
        for (url_bytes, line_bytes, head_bytes) in [(20, 30, 80), (8192, 16384, 32768)] {
            let bounds = HeadBounds { url_bytes, line_bytes, head_bytes, side };
            let whole = Scan::new().advance(data, &bounds);
            assert_eq!(scan_in_steps(data, step, &bounds), whole);
        }
    }
    let limits = Limits::default();
    assert_eq!(decode_in_steps(data, step, &limits), decode(Chunks::new(&limits), data));
}

fn scan_in_steps(data: &[u8], step: usize, bounds: &HeadBounds) -> Result<Option<usize>, Crime> {
    let mut scan = Scan::new();
    let mut end = 0;
    while end < data.len() {
        end = (end + step).min(data.len());
        let found = scan.advance(&data[..end], bounds)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn decode_in_steps(data: &[u8], step: usize, limits: &Limits) -> Result<(Vec<u8>, Option<usize>), Crime> {
    let mut chunks = Chunks::new(limits);
    let mut content = Vec::new();
    let (mut at, mut end) = (0, 0);
    while end < data.len() {
        end = (end + step).min(data.len());
        while at < end {
            match chunks.next(&data[at..end])? {
                Piece::More { used } => at += used,
                Piece::Data { skip, len } => {
                    content.extend_from_slice(&data[at + skip..at + skip + len]);
                    at += skip + len;
                }
                Piece::End { used } => return Ok((content, Some(at + used))),
            }
        }
    }
    Ok((content, None))
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"\0GET / HTTP/1.1\r\nHost: a\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyy\r\n\r\nrest",
    b"\x01\r\nPOST /aaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x02HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"\x035;a=\"b\"\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\nnext",
    b"\x041\r\na\r\n0\r\nHost: a\r\n\r\n",
];

/// Pieces that mean something here.
pub const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"\r\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"X: y\r\n",
    b"0\r\n",
    b"5\r\nhello\r\n",
    b";a",
    b"=",
    b"\"",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
