//! h2_shared: requests that share a connection of HTTP/2 — what becomes of one is nothing to the others, whichever side they share it on.

use portunus_tests::h2::{Outcome, block, code, frame, head, kind};
use portunus_tests::h2_origin::Peer;
use portunus_tests::tls::{Authority, server};
use portunus_tests::{Client, H2, Origin, Place, Proxy, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const OK: &[(&str, &str)] = &[(":status", "200")];

/// The proxy in front of `origin`, with these limits.
fn before(origin: &Origin, limits: &str) -> Proxy {
    Proxy::start(&format!("limits {{ {limits} }}\nsite * {{ listen @listen; proxy h2c://{origin} }}\n"))
}

/// Waits until everything that was sent has been read and seen to.
#[track_caller]
fn settle(client: &mut H2) {
    client.frame(kind::PING, 0, 0, [7; 8]);
    loop {
        let frame = client.next_frame().expect("an answer to a PING");
        assert_ne!(
            frame.kind,
            kind::GOAWAY,
            "{:?}: {}",
            frame.code(),
            String::from_utf8_lossy(&frame.payload[8..])
        );
        if frame.kind == kind::PING {
            return;
        }
    }
}

/// A server that answers who has no body, and takes nothing of any body.
fn takes_no_bodies() -> Origin {
    Origin::http2(&[(4, 0)], |peer| {
        peer.makes_room = false;
        while let Some(frame) = peer.next_of(kind::HEADERS) {
            if frame.flags & 1 == 1 {
                peer.answer(frame.stream, OK, "");
            }
        }
    })
}

#[test]
fn b19_what_still_comes_of_many_streams_that_are_gone_is_swallowed() {
    const EACH: usize = 60;
    const CLIENTS: usize = 3;
    let origin = Origin::http2(&[], |peer| {
        let mut gone = Vec::new();
        while gone.len() < EACH * CLIENTS {
            let Some(frame) = peer.frame() else { return };
            match frame.kind {
                kind::HEADERS => _ = peer.head(frame.stream, OK, false),
                kind::RST_STREAM => gone.push(frame.stream),
                _ => {}
            }
        }
        // All of it was on its way when the proxy said that it wants no more.
        for stream in gone {
            peer.data(stream, vec![b'x'; 300], false);
            peer.data(stream, "", true);
        }
        while let Some(asked) = peer.request() {
            peer.answer(asked.stream, OK, "goes on");
        }
    });
    let proxy = before(&origin, "upstream-streams 200");
    let mut clients: Vec<H2> = (0..CLIENTS).map(|_| H2::connect(proxy.address())).collect();
    for client in &mut clients {
        let streams: Vec<u32> = (0..EACH).map(|_| client.begin("/")).collect();
        // The heads come in any order.
        let mut heads = 0;
        while heads < EACH {
            heads += usize::from(client.next_frame().expect("a head").kind == kind::HEADERS);
        }
        streams.iter().for_each(|stream| _ = client.reset(*stream));
    }
    proxy.wait_for_errors("client-gone", (EACH * CLIENTS) as f64);
    for _ in 0..5 {
        assert_eq!(proxy.get("/").expect(200).text(), "goes on");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn b19_what_still_comes_of_many_uploads_that_were_answered_is_swallowed() {
    let proxy = Proxy::start("limits { drain-time 10ms }\nsite * { listen @listen; respond 403 \"no\" }\n");
    let mut client = H2::connect(proxy.address());
    let mut answered = Vec::new();
    for _ in 0..3 {
        let streams: Vec<u32> = (0..50).map(|_| client.ask(&head("POST", "/"), false)).collect();
        let mut ended = 0;
        while ended < streams.len() {
            let frame = client.next_frame().expect("an answer");
            ended += usize::from(frame.kind == kind::RST_STREAM && frame.code() == code::NO_ERROR);
        }
        answered.extend(streams);
    }
    for stream in answered {
        client.data(stream, "still on its way", false);
    }
    settle(&mut client);
    client.get("/").expect(403);
}

#[test]
fn requests_whose_bodies_have_come_count_for_the_bound_of_their_pool() {
    let origin = Origin::http2(&[], |peer| while peer.request().is_some() {});
    let proxy = before(&origin, "");
    let mut client = H2::connect(proxy.address());
    let fields = block(&head("POST", "/"));
    for pieces in [1, 3] {
        let stream = client.stream();
        let mut bytes = frame(kind::HEADERS, 4, stream, &fields);
        (0..pieces).for_each(|piece| {
            let flags = u8::from(piece + 1 == pieces);
            bytes.extend(frame(kind::DATA, flags, stream, [b'x'; 100]));
        });
        client.send(bytes);
    }
    // One whose body comes slowly takes no room of others.
    client.ask(&head("POST", "/"), false);
    eventually("two requests that count", SOON, || {
        (proxy.metric("portunus_pool_in_flight", &[]) == 2.0).then_some(())
    });
}

#[test]
fn a_tunnel_that_finds_no_stream_has_a_connection_made() {
    let origin = Origin::http2(&[(8, 1)], |peer| {
        while let Some(asked) = peer.next_of(kind::HEADERS) {
            peer.head(asked.stream, OK, false);
        }
    });
    let proxy = before(&origin, "upstream-streams 2");
    let mut tunnels: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut tunnels {
        client.send(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        client.response_head().expect(101);
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn who_finds_no_stream_in_time_takes_no_server_from_the_others() {
    for retry in ["", "retry per-try=200ms"] {
        // Answers that begin, and do not end.
        let answer = |peer: &mut Peer<'_>| {
            while let Some(asked) = peer.request() {
                peer.head(asked.stream, OK, false);
            }
        };
        let servers = [Origin::http2(&[], answer), Origin::http2(&[], answer)];
        let proxy = Proxy::start(&format!(
            "limits {{ connect 300ms; upstream-connections 1; upstream-streams 1 }}\n\
             pool p {{\nserver h2c://{}\nserver h2c://{}\neject errors=2\n{retry}\n}}\nsite * {{ listen @listen; proxy p }}\n",
            servers[0], servers[1]
        ));
        let mut client = H2::connect(proxy.address());
        for _ in 0..2 {
            let held = client.begin("/held");
            assert_eq!(client.answered(held).status, 200);
        }
        for _ in 0..6 {
            client.get("/late").expect(504);
        }
        assert_eq!(proxy.metric("portunus_upstream_ejections_total", &[]), 0.0, "{retry}");
        let line = proxy.log_of("/late");
        assert_eq!((&line["error"], &line["side"]), (&"connect-timeout".into(), &"proxy".into()));
    }
}

#[test]
fn the_end_of_one_request_fails_none_that_waits_for_the_same_connection() {
    let authority = Authority::new("back");
    let config = server(&authority.issue(&["127.0.0.1"]), None);
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (config, count) = (Arc::new(config), AtomicUsize::new(0));
    let origin = Origin::script(move |connection| {
        if count.fetch_add(1, SeqCst) == 0 {
            connection.until_closed(); // hands are not shaken with the first
            return;
        }
        if !connection.secure(&config) {
            return;
        }
        let Some(mut peer) = Peer::begin(connection, &[]) else { return };
        while let Some(asked) = peer.request() {
            peer.answer(asked.stream, OK, "fine");
        }
    });
    let place = Place::new();
    place.write("ca.pem", authority.certificate());
    let text = format!(
        "limits {{ connect 8s }}\npool p {{\nserver https://{origin}\nprotocol http2\ntls ca=ca.pem\n}}\nsite * {{ listen @listen; proxy p }}\n"
    );
    let proxy = Proxy::start_in(place, &text);
    let mut client = H2::connect(proxy.address());
    let mut fields = head("POST", "/a.B/C").to_vec();
    fields.extend([("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "500m")]);
    let hurried = client.ask(&fields, true);
    eventually("a connection", SOON, || (origin.connections() == 1).then_some(()));
    let patient = client.begin("/");
    let (mut first, mut second) = (Outcome::default(), Outcome::default());
    while !second.complete {
        let frame = client.next_frame().expect("an answer");
        let outcome = if frame.stream == hurried { &mut first } else { &mut second };
        if frame.stream == hurried || frame.stream == patient {
            outcome.body.extend(if frame.kind == kind::DATA { frame.payload } else { Vec::new() });
            outcome.complete |= frame.flags & 1 == 1 && frame.kind != kind::SETTINGS;
        }
    }
    assert!(first.complete && first.body.is_empty(), "{first:?}");
    assert_eq!(second.body, b"fine");
}

#[test]
fn an_upload_that_is_taken_back_is_given_up_although_the_server_takes_none_of_it() {
    let origin = takes_no_bodies();
    let proxy = before(&origin, "");
    proxy.get("/").expect(200); // its settings are known from here on
    let mut client = H2::connect(proxy.address());
    let stream = client.ask(&head("POST", "/"), false);
    client.data(stream, vec![b'x'; 10_000], false);
    settle(&mut client);
    client.reset(stream);
    proxy.expect_reason("client-gone");
}

#[test]
fn a_server_that_flushes_nothing_is_left_before_the_connection_is_ended() {
    let origin = Origin::http2(&[], |peer| {
        let mut is_first = true;
        while let Some(asked) = peer.request() {
            peer.head(asked.stream, OK, false);
            // The first of each connection takes long.
            if !std::mem::take(&mut is_first) {
                peer.data(asked.stream, "", false);
                peer.data(asked.stream, "", true);
            }
        }
    });
    let proxy = before(&origin, "");
    let mut slow = H2::connect(proxy.address());
    let mut begun = Vec::new();
    for connection in 1..=4 {
        begun.push(slow.begin("/slow"));
        eventually("the head", SOON, || (slow.answered(begun[begun.len() - 1]).status == 200).then_some(()));
        assert_eq!(origin.connections(), connection);
        (0..50).for_each(|_| _ = proxy.get("/").expect(200));
    }
    // Not one of those that take long has been cut.
    settle(&mut slow);
    let cut = ["upstream-closed", "upstream-reset", "bad-response", "truncated"];
    assert_eq!(cut.map(|reason| proxy.errors(reason)), [0.0; 4]);
}

#[test]
fn small_pieces_that_a_server_does_not_take_are_nothing_to_other_requests() {
    let origin = takes_no_bodies();
    let proxy = before(&origin, "");
    proxy.get("/").expect(200); // its settings are known from here on
    let mut client = H2::connect(proxy.address());
    let stream = client.ask(&head("POST", "/"), false);
    let pieces: Vec<u8> = (0..2000).flat_map(|_| frame(kind::DATA, 0, stream, "x")).collect();
    for _ in 0..30 {
        client.send(&pieces);
        settle(&mut client);
    }
    let mut other = Outcome::default();
    let second = client.begin("/");
    while other.status == 0 {
        client.step(second, &mut other);
        assert!(!other.closed && other.goaway.is_none(), "{other:?}");
    }
    assert_eq!(other.status, 200);
}

#[test]
fn small_pieces_that_a_client_does_not_take_are_nothing_to_other_requests() {
    let origin = Origin::http2(&[], |peer| {
        let Some(slow) = peer.request() else { return };
        peer.head(slow.stream, OK, false);
        let pieces: Vec<u8> = (0..65_000).flat_map(|_| frame(kind::DATA, 0, slow.stream, "x")).collect();
        peer.connection.send(pieces);
        while let Some(asked) = peer.request() {
            peer.answer(asked.stream, OK, "quick");
        }
    });
    let proxy = before(&origin, "");
    let stream = std::net::TcpStream::connect(proxy.address()).expect("a connection");
    let mut slow = H2::over(stream, &[(4, 0)]); // it has room for nothing
    let asked = slow.begin("/slow");
    assert_eq!(slow.answered(asked).status, 200);
    for _ in 0..5 {
        assert_eq!(proxy.get("/").expect(200).text(), "quick");
    }
    assert_eq!(origin.connections(), 1);
    // What was sent is all there.
    slow.frame(kind::WINDOW_UPDATE, 0, asked, 65_000u32.to_be_bytes());
    slow.frame(kind::WINDOW_UPDATE, 0, 0, 65_000u32.to_be_bytes());
    let mut outcome = Outcome::default();
    eventually("the answer", SOON, || {
        slow.step(asked, &mut outcome);
        (outcome.body.len() == 65_000).then_some(())
    });
}

#[test]
fn t13_connections_that_end_without_a_word_cost_nothing_over_http2_either() {
    // One answer a connection, and no GOAWAY.
    let origin = Origin::http2(&[], |peer| {
        if let Some(asked) = peer.request() {
            peer.answer(asked.stream, &[(":status", "200")], "one");
        }
    });
    let proxy = Proxy::site(format!("proxy h2c://{origin}"));
    let mut client = proxy.client();
    for number in 0..100 {
        let closed = origin.ended();
        let answer = match number % 2 {
            0 => client.get("/"),
            _ => client.post("/", "body"),
        };
        assert_eq!(answer.expect(200).text(), "one");
        eventually("the close", Duration::from_secs(5), || (origin.ended() > closed).then_some(()));
    }
}
