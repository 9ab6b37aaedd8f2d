//! h2_upstream: servers that speak HTTP/2 — shared connections, what may be sent again (row B21), and what a hostile one achieves (rows B1, B18, B19, B24).

use portunus_tests::h2::{code, head, kind};
use portunus_tests::h2_origin::Peer;
use portunus_tests::tls::{Authority, server};
use portunus_tests::{Client, Fault, H2, Origin, Place, Proxy, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const OK: &[(&str, &str)] = &[(":status", "200")];

fn pool(origin: &Origin, more: &str) -> Proxy {
    Proxy::start(&format!(
        "pool p {{\nserver h2c://{origin}\n{more}\n}}\nsite * {{ listen @listen; proxy p }}\n"
    ))
}

/// Calls `one` with the number of the request, over all connections.
fn counted(one: impl Fn(&mut Peer<'_>, usize, u32) -> bool + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::http2(&[], move |peer| {
        while let Some(asked) = peer.request() {
            if !one(peer, count.fetch_add(1, SeqCst), asked.stream) {
                return;
            }
        }
    })
}

#[test]
fn many_requests_share_a_connection() {
    let origin = Origin::http2_says("shared");
    let proxy = pool(&origin, "");
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..10 {
                    assert_eq!(client.get("/").expect(200).text(), "shared");
                    assert_eq!(client.post("/", "x").expect(200).text(), "shared");
                }
            });
        }
    });
    assert_eq!(origin.connections(), 1);
    let mut client = H2::connect(proxy.address());
    assert_eq!(client.post("/", "x").expect(200).body, b"shared");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_upstream_has_no_more_streams_than_it_wants() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let origin = Origin::http2(&[(3, 2)], move |peer| {
        let mut waiting = Vec::new();
        while let Some(asked) = peer.request() {
            waiting.push(asked.stream);
            seen.fetch_max(waiting.len(), SeqCst);
            // The first alone, to learn of the settings; then two at a time.
            if asked.stream == 1 || waiting.len() == 2 {
                waiting.drain(..).for_each(|stream| _ = peer.answer(stream, OK, ""));
            }
        }
    });
    let proxy = pool(&origin, "");
    proxy.get("/").expect(200);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| proxy.get("/").expect(200));
        }
    });
    assert_eq!(most.load(SeqCst), 2);
}

#[test]
fn bodies_pass_in_both_directions_at_their_pace() {
    const BYTES: usize = 2 << 20;
    let origin = Origin::http2(&[], |peer| {
        while let Some(asked) = peer.request() {
            peer.head(asked.stream, OK, false);
            // Only as much as the proxy has asked for: its windows are 64 KiB a stream.
            let mut window = 65_535usize;
            for piece in asked.body.chunks(16 << 10) {
                while window < piece.len() {
                    let Some(frame) = peer.next_of(kind::WINDOW_UPDATE) else { return };
                    if frame.stream == asked.stream {
                        window += u32::from_be_bytes(frame.payload.try_into().expect("four")) as usize;
                    }
                }
                window -= piece.len();
                peer.data(asked.stream, piece, false);
            }
            peer.data(asked.stream, "", true);
        }
    });
    let proxy = pool(&origin, "");
    let body = vec![b'z'; BYTES];
    assert!(proxy.client().post("/", &body).expect(200).body == body);
    proxy.log("the body", |line| line["bytes_down"].as_u64() == Some(BYTES as u64));
}

#[test]
fn an_answer_that_nobody_reads_holds_up_no_other() {
    let origin = counted(|peer, number, stream| {
        peer.head(stream, OK, false);
        if number == 0 {
            (0..4).for_each(|_| _ = peer.data(stream, vec![b'x'; 16_383], false));
            return true; // as much as there is room for, and no end
        }
        peer.data(stream, "quick", true)
    });
    let proxy = pool(&origin, "");
    let mut slow = H2::connect(proxy.address());
    slow.makes_room = false;
    slow.begin("/slow");
    proxy.admin("GET", "/live").expect(200);
    origin_has(&origin, 1);
    for _ in 0..20 {
        assert_eq!(proxy.get("/").expect(200).text(), "quick");
    }
    assert_eq!(origin.connections(), 1);
}

