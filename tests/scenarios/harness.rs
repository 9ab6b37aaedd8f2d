//! harness: the client and the origin of these tests, straight against each other.

use portunus_tests::{Answer, Client, Fault, Origin, Port, load};
use std::net::TcpStream;

#[test]
fn answers_come_as_the_origin_says() {
    let origin = Origin::serve(|request| match request.target.as_str() {
        "/text" => Answer::text("hello"),
        "/chunked" => Answer::chunked(&["he", "llo"]),
        "/close" => Answer::until_close("hello"),
        "/echo" => Answer::body(&request.body),
        "/hint" => Answer::raw("HTTP/1.1 103 X\r\nLink: a\r\n\r\nHTTP/1.1 204 X\r\n\r\n"),
        _ => Answer::status(404, b""),
    });
    let mut client = Client::connect(origin.address());
    assert_eq!(client.get("/text").text(), "hello");
    assert_eq!(client.get("/chunked").text(), "hello");
    assert_eq!(client.post("/echo", "body").text(), "body");
    let hinted = client.get("/hint").expect(204);
    assert_eq!(hinted.informational[0].0, 103);
    assert_eq!(client.get("/close").text(), "hello");
    client.expect_close();
    assert_eq!((origin.connections(), origin.count()), (1, 5));
    assert_eq!(origin.requests()[2].body, b"body");
    assert!(origin.complete().len() == 5 && origin.mistakes().is_empty());
}

#[test]
fn faults_come_as_the_origin_makes_them() {
    let origin = Origin::serve(|request| match request.target.as_str() {
        "/nothing" => Answer::nothing(),
        "/reset" => Answer::raw("HTTP/1.1 200").reset(),
        "/cut" => Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe").close(),
        "/chunk" => Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe").close(),
        _ => Answer::raw("HTTP/1.1 200 OK\nX: y\r\n\r\n"),
    });
    let fault = |target: &str| {
        let mut client = Client::connect(origin.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.try_response("GET").expect_err(target)
    };
    assert_eq!(fault("/nothing"), Fault::Closed);
    assert_eq!(fault("/reset"), Fault::Reset);
    assert_eq!(fault("/cut"), Fault::Cut);
    assert_eq!(fault("/chunk"), Fault::Cut);
    assert!(matches!(fault("/lf"), Fault::Malformed(_)));
}

#[test]
fn an_origin_notes_what_is_malformed() {
    for bytes in [
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\n\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
    ] {
        let origin = Box::leak(Box::new(Origin::says("x")));
        let mut client = Client::connect(origin.address());
        client.send(bytes).expect_close();
        assert_eq!(origin.mistakes().len(), 1, "{bytes:?}");
    }
}

#[test]
fn a_killed_origin_refuses_and_can_come_back() {
    let origin = Origin::says("one");
    let mut client = Client::connect(origin.address());
    assert_eq!(client.get("/").text(), "one");
    origin.kill();
    client.expect_close();
    assert!(TcpStream::connect(origin.address()).is_err());
    let again = Origin::serve_at(origin.address(), |_| Answer::text("two"));
    assert_eq!(Client::connect(again.address()).get("/").text(), "two");
}

#[test]
fn a_free_port_is_kept_and_refuses() {
    let port = Port::free();
    assert!(TcpStream::connect(port.address()).is_err());
    let listener = std::net::TcpListener::bind(port.address()).expect("to bind what is reserved");
    assert!(TcpStream::connect(port.address()).is_ok());
    drop(listener);
    assert!(TcpStream::connect(port.address()).is_err());
}

#[test]
fn a_load_keeps_its_ledger() {
    let origin = Origin::serve(|request| Answer::text(request.query("id").unwrap_or("")));
    let load = load::Load::start(origin.address(), 3, load::post);
    load.wait_for(100);
    let outcomes = load.finish();
    assert!(load::failed(&outcomes).is_empty() && outcomes.len() >= 100);
    let ledger = origin.ledger();
    for outcome in &outcomes {
        assert_eq!(outcome.body, outcome.id.as_bytes());
        assert_eq!(ledger.get(&outcome.id), Some(&1));
    }
}
