//! plain: what every proxy does all day — methods, bodies, keep-alive, pipelining, back-pressure.

use portunus_tests::{Answer, Client, Fault, Origin, Proxy, load};
use std::time::Duration;

fn echo() -> Origin {
    Origin::serve(|request| {
        let body =
            if request.body.is_empty() { request.target.clone().into_bytes() } else { request.body.clone() };
        Answer::body(&body)
    })
}

fn before(origin: &Origin) -> Proxy {
    Proxy::site(format!("proxy {origin}"))
}

#[test]
fn a_get_passes_and_both_sides_are_kept_alive() {
    let origin = echo();
    let proxy = before(&origin);
    let mut client = proxy.client();
    for number in 0..20 {
        let answer = client.get(&format!("/{number}?q=a%20b")).expect(200);
        assert_eq!(answer.text(), format!("/{number}?q=a%20b"));
        assert_eq!(answer.version, "HTTP/1.1");
        assert!(answer.fields.has("date"));
    }
    assert_eq!(origin.connections(), 1);
    let request = origin.last();
    assert_eq!((request.method.as_str(), request.version.as_str()), ("GET", "HTTP/1.1"));
    assert_eq!(request.fields.one("host"), Some("a"));
    for name in ["connection", "content-length", "transfer-encoding", "expect", "keep-alive"] {
        assert!(!request.fields.has(name), "{name}");
    }
}

#[test]
fn fields_pass_in_order_and_repeated() {
    let origin =
        Origin::serve(|_| Answer::fields("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-One: \t x y \r\n", ""));
    let proxy = before(&origin);
    let answer =
        proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nAccept: x\r\nX-Two: 1\r\nX-Two:\r\naccept: y\r\n\r\n");
    assert_eq!(answer.fields.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.fields.one("x-one"), Some("x y"));
    assert_eq!(origin.last().fields.all("x-two"), ["1", ""]);
    assert_eq!(origin.last().fields.all("accept"), ["x", "y"]);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_understood() {
    let origin = echo();
    let proxy = before(&origin);
    let mut client = proxy.client();
    for byte in b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.response().expect(200).text(), "abcde");
}

#[test]
fn a_post_has_its_length() {
    let origin = echo();
    let proxy = before(&origin);
    let mut client = proxy.client();
    assert_eq!(client.post("/", "hello").expect(200).text(), "hello");
    assert_eq!(origin.last().fields.one("content-length"), Some("5"));
    client.post("/", "").expect(200);
    assert_eq!(origin.last().fields.one("content-length"), Some("0"), "an empty POST has a length too");
}

#[test]
fn a_chunked_post_stays_chunked() {
    let origin = echo();
    let proxy = before(&origin);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n";
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.exchange(request).expect(200).text(), "hello world");
    }
    assert_eq!(origin.last().fields.one("transfer-encoding"), Some("chunked"));
    assert!(
        !origin.last().fields.has("x") && origin.connections() == 1,
        "trailers are not merged into the head"
    );
}