fn origin_has(origin: &Origin, connections: usize) {
    eventually("a connection", SOON, || (origin.connections() >= connections).then_some(()));
}

#[test]
fn b21_what_came_behind_the_last_stream_of_a_goaway_is_sent_again() {
    let origin = counted(|peer, number, stream| {
        if number == 1 {
            peer.goaway(stream - 2, code::NO_ERROR);
            return true; // the connection stays, for those that are under way
        }
        peer.answer(stream, OK, format!("{number}"))
    });
    let proxy = pool(&origin, "");
    let mut client = proxy.client();
    assert_eq!(client.post("/", "a").expect(200).text(), "0");
    assert_eq!(client.post("/", "b").expect(200).text(), "2");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn b21_what_was_refused_is_sent_again_even_where_there_is_one_server() {
    let origin = counted(|peer, number, stream| match number {
        1 => peer.reset(stream, code::REFUSED_STREAM),
        _ => peer.answer(stream, OK, format!("{number}")),
    });
    let proxy = pool(&origin, "");
    let mut client = proxy.client();
    assert_eq!(client.post("/", "a").expect(200).text(), "0");
    assert_eq!(client.post("/", "b").expect(200).text(), "2");
}

#[test]
fn b21_what_was_under_way_at_a_goaway_comes_to_its_end() {
    let origin = counted(|peer, _, stream| {
        peer.goaway(stream, code::NO_ERROR);
        peer.answer(stream, OK, "to the end")
    });
    let proxy = pool(&origin, "");
    for _ in 0..5 {
        assert_eq!(proxy.client().post("/", "a").expect(200).text(), "to the end");
    }
    assert_eq!(origin.connections(), 5);
}

#[test]
fn what_may_have_been_done_is_not_done_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let origin = Origin::http2(&[], move |peer| {
        while let Some(asked) = peer.request() {
            match count.fetch_add(1, SeqCst) {
                0 => peer.answer(asked.stream, OK, "first"),
                1 => peer.reset(asked.stream, code::INTERNAL_ERROR),
                _ => return, // the connection is cut
            };
        }
    });
    let proxy = pool(&origin, "");
    let mut client = proxy.client();
    client.post("/", "a").expect(200);
    client.post("/", "b").expect(502);
    proxy.expect_reason("upstream-reset");
    proxy.client().post("/", "c").expect(502);
    proxy.expect_reason("upstream-closed");
    assert_eq!(seen.load(SeqCst), 3);
}

#[test]
fn an_upload_that_is_reset_is_not_sent_again_beside_the_rules() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let origin = Origin::http2(&[], move |peer| {
        peer.makes_room = false;
        while let Some(frame) = peer.next_of(kind::HEADERS) {
            if count.fetch_add(1, SeqCst) == 0 {
                peer.answer(frame.stream, OK, "first");
                continue;
            }
            // In the middle of it, when there is no room for more.
            let mut left = 65_535;
            while let Some(data) = peer.next_of(kind::DATA) {
                left -= data.payload.len();
                if left == 0 {
                    break;
                }
            }
            peer.reset(frame.stream, code::INTERNAL_ERROR);
        }
    });
    let proxy = pool(&origin, "retry off");
    let mut client = proxy.client();
    client.get("/").expect(200);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n");
    let _ = client.try_send(vec![b'x'; 70_000]);
    client.response().expect(502);
    proxy.expect_reason("upstream-reset");
    assert_eq!(seen.load(SeqCst), 2);
}

