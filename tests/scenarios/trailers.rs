//! trailers: fields behind a body, in both directions and from every version of HTTP to every other (rows A34, F9).

use portunus_tests::h2::{block, head, kind};
use portunus_tests::{H2, Origin, Proxy};
use std::sync::mpsc;

const ASKED: &[u8] = b"0\r\nX-Sum: 7\r\n\r\n";

/// An origin of HTTP/1 that answers with trailers, and tells of the head and of the end of each request that is in chunks.
fn origin() -> (Origin, mpsc::Receiver<(portunus_tests::Request, Vec<u8>)>) {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = Origin::script(move |connection| {
        while let Some(request) = connection.head() {
            if request.fields.one("transfer-encoding") == Some("chunked") {
                assert_eq!(connection.exactly(10).as_deref(), Some(&b"5\r\nhello\r\n"[..]));
                let end = connection.exactly(ASKED.len()).unwrap_or_default();
                let _ = tell.lock().expect("nobody panics").send((request, end));
            }
            connection.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n\
                 0\r\nX-Answer: 8\r\nSet-Cookie: a=b\r\nX_Under: 1\r\nContent-Length: 3\r\n\r\n",
            );
        }
    });
    (origin, told)
}

const POST: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n";

#[test]
fn they_pass_from_http_1_to_http_1() {
    let (origin, told) = origin();
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    // Whoever says that it understands them gets those that may be any.
    for _ in 0..2 {
        client.send(POST.replace("Host: a\r\n", "Host: a\r\nTE: trailers\r\nConnection: TE\r\n"));
        client.response_head().expect(200);
        let end = b"5\r\nworld\r\n0\r\nX-Answer: 8\r\nX_Under: 1\r\n\r\n";
        assert_eq!(client.exactly(end.len()), end);
        let (request, asked) = told.recv().expect("a request");
        assert_eq!(asked, ASKED);
        assert_eq!(request.fields.one("te"), Some("trailers"));
        assert!(request.fields.all("connection").contains(&"TE") && !request.fields.has("x-sum"));
    }
    // Nobody else does.
    client.send(POST);
    client.response_head().expect(200);
    let end = b"5\r\nworld\r\n0\r\n\r\n";
    assert_eq!(client.exactly(end.len()), end);
    let (request, asked) = told.recv().expect("a request");
    assert!(asked == ASKED && !request.fields.has("te"));
    client.get("/").expect(200);
}

#[test]
fn they_pass_between_http_2_and_http_1() {
    let (origin, told) = origin();
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let mut fields = head("POST", "/").to_vec();
    fields.push(("te", "trailers"));
    let stream = client.ask(&fields, false);
    client.data(stream, "hello", false);
    client.trailers(stream, &[("x-sum", "7")]);
    let mut blocks = Vec::new();
    while blocks.len() < 2 {
        let frame = client.next_frame().expect("an answer");
        if frame.kind == kind::HEADERS {
            blocks.push((frame.flags & 1, frame.payload));
        }
    }
    let (_, asked) = told.recv().expect("a request");
    assert_eq!(asked.to_ascii_lowercase(), ASKED.to_ascii_lowercase());
    let (ends, trailers) = &blocks[1];
    assert_eq!(*ends, 1);
    assert!((10..40).contains(&trailers.len()), "two of four may be any: {trailers:x?}");
}

#[test]
fn f9_f8_names_that_no_head_may_have_are_no_trailers_either() {
    let (origin, told) = origin();
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = H2::connect(proxy.address());
    let stream = client.ask(&head("POST", "/"), false);
    client.data(stream, "hello", false);
    client.trailers(stream, &[("x_real_ip", "1"), ("transfer_encoding", "chunked"), ("x-sum", "7")]);
    client.outcome(stream);
    let (_, asked) = told.recv().expect("a request");
    assert_eq!(asked.to_ascii_lowercase(), ASKED.to_ascii_lowercase());
    for name in ["ssl-client-cert", "x-ssl-cipher", "x-request-id", "x-portunus-mirror", "x-real-ip"] {
        let stream = client.ask(&head("POST", "/"), false);
        client.data(stream, "hello", false);
        client.trailers(stream, &[(name, "1")]);
        let outcome = client.outcome(stream);
        assert!(outcome.status != 200 || !outcome.complete, "{name}");
    }
}

#[test]
fn a35_head_and_trailers_have_one_bound() {
    let origin = Origin::says("good");
    let proxy = Proxy::site(format!("proxy {origin}"));
    for (count, fits) in [(5, true), (20, false)] {
        let mut client = H2::connect(proxy.address());
        let mut fields = head("POST", "/").to_vec();
        fields.extend([("x-a", "b"); 90]);
        let stream = client.ask(&fields, false);
        client.trailers(stream, &vec![("x-b", "c"); count]);
        let outcome = client.outcome(stream);
        assert_eq!(outcome.status == 200 && outcome.complete, fits, "{count}");
    }
}

#[test]
fn they_pass_between_http_1_and_http_2() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = Origin::http2(&[], move |peer| {
        while let Some(asked) = peer.next_of(kind::HEADERS) {
            let behind = peer.next_of(kind::HEADERS).expect("trailers");
            let _ = tell.lock().expect("nobody panics").send(behind);
            peer.head(asked.stream, &[(":status", "200")], false);
            peer.data(asked.stream, "world", false);
            peer.send(kind::HEADERS, 5, asked.stream, block(&[("x-answer", "8")]));
        }
    });
    let proxy = Proxy::site(format!("proxy h2c://{origin}"));
    let mut client = proxy.client();
    client.send(POST.replace("Host: a\r\n", "Host: a\r\nTE: trailers\r\nConnection: TE\r\n"));
    client.response_head().expect(200);
    let end = b"5\r\nworld\r\n0\r\nx-answer: 8\r\n\r\n";
    assert_eq!(client.exactly(end.len()), end);
    assert_eq!(told.recv().expect("trailers").flags & 1, 1);
}

#[test]
fn they_go_once_more_with_a_body_that_does() {
    let first = Origin::script(|connection| {
        connection.request();
        connection.reset(); // after all of it
    });
    let (second, told) = origin();
    let proxy = Proxy::start(&format!(
        "pool p {{\nserver {first}\nserver {second} backup\nretry on=reset\n}}\nsite * {{ listen @listen; proxy p }}\n"
    ));
    let mut client = proxy.client();
    client.send(POST.replace("POST", "PUT"));
    client.response_head().expect(200);
    let (_, asked) = told.recv().expect("a request");
    assert_eq!(asked, ASKED);
}
