//! settings: what is agreed on, PING and GOAWAY (RFC 9113 §4.3.1, §5.4.1, §6.5, §6.7, §6.8; RFC 8441 §3).

use portunus_tests::h2::{code::*, flag::*, head, kind::*};
use portunus_tests::h2_rules::Court;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// The settings that a frame carries.
fn told(payload: &[u8]) -> Vec<(u16, u32)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    payload.chunks(6).map(|one| (number(&one[..2]) as u16, number(&one[2..]))).collect()
}

#[test]
fn settings_are_taken_and_confirmed() {
    Court::new().keeps(&[
        ("6.5.3: each one is confirmed", |c| {
            for _ in 0..3 {
                c.settings(&[(INITIAL_WINDOW_SIZE, 100_000)]);
            }
            c.settings(&[]);
            let mut confirmed = 0;
            while confirmed < 5 {
                let frame = c.expect_frame(SETTINGS, 0);
                confirmed += usize::from(frame.flags == ACK && frame.payload.is_empty());
            }
            c.expect_service();
        }),
        ("6.5.2: unknown ones", |c| {
            c.settings(&[(0, 1), (7, 1), (9, 9), (0x0a0a, 0xffff_ffff), (0xffff, 0)]);
            c.expect_service();
        }),
        ("6.5.2: the least that may be", |c| {
            let zero = [HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, ENABLE_CONNECT_PROTOCOL]
                .map(|name| (name, 0));
            c.settings(&zero);
            c.settings(&[(MAX_FRAME_SIZE, 1 << 14)]);
            c.expect_service();
        }),
        ("6.5.2: the most that may be", |c| {
            c.settings(&[
                (ENABLE_PUSH, 1),
                (INITIAL_WINDOW_SIZE, (1 << 31) - 1),
                (MAX_FRAME_SIZE, (1 << 24) - 1),
            ]);
            c.settings(&[(MAX_CONCURRENT_STREAMS, u32::MAX), (MAX_HEADER_LIST_SIZE, u32::MAX)]);
            c.expect_service();
        }),
        ("6.5: the same one twice counts as it comes last", |c| {
            c.settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]);
            c.expect_frame(SETTINGS, 0);
            c.expect_frame(SETTINGS, 0);
            c.expect_frame(SETTINGS, 0); // both of ours are confirmed
            let stream = c.begin("/good");
            assert_eq!(c.expect_frame(DATA, stream).payload.len(), 1);
        }),
        ("6.5: under way", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.settings(&[(MAX_FRAME_SIZE, 20_000)]);
            c.data(stream, "x", true);
            c.expect_text(stream, "POST /good 1");
        }),
    ]);
}

