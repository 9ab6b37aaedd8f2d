//! responses: the rows of attack that stand in an answer's head.

use super::super::{Framing, Version};
use super::*;
use portunus_message::Status;
use portunus_message::body::Source;
use std::time::Duration;

fn get(bytes: &[u8]) -> (Response, ResponseHead) {
    read_answer(bytes, Method::GET, false).unwrap()
}

#[test]
fn a_plain_answer_is_read() {
    let bytes = ok("Server: x\r\nContent-Length: 5\r\nKeep-Alive: max=9, timeout=7\r\n");
    let (response, head) = get(&bytes);
    assert_eq!((response.status, response.body.length), (Status::OK, Some(5)));
    assert_eq!(kept(&response.fields), ["Server: x"]);
    let expected = ResponseHead {
        version: Version::Http11,
        keep_alive: true,
        framing: Framing::Length(5),
        idle: Some(Duration::from_secs(7)),
        upgraded: false,
        length: bytes.len(),
    };
    assert_eq!(head, expected);
    for line in ["HTTP/1.1 404", "HTTP/1.1 404 ", "HTTP/1.0 404 Not\tFound \u{e4}"] {
        let (response, head) = get(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!((response.status, head.framing), (Status::NOT_FOUND, Framing::UntilClose), "{line}");
        assert!(!head.keep_alive);
    }
}

#[test]
fn connections_persist_as_the_answer_says() {
    let keeps = |bytes: &[u8]| get(bytes).1.keep_alive;
    assert!(keeps(&ok("Content-Length: 0\r\n")));
    assert!(keeps(&ok("Transfer-Encoding: Chunked\r\n")));
    assert!(!keeps(&ok("Content-Length: 0\r\nConnection: close\r\n")));
    assert!(!keeps(&ok("")));
    assert!(!keeps(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(keeps(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"));
}

#[test]
fn a29_an_answer_keeps_what_is_protected() {
    let lines = "Connection: Transfer-Encoding, Set-Cookie, X-Mine\r\nSet-Cookie: a=b\r\nX-Mine: x\r\nTransfer-Encoding: chunked\r\nX-Other: y\r\n";
    let (response, head) = get(&ok(lines));
    assert_eq!(head.framing, Framing::Chunked);
    assert_eq!(kept(&response.fields), ["Set-Cookie: a=b", "X-Other: y"]);
}

#[test]
fn a31_a37_only_a_switch_that_was_asked_for() {
    let switch =
        b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: y\r\n\r\n";
    let (response, head) = read_answer(switch, Method::GET, true).unwrap();
    assert!(head.upgraded && head.framing == Framing::None);
    assert_eq!(kept(&response.fields), ["Sec-WebSocket-Accept: y"]);
    answer_refused(switch, Crime::BadSwitch);
    for bad in [
        "HTTP/1.1 101 x\r\n\r\n",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.0 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert_eq!(read_answer(bad.as_bytes(), Method::GET, true).err(), Some(Crime::BadSwitch), "{bad}");
    }
    let (_, head) = read_answer(
        &ok("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n"),
        Method::GET,
        true,
    )
    .unwrap();
    assert!(!head.upgraded && head.framing == Framing::Length(2));
}

#[test]
fn a37_informational_heads_have_no_body() {
    for code in [100, 102, 103] {
        let (response, head) = get(format!("HTTP/1.1 {code} x\r\nLink: y\r\n\r\n").as_bytes());
        assert_eq!(head.framing, Framing::None);
        assert_eq!(kept(&response.fields), ["Link: y"]);
    }
}

#[test]
fn a38_answers_without_a_body() {
    for status in ["204 x", "304 x"] {
        for lines in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
            let (response, head) = get(format!("HTTP/1.1 {status}\r\n{lines}\r\n").as_bytes());
            assert_eq!(
                (head.framing, response.body.source),
                (Framing::None, Source::Empty),
                "{status} {lines}"
            );
        }
    }
    for status in ["100 x", "103 x"] {
        let read =
            |lines| read_answer(format!("HTTP/1.1 {status}\r\n{lines}\r\n").as_bytes(), Method::GET, false);
        assert_eq!(read("").map(|(_, head)| head.framing), Ok(Framing::None));
        assert!(read("Content-Length: 5\r\n").is_err() && read("Transfer-Encoding: chunked\r\n").is_err());
    }
    let (response, head) = read_answer(&ok("Content-Length: 5\r\n"), Method::HEAD, false).unwrap();
    assert_eq!((head.framing, response.body.length), (Framing::None, Some(5)));
    assert!(response.body.is_empty() && head.keep_alive);
    let (response, head) = read_answer(&ok(""), Method::HEAD, false).unwrap();
    assert!(response.body.length.is_none() && head.keep_alive);
    let (response, _) = get(b"HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\n");
    assert_eq!(response.body.length, Some(7));
    assert!(!get(b"HTTP/1.1 204 x\r\nContent-Length: 7\r\n\r\n").1.keep_alive);
    assert!(get(b"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n").1.keep_alive);
}

#[test]
fn a40_bad_answers() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \tchunked\r\n",
        "X: a\r\n b\r\n",
        "X : a\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X\r\n",
        ": a\r\n",
        " X: a\r\n",
        "X: a\nY: b\r\n",
    ] {
        answer_refused(&ok(lines), Crime::BadResponse);
        let head = read_answer(&ok(lines), Method::HEAD, false);
        assert_eq!(head.err(), Some(Crime::BadResponse), "{lines}");
    }
    answer_refused(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Crime::BadResponse);
    for line in [
        "HTTP/1.1 99 x",
        "HTTP/1.1 099 x",
        "HTTP/1.1 1000 x",
        "HTTP/1.1 600 x",
        "HTTP/1.1 999 x",
        "HTTP/1.1 20 x",
        "HTTP/1.1  200 x",
        "HTTP/1.1 200x",
        "HTTP/1.1 2x0 x",
        "HTTP/1.2 200 x",
        "HTTP/2.0 200 x",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "http/1.1 200 x",
        " HTTP/1.1 200 x",
        "200 OK",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 +20 x",
        "ICY 200 OK",
        "HTTP/1.1 200\tOK",
        "",
    ] {
        answer_refused(format!("{line}\r\n\r\n").as_bytes(), Crime::BadResponse);
    }
    answer_refused(b"\r\nHTTP/1.1 200 OK\r\n\r\n", Crime::BadResponse);
    answer_refused(b"HTTP/1.1 200 OK\nX: y\r\n\r\n", Crime::BadResponse);
    answer_refused(&ok(&"X: y\r\n".repeat(201)), Crime::BadResponse);
    answer_refused(&ok(&"X: y\r\n".repeat(600)), Crime::BadResponse);
    answer_refused(&ok(&format!("X: {}\r\n", "y".repeat(400)).repeat(199)), Crime::BadResponse);
    answer_refused(&ok(&format!("{}: y\r\n", "x".repeat(257))), Crime::BadResponse);
    assert!(read_answer(&ok(&"X: y\r\n".repeat(200)), Method::GET, false).is_ok());
}

#[test]
fn h13_an_endless_answer_head_is_cut_off() {
    let bounds = HeadBounds::response(&Limits::default());
    for (start, more) in
        [("HTTP/1.1 200 ", "x"), ("HTTP/1.1 200 OK\r\n", "x"), ("HTTP/1.1 200 OK\r\n", "X: y\r\n")]
    {
        let bytes = [start, &more.repeat(70_000)].concat();
        assert_eq!(Scan::new().advance(bytes.as_bytes(), &bounds), Err(Crime::BadResponse), "{start}");
    }
}

#[test]
fn f8_hop_fields_and_orders_are_taken_out() {
    let lines = "X-Accel-Redirect: /secret\r\nX-Accel-Buffering: no\r\nX-Sendfile: /etc\r\nConnection: close\r\nKeep-Alive: timeout=5\r\nUpgrade: h2,h2c\r\nTrailer: x\r\nProxy-Authenticate: Basic\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n";
    let (response, _) = get(&ok(lines));
    assert_eq!(kept(&response.fields), ["Set-Cookie: a", "Set-Cookie: b"]);
}

#[test]
fn keep_alive_hints_are_numbers() {
    let idle = |text: &str| get(&ok(&format!("Keep-Alive: {text}\r\n"))).1.idle;
    assert_eq!(idle("timeout=5, max=100"), Some(Duration::from_secs(5)));
    assert_eq!(idle("max=100,Timeout=0"), Some(Duration::ZERO));
    for bad in ["", "timeout=", "timeout=x", "timeout=-1", "timeout=+1", "timeout=99999999999", "5"] {
        assert_eq!(idle(bad), None, "{bad}");
    }
}
