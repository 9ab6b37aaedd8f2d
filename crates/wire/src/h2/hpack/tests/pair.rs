//! pair: an encoder and a decoder that follow each other, and how short what passes between them is.

use super::{Pairs, decoded};
use crate::h2::hpack::{Decoder, Encoder, Pseudo};
use portunus_message::Known;
use proptest::prelude::*;

fn add(encoder: &mut Encoder, name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.field(Known::find(name.as_bytes()), name.as_bytes(), value.as_bytes(), &mut out);
    out
}

const ANSWER: [(&str, &str); 6] = [
    ("Server", "nginx"),
    ("Date", "Mon, 21 Oct 2013 20:13:21 GMT"),
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "max-age=3600"),
    ("Vary", "accept-encoding"),
    ("X-Frame-Options", "DENY"),
];

#[test]
fn what_was_said_before_is_a_byte() {
    let mut encoder = Encoder::new();
    for (name, value) in ANSWER {
        assert!(add(&mut encoder, name, value).len() > 1);
    }
    for (nth, (name, value)) in ANSWER.iter().rev().enumerate() {
        assert_eq!(add(&mut encoder, name, value), [0x80 | (62 + nth as u8)], "{name}");
        assert_eq!(add(&mut encoder, &name.to_lowercase(), value), [0x80 | (62 + nth as u8)], "{name}");
    }
    assert_eq!(add(&mut encoder, "accept-encoding", "gzip, deflate"), [0x80 | 16]);
    assert_eq!(add(&mut encoder, "accept", ""), [0x80 | 19]);
}

#[test]
fn statuses_are_a_byte_or_become_one() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for round in 0..2 {
        for code in 100..600u16 {
            let mut out = Vec::new();
            encoder.status(code, &mut out);
            if [200, 204, 206, 304, 400, 404, 500].contains(&code) {
                assert_eq!(out.len(), 1);
            }
            let seen = decoded(&mut decoder, &out).unwrap();
            assert_eq!(seen, [(b":status".to_vec(), code.to_string().into_bytes())], "{round}");
            out.clear();
            encoder.status(code, &mut out);
            assert_eq!((out.len(), decoded(&mut decoder, &out).unwrap()), (1, seen));
        }
    }
}

#[test]
fn what_changes_each_time_is_not_added() {
    let mut encoder = Encoder::new();
    assert_eq!(add(&mut encoder, "Content-Length", "12"), b"\x0f\x0d\x0212");
    assert_eq!(add(&mut encoder, "Content-Length", "12"), b"\x0f\x0d\x0212");
    let mut out = Vec::new();
    encoder.pseudo(Pseudo::Path, b"/a", &mut out);
    encoder.pseudo(Pseudo::Path, b"/", &mut out);
    encoder.pseudo(Pseudo::Path, b"/index.html", &mut out);
    encoder.pseudo(Pseudo::None, b"?", &mut out);
    assert_eq!(out, b"\x04\x02/a\x84\x85");
}

#[test]
fn secrets_are_for_nobody_to_add() {
    let mut encoder = Encoder::new();
    for (name, value) in [("Authorization", "Basic YTpi"), ("Proxy-Authorization", "x"), ("Cookie", "a=b")] {
        for _ in 0..2 {
            assert_eq!(add(&mut encoder, name, value)[0] & 0xf0, 0x10, "{name}");
        }
    }
    assert_eq!(add(&mut encoder, "Set-Cookie", "a=b")[0] & 0xf0, 0x10);
    assert_eq!(add(&mut encoder, "Set-Cookie", &"a".repeat(30))[0] & 0xf0, 0x00);
    assert_eq!(add(&mut encoder, "Cookie", &"a".repeat(30))[0] & 0xc0, 0x40);
}

#[test]
fn a_name_with_many_values_adds_those_that_come_again() {
    let mut encoder = Encoder::new();
    assert_eq!(add(&mut encoder, "x-trace", "one")[0], 0x40);
    for value in ["two", "three", "four"] {
        assert_eq!(add(&mut encoder, "X-Trace", value)[..2], [0x0f, 62 - 15], "{value}");
    }
    assert_eq!(add(&mut encoder, "x-trace", "four")[0], 0x40 | 62);
    assert_eq!(add(&mut encoder, "x-trace", "four"), [0x80 | 62]);
    assert_eq!(add(&mut encoder, "x-trace", "one"), [0x80 | 63]);
}

#[test]
fn what_is_large_is_not_added() {
    let mut encoder = Encoder::new();
    let large = "x".repeat(1024);
    assert_eq!(add(&mut encoder, "Server", &large)[0] & 0xf0, 0);
    assert!(add(&mut encoder, "Server", &large).len() > 500);
    encoder.resize(0);
    assert_eq!(add(&mut encoder, "Server", "x"), b"\x0f\x27\x01x");
}

