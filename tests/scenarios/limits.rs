//! limits: each bound, reached from outside: its status, its counter and its reason in the log.

use portunus_tests::proxy::site;
use portunus_tests::{Answer, Client, Fault, Origin, Proxy, eventually};
use std::time::{Duration, Instant};

/// A proxy with these limits before an origin that echoes the length of what it gets.
fn limited(limits: &str) -> (Origin, Proxy) {
    let origin = Origin::serve(|request| Answer::text(&request.body.len().to_string()));
    let proxy = Proxy::start(&format!("limits {{ {limits} }}\n{}", site(&format!("proxy {origin}"))));
    (origin, proxy)
}

/// That what is `sent` gets `status` or is only closed, and not at once.
#[track_caller]
fn ends(client: &mut Client, sent: &str, status: u16) {
    let begun = Instant::now();
    client.send(sent);
    match client.try_response("GET") {
        Ok(answer) => {
            assert_eq!(answer.status, status);
            client.expect_close();
        }
        Err(fault) => assert!(matches!(fault, Fault::Closed | Fault::Reset), "{fault:?}"),
    }
    assert!(begun.elapsed() >= Duration::from_millis(150), "after {:?}", begun.elapsed());
}

#[test]
fn h1_slow_heads_end_by_their_total_time() {
    let (origin, proxy) = limited("header-time 300ms");
    for start in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n"] {
        ends(&mut proxy.client(), start, 408);
    }
    // A byte now and then does not help: the whole head has one deadline.
    let mut drip = proxy.client().patience(Duration::from_millis(20));
    let begun = Instant::now();
    while drip.try_response("GET") == Err(Fault::Timeout) {
        assert!(begun.elapsed() < Duration::from_secs(8), "still open");
        let _ = drip.try_send("X");
    }
    let mut kept = proxy.client();
    kept.get("/").expect(200);
    ends(&mut kept, "GET / HT", 408);
    assert_eq!(proxy.expect_reason("head-timeout")["status"], 408);
    assert_eq!(origin.count(), 1);
}

#[test]
fn h2_heads_have_a_size_a_count_and_a_line() {
    let (origin, proxy) =
        limited("header-bytes 4KiB; header-line 1KiB; header-count 20; header-name 64; url-bytes 512");
    let ask = |target: &str, lines: &str| {
        let mut client = proxy.client();
        let _ = client.try_send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        let status = client.response().status;
        if status != 200 {
            client.expect_close();
        }
        status
    };
    assert_eq!(ask("/", &"X: y\r\n".repeat(18)), 200);
    assert_eq!(ask("/", &"X: y\r\n".repeat(40)), 431, "count");
    assert_eq!(ask("/", &format!("X: {}\r\n", "y".repeat(900))), 200);
    assert_eq!(ask("/", &format!("X: {}\r\n", "y".repeat(1100))), 431, "line");
    assert_eq!(ask("/", &format!("X: {}\r\n", "y".repeat(900)).repeat(6)), 431, "bytes");
    assert_eq!(ask("/", &format!("{}: y\r\n", "x".repeat(65))), 431, "name");
    assert_eq!(ask(&format!("/{}", "x".repeat(500)), ""), 200);
    assert_eq!(ask(&format!("/{}", "x".repeat(600)), ""), 414);
    assert_eq!(ask(&format!("/?{}", "x".repeat(10_000)), ""), 414);
    assert_eq!(origin.count(), 3);
    proxy.wait_for_errors("head-too-large", 4.0);
    assert_eq!(proxy.expect_reason("url-too-long")["status"], 414);
}

