//! hostile: origins that answer wrongly (rows A37–A40, A45): 502 or a visible abort, and never that connection again.

use portunus_tests::{Answer, Client, Fault, Origin, Proxy, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// One way to answer wrongly.
struct Kind {
    name: &'static str,
    bytes: Vec<u8>,
    then: Then,
    outcome: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Stay,
    Close,
    Reset,
}

/// `outcome`: a status, or `abort`, several divided by ` / `; with `+` after it the connection may be used again.
fn kind(name: &'static str, bytes: impl Into<Vec<u8>>, then: Then, outcome: &'static str) -> Kind {
    Kind { name, bytes: bytes.into(), then, outcome }
}

/// A head with these lines and then a body; found out at once, though the origin says nothing more and stays.
fn lines(name: &'static str, lines: &'static str, outcome: &'static str) -> Kind {
    kind(name, format!("HTTP/1.1 200 OK\r\n{lines}\r\nhello"), Then::Stay, outcome)
}

fn first_line(line: &'static str, outcome: &'static str) -> Kind {
    kind(line, format!("{line}\r\nContent-Length: 5\r\n\r\nhello"), Then::Stay, outcome)
}

fn chunks(name: &'static str, body: &'static str, then: Then, outcome: &'static str) -> Kind {
    kind(name, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), then, outcome)
}

#[test]
fn a40_bad_heads_are_502() {
    let mut kinds = vec![
        lines("CL and TE", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "502"),
        lines("TE and CL", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "502"),
        lines("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", "502"),
        lines("two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n", "502"),
        lines("list of lengths", "Content-Length: 5, 5\r\n", "502"),
        lines("length +5", "Content-Length: +5\r\n", "502"),
        lines("length -1", "Content-Length: -1\r\n", "502"),
        lines("length 0x5", "Content-Length: 0x5\r\n", "502"),
        lines("length empty", "Content-Length:\r\n", "502"),
        lines("length 5 5", "Content-Length: 5 5\r\n", "502"),
        lines("length too large", "Content-Length: 18446744073709551621\r\n", "502"),
        lines("TE xchunked", "Transfer-Encoding: xchunked\r\n", "502"),
        lines("TE gzip", "Transfer-Encoding: gzip\r\n", "502"),
        lines("TE chunked, identity", "Transfer-Encoding: chunked, identity\r\n", "502"),
        lines("TE twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "502"),
        lines("TE with VT", "Transfer-Encoding: \u{b}chunked\r\n", "502"),
        lines("NUL in a value", "X: a\0b\r\nContent-Length: 5\r\n", "502"),
        lines("NUL in a name", "X\0: a\r\nContent-Length: 5\r\n", "502"),
        lines("control byte", "X: a\u{1}\r\nContent-Length: 5\r\n", "502"),
        lines("DEL", "X: a\u{7f}\r\nContent-Length: 5\r\n", "502"),
        lines("bare LF", "X: a\nContent-Length: 5\r\n", "502"),
        lines("bare CR", "X: a\rY: b\r\nContent-Length: 5\r\n", "502"),
        lines("CR CR LF", "X: a\r\r\nContent-Length: 5\r\n", "502"),
        lines("space before the colon", "Content-Length : 5\r\n", "502"),
        lines("folded line", "X: a\r\n b\r\nContent-Length: 5\r\n", "502"),
        lines("space before the first name", " X: a\r\nContent-Length: 5\r\n", "502"),
        lines("no colon", "X\r\nContent-Length: 5\r\n", "502"),
        lines("empty name", ": a\r\nContent-Length: 5\r\n", "502"),
        lines("name of no token", "X(Y): a\r\nContent-Length: 5\r\n", "502"),
        first_line("HTTP/1.1 99 X", "502"),
        first_line("HTTP/1.1 1000 X", "502"),
        first_line("HTTP/1.1 000 X", "502"),
        first_line("HTTP/1.1 20 X", "502"),
        first_line("HTTP/1.1 2x0 X", "502"),
        first_line("HTTP/1.1 -20 X", "502"),
        first_line("HTTP/1.1 +200 X", "502"),
        first_line("HTTP/1.1 0200 X", "502"),
        first_line("HTTP/1.1 200OK", "502"),
        first_line("HTTP/1.1  200 OK", "502"),
        first_line("HTTP/1.1 200 a\u{1}b", "502"),
        first_line("HTTP/1.1 200 a\0b", "502"),
        first_line("HTTP/1.1 200 a\rb", "502"),
        first_line("HTTP/1.1", "502"),
        first_line("HTTP/2.0 200 OK", "502"),
        first_line("HTTP/0.9 200 OK", "502"),
        first_line("HTTP/11 200 OK", "502"),
        first_line("http/1.1 200 OK", "502"),
        first_line("ICY 200 OK", "502"),
        first_line(" HTTP/1.1 200 OK", "502"),
        first_line("\r\nHTTP/1.1 200 OK", "502"),
        first_line("GET / HTTP/1.1", "502"),
        first_line("HTTP/1.1 200", "502 / 200+"),
        first_line("HTTP/1.1 200 ", "200+"),
        first_line("HTTP/1.1 200 \u{e9}", "200+"),
        first_line("HTTP/1.1 299 Odd", "299+"),
        first_line("HTTP/1.1 599 Odd", "599+"),
        kind(
            "TE on 1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Then::Stay,
            "502",
        ),
        kind("only LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", Then::Stay, "502"),
        kind("empty head", "\r\n\r\n", Then::Stay, "502"),
        kind("garbage", b"\x00\x01\x02\x03\xff\xfe\r\n\r\n", Then::Stay, "502"),
        kind("TLS alert", b"\x15\x03\x01\x00\x02\x02\x16", Then::Close, "502"),
        kind("201 fields", format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(201)), Then::Stay, "502"),
        kind(
            "too long a head",
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(70 << 10)),
            Then::Stay,
            "502",
        ),
        kind("endless head", format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(200_000)), Then::Stay, "502"),
        kind("endless line", "x".repeat(1 << 20), Then::Stay, "502"),
        kind(
            "unasked 101",
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            Then::Stay,
            "502",
        ),
        kind("nine hints", "HTTP/1.1 103 X\r\nLink: a\r\n\r\n".repeat(9), Then::Stay, "502"),
        kind("a hint with a broken head", "HTTP/1.1 103 X\r\nLink : a\r\n\r\n", Then::Stay, "502"),
        kind("only a 100", "HTTP/1.1 100 Continue\r\n\r\n", Then::Close, "502"),
    ];
    for bytes in [
        "",
        "H",
        "HTTP/1.1 ",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r",
    ] {
        kinds.push(kind("closed within the head", bytes, Then::Close, "502"));
        kinds.push(kind("reset within the head", bytes, Then::Reset, "502"));
    }
    assert!(kinds.len() >= 60);
    judge(kinds, "POST");
}

