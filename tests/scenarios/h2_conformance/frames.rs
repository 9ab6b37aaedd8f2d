//! frames: prefaces, the form of frames, and each kind of them where it does not belong (RFC 9113 §3.4, §4, §5.5, §6.1–§6.4, §6.6, §7).

use portunus_tests::H2;
use portunus_tests::h2::{PREFACE, block, code::*, flag::*, frame, head, kind::*};
use portunus_tests::h2_rules::Court;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Fields of priority: the stream that this one depends on, and a weight.
fn weight(on: u32) -> Vec<u8> {
    [&on.to_be_bytes()[..], &[15]].concat()
}

fn get() -> Vec<u8> {
    block(&head("GET", "/good"))
}

/// Something behind the number of bytes of padding, which may be as many or not.
fn padded(says: u8, inside: &[u8], padding: usize) -> Vec<u8> {
    [&[says], inside, &vec![0; padding]].concat()
}

#[test]
fn prefaces() {
    let court = Court::new();
    court.keeps(&[
        ("3.4: a server begins with SETTINGS and confirms ours", |c| {
            let first = c.next_frame().expect("settings");
            assert_eq!((first.kind, first.flags & ACK, first.stream), (SETTINGS, 0, 0));
            assert_eq!(c.expect_frame(SETTINGS, 0).flags, ACK);
            c.expect_service();
        }),
        ("3.4: requests need not wait for the server's settings", |c| {
            let stream = c.begin("/good");
            c.expect_text(stream, "GET /good 0");
        }),
    ]);
    // What is no preface is closed.
    for bytes in [&b"INVALID CONNECTION PREFACE\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let mut stream = TcpStream::connect(court.proxy.address()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(bytes).expect("to send");
        let end = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert!(matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    }
    court.serves_others();
}

#[test]
fn what_follows_a_preface_has_to_be_settings() {
    let court = Court::new();
    for first in [frame(PING, 0, 0, [0; 8]), frame(HEADERS, WHOLE, 1, block(&head("GET", "/bad")))] {
        let mut client = H2::silent(court.proxy.address());
        client.send(PREFACE);
        client.send(first);
        client.expect_goaway(&[PROTOCOL_ERROR]);
    }
    court.serves_others();
}

/// Wherever the network cuts them.
#[test]
fn frames_come_in_any_pieces() {
    let court = Court::new();
    let asked = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, [0, 1, 0, 0, 0, 0]),
        frame(HEADERS, PADDED, 1, padded(3, &block(&head("POST", "/good")), 3)),
        frame(CONTINUATION, END_HEADERS, 1, block(&[("x-a", "b")])),
        frame(DATA, PADDED, 1, padded(2, b"four", 2)),
        frame(0x16, 0, 0, [0; 20]),
        frame(DATA, END_STREAM, 1, "more"),
        frame(PING, 0, 0, [7; 8]),
    ]
    .concat();
    for size in [1, 2, 3, 7, 9, 10, 24, 33, 64, asked.len()] {
        let mut client = H2::silent(court.proxy.address());
        asked.chunks(size).for_each(|piece| _ = client.send(piece));
        client.expect_text(1, "POST /good 8 x-a=b");
        client.frame(PRIORITY, 0, 1, weight(0));
        client.headers(3, WHOLE, &head("GET", "/good"));
        client.expect_text(3, "GET /good 0");
    }
    court.serves_others();
}

