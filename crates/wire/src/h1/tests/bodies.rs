//! bodies: the rows of attack that stand in a chunked body.

use super::super::{Chunks, Piece, emit};
use super::*;
use portunus_message::FieldValue;

/// Decodes `bytes` as they come whole: the data, and how many bytes were used; `None` when more would have to come.
pub(super) fn decode(mut chunks: Chunks, bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), Crime> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        match chunks.next(&bytes[at..])? {
            Piece::More { used } => {
                assert_eq!(at + used, bytes.len());
                return Ok((data, None));
            }
            Piece::Data { skip, len } => {
                assert!(len > 0);
                data.extend_from_slice(&bytes[at + skip..at + skip + len]);
                at += skip + len;
            }
            Piece::End { used } => {
                assert!(chunks.is_done());
                assert_eq!(chunks.next(b"more"), Ok(Piece::End { used: 0 }));
                return Ok((data, Some(at + used)));
            }
        }
    }
}

fn chunks() -> Chunks {
    Chunks::new(&Limits::default())
}

fn accepted(bytes: &[u8], data: &[u8]) {
    assert_eq!(
        decode(chunks(), bytes),
        Ok((data.to_vec(), Some(bytes.len()))),
        "{:?}",
        String::from_utf8_lossy(bytes)
    );
}

fn broken(bytes: &[u8], crime: Crime) {
    assert_eq!(decode(chunks(), bytes).err(), Some(crime), "{:?}", String::from_utf8_lossy(bytes));
    let upstream = Chunks::upstream(&Limits::default());
    assert_eq!(decode(upstream, bytes).err(), Some(Crime::BadResponse));
}

#[test]
fn chunks_become_data() {
    accepted(b"0\r\n\r\n", b"");
    accepted(b"5\r\nhello\r\n0\r\n\r\n", b"hello");
    accepted(b"5\r\nhello\r\nA\r\n0123456789\r\n1\r\n\n\r\n000\r\n\r\n", b"hello0123456789\n");
    accepted(b"0000000000000005\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"hello");
    assert_eq!(decode(chunks(), b"1\r\na\r\n0\r\n\r\nGET"), Ok((b"a".to_vec(), Some(11))));
    assert_eq!(decode(chunks(), b"5\r\nhel"), Ok((b"hel".to_vec(), None)));
}

#[test]
fn a13_sizes_that_overflow() {
    for size in [
        "00000000000000005",
        "8000000000000000",
        "ffffffffffffffff",
        "10000000000000000",
        "FFFFFFFFFFFFFFFFFFFF",
    ] {
        broken(format!("{size}\r\nhello\r\n").as_bytes(), Crime::BadChunk);
    }
    let huge = decode(chunks(), b"7fffffffffffffff\r\nabc").unwrap();
    assert_eq!(huge, (b"abc".to_vec(), None));
    let beyond_32_bits = decode(chunks(), b"100000005\r\nhello\r\n0\r\n\r\n").unwrap();
    assert_eq!(beyond_32_bits.1, None);
}

#[test]
fn a14_sizes_are_hexadecimal_digits() {
    for bad in [
        "0x5", "+5", "-5", "5_0", " 5", "5 ", "5 ;a", "", "ZZ", ";", "\t5", "5\t", "5\0", "\u{ff15}", "5,",
        "5\u{b}", "g",
    ] {
        broken(format!("{bad}\r\nhello\r\n0\r\n\r\n").as_bytes(), Crime::BadChunk);
    }
}

#[test]
fn a15_extensions_are_checked_and_dropped() {
    for good in ["a", "a=b", "a=\"b;c=d \\\" \t\"", "a;b;c=1", " a", "a = b", "a= \"\""] {
        accepted(format!("5;{good}\r\nhello\r\n0;{good}\r\n\r\n").as_bytes(), b"hello");
    }
    for bad in [
        "",
        ";",
        "=",
        "a=",
        "a=b c",
        "a\nb",
        "a\n",
        "\"a\"",
        "a=\"b",
        "a=\"\r\n\"",
        "a=\"\n\"",
        "a=\0",
        "a\0",
        "a=\"\x08\"",
        "a=\"\\\r\"",
        "\ra",
        "a\r",
        "a=b=c",
        "a=\"b\"c",
        "a ",
        "a;",
        "\u{e4}",
        "a=\x7f",
        "a ;b",
        "a=b ;c",
    ] {
        broken(format!("5;{bad}\r\nhello\r\n0\r\n\r\n").as_bytes(), Crime::BadChunk);
    }
    broken(b"5\r;a\r\nhello\r\n", Crime::BadChunk);
    accepted(format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(255)).as_bytes(), b"hello");
    broken(format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(256)).as_bytes(), Crime::BadChunk);
    let many = |count| format!("1;{}\r\nx\r\n", "a".repeat(127)).repeat(count) + "0\r\n\r\n";
    accepted(many(32).as_bytes(), &[b'x'; 32]);
    broken(many(33).as_bytes(), Crime::BadChunk);
}