#[test]
fn a40_the_same_for_a_get() {
    judge(
        vec![
            lines("CL and TE", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "502"),
            first_line("HTTP/1.1 99 X", "502"),
            kind("closed within the head", "HTTP/1.1 200 OK\r\n", Then::Close, "502"),
            kind("reset within the head", "HTTP/1.1 200 OK\r\n", Then::Reset, "502"),
            kind("nothing", "", Then::Close, "502"),
        ],
        "GET",
    );
}

#[test]
fn a38_bodies_where_none_may_be() {
    judge(
        vec![
            kind("204 with a body", "HTTP/1.1 204 X\r\n\r\nhello", Then::Stay, "204 / 502"),
            kind(
                "204 with a length and a body",
                "HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\nhello",
                Then::Stay,
                "204 / 502",
            ),
            kind(
                "204 with chunks",
                "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                Then::Stay,
                "204 / 502",
            ),
            kind(
                "304 with a body",
                "HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\nhello",
                Then::Stay,
                "304 / 502",
            ),
            kind(
                "304 with a whole answer",
                "HTTP/1.1 304 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
                Then::Stay,
                "304 / 502",
            ),
            kind(
                "103 with a length",
                "HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\nhello",
                Then::Stay,
                "502 / 504",
            ),
        ],
        "GET",
    );
    judge(
        vec![
            kind(
                "HEAD with a body",
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                Then::Stay,
                "200 / 502",
            ),
            kind(
                "HEAD with chunks",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                Then::Stay,
                "200 / 502",
            ),
            kind(
                "HEAD with a whole answer",
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
                Then::Stay,
                "200 / 502",
            ),
        ],
        "HEAD",
    );
}

