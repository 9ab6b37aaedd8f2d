//! h2: clients that speak HTTP/2 get what clients of HTTP/1 get — bodies at their pace, informational answers, websockets, and a proper end.

use portunus_tests::binary::has;
use portunus_tests::h2::{code, head, kind};
use portunus_tests::proxy::site;
use portunus_tests::tls::{Authority, Trusting};
use portunus_tests::{Answer, Client, H2, Origin, Place, Proxy, eventually};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn many_requests_share_a_connection() {
    let origin = Origin::serve(|request| Answer::text(&format!("{} {}", request.target, request.body.len())));
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let streams: Vec<u32> = (0..50).map(|number| client.begin(&format!("/{number}"))).collect();
    let mut answers = 0;
    let mut ended = 0;
    while ended < streams.len() {
        let frame = client.next_frame().expect("an answer");
        answers += usize::from(frame.kind == kind::HEADERS);
        ended += usize::from(frame.kind == kind::DATA && frame.flags & 1 != 0);
    }
    assert_eq!(answers, 50);
    assert_eq!(client.post("/p", vec![b'x'; 1000]).expect(200).body, b"/p 1000");
    assert_eq!(client.get("/again").expect(200).body, b"/again 0");
    let line = proxy.log_of("/again");
    assert_eq!((line["protocol"].as_str(), line["status"].as_u64()), (Some("HTTP/2"), Some(200)));
    assert!(origin.last().fields.one("x-forwarded-for").is_some());
}

#[test]
fn http_1_and_2_are_spoken_at_the_same_address() {
    let proxy = Proxy::site("respond 200 \"own\"");
    assert_eq!(proxy.get("/").expect(200).text(), "own");
    assert_eq!(H2::connect(proxy.address()).get("/").expect(200).body, b"own");
    // The preface may come in pieces.
    let mut client = proxy.client();
    for piece in portunus_tests::h2::PREFACE.chunks(5) {
        client.send(piece);
    }
    client.send(portunus_tests::h2::frame(kind::SETTINGS, 0, 0, []));
    assert_eq!(client.exactly(9)[3], kind::SETTINGS);
    // After a request it is none any more (attack A32).
    let mut client = proxy.client();
    client.get("/").expect(200);
    client.send(portunus_tests::h2::PREFACE);
    assert_eq!(client.response().status, 405);
    client.expect_close();
}

#[test]
fn bodies_move_at_the_pace_of_the_slower_side() {
    const BYTES: usize = 3 << 20;
    let origin = Origin::serve(|request| Answer::body(&vec![b'y'; request.body.len()]));
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    // What was not asked for by a window does not come.
    client.makes_room = false;
    let stream = client.ask(&head("POST", "/"), false);
    let mut room = [1 << 20, 65_535usize];
    let mut sent = 0;
    let mut outcome = Default::default();
    while sent < BYTES {
        let count = (BYTES - sent).min(16_384).min(room[0]).min(room[1]);
        if count == 0 {
            let frame = client.next_frame().expect("room");
            if frame.kind == kind::WINDOW_UPDATE {
                let more = u32::from_be_bytes(frame.payload[..4].try_into().unwrap()) as usize;
                room[usize::from(frame.stream != 0)] += more;
            }
            continue;
        }
        sent += count;
        room.iter_mut().for_each(|room| *room -= count);
        client.data(stream, vec![b'x'; count], sent == BYTES);
    }
    let window = 65_535;
    let came = |outcome: &portunus_tests::h2::Outcome| outcome.body.len();
    while came(&outcome) < window {
        client.step(stream, &mut outcome);
    }
    assert_eq!((outcome.status, came(&outcome)), (200, window));
    client.makes_room = true;
    for stream in [0, stream] {
        client.frame(kind::WINDOW_UPDATE, 0, stream, (window as u32).to_be_bytes());
    }
    while !outcome.complete {
        client.step(stream, &mut outcome);
    }
    assert_eq!(came(&outcome), BYTES);
}