#[test]
fn head_204_and_304_have_no_body() {
    let origin = Origin::serve(|request| match (request.method.as_str(), request.target.as_str()) {
        ("HEAD", "/chunked") => Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", "/plain") => Answer::raw("HTTP/1.1 200 OK\r\nX: y\r\n\r\n"),
        ("HEAD", _) => Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (_, "/204") => Answer::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        (_, "/304") => {
            Answer::raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\r\n")
        }
        _ => Answer::text("body"),
    });
    let proxy = before(&origin);
    let mut client = proxy.client();
    let head = client.exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    assert_eq!(head.fields.one("content-length"), Some("1000"));
    client.exchange("HEAD /chunked HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    client.exchange("HEAD /plain HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    let empty = client.get("/204").expect(204);
    assert!(!empty.fields.has("content-length") && !empty.fields.has("transfer-encoding"));
    assert_eq!(client.get("/304").expect(304).fields.one("etag"), Some("\"x\""));
    assert_eq!(client.get("/").text(), "body");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn every_method_with_a_body_and_without() {
    let origin = Origin::serve(|request| Answer::text(&format!("{} {}", request.method, request.body.len())));
    let proxy = before(&origin);
    let mut client = proxy.client();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = client.exchange(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).expect(200);
        assert_eq!(answer.text(), format!("{method} 0"));
        let answer =
            client.exchange(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"));
        assert_eq!(answer.expect(200).text(), format!("{method} 3"));
    }
}

#[test]
fn a_chunked_answer_stays_chunked_and_http10_gets_it_until_close() {
    let origin = Origin::serve(|_| Answer::chunked(&["one ", "two ", "three"]));
    let proxy = before(&origin);
    let mut client = proxy.client();
    let answer = client.get("/").expect(200);
    assert_eq!(answer.text(), "one two three");
    assert_eq!(answer.fields.one("transfer-encoding"), Some("chunked"));
    let mut old = proxy.client();
    let answer = old.exchange("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").expect(200);
    assert_eq!(answer.text(), "one two three");
    assert!(!answer.fields.has("transfer-encoding"), "HTTP/1.0 knows no chunks");
    old.expect_close();
}

#[test]
fn a_close_delimited_answer_comes_whole() {
    let origin = Origin::serve(|_| Answer::until_close("until the end"));
    let proxy = before(&origin);
    let mut client = proxy.client();
    assert_eq!(client.get("/").expect(200).text(), "until the end");
    let mut old = proxy.client();
    assert_eq!(old.exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n").expect(200).text(), "until the end");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn keep_alive_follows_the_version_and_the_wish() {
    let origin = echo();
    let proxy = before(&origin);
    let mut new = proxy.client();
    let answer = new.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect(200);
    assert_eq!(answer.fields.one("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
    new.expect_close();
    let mut old = proxy.client();
    old.exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n").expect(200);
    old.expect_close();
    let mut kept = proxy.client();
    for _ in 0..3 {
        let answer = kept.exchange("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n").expect(200);
        assert_eq!(
            answer.fields.one("connection").map(str::to_ascii_lowercase).as_deref(),
            Some("keep-alive")
        );
    }
    assert_eq!(origin.connections(), 1, "the client's wish is not the upstream's");
}

#[test]
fn an_http10_request_without_host_is_served() {
    let origin = echo();
    let proxy = before(&origin);
    proxy.exchange("GET /old HTTP/1.0\r\n\r\n").expect(200);
    assert_eq!(origin.last().version, "HTTP/1.1");
    assert!(origin.last().fields.has("host"), "HTTP/1.1 wants one");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = echo();
    let proxy = before(&origin);
    let mut client = proxy.client();
    let mut bytes = Vec::new();
    for number in 0..50 {
        bytes.extend_from_slice(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        bytes.extend_from_slice(
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n{number:04}").as_bytes(),
        );
    }
    client.send(bytes);
    for number in 0..50 {
        assert_eq!(client.response().expect(200).text(), format!("/{number}"));
        assert_eq!(client.response().expect(200).text(), format!("{number:04}"));
    }
    client.expect_open();
}

#[test]
fn a_half_closed_client_still_gets_its_answers() {
    let origin = echo();
    let proxy = before(&origin);
    let mut client = proxy.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.half_close();
    assert_eq!(client.response().expect(200).text(), "/1");
    assert_eq!(client.response().expect(200).text(), "/2");
    client.expect_close();
}

#[test]
fn big_bodies_pass_both_ways_unchanged() {
    let origin = echo();
    let proxy = before(&origin);
    let body = noise(10 << 20);
    let results = load::side_by_side(4, |number| {
        let mut client = proxy.client().patience(Duration::from_secs(30));
        if number % 2 == 0 {
            client.post("/", &body).body
        } else {
            let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for part in body.chunks(70_001) {
                bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            client.exchange(bytes).body
        }
    });
    assert!(results.iter().all(|result| *result == body));
}

#[test]
fn a_reader_that_does_not_read_costs_little_memory() {
    let body = noise(50 << 20);
    let length = body.len();
    let origin = Origin::serve(move |_| Answer::body(&body));
    let proxy = before(&origin);
    proxy.exchange("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let clients: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = Client::narrow(proxy.address(), 8 << 10).patience(Duration::from_secs(60));
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.response_head();
            client
        })
        .collect();
    origin.wait_for(9);
    assert!(proxy.memory_bytes() < 64 << 20, "{} bytes", proxy.memory_bytes());
    let mut one = clients.into_iter().next().expect("a client");
    assert_eq!(one.exactly(length).len(), length, "and when it reads, all is there");
    assert!(proxy.memory_bytes() < 64 << 20, "{} bytes", proxy.memory_bytes());
}

#[test]
fn an_origin_that_does_not_read_holds_the_client_back() {
    let origin = Origin::script(|connection| {
        if connection.head().is_some() {
            connection.exactly(1);
            // The rest stays unread for a while, then the connection ends.
            std::thread::park_timeout(Duration::from_secs(2));
        }
    });
    let proxy = before(&origin);
    let mut client = proxy.client();
    client.send("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n");
    let piece = vec![b'x'; 1 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..80 {
                if client.try_send(&piece).is_err() {
                    break;
                }
            }
        });
        origin.wait_for(1);
        let highest = (0..50).map(|_| {
            std::thread::park_timeout(Duration::from_millis(10));
            proxy.memory_bytes()
        });
        let highest = highest.max().unwrap_or(0);
        assert!(highest < 48 << 20, "{highest} bytes");
    });
}

#[test]
fn expect_100_continue_is_answered_by_the_proxy() {
    let origin = echo();
    let proxy = before(&origin);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response_head().status, 100);
    client.send("hello");
    assert_eq!(client.response().expect(200).text(), "hello");
    assert!(!origin.last().fields.has("expect"));
    client.get("/after").expect(200);
}

#[test]
fn early_hints_are_forwarded() {
    let origin = Origin::serve(|_| {
        Answer::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\n\r\nHTTP/1.1 103 X\r\nLink: </b.css>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let proxy = before(&origin);
    let answer = proxy.get("/").expect(200);
    let links: Vec<_> =
        answer.informational.iter().map(|(status, fields)| (*status, fields.one("link"))).collect();
    assert_eq!(links, [(103, Some("</a.css>")), (103, Some("</b.css>"))]);
    assert!(answer.informational.iter().all(|(_, fields)| !fields.has("connection")));
    let old = proxy.exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n").expect(200);
    assert!(old.informational.is_empty(), "HTTP/1.0 knows no 1xx");
}

#[test]
fn a37_a_flood_of_1xx_is_cut() {
    let origin = Origin::script(|connection| {
        if connection.request().is_some() {
            for _ in 0..10_000 {
                if !connection.send("HTTP/1.1 103 X\r\nLink: a\r\n\r\n") {
                    return;
                }
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = before(&origin);
    let answer = proxy.get("/").expect(502);
    assert!(answer.informational.len() <= 8);
}

#[test]
fn a_client_that_leaves_ends_its_request_upstream() {
    let origin = Origin::script(|connection| {
        connection.request();
        connection.until_closed();
    });
    let proxy = before(&origin);
    let mut client = proxy.client();
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for(1);
    client.reset();
    portunus_tests::eventually("the end upstream", Duration::from_secs(5), || {
        (origin.ended() == 1).then_some(())
    });
    assert_eq!(proxy.log_of("/left")["error"], "client-gone");
}

#[test]
fn a_connection_that_was_never_used_is_closed_quietly() {
    let origin = echo();
    let proxy = before(&origin);
    let mut client = proxy.client();
    client.half_close();
    client.expect_close();
    let mut cut = proxy.client();
    cut.send("GET / HT");
    cut.half_close();
    assert!(matches!(cut.rest(), Ok(_) | Err(Fault::Reset)));
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_unix_socket_is_listened_at_and_proxied_to() {
    let origin = echo();
    let text = format!(
        "site * {{\n listen @listen\n listen unix:@dir/in.sock\n route /inner {{ proxy {origin} }}\n proxy unix:@dir/in.sock\n}}\n"
    );
    // A request for any other path goes round once more and must end there with /inner.
    let text = text.replace("proxy unix:", "rewrite /inner\n proxy unix:");
    let proxy = Proxy::start(&text);
    assert_eq!(proxy.get("/outer").expect(200).text(), "/inner");
    let mut client = Client::connect_unix(&proxy.place().file("in.sock"));
    assert_eq!(client.get("/inner").expect(200).text(), "/inner");
}

/// Bytes that do not repeat, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
