//! streams: their states and numbers, and how many there may be (RFC 9113 §5.1, §5.4.2).

use portunus_tests::h2::{block, code::*, flag::*, head, kind::*};
use portunus_tests::h2_rules::Court;

#[test]
fn idle() {
    Court::new().keeps(&[
        ("5.1: DATA", |c| {
            c.data(1, "x", true);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("5.1: DATA beyond the last one", |c| {
            c.get("/good").expect(200);
            c.data(9, "x", true);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("5.1: RST_STREAM", |c| {
            c.reset(1);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("5.1: WINDOW_UPDATE", |c| {
            c.window(1, 100);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("5.1: CONTINUATION", |c| {
            c.frame(CONTINUATION, END_HEADERS, 1, block(&head("GET", "/bad")));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("5.1: RST_STREAM of one that the server might have opened", |c| {
            c.reset(2);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("5.1: WINDOW_UPDATE of one that the server might have opened", |c| {
            c.window(2, 100);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
    ]);
}

#[test]
fn open() {
    Court::new().keeps(&[
        ("5.1: RST_STREAM takes it back, whatever of it is under way", |c| {
            let stream = c.ask(&head("POST", "/wait"), false);
            c.data(stream, "x", false);
            c.reset(stream);
            c.expect_service();
        }),
        ("5.1: WINDOW_UPDATE", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.window(stream, 100);
            c.data(stream, "x", true);
            c.expect_text(stream, "POST /good 1");
        }),
        ("8.1: a second HEADERS frame ends the stream", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.headers(stream, END_HEADERS, &[("x-a", "b")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1: so it does behind a body", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, "x", false);
            c.headers(stream, END_HEADERS, &[("x-a", "b")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
    ]);
}

#[test]
fn half_closed() {
    Court::new().keeps(&[
        ("5.1: DATA behind the end", |c| {
            let stream = c.begin("/wait");
            c.data(stream, "x", true);
            c.expect_reset(stream, &[STREAM_CLOSED]);
        }),
        ("5.1: DATA behind the end of a body", |c| {
            let stream = c.ask(&head("POST", "/wait"), false);
            c.data(stream, "x", true);
            c.data(stream, "x", true);
            c.expect_reset(stream, &[STREAM_CLOSED]);
        }),
        ("5.1: empty DATA behind the end", |c| {
            let stream = c.begin("/wait");
            c.data(stream, "", true);
            c.expect_reset(stream, &[STREAM_CLOSED]);
        }),
        ("5.1: HEADERS behind the end", |c| {
            let stream = c.begin("/wait");
            c.headers(stream, WHOLE, &[("x-a", "b")]);
            c.expect_reset(stream, &[STREAM_CLOSED]);
        }),
        ("5.1: HEADERS behind the fields that ended it", |c| {
            let stream = c.ask(&head("POST", "/wait"), false);
            c.trailers(stream, &[("x-a", "b")]);
            c.trailers(stream, &[("x-a", "b")]);
            c.expect_reset(stream, &[STREAM_CLOSED]);
        }),
        ("5.1: CONTINUATION behind the end", |c| {
            let stream = c.begin("/wait");
            c.frame(CONTINUATION, END_HEADERS, stream, block(&[("x-a", "b")]));
            c.expect_goaway(&[STREAM_CLOSED, PROTOCOL_ERROR]);
        }),
        ("5.1: WINDOW_UPDATE and PRIORITY are fine", |c| {
            let stream = c.begin("/wait");
            c.window(stream, 100);
            c.frame(PRIORITY, 0, stream, [0, 0, 0, 0, 1]);
            c.expect_service();
        }),
        ("5.1: RST_STREAM takes the request back", |c| {
            let stream = c.begin("/wait");
            c.reset(stream);
            c.expect_service();
        }),
    ]);
}

/// What comes on a stream that is over may be an error of it, or of all; what may still have been under way may be passed over.
#[test]
fn closed() {
    Court::new().keeps(&[
        ("5.1: DATA behind our reset", |c| {
            let stream = c.ask(&head("POST", "/wait"), false);
            c.reset(stream);
            c.data(stream, "x", true);
            c.expect_reset(stream, &[STREAM_CLOSED]);
        }),
        ("5.1: HEADERS behind our reset", |c| {
            let stream = c.ask(&head("POST", "/wait"), false);
            c.reset(stream);
            c.headers(stream, WHOLE, &head("GET", "/bad"));
            c.expect_reset(stream, &[STREAM_CLOSED, PROTOCOL_ERROR]);
        }),
        ("5.1: CONTINUATION behind our reset", |c| {
            let stream = c.ask(&head("POST", "/wait"), false);
            c.reset(stream);
            c.frame(CONTINUATION, END_HEADERS, stream, block(&[("x-a", "b")]));
            c.expect_goaway(&[STREAM_CLOSED, PROTOCOL_ERROR]);
        }),
        ("5.1: DATA behind the whole exchange", |c| {
            c.get("/good").expect(200);
            c.data(1, "x", true);
            c.expect_reset(1, &[STREAM_CLOSED]);
        }),
        ("5.1: HEADERS behind the whole exchange", |c| {
            c.get("/good").expect(200);
            c.headers(1, WHOLE, &head("GET", "/bad"));
            c.expect_reset(1, &[STREAM_CLOSED, PROTOCOL_ERROR]);
        }),
        ("5.1: CONTINUATION behind the whole exchange", |c| {
            c.get("/good").expect(200);
            c.frame(CONTINUATION, END_HEADERS, 1, block(&[("x-a", "b")]));
            c.expect_goaway(&[STREAM_CLOSED, PROTOCOL_ERROR]);
        }),
        ("5.1: WINDOW_UPDATE, RST_STREAM and PRIORITY are passed over", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.data(stream, "x", true);
            c.expect_text(stream, "POST /good 1");
            c.window(stream, 100);
            c.frame(PRIORITY, 0, stream, [0, 0, 0, 0, 1]);
            c.reset(stream);
            c.expect_service();
        }),
        ("5.4.2: a reset is not answered with one", |c| {
            let stream = c.begin("/wait");
            c.reset(stream);
            c.reset(stream);
            c.frame(PING, 0, 0, [0; 8]);
            loop {
                let frame = c.next_frame().expect("a pong");
                assert!(frame.kind != RST_STREAM && frame.kind != GOAWAY, "{frame:?}");
                if frame.kind == PING {
                    break;
                }
            }
            c.expect_service();
        }),
        ("5.1: the server's own reset: what was under way is passed over", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.window(stream, 0);
            c.data(stream, "x", false);
            c.data(stream, "x", true);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
    ]);
}

#[test]
fn numbers() {
    Court::new().keeps(&[
        ("5.1.1: an even one", |c| {
            c.headers(2, WHOLE, &head("GET", "/bad"));
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("5.1.1: one that is lower than the last", |c| {
            c.headers(5, WHOLE, &head("GET", "/good"));
            c.headers(3, WHOLE, &head("GET", "/bad"));
            c.expect_goaway(&[PROTOCOL_ERROR, STREAM_CLOSED]);
        }),
        ("5.1.1: DATA on one that was left out", |c| {
            c.headers(5, WHOLE, &head("GET", "/wait"));
            c.data(3, "x", true);
            c.expect_reset(3, &[STREAM_CLOSED, PROTOCOL_ERROR]);
        }),
        ("5.1.1: some may be left out", |c| {
            for stream in [1, 5, 101, 0x7fff_fffd] {
                c.headers(stream, WHOLE, &head("GET", "/good"));
                c.expect_text(stream, "GET /good 0");
            }
        }),
        ("5.1.1: the very last one", |c| {
            c.headers(0x7fff_ffff, WHOLE, &head("GET", "/good"));
            c.expect_text(0x7fff_ffff, "GET /good 0");
        }),
    ]);
}

#[test]
fn many() {
    let court = Court::with("limits { streams 5 }");
    court.keeps(&[
        ("5.1.2: more than there may be", |c| {
            for _ in 0..5 {
                c.begin("/wait");
            }
            let stream = c.begin("/bad");
            let outcome = c.outcome(stream);
            assert!(matches!(outcome.reset, Some(REFUSED_STREAM | PROTOCOL_ERROR)), "{outcome:?}");
            c.reset(1);
            c.expect_ping_ack();
        }),
        ("5.1.2: those that are over do not count", |c| {
            for _ in 0..4 {
                c.begin("/wait");
            }
            for _ in 0..20 {
                c.get("/good").expect(200);
            }
        }),
        ("5.1.2: nor do those that are idle", |c| {
            for stream in (101..131).step_by(2) {
                c.frame(PRIORITY, 0, stream, [0, 0, 0, 0, 1]);
            }
            c.get("/good").expect(200);
        }),
    ]);
    Court::new().keeps(&[
        ("5: answers come as they are ready", |c| {
            c.begin("/wait");
            let post = c.ask(&head("POST", "/good"), false);
            c.expect_service();
            c.data(post, "four", true);
            c.expect_text(post, "POST /good 4");
        }),
        ("5: bodies may be mixed", |c| {
            let streams = [(); 5].map(|()| c.ask(&head("POST", "/good"), false));
            for round in 1..=6 {
                for (at, stream) in streams.iter().enumerate() {
                    c.data(*stream, vec![b'x'; at], round == 6);
                }
            }
            let mut bodies = [(); 5].map(|()| Vec::new());
            let mut ended = 0;
            while ended < 5 {
                let frame = c.next_frame().expect("an answer");
                let Some(at) = streams.iter().position(|stream| *stream == frame.stream) else { continue };
                if frame.kind == DATA {
                    bodies[at].extend(frame.payload);
                    ended += usize::from(frame.flags & END_STREAM);
                }
            }
            for (at, body) in bodies.iter().enumerate() {
                assert_eq!(String::from_utf8_lossy(body), format!("POST /good {}", at * 6));
            }
        }),
        ("5.4.2: what is wrong with one is no other's", |c| {
            let good = c.ask(&head("POST", "/good"), false);
            let bad = c.ask(&[(":method", "GET")], true);
            let outcome = c.outcome(bad);
            assert_eq!((outcome.reset, outcome.goaway), (Some(PROTOCOL_ERROR), None));
            c.data(good, "four", true);
            c.expect_text(good, "POST /good 4");
        }),
    ]);
}