#[test]
fn what_is_not_known_is_passed_over() {
    Court::new().keeps(&[
        ("4.1: frames of an unknown kind", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            for on in [0, stream, 77] {
                c.frame(0x16, 0xff, on, [0; 8]);
            }
            c.data(stream, "four", true);
            c.expect_text(stream, "POST /good 4");
            c.expect_service();
        }),
        ("4.1: flags that a kind does not have", |c| {
            c.frame(PING, 0x16, 0, [0; 8]);
            c.frame(SETTINGS, 0xfe, 0, []);
            c.frame(WINDOW_UPDATE, 0xff, 0, [0, 0, 0, 1]);
            c.headers(1, 0x10 | 0x40 | 0x80 | 2 | END_HEADERS, &head("POST", "/good"));
            c.frame(DATA, 0xf0 | 2 | 4 | END_STREAM, 1, "x");
            c.expect_text(1, "POST /good 1");
            c.expect_service();
        }),
        ("4.1: the reserved bit of a stream's number", |c| {
            c.frame(PING, 0, 1 << 31, [0; 8]);
            c.headers(1 << 31 | 1, WHOLE, &head("GET", "/good"));
            c.expect_text(1, "GET /good 0");
            c.expect_service();
        }),
        ("6.9: the reserved bit of an increment", |c| {
            c.frame(WINDOW_UPDATE, 0, 0, [0x80, 0, 0, 1]);
            c.expect_service();
        }),
        ("5.5: a frame of an unknown kind between HEADERS and CONTINUATION is an error", |c| {
            c.headers(1, END_STREAM, &head("GET", "/bad"));
            c.frame(0x16, 0, 1, [0; 8]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("7: RST_STREAM with an unknown code", |c| {
            let stream = c.begin("/wait");
            c.frame(RST_STREAM, 0, stream, [0, 0, 0, 0xff]);
            c.expect_service();
        }),
        ("7: GOAWAY with an unknown code", |c| {
            let stream = c.begin("/good");
            c.frame(GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0xff]);
            c.expect_text(stream, "GET /good 0");
        }),
    ]);
}

#[test]
fn lengths_of_frames() {
    Court::new().keeps(&[
        ("4.2: DATA of 16,384 bytes", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.data(stream, [b'x'; 16_384], true);
            c.expect_text(stream, "POST /good 16384");
        }),
        ("4.2: DATA of one more", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, [b'x'; 16_385], true);
            c.expect_reset(stream, &[FRAME_SIZE_ERROR]);
        }),
        ("4.2: HEADERS of one more", |c| {
            let value = "x".repeat(16_385);
            c.headers(1, WHOLE, &[("x-a", &value)]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("4.2: CONTINUATION of one more", |c| {
            c.headers(1, END_STREAM, &head("GET", "/bad"));
            c.frame(CONTINUATION, END_HEADERS, 1, [0; 16_385]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("4.2: SETTINGS of one more", |c| {
            c.frame(SETTINGS, 0, 0, [0xff; 16_386]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("4.2: an unknown kind of one more", |c| {
            c.frame(0x16, 0, 0, [0; 16_385]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("4.2: a length is judged before what it promises has come", |c| {
            let stream = c.ask(&head("POST", "/bad"), false) as u8;
            c.send([0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, stream]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
    ]);
}

#[test]
fn data() {
    Court::new().keeps(&[
        ("6.1: one frame", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.data(stream, "four", true);
            c.expect_text(stream, "POST /good 4");
        }),
        ("6.1: several, and empty ones", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            for piece in ["a", "", "bc", "", "def"] {
                c.data(stream, piece, false);
            }
            c.data(stream, "", true);
            c.expect_text(stream, "POST /good 6");
        }),
        ("6.1: padding is not part of the body", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.frame(DATA, PADDED, stream, padded(255, b"four", 255));
            c.frame(DATA, PADDED, stream, padded(3, b"", 3));
            c.frame(DATA, PADDED | END_STREAM, stream, padded(0, b"x", 0));
            c.expect_text(stream, "POST /good 5");
        }),
        ("6.1: on the connection", |c| {
            c.data(0, "x", true);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.1: as much padding as payload", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.frame(DATA, PADDED | END_STREAM, stream, [5, 0, 0, 0, 0]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.1: more padding than payload", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.frame(DATA, PADDED | END_STREAM, stream, padded(200, b"four", 3));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.1: no room for the length of the padding", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.frame(DATA, PADDED | END_STREAM, stream, []);
            c.expect_goaway(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]);
        }),
    ]);
}

#[test]
fn headers() {
    Court::new().keeps(&[
        ("6.2: padded", |c| {
            c.frame(HEADERS, WHOLE | PADDED, 1, padded(9, &get(), 9));
            c.expect_text(1, "GET /good 0");
        }),
        ("6.2: with priority", |c| {
            c.frame(HEADERS, WHOLE | WEIGHED, 1, [weight(0), get()].concat());
            c.expect_text(1, "GET /good 0");
        }),
        ("6.2: with exclusive priority, and padded", |c| {
            c.frame(
                HEADERS,
                WHOLE | WEIGHED | PADDED,
                1,
                padded(255, &[weight(1 << 31), get()].concat(), 255),
            );
            c.expect_text(1, "GET /good 0");
        }),
        ("6.2: on the connection", |c| {
            c.headers(0, WHOLE, &head("GET", "/bad"));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.2: more padding than payload", |c| {
            c.frame(HEADERS, WHOLE | PADDED, 1, padded(255, &get(), 9));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.2: padding that reaches into the fields of priority", |c| {
            c.frame(HEADERS, WHOLE | PADDED | WEIGHED, 1, padded(8, &weight(0), 4));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.2: no room for the length of the padding", |c| {
            c.frame(HEADERS, WHOLE | PADDED, 1, []);
            c.expect_goaway(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]);
        }),
        ("6.2: no room for the fields of priority", |c| {
            c.frame(HEADERS, WHOLE | WEIGHED, 1, [0; 4]);
            c.expect_goaway(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]);
        }),
    ]);
}

#[test]
fn priority() {
    Court::new().keeps(&[
        ("6.3: at any time, on any stream", |c| {
            c.frame(PRIORITY, 0, 5, weight(0));
            let stream = c.ask(&head("POST", "/good"), false);
            c.frame(PRIORITY, 0, stream, weight(5));
            c.data(stream, "x", true);
            c.frame(PRIORITY, 0, stream, weight(1 << 31 | 77));
            c.expect_text(stream, "POST /good 1");
            c.frame(PRIORITY, 0, stream, weight(0));
            c.frame(PRIORITY, 0, 1001, weight(0));
            c.expect_service();
        }),
        ("5.1.1: of a higher stream, which closes no lower one", |c| {
            c.frame(PRIORITY, 0, 7, weight(0));
            c.headers(1, WHOLE, &head("GET", "/good"));
            c.expect_text(1, "GET /good 0");
        }),
        ("RFC 7540 §5.3.1: a stream that depends on itself is an error of its own, if it is one", |c| {
            for in_headers in [true, false] {
                let stream = c.stream();
                let (flags, first) = if in_headers { (WEIGHED, weight(stream)) } else { (0, Vec::new()) };
                c.frame(HEADERS, flags | END_HEADERS, stream, [first, get()].concat());
                if !in_headers {
                    c.frame(PRIORITY, 0, stream, weight(stream));
                }
                c.data(stream, "x", true);
                let outcome = c.outcome(stream);
                let is_error = matches!(outcome.reset.or(outcome.goaway), Some(PROTOCOL_ERROR));
                assert!(is_error || outcome.status == 200, "{outcome:?}");
                if outcome.closed {
                    break;
                }
                c.expect_ping_ack();
            }
        }),
        ("6.3: on the connection", |c| {
            c.frame(PRIORITY, 0, 0, weight(1));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.3: of 4 bytes", |c| {
            let stream = c.begin("/wait");
            c.frame(PRIORITY, 0, stream, [0; 4]);
            c.expect_reset(stream, &[FRAME_SIZE_ERROR]);
        }),
        ("6.3: of 6 bytes", |c| {
            let stream = c.begin("/wait");
            c.frame(PRIORITY, 0, stream, [0; 6]);
            c.expect_reset(stream, &[FRAME_SIZE_ERROR]);
        }),
    ]);
}

#[test]
fn resets_and_pushes() {
    Court::new().keeps(&[
        ("6.4: RST_STREAM on the connection", |c| {
            c.reset(0);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.4: RST_STREAM of 3 bytes", |c| {
            let stream = c.begin("/wait");
            c.frame(RST_STREAM, 0, stream, [0; 3]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.4: RST_STREAM of 5 bytes", |c| {
            let stream = c.begin("/wait");
            c.frame(RST_STREAM, 0, stream, [0; 5]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.6: clients do not push on a stream", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.frame(PUSH_PROMISE, END_HEADERS, stream, [&[0, 0, 0, 2], &get()[..]].concat());
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.6: nor on the connection", |c| {
            c.frame(PUSH_PROMISE, END_HEADERS, 0, [&[0, 0, 0, 2], &get()[..]].concat());
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.6: nor where there is no stream", |c| {
            c.frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2], &get()[..]].concat());
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
    ]);
}

#[test]
fn continuation() {
    Court::new().keeps(&[
        ("4.3: a block may be cut anywhere", |c| {
            let whole = get();
            for at in 0..=whole.len() {
                let (one, other) = whole.split_at(at);
                let stream = c.stream();
                c.frame(HEADERS, END_STREAM, stream, one);
                c.frame(CONTINUATION, END_HEADERS, stream, other);
                c.expect_text(stream, "GET /good 0");
            }
        }),
        ("6.10: several", |c| {
            let whole = get();
            let mut pieces = whole.chunks(whole.len().div_ceil(4));
            c.frame(HEADERS, END_STREAM, 1, pieces.next().unwrap_or_default());
            pieces.for_each(|piece| _ = c.frame(CONTINUATION, 0, 1, piece));
            c.frame(CONTINUATION, END_HEADERS, 1, []);
            c.expect_text(1, "GET /good 0");
        }),
        ("6.10: behind padding and priority, which are not part of the block", |c| {
            let whole = get();
            let (one, other) = whole.split_at(20);
            let first = padded(7, &[&weight(0), one].concat(), 7);
            c.frame(HEADERS, END_STREAM | PADDED | WEIGHED, 1, first);
            c.frame(CONTINUATION, END_HEADERS, 1, other);
            c.expect_text(1, "GET /good 0");
        }),
        ("6.10: it has no END_STREAM", |c| {
            c.headers(1, 0, &head("POST", "/good"));
            c.frame(CONTINUATION, END_HEADERS | END_STREAM | PADDED, 1, []);
            c.data(1, "four", true);
            c.expect_text(1, "POST /good 4");
        }),
        ("6.10: fields behind a body go on, too", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.data(stream, "x", false);
            c.headers(stream, END_STREAM, &[("x-sum", "1")]);
            c.frame(CONTINUATION, END_HEADERS, stream, block(&[("x-more", "2")]));
            c.expect_text(stream, "POST /good 1");
        }),
        ("6.10: on the connection", |c| {
            c.headers(1, END_STREAM, &head("GET", "/bad"));
            c.frame(CONTINUATION, END_HEADERS, 0, []);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.10: of another stream", |c| {
            c.headers(1, END_STREAM, &head("GET", "/bad"));
            c.frame(CONTINUATION, END_HEADERS, 3, []);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.10: behind HEADERS that had ended", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.frame(CONTINUATION, END_HEADERS, stream, block(&[("x-a", "b")]));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.10: behind CONTINUATION that had ended", |c| {
            c.headers(1, 0, &head("POST", "/bad"));
            c.frame(CONTINUATION, END_HEADERS, 1, []);
            c.frame(CONTINUATION, END_HEADERS, 1, block(&[("x-a", "b")]));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.10: behind DATA", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, "x", false);
            c.frame(CONTINUATION, END_HEADERS, stream, block(&[("x-a", "b")]));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
    ]);
}

#[test]
fn nothing_comes_between_headers_and_continuation() {
    let court = Court::new();
    let others: [(&str, Vec<u8>); 9] = [
        ("DATA", frame(DATA, 0, 1, "x")),
        ("HEADERS of the same stream", frame(HEADERS, WHOLE, 1, get())),
        ("HEADERS of another stream", frame(HEADERS, WHOLE, 3, get())),
        ("PRIORITY", frame(PRIORITY, 0, 1, weight(0))),
        ("RST_STREAM", frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes())),
        ("SETTINGS", frame(SETTINGS, 0, 0, [])),
        ("PING", frame(PING, 0, 0, [0; 8])),
        ("GOAWAY", frame(GOAWAY, 0, 0, [0; 8])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1])),
    ];
    for (name, bytes) in others {
        for further in [false, true] {
            let mut client = court.client(&[]);
            client.headers(1, END_STREAM, &head("GET", "/bad"));
            if further {
                client.frame(CONTINUATION, 0, 1, block(&[("x-a", "b")]));
            }
            client.send(&bytes);
            client.frame(CONTINUATION, END_HEADERS, 1, []);
            let end = client.end();
            assert_eq!(end, Some(PROTOCOL_ERROR), "{name}");
        }
    }
    court.serves_others();
}