#[test]
fn the_static_names_that_are_not_known_are_found() {
    let mut encoder = Encoder::new();
    assert_eq!(add(&mut encoder, "Strict-Transport-Security", "max-age=1")[0], 0x40 | 56);
    assert_eq!(add(&mut encoder, "refresh", "1")[0], 0x40 | 52);
}

#[test]
fn a_change_of_size_is_told_at_the_beginning_of_a_block() {
    let begun = |sizes: &[usize]| {
        let (mut encoder, mut out) = (Encoder::new(), Vec::new());
        for size in sizes {
            encoder.resize(*size);
        }
        encoder.begin(&mut out);
        let told = out.len();
        encoder.begin(&mut out);
        assert_eq!(out.len(), told);
        out
    };
    assert_eq!(begun(&[]), b"");
    assert_eq!(begun(&[4096, 65536]), b"");
    assert_eq!(begun(&[0]), b"\x20");
    assert_eq!(begun(&[30, 20]), b"\x34");
    assert_eq!(begun(&[10, 20]), b"\x2a\x34");
    assert_eq!(begun(&[0, 1 << 20]), b"\x20\x3f\xe1\x1f");
}

#[test]
fn names_whose_marks_are_the_same_are_not_mistaken_for_each_other() {
    // the same length, the same beginning and the same end
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for _ in 0..3 {
        for name in ["x-12345678-a-12345678", "x-12345678-b-12345678", "x-12345678-c-12345678"] {
            for value in ["12345678-1-12345678", "12345678-2-12345678"] {
                let block = add(&mut encoder, name, value);
                let seen = decoded(&mut decoder, &block).unwrap();
                assert_eq!(seen, [(name.as_bytes().to_vec(), value.as_bytes().to_vec())]);
            }
        }
    }
}

/// A field of a message: a few names and values come often, others are anything.
fn any_field() -> impl Strategy<Value = (String, Vec<u8>)> {
    let often = (0..12usize).prop_map(|n| {
        [
            "server",
            "date",
            "x-a",
            "cookie",
            "etag",
            "vary",
            "x-b",
            "via",
            "authorization",
            "refresh",
            "x-c",
            "age",
        ][n]
    });
    let name = prop_oneof![4 => often.prop_map(str::to_owned), 1 => "[a-z][a-z0-9-]{0,70}"];
    let value = prop_oneof![
        4 => (0..6u8, 0..60usize).prop_map(|(byte, times)| vec![b'a' + byte; times / 10 * 10]),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => (500..2000usize).prop_map(|length| vec![b'x'; length]),
    ];
    (name, value)
}

#[derive(Clone, Debug)]
enum Step {
    Block(Vec<(String, Vec<u8>)>, u16),
    Resize(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (proptest::collection::vec(any_field(), 0..12), 100..600u16).prop_map(|(f, s)| Step::Block(f, s)),
        1 => prop_oneof![Just(0), Just(4096), 0..600usize, 0..10_000usize].prop_map(Step::Resize),
    ]
}

proptest! {
    #[test]
    fn what_was_written_is_read_whatever_came_before(steps in proptest::collection::vec(any_step(), 1..40)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for step in steps {
            let (fields, status) = match step {
                Step::Resize(size) => {
                    encoder.resize(size);
                    continue;
                }
                Step::Block(fields, status) => (fields, status),
            };
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.status(status, &mut block);
            let mut sent: Pairs = vec![(b":status".to_vec(), status.to_string().into_bytes())];
            for (name, value) in &fields {
                let name_in_capitals = name.to_uppercase().into_bytes();
                encoder.field(Known::find(name.as_bytes()), &name_in_capitals, value, &mut block);
                sent.push((name.as_bytes().to_vec(), value.clone()));
            }
            for (pseudo, name) in
                [(Pseudo::Method, ":method"), (Pseudo::Authority, ":authority"), (Pseudo::Protocol, ":protocol")]
            {
                let value = fields.first().map_or(&b"GET"[..], |(name, _)| name.as_bytes());
                encoder.pseudo(pseudo, value, &mut block);
                sent.push((name.as_bytes().to_vec(), value.to_vec()));
            }
            prop_assert_eq!(decoded(&mut decoder, &block), Ok(sent));
        }
    }

    #[test]
    fn no_bytes_are_too_bad(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..5)) {
        let mut decoder = Decoder::new(4096);
        for block in blocks {
            if decoded(&mut decoder, &block).is_err() {
                break;
            }
        }
    }
}