#[test]
fn b1_an_answer_with_another_length_than_it_says_is_never_whole() {
    for (length, body) in [("5", "abc"), ("2", "abc"), ("5", "")] {
        let origin = counted(move |peer, _, stream| {
            peer.answer(stream, &[(":status", "200"), ("content-length", length)], body)
        });
        let proxy = pool(&origin, "retry off");
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.try_response("GET") {
            Ok(answer) => _ = answer.expect(502),
            Err(fault) => assert!(matches!(fault, Fault::Cut | Fault::Closed | Fault::Reset), "{fault:?}"),
        }
        let mut client = H2::connect(proxy.address());
        let outcome = client.get("/");
        assert!(outcome.status == 502 || !outcome.complete, "{outcome:?}");
    }
}

#[test]
fn an_answer_that_is_cut_is_seen_to_be_cut() {
    let origin = counted(|peer, _, stream| {
        peer.head(stream, OK, false);
        peer.data(stream, vec![b'x'; 10_000], false);
        peer.reset(stream, code::INTERNAL_ERROR)
    });
    let proxy = pool(&origin, "");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.try_response("GET") {
        Ok(answer) => _ = answer.expect(502),
        Err(fault) => assert!(matches!(fault, Fault::Cut | Fault::Closed | Fault::Reset), "{fault:?}"),
    }
    let outcome = H2::connect(proxy.address()).get("/");
    assert!(outcome.status == 502 || !outcome.complete, "{outcome:?}");
}

#[test]
fn an_answer_that_ends_in_a_reset_without_an_error_is_cut_all_the_same() {
    let origin = counted(|peer, _, stream| {
        peer.head(stream, OK, false);
        peer.data(stream, "the first half", false);
        peer.reset(stream, code::NO_ERROR)
    });
    let proxy = pool(&origin, "");
    let outcome = H2::connect(proxy.address()).get("/");
    assert!(outcome.status == 502 || !outcome.complete, "{outcome:?}");
}

#[test]
fn an_answer_that_wants_no_more_of_the_request_is_whole() {
    // RFC 9113 §8.1: a whole answer, and then a reset without an error.
    let origin = Origin::http2(&[], |peer| {
        peer.makes_room = false;
        while let Some(frame) = peer.next_of(kind::HEADERS) {
            peer.answer(frame.stream, OK, "enough");
            peer.reset(frame.stream, code::NO_ERROR);
        }
    });
    let proxy = pool(&origin, "");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let _ = client.try_send(vec![b'x'; 200_000]);
    assert_eq!(client.response().expect(200).text(), "enough");
}

#[test]
fn b24_a_hostile_answer_is_a_502() {
    let long = "x".repeat(70 << 10);
    let answers: [Vec<(&str, &str)>; 8] = [
        vec![(":status", "200"), ("x-long", &long)],
        vec![(":status", "200"), ("connection", "close")],
        vec![(":status", "200"), ("transfer-encoding", "chunked")],
        vec![(":status", "200"), ("X-Upper", "1")],
        vec![(":status", "200"), ("content-length", "1"), ("content-length", "2")],
        vec![(":status", "abc")],
        vec![("x-no-status", "1")],
        vec![(":status", "101")],
    ];
    for fields in answers {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let shown = fields.first().cloned();
        let origin = counted(move |peer, _, stream| {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let block = portunus_tests::h2::block(&fields);
            // In frames of 16 KiB: the first begins, the last ends.
            let pieces: Vec<&[u8]> = block.chunks(16_384).collect();
            for (at, piece) in pieces.iter().enumerate() {
                let what = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
                peer.send(what, if at + 1 == pieces.len() { 4 } else { 0 }, stream, piece);
            }
            peer.data(stream, "", true)
        });
        let proxy = pool(&origin, "retry off");
        assert_eq!(proxy.get("/").status, 502, "{shown:?}");
    }
}

#[test]
fn b24_too_many_fields_are_a_502() {
    let names: Vec<String> = (0..300).map(|number| format!("x-{number}")).collect();
    let origin = counted(move |peer, _, stream| {
        let mut fields = vec![(":status", "200")];
        fields.extend(names.iter().map(|name| (name.as_str(), "1")));
        peer.answer(stream, &fields, "")
    });
    pool(&origin, "retry off").get("/").expect(502);
}