#[test]
fn an_answer_that_is_cut_short_is_reset() {
    let origin =
        Origin::serve(|_| Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin").close());
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let outcome = client.get("/a45");
    assert!(!outcome.complete && outcome.reset == Some(code::INTERNAL_ERROR), "{outcome:?}");
    assert_eq!(client.get("/a45").goaway, None, "the connection goes on");
}

#[test]
fn an_early_answer_is_whole_and_stops_the_upload() {
    let origin = Origin::script(|connection| {
        while connection.head().is_some() {
            connection.send("HTTP/1.1 413 X\r\nContent-Length: 3\r\n\r\nbig");
            connection.until_closed();
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let stream = client.ask(&head("POST", "/early"), false);
    client.data(stream, "some", false);
    let outcome = client.outcome(stream).expect(413);
    assert_eq!(outcome.body, b"big");
    let reset = eventually("a reset", SOON, || {
        let frame = client.next_frame().expect("a frame");
        (frame.kind == kind::RST_STREAM && frame.stream == stream).then(|| frame.code())
    });
    assert_eq!(reset, code::NO_ERROR);
}

#[test]
fn a_request_that_is_taken_back_is_ended_upstream_too() {
    let origin = Origin::script(|connection| {
        if connection.head().is_some() {
            connection.until_closed();
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let stream = client.begin("/slow");
    origin.wait_for(1);
    client.reset(stream);
    eventually("the upstream's end", SOON, || (origin.ended() == 1).then_some(()));
    assert_eq!(proxy.log_of("/slow")["status"], 499);
    // The same while its answer comes.
    let origin = Origin::script(|connection| {
        if connection.head().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
            connection.until_closed();
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let stream = client.begin("/late");
    assert_eq!(client.answered(stream).status, 200);
    client.reset(stream);
    eventually("the upstream's end", SOON, || (origin.ended() == 1).then_some(()));
    assert_eq!(proxy.log_of("/late")["error"], "client-gone");
}

#[test]
fn informational_answers_pass() {
    let origin = Origin::serve(|request| {
        if request.method == "POST" {
            return Answer::text("got it");
        }
        Answer::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    assert_eq!(client.get("/").expect(200).informational, [103]);
    let mut fields = head("POST", "/").to_vec();
    fields.push(("expect", "100-continue"));
    let stream = client.ask(&fields, false);
    let mut outcome = Default::default();
    while matches!(&outcome, portunus_tests::h2::Outcome { informational, .. } if informational.is_empty()) {
        client.step(stream, &mut outcome);
    }
    assert_eq!(outcome.informational, [100]);
    client.data(stream, "body", true);
    assert_eq!(client.outcome(stream).expect(200).body, b"got it");
}

#[test]
fn websockets_pass_to_servers_of_http_1() {
    let origin = Origin::script(|connection| {
        let Some(request) = connection.request() else { return };
        let key = request.fields.one("sec-websocket-key").expect("a key").to_owned();
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/chat?a=b"));
        let grant = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        connection.send(format!("{grant}Sec-WebSocket-Accept: {}\r\n\r\n", portunus_tests::h2::accept(&key)));
        connection.echo();
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let mut fields = head("CONNECT", "/chat?a=b").to_vec();
    fields.extend([(":protocol", "websocket")]);
    let mut with = fields.clone();
    with.push(("sec-websocket-version", "13"));
    let stream = client.ask(&with, false);
    let mut outcome = client.answered(stream);
    assert_eq!((outcome.status, outcome.complete), (200, false));
    for number in 0..20 {
        let frame = [0x82, 2, b'n', number];
        let have = outcome.body.len();
        client.data(stream, frame, false);
        while outcome.body.len() < have + 4 {
            client.step(stream, &mut outcome);
        }
        assert_eq!(outcome.body[have..], frame);
    }
    client.data(stream, [], true);
    while !outcome.complete {
        client.step(stream, &mut outcome);
    }
    assert!(outcome.body.ends_with(b"bye"));
    assert_eq!(proxy.log_of("/chat?a=b")["status"], 101);
    // Nothing else is connected (attack B23).
    fields[4].1 = "connect-udp";
    let stream = client.ask(&fields, false);
    assert_eq!(client.answered(stream).status, 501);
    let stream = client.ask(&[(":method", "CONNECT"), (":authority", "a:80")], false);
    assert_eq!(client.answered(stream).status, 405);
}

#[test]
fn a31_a_mere_success_opens_no_websocket() {
    let origin = Origin::serve(|request| match request.target.as_str() {
        "/404" => Answer::status(404, b"none"),
        _ => Answer::chunked(&["\u{1}\u{2}hi"]),
    });
    let proxy = Proxy::site(format!("route /local {{ respond 200 hi }}\n proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    for (path, status) in [("/", 502), ("/local", 501), ("/404", 404)] {
        let mut fields = head("CONNECT", path).to_vec();
        fields.extend([(":protocol", "websocket"), ("sec-websocket-version", "13")]);
        let stream = client.ask(&fields, false);
        assert_eq!(client.answered(stream).status, status, "{path}");
    }
    proxy.expect_reason("bad-switch");
}

#[test]
fn a_stopping_program_finishes_what_was_begun_and_takes_nothing_else() {
    let origin = Origin::serve(|_| Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndo").stall());
    let mut proxy = Proxy::start(&format!("grace 2s\n{}", site(&format!("proxy {origin}"))));
    let mut client = H2::connect(proxy.address());
    let stream = client.begin("/long");
    assert_eq!(client.answered(stream).status, 200);
    proxy.signal("TERM");
    let goaway = eventually("GOAWAY", SOON, || {
        let frame = client.next_frame().expect("a frame");
        (frame.kind == kind::GOAWAY).then_some(frame)
    });
    assert_eq!((goaway.code(), &goaway.payload[..4]), (code::NO_ERROR, &[0x7f, 0xff, 0xff, 0xff][..]));
    // The second one names the last stream, once the client has heard the first (attack B21).
    let goaway = eventually("a second GOAWAY", SOON, || {
        let frame = client.next_frame().expect("a frame");
        (frame.kind == kind::GOAWAY).then_some(frame)
    });
    assert_eq!(goaway.payload[..4], stream.to_be_bytes());
    let outcome = client.outcome(stream);
    let is_cut = !outcome.complete && (outcome.reset.is_some() || outcome.closed);
    assert!(is_cut, "what had not ended in time is cut visibly: {outcome:?}");
    assert!(proxy.wait_for_exit(SOON).success());
}

#[test]
fn a_quiet_connection_is_sent_away() {
    let proxy = Proxy::start(&format!("limits {{ keep-alive 1s }}\n{}", site("respond 200 ok")));
    let mut client = H2::connect(proxy.address());
    client.get("/").expect(200);
    assert_eq!(client.end(), Some(code::NO_ERROR));
    proxy.wait_for_errors("idle", 1.0);
    let proxy = Proxy::start(&format!("limits {{ header-time 1s }}\n{}", site("respond 200 ok")));
    let mut client = H2::connect(proxy.address());
    client.end();
    proxy.wait_for_errors("head-timeout", 1.0);
}

#[test]
fn over_tls_the_client_chooses() {
    let origin = Origin::says("hello");
    let (place, authority) = (Place::new(), Authority::new("front"));
    authority.issue(&["a.test"]).write(&place, "a");
    authority.issue(&["b.test"]).write(&place, "b");
    let proxy = Proxy::start_in(
        place,
        &format!(
            "site a.test {{ listen @listen; tls a.pem a.key; proxy {origin} }}\n\
             site b.test {{ listen @listen; tls b.pem b.key; proxy {origin} }}\n"
        ),
    );
    let secured =
        Trusting::with(&authority, None, &["h2", "http/1.1"]).must_connect(proxy.address(), "a.test");
    assert_eq!(secured.protocol.as_deref(), Some(&b"h2"[..]));
    let mut client = secured.client.into_h2();
    let fields = |host| [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/")];
    let stream = client.ask(&fields("a.test"), true);
    assert_eq!(client.outcome(stream).expect(200).body, b"hello");
    assert_eq!(origin.last().fields.one("x-forwarded-proto"), Some("https"));
    // Another host's requests belong on another connection (attack B22); the others go on.
    let stream = client.ask(&fields("b.test"), true);
    client.outcome(stream).expect(421);
    let stream = client.ask(&fields("a.test"), true);
    client.outcome(stream).expect(200);
}

#[test]
fn it_can_be_turned_off() {
    let (place, authority) = (Place::new(), Authority::new("front"));
    authority.issue(&["a.test"]).write(&place, "a");
    let text = "limits { streams 0 }\n\
        site a.test { listen @listen; tls a.pem a.key; respond 200 ok }\n\
        site * { listen @listen2; respond 200 ok }\n";
    let proxy = Proxy::start_in(place, text);
    let secured =
        Trusting::with(&authority, None, &["h2", "http/1.1"]).must_connect(proxy.address(), "a.test");
    assert_eq!(secured.protocol.as_deref(), Some(&b"http/1.1"[..]));
    let mut client = Client::connect(proxy.further_address(1));
    client.send(portunus_tests::h2::PREFACE);
    assert_eq!(client.response().status, 405);
}

#[test]
fn curl_and_h2load_are_content() {
    let origin = Origin::serve(|request| Answer::text(&format!("{} {}", request.method, request.body.len())));
    let proxy = Proxy::site(format!("proxy {origin}"));
    let url = format!("http://{}/a", proxy.address());
    if has("curl") {
        let curl = |words: &[&str]| {
            let out = Command::new("curl")
                .args(["-sS", "--http2-prior-knowledge", "-m", "10"])
                .args(words)
                .output();
            let out = out.expect("curl");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        assert_eq!(curl(&[&url]), "GET 0");
        assert_eq!(curl(&["-d", "abc", &url]), "POST 3");
        assert!(curl(&["-I", "-w", "%{http_version}", &url]).ends_with("\r\n\r\n2"));
    }
    if has("h2load") {
        let out = Command::new("h2load")
            .args(["-n", "2000", "-c", "4", "-m", "20", &url])
            .output()
            .expect("h2load");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(text.contains("2000 succeeded, 0 failed"), "{text}");
    }
}

#[test]
fn a_client_of_http_1_is_not_bothered() {
    let proxy = Proxy::site("respond 200 \"own\"");
    let mut client = Client::connect(proxy.address());
    client.send("PRI * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 405);
}
