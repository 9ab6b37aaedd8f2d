//! answers: what a client is sent: heads, bodies, informational answers and fields behind a body (RFC 9113 §8.1, §8.2, §8.5; RFC 8441).

use portunus_tests::h2::{Outcome, PREFACE, accept, flag::*, head, kind::*};
use portunus_tests::h2_rules::{Court, with};
use portunus_tests::hpack::{Field, Table};
use portunus_tests::{H2, Origin, Proxy};

/// A whole answer, frame by frame: kinds, flags and lengths.
fn frames(c: &mut H2, stream: u32) -> Vec<(u8, u8, usize)> {
    let mut all = Vec::new();
    while all.last().is_none_or(|(kind, flags, _)| matches!(*kind, CONTINUATION) || flags & END_STREAM == 0) {
        let frame = c.next_frame().expect("an answer");
        assert_ne!(frame.kind, PUSH_PROMISE);
        assert!(frame.payload.len() <= 16_384, "a frame of {} bytes", frame.payload.len());
        if frame.stream == stream && matches!(frame.kind, HEADERS | DATA | CONTINUATION | RST_STREAM) {
            all.push((frame.kind, frame.flags, frame.payload.len()));
        }
    }
    all
}

#[test]
fn heads_and_bodies() {
    Court::new().keeps(&[
        ("8.1: GET", |c| {
            let stream = c.begin("/good");
            c.expect_text(stream, "GET /good 0");
        }),
        ("8.1: POST", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.data(stream, "four", true);
            c.expect_text(stream, "POST /good 4");
        }),
        ("8.1: HEAD has a head and its end", |c| {
            let stream = c.ask(&head("HEAD", "/good"), true);
            assert_eq!(c.expect_answer(stream, 200).body, b"");
            let stream = c.ask(&head("HEAD", "/large"), true);
            assert!(frames(c, stream).iter().all(|(kind, _, length)| *kind == HEADERS || *length == 0));
            c.expect_service();
        }),
        ("9110 9.3.2: HEAD that is refused has a head and its end", |c| {
            let stream = c.ask(&head("HEAD", "/../x"), true);
            assert!(frames(c, stream).iter().all(|(kind, _, length)| *kind == HEADERS || *length == 0));
            let late = [(":path", "/../x"), (":scheme", "http"), (":authority", "a"), (":method", "HEAD")];
            let stream = c.ask(&late, true);
            assert!(frames(c, stream).iter().all(|(kind, _, length)| *kind == HEADERS || *length == 0));
            c.expect_service();
        }),
        ("8.1: 204", |c| {
            let stream = c.begin("/none");
            assert_eq!(c.expect_answer(stream, 204).body, b"");
        }),
        ("8.1: 304", |c| {
            let stream = c.begin("/same");
            assert_eq!(c.expect_answer(stream, 304).body, b"");
        }),
        ("8.1: a body of no bytes", |c| {
            let stream = c.begin("/empty");
            assert_eq!(c.expect_answer(stream, 200).body, b"");
        }),
        ("8.2.2: chunks of HTTP/1 are none here", |c| {
            let stream = c.begin("/chunks");
            assert_eq!(c.expect_answer(stream, 200).body, b"onetwo");
        }),
        ("4.2: a large body", |c| {
            let stream = c.begin("/large");
            let all = frames(c, stream);
            let body: usize = all.iter().filter(|one| one.0 == DATA).map(|one| one.2).sum();
            assert_eq!(body, portunus_tests::h2_rules::LARGE);
        }),
        ("4.3: many fields", |c| {
            let stream = c.begin("/fields");
            let all = frames(c, stream);
            let [first, second, ..] = &all[..] else { panic!("{all:?}") };
            assert_eq!((first.0, first.1 & END_HEADERS), (HEADERS, 0), "{all:?}");
            assert_eq!((second.0, second.1), (CONTINUATION, END_HEADERS), "{all:?}");
            c.expect_service();
        }),
        ("8.1: fields behind a body", |c| {
            let stream = c.ask(&with("GET", "/trailers", &[("te", "trailers")]), true);
            let all = frames(c, stream);
            assert_eq!(
                all.first().map(|one| (one.0, one.1 & WHOLE)),
                Some((HEADERS, END_HEADERS)),
                "{all:?}"
            );
            assert_eq!(all.last().map(|one| (one.0, one.1 & WHOLE)), Some((HEADERS, WHOLE)), "{all:?}");
            c.expect_service();
        }),
        ("8.1: answers that are informational", |c| {
            let stream = c.begin("/hints");
            let all = frames(c, stream);
            let heads: Vec<_> = all.iter().filter(|one| one.0 == HEADERS).map(|one| one.1 & WHOLE).collect();
            assert_eq!(heads, [END_HEADERS; 3], "{all:?}");
            let stream = c.begin("/hints");
            assert_eq!(c.expect_answer(stream, 200).informational, [103, 103]);
        }),
        ("8.1: Expect: 100-continue", |c| {
            let stream = c.ask(&with("POST", "/good", &[("expect", "100-continue")]), false);
            let mut outcome = Outcome::default();
            while outcome.informational.is_empty() {
                c.step(stream, &mut outcome);
            }
            assert_eq!((outcome.informational, outcome.status), (vec![100], 0));
            c.data(stream, "four", true);
            c.expect_text(stream, "POST /good 4");
        }),
        ("8.1: answers of the proxy's own, to a body that nobody reads", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("x-a", "b"); 120]), false);
            let outcome = c.outcome(stream);
            assert!((outcome.status, outcome.complete) == (431, true), "{outcome:?}");
            c.expect_service();
        }),
    ]);
}