#[test]
fn b24_pushes_and_streams_that_nobody_opened_end_the_connection_and_nothing_else() {
    let hostile: [fn(&mut Peer<'_>, u32); 5] = [
        // A push, although none was allowed.
        |peer, stream| _ = peer.send(5, 4, stream, [&2u32.to_be_bytes()[..], &[0x82, 0x86, 0x84]].concat()),
        // Data and heads of streams that do not exist.
        |peer, _| _ = peer.data(99, "x", false),
        |peer, _| _ = peer.head(99, OK, true),
        // A window that is more than full.
        |peer, _| _ = peer.send(kind::WINDOW_UPDATE, 0, 0, 0x7fff_ffffu32.to_be_bytes()),
        // A frame longer than was allowed.
        |peer, stream| _ = peer.data(stream, vec![0; 20_000], false),
    ];
    for (at, attack) in hostile.into_iter().enumerate() {
        let origin = counted(move |peer, number, stream| {
            if number == 1 {
                attack(peer, stream);
                return peer.connection.until_closed() > 0;
            }
            peer.answer(stream, OK, "fine")
        });
        let proxy = pool(&origin, "retry off");
        let mut client = proxy.client();
        client.get("/").expect(200);
        assert_eq!(client.post("/", "").status, 502, "{at}");
        assert_eq!(proxy.get("/").expect(200).text(), "fine", "{at}");
        assert_eq!(origin.connections(), 2, "{at}");
    }
}

#[test]
fn b19_data_of_a_stream_that_is_gone_is_swallowed() {
    let origin = Origin::http2(&[], |peer| {
        let Some(first) = peer.request() else { return };
        peer.head(first.stream, OK, false);
        peer.data(first.stream, "some", false);
        // The client leaves, and so does the stream; what still comes of it means nothing.
        let Some(reset) = peer.next_of(kind::RST_STREAM) else { return };
        assert_eq!((reset.stream, reset.code()), (first.stream, code::CANCEL));
        for _ in 0..3 {
            peer.data(first.stream, vec![b'x'; 1000], false);
        }
        while let Some(asked) = peer.request() {
            peer.answer(asked.stream, OK, "goes on");
        }
    });
    let proxy = pool(&origin, "");
    let mut client = H2::connect(proxy.address());
    let stream = client.begin("/");
    client.answered(stream);
    client.reset(stream);
    proxy.expect_reason("client-gone");
    for _ in 0..10 {
        assert_eq!(proxy.get("/").expect(200).text(), "goes on");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn b18_a_thousand_streams_end_badly_and_the_connection_goes_on() {
    let origin = counted(|peer, number, stream| match number % 2 {
        0 => peer.reset(stream, code::CANCEL),
        _ => peer.answer(stream, OK, ""),
    });
    let proxy = pool(&origin, "retry off\neject off");
    let began = Instant::now();
    let mut client = H2::connect(proxy.address());
    client.makes_room = false; // a word about every small answer would be too many
    for _ in 0..20 {
        let streams: Vec<u32> = (0..50).map(|_| client.ask(&head("POST", "/"), true)).collect();
        let mut ended = 0;
        while ended < streams.len() {
            let frame = client.next_frame().expect("an answer");
            assert_ne!(frame.kind, kind::GOAWAY, "{frame:?}");
            ended += usize::from(frame.flags & 1 != 0 && matches!(frame.kind, kind::HEADERS | kind::DATA));
        }
    }
    assert_eq!(origin.connections(), 1);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_peer_that_is_gone_without_a_word_is_found_by_asking() {
    let connections = AtomicUsize::new(0);
    let origin = Origin::http2(&[], move |peer| {
        peer.answers_pings = false;
        let is_gone = connections.fetch_add(1, SeqCst) == 0;
        while let Some(asked) = peer.request() {
            if !is_gone {
                peer.answer(asked.stream, OK, "again");
            }
        }
    });
    let limits = "limits { upstream-ping 200ms; upstream-ping-time 200ms }";
    let proxy = Proxy::start(&format!("{limits}\nsite * {{ listen @listen; proxy h2c://{origin} }}\n"));
    assert_eq!(proxy.get("/").status, 502);
    proxy.expect_reason("upstream-closed");
    assert_eq!(proxy.get("/").expect(200).text(), "again");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn trailers_pass_in_both_directions() {
    let origin = Origin::http2(&[], |peer| {
        while let Some(head) = peer.next_of(kind::HEADERS) {
            let behind = peer.next_of(kind::HEADERS).map(|frame| frame.flags & 1);
            peer.head(head.stream, OK, false);
            peer.data(head.stream, if behind == Some(1) { "both" } else { "none" }, false);
            peer.head(head.stream, &[("grpc-status", "0"), ("content-length", "5")], true);
        }
    });
    let proxy = pool(&origin, "");
    let mut client = H2::connect(proxy.address());
    let mut fields = head("POST", "/").to_vec();
    fields.push(("te", "trailers"));
    let stream = client.ask(&fields, false);
    client.data(stream, "x", false);
    client.trailers(stream, &[("x-checksum", "1")]);
    let (mut body, mut heads) = (Vec::new(), Vec::new());
    while heads.len() < 2 {
        let frame = client.next_frame().expect("an answer");
        match frame.kind {
            kind::HEADERS => heads.push(frame),
            kind::DATA => body.extend(frame.payload),
            _ => {}
        }
    }
    assert_eq!(body, b"both");
    assert_eq!(heads[1].flags & 1, 1);
    let trailers = &heads[1].payload;
    assert!(trailers.len() < 20, "what no trailer may say is gone: {trailers:x?}");
}

#[test]
fn websockets_go_over_a_stream_where_the_server_takes_them() {
    const CONNECTS: &[(u16, u32)] = &[(8, 1)];
    let origin = Origin::http2(CONNECTS, |peer| {
        let Some(asked) = peer.next_of(kind::HEADERS) else { return };
        assert_eq!(asked.flags & 1, 0, "a tunnel has no end yet");
        peer.head(asked.stream, OK, false);
        while let Some(frame) = peer.next_of(kind::DATA) {
            if !frame.payload.is_empty() {
                peer.data(frame.stream, frame.payload, false);
            }
        }
    });
    let proxy = pool(&origin, "");
    let mut client = proxy.client();
    client.send(HANDSHAKE);
    let answer = client.response_head().expect(101);
    assert_eq!(answer.fields.one("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.send(b"\x81\x82\0\0\0\0hi");
    assert_eq!(client.exactly(8), b"\x81\x82\0\0\0\0hi");
    // One that does not take them is not sent any.
    let plain = Origin::http2_says("no tunnel");
    pool(&plain, "").exchange(HANDSHAKE).expect(502);
}

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An origin over TLS that chooses among these protocols, and speaks the one that it has chosen.
fn choosing(authority: &Authority, protocols: &'static [&'static str]) -> Origin {
    let mut config = (*server(&authority.issue(&["127.0.0.1"]), None)).clone();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let config = Arc::new(config);
    Origin::script(move |connection| {
        if !connection.secure(&config) {
            return;
        }
        if protocols.first() == Some(&"h2") {
            let Some(mut peer) = Peer::begin(connection, &[]) else { return };
            while let Some(asked) = peer.request() {
                peer.answer(asked.stream, OK, "two");
            }
            return;
        }
        while connection.request().is_some() {
            connection.answer(portunus_tests::Answer::text("one"));
        }
    })
}

#[test]
fn servers_choose_over_tls() {
    let authority = Authority::new("back");
    let (two, one) = (choosing(&authority, &["h2", "http/1.1"]), choosing(&authority, &["http/1.1"]));
    for (origin, protocol, says) in
        [(&two, "auto", "two"), (&one, "auto", "one"), (&two, "http2", "two"), (&one, "http1", "one")]
    {
        let place = Place::new();
        place.write("ca.pem", authority.certificate());
        let pool = format!("server https://{origin}\nprotocol {protocol}\ntls ca=ca.pem");
        let text = format!(
            "limits {{ connect 20s }}\npool p {{\n{pool}\n}}\nsite * {{ listen @listen; proxy p }}\n"
        );
        let proxy = Proxy::start_in(place, &text);
        let before = origin.connections();
        let mut client = proxy.client();
        for _ in 0..5 {
            assert_eq!(client.get("/").expect(200).text(), says, "{protocol}");
        }
        assert_eq!(origin.connections(), before + 1);
    }
    let place = Place::new();
    place.write("ca.pem", authority.certificate());
    let text = format!(
        "pool p {{\nserver https://{one}\nprotocol http2\ntls ca=ca.pem\n}}\nsite * {{ listen @listen; proxy p }}\n"
    );
    let proxy = Proxy::start_in(place, &text);
    proxy.get("/").expect(502);
    proxy.expect_reason("upstream-handshake");
}

#[test]
fn a_server_that_wants_http_1_1_after_all_gets_it() {
    let authority = Authority::new("back");
    let mut config = (*server(&authority.issue(&["127.0.0.1"]), None)).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (config, first) = (Arc::new(config), AtomicUsize::new(0));
    let origin = Origin::script(move |connection| {
        if !connection.secure(&config) {
            return;
        }
        if first.fetch_add(1, SeqCst) == 0 {
            let Some(mut peer) = Peer::begin(connection, &[]) else { return };
            while let Some(asked) = peer.request() {
                peer.reset(asked.stream, code::HTTP_1_1_REQUIRED);
            }
            return;
        }
        while let Some(request) = connection.request() {
            connection.answer(portunus_tests::Answer::body(&request.body));
        }
    });
    let place = Place::new();
    place.write("ca.pem", authority.certificate());
    let text = format!(
        "limits {{ connect 20s }}\npool p {{\nserver https://{origin}\nretry off\ntls ca=ca.pem\n}}\nsite * {{ listen @listen; proxy p }}\n"
    );
    let proxy = Proxy::start_in(place, &text);
    let mut client = proxy.client();
    assert_eq!(client.post("/", "once").expect(200).text(), "once");
    assert_eq!(client.post("/", "again").expect(200).text(), "again");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_server_taken_out_by_a_reload_ends_what_is_under_way() {
    let (begun, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (told, may) = (Arc::clone(&begun), Arc::clone(&go));
    let origin = Origin::http2(&[], move |peer| {
        while let Some(asked) = peer.request() {
            peer.head(asked.stream, OK, false);
            peer.data(asked.stream, "begun ", false);
            told.store(1, SeqCst);
            eventually("the word to go on", SOON, || (may.load(SeqCst) == 1).then_some(()));
            peer.data(asked.stream, "done", true);
        }
    });
    let other = Origin::http2_says("other");
    let text = |origin: &Origin| format!("site * {{ listen @listen; proxy h2c://{origin} }}\n");
    let proxy = Proxy::start(&text(&origin));
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request", SOON, || (begun.load(SeqCst) == 1).then_some(()));
    proxy.write_config(&text(&other));
    proxy.command(&["reload"]).expect(0);
    eventually("the other server", SOON, || (proxy.get("/").text() == "other").then_some(()));
    go.store(1, SeqCst);
    assert_eq!(client.response().expect(200).text(), "begun done");
    eventually("the end of the old connection", SOON, || (origin.ended() == 1).then_some(()));
}

#[test]
fn a_request_of_http_1_0_without_a_host_is_for_the_address_that_it_reached() {
    let origin = Origin::http2_says("two");
    let proxy = pool(&origin, "");
    assert_eq!(proxy.exchange("GET / HTTP/1.0\r\n\r\n").expect(200).text(), "two");
    assert_eq!(proxy.exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n").expect(200).text(), "two");
}
