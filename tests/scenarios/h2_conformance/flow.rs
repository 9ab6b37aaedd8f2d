//! flow: windows in both directions, on streams and on the connection (RFC 9113 §5.2, §6.9).

use portunus_tests::h2::{code::*, flag::*, head, kind::*};
use portunus_tests::h2_rules::{Court, LARGE, with};
use portunus_tests::{Blackhole, H2, Proxy};

const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// What every connection, and every stream that nothing was said about, begins with.
const WINDOW: usize = 65_535;

/// The next bytes of an answer, and whether they are its last.
#[track_caller]
fn some(c: &mut H2, stream: u32) -> (usize, bool) {
    let frame = c.expect_frame(DATA, stream);
    (frame.payload.len(), frame.flags & END_STREAM != 0)
}

/// The next `count` bytes of an answer, of which no more may come.
#[track_caller]
fn exactly(c: &mut H2, stream: u32, count: usize) {
    let mut came = 0;
    while came < count {
        came += some(c, stream).0;
    }
    assert_eq!(came, count, "more than there was room for");
    c.expect_ping_ack();
}

#[test]
fn updates_that_are_wrong() {
    Court::new().keeps(&[
        ("6.9: of 0 on the connection", |c| {
            c.window(0, 0);
            c.expect_goaway(&[PROTOCOL_ERROR]);
        }),
        ("6.9: of 0 on a stream", |c| {
            let stream = c.begin("/wait");
            c.window(stream, 0);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("6.9: 3 bytes", |c| {
            c.frame(WINDOW_UPDATE, 0, 0, [0, 0, 1]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.9: 5 bytes, on a stream", |c| {
            let stream = c.begin("/wait");
            c.frame(WINDOW_UPDATE, 0, stream, [0, 0, 0, 0, 1]);
            c.expect_goaway(&[FRAME_SIZE_ERROR]);
        }),
        ("6.9.1: too much on the connection", |c| {
            c.window(0, WINDOW_MAX);
            c.expect_goaway(&[FLOW_CONTROL_ERROR]);
        }),
        ("6.9.1: too much on the connection, in several", |c| {
            c.window(0, WINDOW_MAX - WINDOW as u32);
            c.expect_ping_ack();
            c.window(0, 1);
            c.expect_goaway(&[FLOW_CONTROL_ERROR]);
        }),
        ("6.9.1: too much on a stream", |c| {
            let stream = c.begin("/wait");
            c.window(stream, WINDOW_MAX);
            c.expect_reset(stream, &[FLOW_CONTROL_ERROR]);
        }),
        ("6.9.1: too much on a stream, in several", |c| {
            let stream = c.begin("/wait");
            c.window(stream, WINDOW_MAX - WINDOW as u32);
            c.expect_ping_ack();
            c.window(stream, 1);
            c.expect_reset(stream, &[FLOW_CONTROL_ERROR]);
        }),
        ("6.9.2: too much on a stream, by settings", |c| {
            let stream = c.begin("/wait");
            c.window(stream, WINDOW_MAX - WINDOW as u32);
            c.settings(&[(INITIAL_WINDOW_SIZE, WINDOW as u32 + 1)]);
            c.expect_goaway(&[FLOW_CONTROL_ERROR]);
        }),
        ("6.9.1: as much as there may be is fine", |c| {
            c.makes_room = false;
            c.window(0, WINDOW_MAX - WINDOW as u32);
            let stream = c.ask(&head("POST", "/large"), false);
            c.window(stream, WINDOW_MAX - WINDOW as u32);
            c.data(stream, "x", true);
            assert_eq!(c.expect_answer(stream, 200).body.len(), LARGE);
        }),
    ]);
}

#[test]
fn windows_of_streams_are_kept() {
    let court = Court::new();
    court.keeps_with(
        &[(INITIAL_WINDOW_SIZE, 1)],
        &[
            ("6.9.1: byte by byte", |c| {
                c.makes_room = false;
                let stream = c.begin("/good");
                for _ in 1.."GET /good 0".len() {
                    assert_eq!(some(c, stream).0, 1);
                    c.window(stream, 1);
                }
                let (count, mut ended) = some(c, stream);
                assert_eq!(count, 1);
                while !ended {
                    let (count, end) = some(c, stream);
                    assert_eq!(count, 0);
                    ended = end;
                }
            }),
            ("6.9.1: each stream has its own", |c| {
                c.makes_room = false;
                let streams = [c.begin("/good"), c.begin("/good")];
                let mut came = [0, 0];
                while came != [1, 1] {
                    let frame = c.next_frame().expect("a byte");
                    if frame.kind == DATA {
                        came[usize::from(frame.stream == streams[1])] += frame.payload.len();
                    }
                    assert!(came.iter().all(|came| *came <= 1), "{came:?}");
                }
                c.window(streams[1], 10);
                assert_eq!(some(c, streams[1]).0, 10);
            }),
        ],
    );
    court.keeps_with(
        &[(INITIAL_WINDOW_SIZE, 0)],
        &[
            ("6.9: heads, and bodies of no bytes, need none", |c| {
                let stream = c.begin("/empty");
                assert_eq!(c.expect_answer(stream, 200).body, b"");
                let stream = c.ask(&head("HEAD", "/good"), true);
                assert_eq!(c.expect_answer(stream, 200).body, b"");
            }),
            ("6.9.2: what was asked for before settings changed has more, too", |c| {
                c.makes_room = false;
                let stream = c.begin("/good");
                assert_eq!(c.answered(stream).status, 200);
                c.expect_ping_ack();
                c.settings(&[(INITIAL_WINDOW_SIZE, 1)]);
                exactly(c, stream, 1);
                c.settings(&[(INITIAL_WINDOW_SIZE, 100)]);
                exactly(c, stream, "GET /good 0".len() - 1);
            }),
        ],
    );
    court.keeps_with(
        &[(INITIAL_WINDOW_SIZE, 3)],
        &[
            ("6.9.2: less than nothing", |c| {
                c.makes_room = false;
                let stream = c.begin("/good");
                exactly(c, stream, 3);
                c.settings(&[(INITIAL_WINDOW_SIZE, 2)]); // -1
                c.expect_ping_ack();
                c.window(stream, 2);
                exactly(c, stream, 1);
                c.settings(&[(INITIAL_WINDOW_SIZE, 0)]); // -2
                c.window(stream, 2);
                c.expect_ping_ack();
                c.window(stream, 3);
                exactly(c, stream, 3);
                c.settings(&[(INITIAL_WINDOW_SIZE, 1)]);
                exactly(c, stream, 1);
                c.window(stream, 100);
                exactly(c, stream, 3);
            }),
            ("6.9.2: settings change nothing of the connection's", |c| {
                c.makes_room = false;
                c.settings(&[(INITIAL_WINDOW_SIZE, WINDOW_MAX)]);
                c.expect_frame(SETTINGS, 0);
                let stream = c.begin("/large");
                exactly(c, stream, WINDOW);
                c.window(0, 5);
                exactly(c, stream, 5);
            }),
        ],
    );
}

#[test]
fn the_window_of_the_connection_is_kept() {
    let court = Court::new();
    court.keeps_with(
        &[(INITIAL_WINDOW_SIZE, WINDOW_MAX), (MAX_FRAME_SIZE, 100_000)],
        &[
            ("6.9.1: all streams share it", |c| {
                c.makes_room = false;
                let streams = [c.begin("/large"), c.begin("/large"), c.begin("/large")];
                let mut came = 0;
                let mut take = |c: &mut H2, until: usize| {
                    while came < until {
                        let frame = c.next_frame().expect("bytes");
                        if frame.kind == DATA && streams.contains(&frame.stream) {
                            came += frame.payload.len();
                        }
                    }
                    assert_eq!(came, until);
                };
                take(c, WINDOW);
                c.expect_ping_ack();
                c.window(0, 1000);
                take(c, WINDOW + 1000);
                c.window(0, 3 * LARGE as u32);
                take(c, 3 * LARGE);
            }),
            ("6.9: what was sent to a stream that is reset does not come back by itself", |c| {
                c.makes_room = false;
                let stream = c.begin("/large");
                exactly(c, stream, WINDOW);
                c.reset(stream);
                let stream = c.begin("/good");
                assert_eq!(c.answered(stream).status, 200);
                c.window(0, 4);
                exactly(c, stream, 4);
            }),
        ],
    );
    court.keeps(&[("4.2: frames are no larger than the client takes", |c| {
        let stream = c.begin("/large");
        let (mut came, mut ended) = (0, false);
        while !ended {
            let (count, end) = some(c, stream);
            assert!(count <= 16_384, "{count}");
            (came, ended) = (came + count, end);
        }
        assert_eq!(came, LARGE);
    })]);
}

/// Sends as much as there is room for on a stream; the room on the connection is counted, too.
fn fill(c: &mut H2, stream: u32, mut count: usize, room: &mut usize) {
    while count > 0 {
        while *room < count.min(16_384) {
            let more = c.expect_frame(WINDOW_UPDATE, 0).payload;
            *room += u32::from_be_bytes(more[..4].try_into().expect("four")) as usize;
        }
        let now = count.min(16_384);
        c.data(stream, vec![b'x'; now], false);
        (count, *room) = (count - now, *room - now);
    }
}

#[test]
fn what_is_sent_to_streams_that_are_given_up_comes_back_to_the_connection() {
    Court::with("limits { connection-window 128KiB }").keeps(&[
        ("5.1, 6.9: the client takes them back", |c| {
            let mut room = WINDOW;
            for _ in 0..20 {
                let stream = c.ask(&head("POST", "/wait"), false);
                fill(c, stream, 60_000, &mut room);
                c.reset(stream);
            }
            c.expect_service();
        }),
        ("5.1, 6.9: the server has given them up", |c| {
            let mut room = WINDOW;
            for _ in 0..20 {
                let stream = c.ask(&with("POST", "/bad", &[("te", "gzip")]), false);
                fill(c, stream, 60_000, &mut room);
            }
            c.expect_service();
        }),
        ("6.1: padding counts", |c| {
            // 40 times as much padding as there is room for.
            let mut room = [WINDOW, WINDOW];
            let stream = c.ask(&head("POST", "/good"), false);
            for _ in 0..1000 {
                while room.iter().any(|room| *room < 2256) {
                    let frame = c.next_frame().expect("room");
                    if frame.kind == WINDOW_UPDATE {
                        let more = u32::from_be_bytes(frame.payload[..4].try_into().expect("four")) as usize;
                        room[usize::from(frame.stream != 0)] += more;
                    }
                }
                room.iter_mut().for_each(|room| *room -= 2256);
                c.frame(DATA, PADDED, stream, [&[255][..], &[b'x'; 2000], &[0; 255]].concat());
            }
            c.data(stream, "", true);
            c.expect_text(stream, "POST /good 2000000");
        }),
    ]);
}

/// Nobody takes anything, so the room that there is stays as it was.
#[test]
fn more_than_there_is_room_for() {
    let hole = Blackhole::open();
    let proxy = Proxy::start(&format!(
        "limits {{ connect 10s; stream-window 64KiB; connection-window 128KiB }}\n\
         site * {{ listen @listen; proxy {hole} }}\n"
    ));
    let client = || {
        let mut client = H2::connect(proxy.address());
        client.expect_frame(WINDOW_UPDATE, 0); // behind the server's settings, which are in force from now on
        client
    };
    let post = |c: &mut H2, count: usize| {
        let stream = c.ask(&head("POST", "/"), false);
        for _ in 0..count / 16_384 {
            c.data(stream, [b'x'; 16_384], false);
        }
        stream
    };
    // All that there is room for, and nothing behind it.
    let mut one = client();
    let stream = post(&mut one, 65_536);
    one.data(stream, "", true);
    one.expect_ping_ack();
    // More on a stream, be it padding.
    for flags in [0, PADDED] {
        let mut client = client();
        let stream = post(&mut client, 65_536);
        client.frame(DATA, flags, stream, [0]);
        let outcome = client.outcome(stream);
        assert!(outcome.reset.or(outcome.goaway) == Some(FLOW_CONTROL_ERROR), "{outcome:?}");
    }
    // More on the connection.
    let mut other = client();
    post(&mut other, 65_536);
    post(&mut other, 65_536);
    let stream = other.ask(&head("POST", "/"), false);
    other.expect_ping_ack();
    other.data(stream, "x", false);
    other.expect_goaway(&[FLOW_CONTROL_ERROR]);
}
