//! early: answers that begin, or end, before the request body has (attack A11 and full duplex).

use portunus_tests::proxy::site;
use portunus_tests::{Answer, Origin, Proxy, eventually};
use std::time::Duration;

#[test]
fn both_bodies_flow_at_the_same_time() {
    let origin = Origin::script(|connection| {
        let Some(_) = connection.head() else { return };
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(data) = connection.chunk() {
            connection.send(format!("{:x}\r\n", data.len()));
            connection.send(&data);
            connection.send("\r\n");
            if data.is_empty() {
                return;
            }
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    for number in 0..50 {
        let word = format!("word{number:03}");
        client.send(format!("7\r\n{word}\r\n"));
        assert_eq!(client.chunk(), word.as_bytes(), "each piece comes back before the next is sent");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk(), b"");
}

/// An origin that answers when the head is there, and takes the rest if it comes.
fn hasty() -> Origin {
    Origin::script(|connection| {
        while let Some(mut request) = connection.head() {
            let answer = match request.method.as_str() {
                "POST" => Answer::status(403, b"hasty"),
                _ => Answer::text(&request.connection.to_string()),
            };
            if !connection.answer(answer) || !connection.body(&mut request) {
                return;
            }
        }
    })
}

#[test]
fn a11_an_early_answer_arrives_and_its_upstream_connection_is_not_used_again() {
    let origin = hasty();
    let proxy = Proxy::site(format!("proxy {origin}"));
    for round in 0..5 {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly the start");
        let answer = client.response().expect(403);
        assert_eq!(answer.text(), "hasty");
        let used = origin.last().connection;
        assert_ne!(proxy.get("/next").expect(200).text(), used.to_string(), "round {round}");
        assert_eq!(origin.mistakes(), Vec::<String>::new());
    }
}

#[test]
fn a11_nor_is_it_when_that_answer_is_tried_again_elsewhere() {
    let early = Origin::script(|connection| {
        while let Some(mut request) = connection.head() {
            let answer = match request.method.as_str() {
                "PUT" => Answer::status(503, b""),
                _ => Answer::text("early"),
            };
            if !connection.answer(answer) || !connection.body(&mut request) {
                return;
            }
        }
    });
    let patient = Origin::serve(|_| Answer::text("patient"));
    let pool = format!("pool p {{\nserver {early}\nserver {patient}\nretry on=503\n}}\n");
    let proxy = Proxy::start(&format!("{pool}{}", site("proxy p")));
    for round in 0..4 {
        let mut slow = proxy.client();
        slow.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n");
        eventually("the one who waits has it", Duration::from_secs(5), || {
            (patient.count() > 3 * round).then_some(())
        });
        for next in 0..4 {
            // Half of them go to the server whose connection waits for a body.
            let answer = proxy.get("/next").expect(200).text();
            assert!(["early", "patient"].contains(&&*answer), "round {round}, {next}: {answer}");
        }
        slow.send("x".repeat(300));
        assert_eq!(slow.response().expect(200).text(), "patient", "round {round}");
    }
    assert!(early.requests().iter().any(|request| request.method == "PUT"), "it was asked first");
    assert_eq!(early.mistakes(), Vec::<String>::new());
}

#[test]
fn a11_the_rest_of_the_body_is_never_read_as_a_request() {
    let origin = hasty();
    let proxy = Proxy::site(format!("proxy {origin}"));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3000);
    for split in [0, 1, 100, smuggled.len() / 2, smuggled.len()] {
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", smuggled.len()));
        let _ = client.try_send(&smuggled[..split]);
        client.response().expect(403);
        let _ = client.try_send(&smuggled[split..]);
        // Kept when the body was drained, closed otherwise; never an answer to what stands in the body.
        let _ = client.try_send("GET /honest HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.try_response("GET") {
            Ok(answer) => assert_eq!(answer.status, 200),
            Err(fault) => assert_ne!(fault, portunus_tests::Fault::Timeout, "split {split}"),
        }
    }
    assert!(origin.requests().iter().all(|request| request.target != "/smuggled"));
}

/// Sends so much of a large body as anybody takes, then reads the answer: it must not be lost (lingering close).
fn upload(proxy: &Proxy) -> Result<portunus_tests::Response, portunus_tests::Fault> {
    let mut client = proxy.client().patience(Duration::from_secs(10));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n");
    let piece = vec![b'x'; 64 << 10];
    for _ in 0..40 {
        if client.try_send(&piece).is_err() {
            break;
        }
    }
    client.try_response("POST")
}

#[test]
fn t16_a_big_upload_gets_its_early_answer_in_full() {
    let origin = Origin::script(|connection| {
        if connection.head().is_some() {
            connection
                .send("HTTP/1.1 413 Too much\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much");
            connection.half_close();
            connection.until_closed();
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    for _ in 0..20 {
        assert_eq!(upload(&proxy).expect("an answer").expect(413).text(), "too much");
    }
}

#[test]
fn t16_an_origin_that_answers_and_closes_hard_is_told_or_502() {
    let origin = Origin::script(|connection| {
        if connection.head().is_some() {
            connection
                .send("HTTP/1.1 413 Too much\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much");
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    for _ in 0..20 {
        assert!(matches!(upload(&proxy).expect("an answer").status, 413 | 502));
    }
}

#[test]
fn an_early_answer_that_ends_after_the_body_is_a_normal_one() {
    let origin = Origin::script(|connection| {
        while let Some(mut request) = connection.head() {
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
            connection.body(&mut request);
            if !connection.send(format!("4\r\n{:04}\r\n0\r\n\r\n", request.body.len())) {
                return;
            }
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    for _ in 0..5 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
        assert_eq!(client.response_head().status, 200);
        assert_eq!(client.chunk(), b"begun");
        client.send("x".repeat(100));
        assert_eq!(client.chunk(), b"0100");
        assert_eq!(client.chunk(), b"");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a8_a_local_answer_does_not_leave_the_body_on_the_connection() {
    let origin = Origin::says("origin");
    let proxy = Proxy::site(format!("route /local {{ respond 200 local }}\n proxy {origin}"));
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let sized =
        format!("POST /local HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len());
    let chunked = format!(
        "POST /local HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
        hidden.len()
    );
    for request in [sized, chunked] {
        let mut client = proxy.client();
        let answer = client.exchange(request).expect(200);
        assert_eq!(answer.text(), "local");
        // Either the body was drained, or the connection is over; nothing in between.
        match answer.fields.one("connection") {
            None => assert_eq!(client.get("/").expect(200).text(), "origin"),
            Some(_) => client.expect_close(),
        }
    }
    assert!(origin.requests().iter().all(|request| request.target == "/"));
}

#[test]
fn a8_a_local_answer_to_a_body_too_long_to_drain_closes() {
    let proxy = Proxy::site("respond 200 local");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response().expect(200);
    assert_eq!(answer.fields.one("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
    client.expect_close();
    let mut broken = proxy.client();
    broken.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(broken.response().status, 200 | 400));
    broken.expect_close();
}

#[test]
fn a12_a_final_answer_instead_of_100_closes_and_the_body_is_not_awaited() {
    let proxy = Proxy::site("respond 403 no");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.response().expect(403);
    assert!(answer.informational.is_empty(), "no 100 before a refusal");
    client.expect_close();
}