#[test]
fn a39_more_than_the_answer() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    judge(
        vec![
            lines("longer than its length", "Content-Length: 3\r\n", "200 / 502"),
            kind(
                "a second answer",
                format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{evil}"),
                Then::Stay,
                "200 / 502",
            ),
            kind(
                "a second answer after none",
                format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{evil}"),
                Then::Stay,
                "200 / 502",
            ),
            chunks(
                "a second answer after chunks",
                "5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
                Then::Stay,
                "200 / 502",
            ),
            chunks("CRLF after chunks", "5\r\nhello\r\n0\r\n\r\n\r\n", Then::Stay, "200 / 502"),
            lines("Connection: close, but stays", "Connection: close\r\nContent-Length: 5\r\n", "200"),
            kind(
                "1.0 without keep-alive, but stays",
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                Then::Stay,
                "200",
            ),
        ],
        "GET",
    );
}

#[test]
fn a45_broken_bodies_are_visible() {
    let sized = |name, body: &'static str, then| {
        kind(name, format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{body}"), then, "abort / 502")
    };
    judge(
        vec![
            sized("no body", "", Then::Close),
            sized("half a body", "hello", Then::Close),
            sized("half a body, reset", "hello", Then::Reset),
            chunks("no chunk", "", Then::Close, "abort / 502"),
            chunks("no last chunk", "5\r\nhello\r\n", Then::Close, "abort / 502"),
            chunks("no last chunk, reset", "5\r\nhello\r\n", Then::Reset, "abort / 502"),
            chunks("half a chunk", "5\r\nhe", Then::Close, "abort / 502"),
            chunks("half a size", "5", Then::Close, "abort / 502"),
            chunks("no final CRLF", "5\r\nhello\r\n0\r\n", Then::Close, "abort / 502"),
            chunks("bad size", "5\r\nhello\r\nZZ\r\n", Then::Stay, "abort / 502"),
            chunks("size too large", "10000000000000000\r\nhello", Then::Stay, "abort / 502"),
            chunks("bare LF", "5\nhello\r\n0\r\n\r\n", Then::Stay, "abort / 502"),
            chunks("spill", "5\r\nhello!\r\n0\r\n\r\n", Then::Stay, "abort / 502"),
            chunks(
                "endless extension",
                Box::leak(format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300)).into_boxed_str()),
                Then::Stay,
                "abort / 502",
            ),
            chunks("bad trailer", "5\r\nhello\r\n0\r\nX : y\r\n\r\n", Then::Stay, "abort / 502"),
            chunks("harmless trailer", "5\r\nhello\r\n0\r\nX: y\r\n\r\n", Then::Stay, "200+"),
            chunks("extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n", Then::Stay, "200+"),
        ],
        "GET",
    );
}