#[test]
fn settings_that_are_wrong() {
    Court::new().keeps(&[
        ("6.5: a confirmation that carries something", |c| {
            c.frame(SETTINGS, ACK, 0, [0; 6]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.5: on a stream", |c| {
            c.frame(SETTINGS, 0, 1, [0, 3, 0, 0, 0, 9]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.5: on a stream, a confirmation", |c| {
            c.frame(SETTINGS, ACK, 1, []);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.5: 3 bytes", |c| {
            c.frame(SETTINGS, 0, 0, [0, 3, 0]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.5: 5 bytes", |c| {
            c.frame(SETTINGS, 0, 0, [0, 3, 0, 0, 0]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.5: 7 bytes", |c| {
            c.frame(SETTINGS, 0, 0, [0, 3, 0, 0, 0, 9, 0]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.5.2: ENABLE_PUSH that is neither 0 nor 1", |c| {
            c.settings(&[(ENABLE_PUSH, 2)]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.5.2: a window of 2^31", |c| {
            c.settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]);
            c.expect_goaway(&[FLOW_CONTROL_ERROR]);
        }),
        ("6.5.2: frames of less than 2^14", |c| {
            c.settings(&[(MAX_FRAME_SIZE, (1 << 14) - 1)]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.5.2: frames of 2^24", |c| {
            c.settings(&[(MAX_FRAME_SIZE, 1 << 24)]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.5: a good one behind a bad one saves nothing", |c| {
            c.settings(&[(MAX_FRAME_SIZE, 0), (MAX_FRAME_SIZE, 1 << 14)]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
    ]);
}

#[test]
fn the_servers_own_settings() {
    Court::with("limits { streams 7 }").keeps(&[
        ("6.5.2, RFC 8441 §3: they keep the rules", |c| {
            let settings = told(&c.next_frame().expect("settings").payload);
            let value =
                |wanted| settings.iter().rev().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
            assert_eq!(value(MAX_CONCURRENT_STREAMS), Some(7));
            assert_eq!(value(ENABLE_CONNECT_PROTOCOL), Some(1));
            assert_ne!(value(ENABLE_PUSH), Some(1), "a server says no such thing");
            assert!(value(INITIAL_WINDOW_SIZE).is_none_or(|window| window < 1 << 31));
            assert!(value(MAX_FRAME_SIZE).is_none_or(|size| size == 1 << 14));
        }),
        ("4.3.1: the table's new size is told where it was lowered", |c| {
            c.expect_frame(SETTINGS, 0);
            assert_eq!(c.expect_frame(SETTINGS, 0).flags, ACK); // of our table of 0 bytes
            let stream = c.begin("/good");
            let block = c.expect_frame(HEADERS, stream).payload;
            assert_eq!(block.first(), Some(&0x20), "{block:x?}");
        }),
    ]);
}

#[test]
fn pings() {
    Court::new().keeps(&[
        ("6.7: answered with what they carry", |c| {
            for byte in [0, 1, 0xff] {
                c.frame(PING, 0, 0, [byte; 8]);
                let pong = c.expect_frame(PING, 0);
                assert_eq!((pong.flags, pong.payload), (ACK, vec![byte; 8]));
            }
        }),
        ("6.7: answers are not answered", |c| {
            c.frame(PING, ACK, 0, [1; 8]);
            c.frame(PING, 0, 0, [2; 8]);
            let pong = c.expect_frame(PING, 0);
            assert_eq!((pong.flags, pong.payload), (ACK, vec![2; 8]));
        }),
        ("6.7: answered while requests are under way", |c| {
            c.begin("/wait");
            c.expect_service();
            c.ask(&head("POST", "/wait"), false);
            c.expect_service();
        }),
        ("6.7: on a stream", |c| {
            c.frame(PING, 0, 1, [0; 8]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.7: on a stream that is open", |c| {
            let stream = c.begin("/wait");
            c.frame(PING, 0, stream, [0; 8]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.7: an answer on a stream", |c| {
            c.frame(PING, ACK, 1, [0; 8]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.7: 6 bytes", |c| {
            c.frame(PING, 0, 0, [0; 6]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.7: 9 bytes", |c| {
            c.frame(PING, 0, 0, [0; 9]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.7: none", |c| {
            c.frame(PING, ACK, 0, []);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
    ]);
}

#[test]
fn goaway() {
    Court::new().keeps(&[
        ("6.8: what is under way comes to its end", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.frame(GOAWAY, 0, 0, [[0; 8].as_slice(), b"bye"].concat());
            c.data(stream, "four", true);
            c.expect_text(stream, "POST /good 4");
        }),
        ("6.8: on a stream", |c| {
            c.frame(GOAWAY, 0, 1, [0; 8]);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.8: 7 bytes", |c| {
            c.frame(GOAWAY, 0, 0, [0; 7]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("5.4.1: an error names the last stream that was looked at", |c| {
            c.get("/good").expect(200);
            c.get("/good").expect(200);
            c.frame(PING, 0, 1, [0; 8]);
            let last = loop {
                let frame = c.next_frame().expect("GOAWAY");
                if frame.kind == GOAWAY {
                    break frame;
                }
            };
            assert_eq!((last.stream, last.code()), (0, PROTOCOL_ERROR));
            assert_eq!(last.payload[..4], [0, 0, 0, 3]);
            c.expect_end();
        }),
        ("5.4.1: what comes behind an error is not looked at", |c| {
            c.frame(PING, 0, 1, [0; 8]);
            c.headers(1, WHOLE, &head("GET", "/bad"));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
    ]);
}