#[test]
fn a16_data_as_long_as_its_size() {
    for bad in [
        "5\r\nhello!!\r\n0\r\n\r\n",
        "5\r\nhel\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\r\n",
        "1\r\na\rX",
    ] {
        broken(bad.as_bytes(), Crime::BadChunk);
    }
}

#[test]
fn a17_chunk_lines_end_with_crlf() {
    for bad in [
        "0\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "0\r\n\n",
        "5\rhello\r\n",
        "0\r\n\rX",
        "5;a\nhello\r\n",
    ] {
        let crime = if bad == "0\r\n\n" { Crime::BadTrailer } else { Crime::BadChunk };
        broken(bad.as_bytes(), crime);
    }
}

#[test]
fn a34_trailers_that_must_not_be() {
    for name in [
        "Host",
        "Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "connection",
        "COOKIE",
        "X-Forwarded-For",
        "x-forwarded-anything-that-has-a-very-long-name-indeed",
        "Content-Type",
        "Trailer",
        "Expect",
        "TE",
        "Range",
        "If-Match",
        "Cache-Control",
        "Set-Cookie",
    ] {
        let bytes = format!("0\r\n{name}: x\r\n\r\n");
        assert_eq!(decode(chunks(), bytes.as_bytes()).err(), Some(Crime::BadTrailer), "{name}");
        assert!(decode(Chunks::upstream(&Limits::default()), bytes.as_bytes()).is_ok());
    }
    for line in ["X : y", "X", ": y", " X: y", "X: a\rb", "X: a\0", "X: y\n", "X\u{e4}: y", "X: y\r\n z: y"] {
        broken(format!("0\r\n{line}\r\n\r\n").as_bytes(), Crime::BadTrailer);
    }
}

#[test]
fn a34_trailers_that_may_be_are_kept() {
    let kept = |mut chunks: Chunks, bytes: &[u8]| {
        // However they are cut.
        let mut from = 0;
        for to in 1..=bytes.len() {
            match chunks.next(bytes.get(from..to).unwrap()).unwrap() {
                Piece::More { used } | Piece::End { used } => from += used,
                Piece::Data { skip, len } => from += skip + len,
            }
        }
        let fields = chunks.take_trailers().map(|fields| *fields).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.iter().map(|(_, name, value)| (text(name), text(value))).collect::<Vec<_>>()
    };
    let upstream = || Chunks::upstream(&Limits::default());
    let both = b"2\r\nhi\r\n0\r\nX-Sum: 7 \r\nEmpty:\r\n\r\n";
    let wanted = [("X-Sum".to_owned(), "7".to_owned()), ("Empty".to_owned(), String::new())];
    assert_eq!(kept(chunks(), both), wanted);
    assert_eq!(kept(upstream(), both), wanted);
    assert!(kept(chunks(), b"0\r\n\r\n").is_empty());
    assert!(kept(upstream(), b"0\r\nSet-Cookie: a=b\r\nContent-Length: 3\r\n\r\n").is_empty());
    let under = b"0\r\nX_Sum: 7\r\n\r\n";
    assert!(kept(chunks(), under).is_empty());
    assert_eq!(kept(upstream(), under), [("X_Sum".to_owned(), "7".to_owned())]);
    let mut out = Vec::new();
    let mut fields = Fields::new();
    fields.add(Known::CONTENT_LENGTH, FieldValue::from_static("3"));
    fields.push(Known::OTHER, b"X-Sum", FieldValue::from_static("7"));
    emit::last_chunk(&fields, &mut out);
    assert_eq!(out, b"0\r\nX-Sum: 7\r\n\r\n");
}

#[test]
fn a35_trailers_count_as_headers() {
    let many = |count| format!("0\r\n{}\r\n", "X: y\r\n".repeat(count));
    accepted(many(100).as_bytes(), b"");
    broken(many(201).as_bytes(), Crime::HeadTooLarge);
    assert_eq!(decode(chunks(), many(101).as_bytes()).err(), Some(Crime::HeadTooLarge));
    let (request, _) = read(&post(&"Y: z\r\n".repeat(60))).unwrap();
    let after = || chunks().after(&request.fields);
    assert!(decode(after(), many(40).as_bytes()).is_ok());
    assert_eq!(decode(after(), many(41).as_bytes()).err(), Some(Crime::HeadTooLarge));
    broken(format!("0\r\n{}: y\r\n\r\n", "x".repeat(257)).as_bytes(), Crime::HeadTooLarge);
    broken(format!("0\r\nX: {}", "y".repeat(70_000)).as_bytes(), Crime::HeadTooLarge);
}

#[test]
fn a45_a_body_that_is_cut_short_is_not_done() {
    let whole = b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(decode(chunks(), &whole[..end]).unwrap().1, None, "{end}");
    }
}