#[test]
fn an_answer_that_is_whole_before_the_request_is() {
    let origin = Origin::script(|connection| {
        if connection.head().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
            connection.until_closed();
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let stream = client.ask(&head("POST", "/"), false);
    client.expect_text(stream, "early");
    // Whatever of the body was under way is no error.
    client.data(stream, "more", false);
    client.window(stream, 10);
    let reset = client.expect_frame(RST_STREAM, stream).code();
    assert_eq!(reset, 0, "NO_ERROR (8.1)");
    client.data(stream, "more", true);
    client.expect_ping_ack();
    let stream = client.begin("/");
    client.expect_text(stream, "early");
}

#[test]
fn connections_to_websockets() {
    let origin = Origin::script(|connection| {
        let Some(request) = connection.request() else { return };
        let key = request.fields.one("sec-websocket-key").expect("a key").to_owned();
        let grant = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        connection.send(format!("{grant}Sec-WebSocket-Accept: {}\r\n\r\n", accept(&key)));
        connection.echo();
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let stream = client.ask(
        &with("CONNECT", "/chat", &[(":protocol", "websocket"), ("sec-websocket-version", "13")]),
        false,
    );
    let mut outcome = client.answered(stream);
    assert!((outcome.status, outcome.complete) == (200, false), "{outcome:?}");
    client.data(stream, "hello", false);
    while outcome.body.len() < 5 {
        client.step(stream, &mut outcome);
    }
    // DATA is all that may be on it (RFC 9113 §8.5).
    client.trailers(stream, &[("x-a", "b")]);
    let outcome = client.outcome(stream);
    assert!(outcome.reset.is_some() || outcome.complete || outcome.goaway.is_some(), "{outcome:?}");
    H2::connect(proxy.address()).expect_ping_ack();
}

/// A client that reads the fields it is sent.
struct Reader {
    client: H2,
    table: Table,
}

impl Reader {
    fn new(court: &Court, size: u32) -> Reader {
        let mut client = H2::silent(court.proxy.address());
        client.send(PREFACE);
        client.settings(&[(1, size)]);
        client.expect_frame(SETTINGS, 0);
        client.expect_frame(SETTINGS, 0); // ours are confirmed
        let mut table = Table::new(4096);
        table.allow(size as usize);
        Reader { client, table }
    }

    /// The blocks of fields of an answer to a GET.
    #[track_caller]
    fn get(&mut self, path: &str) -> Vec<Vec<Field>> {
        let stream = self.client.ask(&with("GET", path, &[("te", "trailers")]), true);
        let (mut blocks, mut block, mut ended) = (Vec::new(), Vec::new(), false);
        loop {
            let frame = self.client.next_frame().expect("an answer");
            if frame.stream != stream {
                continue;
            }
            ended |= frame.kind != CONTINUATION && frame.flags & END_STREAM != 0;
            if matches!(frame.kind, HEADERS | CONTINUATION) {
                assert_eq!(frame.flags & (PADDED | WEIGHED), 0);
                block.extend(frame.payload);
                if frame.flags & END_HEADERS != 0 {
                    let fields = self.table.unpack(&block);
                    blocks.push(fields.unwrap_or_else(|error| panic!("{path}: {error}: {block:x?}")));
                    block.clear();
                }
            }
            if ended && block.is_empty() {
                return blocks;
            }
        }
    }

    /// Another size of the table is told, and confirmed.
    fn resize(&mut self, size: u32) {
        self.client.settings(&[(1, size)]);
        self.client.expect_frame(SETTINGS, 0);
        self.table.allow(size as usize);
    }

    /// A number of answers, all of which say what they should.
    #[track_caller]
    fn read(&mut self, rounds: usize) {
        for round in 0..rounds {
            let path = format!("/vary?{}{round}", "n".repeat(round % 40));
            let blocks = self.get(&path);
            let [fields] = &blocks[..] else { panic!("{blocks:?}") };
            assert_eq!(value(fields, "x-vary"), [path.as_str()]);
            assert_eq!(value(fields, "x-same"), [(path.len() % 3).to_string()]);
            assert_eq!(value(fields, "x-long"), ["x".repeat(path.len() * 10)]);
            assert_eq!(value(fields, "content-length"), [(path.len() + "GET  0".len()).to_string()]);
            judge(fields);
        }
    }
}

/// The values of a field.
fn value<'a>(fields: &'a [Field], name: &str) -> Vec<&'a str> {
    fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect()
}

/// A head keeps the rules (RFC 9113 §8.2, §8.3).
#[track_caller]
fn judge(fields: &[Field]) {
    assert_eq!(fields[0].0, ":status", "{fields:?}");
    assert!(fields[1..].iter().all(|field| !field.0.starts_with(':')), "{fields:?}");
    assert!(fields.iter().all(|field| !field.0.bytes().any(|byte| byte.is_ascii_uppercase())), "{fields:?}");
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection", "x-hop"] {
        assert!(value(fields, name).is_empty(), "{fields:?}");
    }
}

#[test]
fn fields_can_be_read_whatever_the_table() {
    let court = Court::new();
    for size in [0, 33, 100, 1000, 4096, 65_536, u32::MAX] {
        Reader::new(&court, size).read(120);
    }
}

#[test]
fn the_table_becomes_smaller_and_larger() {
    let court = Court::new();
    let mut reader = Reader::new(&court, 4096);
    for size in [4096, 500, 100, 2000, 0, 4096, 0, 65_536] {
        reader.resize(size);
        reader.read(20);
    }
    // Twice between two blocks: the smaller one counts, too.
    reader.read(10);
    reader.resize(0);
    reader.resize(4096);
    reader.read(10);
}

#[test]
fn fields_of_answers() {
    let court = Court::new();
    let mut reader = Reader::new(&court, 4096);
    for _ in 0..3 {
        let blocks = reader.get("/trailers");
        let [first, last] = &blocks[..] else { panic!("{blocks:?}") };
        judge(first);
        assert_eq!(last[..], [("x-answer".to_owned(), "8".to_owned())]);
        let blocks = reader.get("/hints");
        assert_eq!(
            blocks.iter().map(|fields| value(fields, ":status")[0]).collect::<Vec<_>>(),
            ["103", "103", "200"]
        );
        assert_eq!(value(&blocks[0], "link"), ["</a.css>"]);
        blocks.iter().for_each(|fields| judge(fields));
        let blocks = reader.get("/fields");
        assert_eq!(value(&blocks[0], "x-many"), ["x".repeat(20_000)]);
        let blocks = reader.get("/same");
        assert_eq!((value(&blocks[0], ":status"), value(&blocks[0], "etag")), (vec!["304"], vec!["\"a\""]));
        judge(&reader.get("/chunks")[0]);
        assert_eq!(value(&reader.get("/none")[0], ":status"), ["204"]);
    }
}