#[test]
fn a45_a_cut_answer_is_cut_for_http10_too() {
    let arrived = Arc::new(AtomicBool::new(false));
    let has_arrived = Arc::clone(&arrived);
    let origin = Origin::script(move |connection| {
        if connection.head().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            eventually("the client has it", Duration::from_secs(5), || {
                has_arrived.swap(false, SeqCst).then_some(())
            });
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    for behind in ["", "\r\n", "GET /more HTTP/1.0\r\nHost: a\r\n\r\n"] {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.0\r\nHost: a\r\n\r\n{behind}"));
        assert_eq!(client.response_head().status, 200);
        assert_eq!(client.exactly(5), b"hello");
        arrived.store(true, SeqCst);
        // Until-close framing: only a reset says that something is missing.
        assert_eq!(client.rest(), Err(Fault::Reset), "{behind:?}");
    }
}

#[test]
fn a45_a_cut_is_counted_and_logged() {
    let origin = Origin::serve(|_| {
        let half = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        half.close()
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    // 502 when the cut was seen before anything had gone out, a cut here too otherwise.
    match client.try_response("GET") {
        Ok(answer) => assert_eq!(answer.status, 502),
        Err(fault) => assert!(matches!(fault, Fault::Cut | Fault::Reset), "{fault:?}"),
    }
    assert_eq!(proxy.log_of("/cut")["error"], "truncated");
    proxy.wait_for_errors("truncated", 1.0);
}

#[test]
fn a39_bytes_on_an_idle_connection_are_nobodys_answer() {
    let sent = Arc::new(AtomicBool::new(false));
    let said = sent.clone();
    let origin = Origin::script(move |connection| {
        while let Some(request) = connection.request() {
            if !connection.answer(Answer::text(&format!("{} {}", request.target, request.connection))) {
                return;
            }
            if request.target == "/first" {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
                said.store(true, SeqCst);
            }
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    for round in 0..20 {
        sent.store(false, SeqCst);
        let mut client = proxy.client();
        let first = client.get("/first").expect(200).text();
        portunus_tests::eventually("the poison", Duration::from_secs(5), || sent.load(SeqCst).then_some(()));
        let second = client.get("/second").expect(200).text();
        assert!(second.starts_with("/second "), "round {round}: {second:?}");
        assert_ne!(first.rsplit(' ').next(), second.rsplit(' ').next(), "the connection was used again");
    }
}

/// Lets the origin answer a request of `method` in each of these ways, and judges what the client gets.
fn judge(kinds: Vec<Kind>, method: &'static str) {
    let kinds = Arc::new(kinds);
    let of_origin = kinds.clone();
    let origin = Origin::script(move |connection| {
        while let Some(request) = connection.request() {
            let kind = request.query("kind").and_then(|number| of_origin.get(number.parse::<usize>().ok()?));
            let Some(kind) = kind else {
                if !connection.answer(Answer::text(&request.target)) {
                    return;
                }
                continue;
            };
            connection.send(&kind.bytes);
            match kind.then {
                Then::Stay => {}
                Then::Close => return,
                Then::Reset => return connection.reset(),
            }
        }
    });
    let limits = "limits { first-byte 20s; upstream-idle 20s }\n";
    let proxy = Proxy::start(&format!("{limits}{}", portunus_tests::proxy::site(&format!("proxy {origin}"))));
    let mut wrong = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        if let Err(reason) = judge_one(&origin, &proxy, kind, number, method) {
            let start: String = kind.bytes.iter().take(120).map(|&byte| char::from(byte)).collect();
            wrong.push(format!("{} ({start:?}): {reason}", kind.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} for {method}:\n{}", wrong.len(), kinds.len(), wrong.join("\n"));
    drop(proxy);
}

fn judge_one(origin: &Origin, proxy: &Proxy, kind: &Kind, number: usize, method: &str) -> Result<(), String> {
    let before = origin.count();
    let target = format!("/?kind={number}");
    let length = if method == "POST" { "Content-Length: 4\r\n" } else { "" };
    let body = if method == "POST" { "body" } else { "" };
    let mut client = Client::connect(proxy.address()).patience(Duration::from_secs(10));
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}"));
    let came = match client.try_response(method) {
        Ok(answer) => answer.status.to_string(),
        Err(Fault::Cut | Fault::Reset) => "abort".to_owned(),
        Err(fault) => format!("{fault:?}"),
    };
    let fitting = kind.outcome.split(" / ").find(|one| one.trim_end_matches('+') == came);
    let Some(fitting) = fitting else { return Err(format!("{came} instead of {}", kind.outcome)) };
    for fence in 0..2 {
        let target = format!("/fence?{number}.{fence}");
        let mut client = Client::connect(proxy.address()).patience(Duration::from_secs(10));
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match client.try_response("GET") {
            Ok(answer) if answer.status == 200 && answer.text() == target => {}
            other => return Err(format!("the next request got {other:?}")),
        }
    }
    let requests: Vec<_> = origin.requests().into_iter().skip(before).collect();
    let mine: Vec<_> = requests.iter().filter(|request| request.target == target).collect();
    if mine.is_empty() || mine.len() > if method == "POST" { 1 } else { 2 } {
        return Err(format!("sent {} times", mine.len()));
    }
    let again = |request: &portunus_tests::Request| {
        mine.iter().any(|one| one.connection == request.connection && one.index < request.index)
    };
    if !fitting.ends_with('+') && requests.iter().any(again) {
        return Err("its connection was used again".to_owned());
    }
    Ok(())
}
