//! chunks: what the decoder accepts, a plain reading of RFC 9112 §7.1 accepts with the same data and the same end.

use portunus_message::{Crime, Limits};
use portunus_wire::h1::{Chunks, Piece};

/// Takes any bytes; panics when a promise is broken.
pub fn run(data: &[u8]) {
    let limits = Limits::default();
    let strict = decode(Chunks::new(&limits), data);
    if let Ok((content, Some(end))) = &strict {
        assert_eq!(plain_reading(&data[..*end]), Some((content.clone(), *end)));
        // What stands behind the end changes nothing.
        assert_eq!(decode(Chunks::new(&limits), &data[..*end]), strict);
    }
    match decode(Chunks::upstream(&limits), data) {
        Ok(loose) => assert!(strict.is_err() || strict == Ok(loose)),
        Err(crime) => assert!(crime == Crime::BadResponse && strict.is_err()),
    }
}

/// The data, and where the body ends; `None` when it does not.
pub fn decode(mut chunks: Chunks, data: &[u8]) -> Result<(Vec<u8>, Option<usize>), Crime> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        match chunks.next(&data[at..])? {
            Piece::More { used } => {
                assert!(at + used == data.len() && !chunks.is_done());
                return Ok((content, None));
            }
            Piece::Data { skip, len } => {
                assert!(len > 0);
                content.extend_from_slice(&data[at + skip..at + skip + len]);
                at += skip + len;
            }
            Piece::End { used } => {
                assert!(chunks.is_done());
                return Ok((content, Some(at + used)));
            }
        }
    }
}

/// Reads a whole chunked body the short way, without a thought for bounds or extensions.
fn plain_reading(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut content = Vec::new();
    let mut at = 0;
    let line = |at: &mut usize| {
        let end = *at + data.get(*at..)?.windows(2).position(|two| two == b"\r\n")?;
        let line = &data[*at..end];
        *at = end + 2;
        Some(line)
    };
    loop {
        let size = line(&mut at)?.split(|&byte| byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        content.extend_from_slice(data.get(at..at.checked_add(size)?)?);
        at += size;
        if !line(&mut at)?.is_empty() {
            return None;
        }
    }
    while !line(&mut at)?.is_empty() {}
    Some((content, at))
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b;c=\"d\\\"e\"\r\nhello\r\nA\r\n0123456789\r\n0;x\r\nX-Sum: 1\r\nY:\r\n\r\nGET / HTTP/1.1\r\n",
    b"0000000000000001\r\n\n\r\n00\r\n\r\n",
    b"7fffffffffffffff\r\nx",
];

/// Pieces that mean something here.
pub const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"0\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b";",
    b"=",
    b"\"",
    b"\\",
    b" ",
    b"\t",
    b"0",
    b"f",
    b"F",
    b"x",
    b"+",
    b"-",
    b"_",
    b"5\r\nhello\r\n",
    b"1\r\nx\r\n",
    b"ffffffffffffffff",
    b"8000000000000000",
    b"X: y\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"a=b",
    b";a=\"b\"",
];
