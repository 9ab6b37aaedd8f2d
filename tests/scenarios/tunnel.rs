//! tunnel: websocket, and what must never become a tunnel (attacks A30–A33, J1).

use portunus_tests::proxy::site;
use portunus_tests::{Answer, Client, Origin, Proxy, eventually};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

/// The handshake of RFC 6455 §1.3.
const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Grants every upgrade and sends back what comes; at the end of what comes, says "bye" and closes.
fn echo() -> Origin {
    Origin::script(|connection| {
        while let Some(request) = connection.request() {
            if !request.fields.has("upgrade") {
                if !connection.answer(Answer::text("plain")) {
                    return;
                }
                continue;
            }
            connection.send(GRANT);
            connection.echo();
            return;
        }
    })
}

fn opened(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send(ASK);
    let answer = client.response_head();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.fields.one("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
    assert_eq!(answer.fields.one("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(answer.fields.one("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client
}

#[test]
fn a_websocket_echoes_through_the_tunnel() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = opened(&proxy);
    let request = origin.last();
    assert_eq!(request.fields.one("sec-websocket-version"), Some("13"));
    assert_eq!(request.fields.one("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
    for number in 0..100 {
        let bytes = format!("\u{0}frame {number}\r\n\r\n");
        client.send(&bytes);
        assert_eq!(client.exactly(bytes.len()), bytes.as_bytes());
    }
    client.half_close();
    assert_eq!(client.rest().expect("the end"), b"bye", "half-close: the other direction goes on");
    let line = proxy.log_of("/chat");
    assert_eq!((&line["status"], &line["websocket"]), (&101.into(), &true.into()));
}

#[test]
fn the_origin_may_half_close_first() {
    let origin = Origin::script(|connection| {
        if connection.request().is_some() {
            connection.send(GRANT);
            connection.send("all I have");
            connection.half_close();
            let rest = connection.some();
            assert!(rest.is_empty() || rest == b"answer");
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = opened(&proxy);
    assert_eq!(client.rest().expect("the end"), b"all I have");
    client.send("answer");
    client.half_close();
}

#[test]
fn bytes_that_come_with_the_handshake_are_not_lost() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    client.send(format!("{ASK}first frame"));
    assert_eq!(client.response_head().status, 101);
    assert_eq!(client.exactly(11), b"first frame");
}

#[test]
fn a_big_stream_passes_the_tunnel_both_ways() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = opened(&proxy);
    let piece: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    for _ in 0..50 {
        client.send(&piece);
        assert_eq!(client.exactly(piece.len()), piece);
    }
}

#[test]
fn j1_a_refused_websocket_is_a_normal_answer() {
    let origin = Origin::serve(|request| match request.fields.has("upgrade") {
        true => Answer::raw(
            "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nContent-Length: 2\r\n\r\nno",
        ),
        false => Answer::text("plain"),
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    assert_eq!(client.exchange(ASK).expect(426).text(), "no");
    client.send("GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    if let Ok(answer) = client.try_response("GET") {
        assert_eq!(answer.expect(200).text(), "plain", "no tunnel: this is a request to the proxy");
    }
}

#[test]
fn a30_nothing_passes_before_the_101() {
    let origin = Origin::script(|connection| {
        if connection.head().is_some() {
            // What comes within this time came before the 101.
            connection.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
            assert_eq!(connection.until_closed(), 0, "bytes came before the upgrade was granted");
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    client.send(format!("{ASK}GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().expect(403).text(), "no");
    client.expect_close();
    assert_eq!(origin.count(), 1);
}

#[test]
fn a30_another_upgrade_is_an_ordinary_request() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    for upgrade in ["x", "h2c", "HTTP/2.0", "tls/1.0", "h2c, x", "websocket, h2c", "websocketx", ""] {
        let mut client = proxy.client();
        let answer = client.exchange(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: {upgrade}\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        ));
        if answer.status == 200 {
            for name in ["upgrade", "http2-settings", "connection"] {
                assert!(!origin.last().fields.has(name), "{name} for {upgrade:?}");
            }
        } else {
            assert_eq!(answer.status, 400, "{upgrade:?}");
        }
    }
}

#[test]
fn a31_a_200_is_no_upgrade() {
    let origin = Origin::serve(|_| {
        Answer::raw(
            "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno",
        )
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    let answer = client.exchange(ASK).expect(200);
    assert!(!answer.fields.has("upgrade"));
    assert_eq!(answer.text(), "no");
    let _ = client.try_send("GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    if let Ok(answer) = client.try_response("GET") {
        assert_eq!(answer.status, 200);
        assert!(origin.requests().iter().any(|request| request.target == "/two"));
    }
}

#[test]
fn a32_h2c_split_over_two_lines_is_removed() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    for lines in [
        "Upgrade: h2c\r\nUpgrade: websocket\r\n",
        "Upgrade: websocket\r\nUpgrade: h2c\r\n",
        "Upgrade: h2\r\nUpgrade: c\r\n",
        "upgrade: H2C\r\n",
    ] {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n"));
        let answer = client.response();
        assert!(matches!(answer.status, 200 | 400), "{lines:?}: {}", answer.status);
        if answer.status == 200 {
            assert!(origin.last().fields.all("upgrade").is_empty());
        }
    }
}

#[test]
fn a33_half_an_upgrade_is_none() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    for (lines, what) in [
        ("Upgrade: websocket\r\n", "without Connection"),
        ("Connection: upgrade\r\n", "without Upgrade"),
        ("Upgrade: websocket\r\nConnection: close\r\n", "with another Connection"),
    ] {
        let answer = proxy.exchange(format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{lines}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        assert_eq!(answer.expect(200).text(), "plain", "{what}");
        assert!(!origin.last().fields.has("upgrade"), "{what}");
    }
}

#[test]
fn a37_an_unasked_101_is_502() {
    let origin = Origin::script(|connection| {
        if connection.request().is_some() {
            connection.send(GRANT);
            connection.until_closed();
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    client.get("/").expect(502);
    assert_eq!(proxy.log_of("/")["error"], "bad-switch");
}

#[test]
fn j1_bad_handshakes_are_refused() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    let good = ["GET", "13", "dGhlIHNhbXBsZSBub25jZQ==", ""];
    let bad = [
        (["POST", good[1], good[2], ""], "method"),
        ([good[0], "8", good[2], ""], "version"),
        ([good[0], "", good[2], ""], "no version"),
        ([good[0], good[1], "", ""], "empty key"),
        ([good[0], good[1], "c2hvcnQ=", ""], "short key"),
        ([good[0], good[1], "!!!!IHNhbXBsZSBub25jZQ==", ""], "key not base64"),
        ([good[0], good[1], good[2], "Content-Length: 5\r\n"], "body"),
        ([good[0], good[1], good[2], "Transfer-Encoding: chunked\r\n"], "chunks"),
    ];
    for ([method, version, key, more], what) in bad {
        let mut client = proxy.client();
        client.send(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: {version}\r\n\
             Sec-WebSocket-Key: {key}\r\n{more}\r\n"
        ));
        let answer = client.response();
        assert!(matches!(answer.status, 400 | 426), "{what}: {}", answer.status);
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn j1_a_wrong_accept_value_is_502() {
    for (grant, what) in [
        (GRANT.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "AAAALMBiTxaQ9kYGzzhZRbK+xOo="), "another value"),
        (GRANT.replace("Sec-WebSocket-Accept", "X"), "none"),
        (GRANT.replace("Upgrade: websocket", "Upgrade: h2c"), "another protocol"),
        (GRANT.replace("Connection: Upgrade\r\n", ""), "no Connection"),
    ] {
        let origin = Origin::script(move |connection| {
            if connection.request().is_some() {
                connection.send(&grant);
                connection.until_closed();
            }
        });
        let proxy = Proxy::site(format!("proxy {origin}"));
        let mut client = proxy.client();
        assert_eq!(client.exchange(ASK).status, 502, "{what}");
    }
}

#[test]
fn j2_a_silent_tunnel_ends() {
    let origin = echo();
    let proxy = Proxy::start(&format!(
        "limits {{ tunnel-idle 300ms }}\n{}",
        portunus_tests::proxy::site(&format!("proxy {origin}"))
    ));
    // Where the machine stands still, it may have ended before anything is said.
    let mut client = eventually("a tunnel that was used", SOON, || {
        let mut client = opened(&proxy);
        let _ = client.try_send("once");
        client.try_exactly(4).is_ok_and(|echo| echo == b"once").then_some(client)
    });
    let _ = client.rest();
    assert_eq!(proxy.log_of("/chat")["error"], "tunnel-idle");
}

/// "Going away", as a server says it.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// The same from a client, with a mask of zeros.
const GOING_AWAY_MASKED: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// Grants every upgrade, sends `frames` one after the other as it is told to, and tells what it heard until the end.
fn speaker(
    frames: &'static [&'static [u8]],
) -> (Origin, std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<Vec<u8>>) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (tell, heard) = std::sync::mpsc::channel();
    let (wait, tell) = (std::sync::Mutex::new(wait), std::sync::Mutex::new(tell));
    let origin = Origin::script(move |connection| {
        if connection.request().is_none() {
            return;
        }
        connection.send(GRANT);
        let wait = wait.lock().expect("the lock");
        for frame in frames {
            if wait.recv_timeout(SOON).is_ok() {
                connection.send(frame);
            }
        }
        let mut all = Vec::new();
        loop {
            let bytes = connection.some();
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        let _ = tell.lock().expect("the lock").send(all);
    });
    (origin, go, heard)
}

/// What the mask hides of a close frame, which must be the only one there.
#[track_caller]
fn unmasked_close(bytes: &[u8]) -> u16 {
    let [0x88, 0x82, a, b, _, _, high, low] = *bytes else { panic!("no masked close frame: {bytes:?}") };
    u16::from_be_bytes([high ^ a, low ^ b])
}

#[test]
fn t9_both_sides_hear_that_the_proxy_goes_away() {
    let (mut client, heard, mut stage) = eventually("an end in time", SOON * 3, || {
        let (origin, go, heard) = speaker(&[b"\x81\x05hello"]);
        let proxy = Proxy::start(&format!("grace 2s\n{}", site(&format!("proxy {origin}"))));
        let mut client = opened(&proxy);
        go.send(()).expect("to go on");
        assert_eq!(client.exactly(7), b"\x81\x05hello");
        let begun = Instant::now();
        proxy.signal("TERM");
        let Ok(said) = client.try_exactly(4) else {
            assert!(begun.elapsed() > Duration::from_secs(2), "cut before its time");
            return None; // the machine has paused until then
        };
        assert_eq!(said, GOING_AWAY);
        assert!(begun.elapsed() >= Duration::from_millis(500), "it has its time before");
        Some((client, heard, (proxy, origin)))
    });
    let _ = client.try_send(GOING_AWAY_MASKED); // its time to say so is bounded
    client.expect_close();
    assert_eq!(unmasked_close(&heard.recv_timeout(SOON).expect("what the origin heard")), 1001);
    assert_eq!(stage.0.log_of("/chat")["error"], "stopping");
    assert_eq!(stage.0.wait_for_exit(SOON).code(), Some(0));
}

#[test]
fn t9_a_frame_under_way_comes_first() {
    let (mut client, heard, mut stage, rest) = eventually("a frame that ended in time", SOON * 3, || {
        let (origin, go, heard) = speaker(&[b"\x82\x0a01234", b"56789\x81\x01x"]);
        let proxy = Proxy::start(&format!("grace 2s\n{}", site(&format!("proxy {origin}"))));
        let mut client = opened(&proxy);
        go.send(()).expect("to go on");
        assert_eq!(client.exactly(7), b"\x82\x0a01234");
        let begun = Instant::now();
        proxy.signal("TERM");
        // The close frame towards the origin shows that the end has begun; its own frame is still open.
        eventually("the end of listening", SOON, || {
            TcpStream::connect(proxy.address()).is_err().then_some(())
        });
        go.send(()).expect("to go on");
        let rest = client.try_exactly(9);
        assert!(
            rest.is_ok() || begun.elapsed() > Duration::from_millis(1500),
            "cut before its time: {rest:?}"
        );
        rest.is_ok().then(|| (client, heard, (proxy, origin), rest.unwrap_or_default()))
    });
    // The second frame may have come in time, too; what counts is that no frame is torn.
    match &rest[5..] {
        [0x81, 1, b'x', 0x88] => assert_eq!(client.exactly(3), GOING_AWAY[1..]),
        close => assert_eq!(close, GOING_AWAY),
    }
    assert_eq!(&rest[..5], b"56789");
    let _ = client.try_send(GOING_AWAY_MASKED);
    assert_eq!(unmasked_close(&heard.recv_timeout(SOON).expect("what the origin heard")), 1001);
    assert_eq!(stage.0.wait_for_exit(SOON).code(), Some(0));
}

#[test]
fn t9_a_frame_that_never_ends_ends_with_the_grace() {
    let (origin, go, _heard) = speaker(&[b"\x82\x7f\0\0\0\0\0\x10\0\0half of it"]);
    let mut proxy = Proxy::start(&format!("grace 1500ms\n{}", site(&format!("proxy {origin}"))));
    let mut client = opened(&proxy);
    go.send(()).expect("to go on");
    assert_eq!(client.exactly(20).len(), 20);
    proxy.signal("TERM");
    assert_eq!(client.rest().unwrap_or_default(), b"", "no close frame in the middle of a frame");
    proxy.wait_for_exit(SOON);
}

#[test]
fn a_reload_ends_tunnels_to_servers_that_are_gone_and_no_others() {
    let (kept, gone) = (echo(), echo());
    let text = |gone: &str| {
        format!(
            "pool kept {{\n server {kept}\n}}\npool gone {{\n {gone}\n drain 1500ms\n}}\n\
             site * {{\n listen @listen\n route /chat {{\n proxy gone\n }}\n proxy kept\n}}\n"
        )
    };
    let proxy = Proxy::start(&text(&format!("server {gone}")));
    let mut leaving = opened(&proxy);
    let mut staying = proxy.client();
    staying.send(ASK.replace("/chat", "/stay"));
    assert_eq!(staying.response_head().status, 101);
    // Nothing of theirs changes: nothing happens to them.
    proxy.write_config(&format!("grace 7s\n{}", text(&format!("server {gone}"))));
    proxy.command(&["reload"]).expect(0);
    let begun = Instant::now();
    proxy.write_config(&text(&format!("server {kept}")));
    proxy.command(&["reload"]).expect(0);
    let _ = leaving.try_send(b"\x81\x81\0\0\0\0x");
    let first = leaving.exactly(4);
    if first != GOING_AWAY {
        assert_eq!([&first[..], &leaving.exactly(3)].concat(), b"\x81\x81\0\0\0\0x", "until then it goes on");
        assert_eq!(leaving.exactly(4), GOING_AWAY);
    }
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    let _ = leaving.try_send(GOING_AWAY_MASKED);
    leaving.expect_close();
    staying.send(b"\x81\x81\0\0\0\0y");
    assert_eq!(staying.exactly(7), b"\x81\x81\0\0\0\0y");
}