#[test]
fn h2_an_endless_head_is_cut_at_once() {
    let (origin, proxy) = limited("header-time 60s");
    for start in ["GET /", "GET / HTTP/1.1\r\nHost: a\r\nX: ", "GET / HTTP/1.1\r\nHost: a\r\n", ""] {
        let mut client = proxy.client();
        let _ = client.try_send(start);
        let piece = if start.ends_with("Host: a\r\n") { "X: y\r\n".repeat(1000) } else { "x".repeat(6000) };
        // Refused by size, long before any time is up.
        for _ in 0..200 {
            if client.try_send(&piece).is_err() {
                break;
            }
        }
        match client.try_response("GET") {
            Ok(answer) => assert!(matches!(answer.status, 400 | 414 | 431 | 501), "{}", answer.status),
            Err(fault) => assert!(matches!(fault, Fault::Reset | Fault::Closed), "{fault:?}"),
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_body_has_a_size() {
    let (origin, proxy) = limited("body-bytes 10KiB");
    assert_eq!(proxy.client().post("/", "x".repeat(10 << 10)).expect(200).text(), "10240");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10241\r\n\r\n");
    client.response().expect(413);
    let mut chunked = proxy.client();
    let _ = chunked.try_send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        format!("1000\r\n{}\r\n", "x".repeat(4096)).repeat(3)
    ));
    chunked.response().expect(413);
    assert_eq!(origin.complete().len(), 1);
    proxy.wait_for_errors("body-too-large", 2.0);
}

#[test]
fn h1_a_body_must_get_on() {
    let (_origin, proxy) = limited("body-idle 300ms");
    let mut client = proxy.client();
    ends(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello", 408);
    assert_eq!(proxy.expect_reason("body-timeout")["side"], "client");
}

#[test]
fn h1_a_dripping_body_is_too_slow() {
    let (_origin, proxy) = limited("body-idle 20s; body-rate 500; body-rate-after 300ms");
    // A byte each 50 ms is 20 a second.
    let mut client = proxy.client().patience(Duration::from_millis(50));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    let begun = Instant::now();
    while client.try_response("POST") == Err(Fault::Timeout) {
        assert!(begun.elapsed() < Duration::from_secs(8), "still open");
        let _ = client.try_send("x");
    }
    proxy.expect_reason("body-timeout");
}

#[test]
fn h1_a_client_that_does_not_read_is_dropped() {
    let body = vec![b'x'; 20 << 20];
    let origin = Origin::serve(move |_| Answer::body(&body));
    let proxy =
        Proxy::start(&format!("limits {{ response-idle 500ms }}\n{}", site(&format!("proxy {origin}"))));
    let mut client = Client::narrow(proxy.address(), 4 << 10);
    client.send("GET /stalled HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.expect_reason("client-stalled");
    assert!(client.try_response("GET").is_err(), "cut, not ended");
}

#[test]
fn a_slow_but_steady_reader_is_not_dropped() {
    let body = vec![b'x'; 3 << 20];
    let origin = Origin::serve(move |_| Answer::body(&body));
    let proxy = Proxy::start(&format!(
        "limits {{ response-idle 500ms; response-rate 500; response-rate-after 500ms }}\n{}",
        site(&format!("proxy {origin}"))
    ));
    // Whether all of it came, and the longest time that the reader was not steady for.
    let read = || -> (bool, Duration) {
        let mut client = Client::narrow(proxy.address(), 64 << 10);
        let mut last = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response_head();
        let mut longest = Duration::ZERO;
        for _ in 0..48 {
            std::thread::park_timeout(Duration::from_millis(40));
            let came = client.try_exactly(64 << 10);
            longest = longest.max(last.elapsed());
            last = Instant::now();
            if came.is_err() {
                return (false, longest);
            }
        }
        (true, longest)
    };
    eventually("a reader that was steady", Duration::from_secs(60), || {
        let (whole, longest) = read();
        assert!(
            whole || longest > Duration::from_millis(250),
            "dropped, though it was never slower than {longest:?}"
        );
        whole.then_some(())
    });
}

#[test]
fn idle_connections_are_closed_quietly() {
    let (_origin, proxy) = limited("keep-alive 300ms");
    let (begun, mut client) = (Instant::now(), proxy.client());
    client.get("/").expect(200);
    client.expect_close();
    assert!(begun.elapsed() > Duration::from_millis(150));
    proxy.wait_for_errors("idle", 1.0);
}

#[test]
fn a_connection_has_a_number_of_requests_and_an_age() {
    let (_origin, proxy) = limited("requests 3");
    let mut client = proxy.client();
    client.get("/").expect(200);
    client.get("/").expect(200);
    let last = client.get("/").expect(200);
    assert_eq!(
        last.fields.one("connection").map(str::to_ascii_lowercase).as_deref(),
        Some("close"),
        "said before it is done"
    );
    client.expect_close();
    let (_origin, proxy) = limited("age 300ms");
    let (begun, mut client) = (Instant::now(), proxy.client());
    let closed = eventually("the close", Duration::from_secs(10), || {
        let answer = client.get("/").expect(200);
        answer
            .fields
            .one("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
            .then(|| begun.elapsed())
    });
    assert!(closed >= Duration::from_millis(250));
    client.expect_close();
}

#[test]
fn connections_are_limited_and_come_back() {
    let (_origin, proxy) = limited("connections 10");
    let mut clients: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.get("/").expect(200);
    }
    let mut further = proxy.client();
    let _ = further.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    match further.try_response("GET") {
        Ok(answer) => assert_eq!(answer.status, 503),
        Err(fault) => assert!(matches!(fault, Fault::Closed | Fault::Reset), "{fault:?}"),
    }
    proxy.wait_for_metric("portunus_connections_refused_total", &[], 1.0);
    for client in &mut clients {
        client.get("/").expect(200);
    }
    clients.truncate(5);
    eventually("room", Duration::from_secs(10), || {
        let mut client = Client::try_connect(proxy.address())?;
        let _ = client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.try_response("GET").ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn upstreams_have_bounds_too() {
    let origin = Origin::script(|connection| {
        if let Some(request) = connection.request() {
            match request.target.as_str() {
                "/fields" => connection
                    .send(format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(30))),
                "/bytes" => connection
                    .send(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(3000))),
                "/stalls" => connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
                _ => false,
            };
            connection.until_closed();
        }
    });
    // Bounds of time where they are to be reached, and nowhere else.
    let proxy = Proxy::start(&format!(
        "limits {{ upstream-header-bytes 2KiB; upstream-header-count 20 }}\n{}",
        site(&format!(
            "route /silent {{ limits {{ first-byte 300ms }}; proxy {origin} }}\n\
             route /stalls {{ limits {{ upstream-idle 300ms }}; proxy {origin} }}\n proxy {origin}"
        ))
    ));
    proxy.get("/fields").expect(502);
    proxy.get("/bytes").expect(502);
    proxy.wait_for_errors("bad-response", 2.0);
    proxy.get("/silent").expect(504);
    assert_eq!(proxy.log_of("/silent")["error"], "first-byte-timeout");
    let mut client = proxy.client();
    client.send("GET /stalls HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(client.try_response("GET"), Err(Fault::Cut | Fault::Reset)));
    assert_eq!(proxy.log_of("/stalls")["error"], "upstream-stalled");
}

#[test]
fn limits_hold_where_they_are_written() {
    let origin = Origin::serve(|request| Answer::text(&request.body.len().to_string()));
    let proxy = Proxy::start(&format!(
        "limits {{ body-bytes 100 }}\n{}",
        site(&format!("route /large {{ limits {{ body-bytes 1000 }}\n proxy {origin} }}\n proxy {origin}"))
    ));
    proxy.client().post("/", "x".repeat(101)).expect(413);
    proxy.client().post("/large", "x".repeat(1000)).expect(200);
    proxy.client().post("/large", "x".repeat(1001)).expect(413);
}
