//! retry: when a request is sent again, and that nothing is ever sent twice that must not be.

use portunus_tests::proxy::site;
use portunus_tests::{Answer, Origin, Place, Port, Proxy, eventually};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// A proxy for these servers, two attempts.
fn pool(servers: &[&dyn std::fmt::Display], more: &str) -> Proxy {
    let servers: String = servers.iter().map(|server| format!(" server {server}\n")).collect();
    Proxy::start(&format!("pool p {{\n{servers}{more}\n}}\n{}", site("proxy p")))
}

#[test]
fn a_host_that_refuses_is_passed_over() {
    let (refusing, good) = (Port::free(), Origin::says("good"));
    let proxy = pool(&[&refusing, &good], "");
    let mut client = proxy.client();
    for number in 0..20 {
        client.get("/").expect(200);
        client.post(&format!("/post?id={number}"), "body").expect(200);
    }
    assert!(good.ledger().values().all(|count| *count == 1) && good.ledger().len() == 20);
    let line = proxy.log("a second try", |line| line["tries"] == 2);
    assert_eq!((&line["status"], &line["upstream"]), (&200.into(), &good.address().to_string().into()));
    proxy.wait_for_metric("portunus_retries_total", &[], 1.0);
    proxy.wait_for_metric("portunus_upstream_connect_failures_total", &[], 1.0);
}

/// Takes requests and closes without an answer.
fn mute() -> Origin {
    Origin::serve(|_| Answer::nothing())
}

#[test]
fn a_get_that_got_no_answer_is_sent_to_another_host_once() {
    let (mute, good) = (mute(), Origin::says("good"));
    let proxy = pool(&[&mute, &good], " retry budget=100%");
    for number in 0..10 {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let id = format!("{method}-{number}");
            proxy.exchange(format!("{method} /?id={id} HTTP/1.1\r\nHost: a\r\n\r\n")).expect(200);
            assert_eq!(good.ledger().get(&id), Some(&1));
            assert!(mute.ledger().get(&id).copied().unwrap_or(0) <= 1);
        }
    }
    assert!(mute.count() > 0);
}

/// Closes each connection when its second request comes.
fn fickle() -> Origin {
    Origin::script(|connection| {
        if connection.request().is_some() && connection.answer(Answer::text("ok")) {
            connection.head();
        }
    })
}

#[test]
fn whoever_meets_an_end_on_a_kept_connection_goes_on_by_a_new_one() {
    let (one, other) = (fickle(), fickle());
    let proxy = pool(&[&one, &other], " retry budget=100%\n eject off");
    for method in ["GET", "DELETE"] {
        for _ in 0..20 {
            proxy.exchange(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).expect(200);
        }
    }
    // More than is kept to be sent again: it had better not meet one.
    let body = "x".repeat(300_000);
    for framing in [
        format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
    ] {
        for _ in 0..20 {
            proxy.exchange(format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}")).expect(200);
        }
    }
}

#[test]
fn a_unix_socket_where_many_wait_is_waited_for() {
    let place = Place::new();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&socket2::SockAddr::unix(place.file("s")).expect("a path")).expect("to bind");
    socket.listen(1).expect("to listen");
    let proxy = Proxy::start_in(place, &site("proxy unix:@dir/s"));
    let mut clients: Vec<_> = (0..10).map(|_| proxy.client().patience(Duration::from_secs(10))).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    }
    proxy.wait_for_metric("portunus_pool_in_flight", &[], 10.0);
    let listener = std::os::unix::net::UnixListener::from(socket);
    let answering = std::thread::spawn(move || {
        for connection in listener.incoming().take(10) {
            let mut connection = connection.expect("a connection");
            let _ = connection.read(&mut [0; 4096]);
            let _ =
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    for client in &mut clients {
        client.response().expect(200);
    }
    answering.join().expect("all were answered");
}

#[test]
fn a_put_is_sent_again_with_its_whole_body() {
    let (mute, good) = (mute(), Origin::serve(|request| Answer::body(&request.body)));
    let proxy = pool(&[&mute, &good], "");
    for size in [0, 1, 1000, 60_000] {
        let body = "x".repeat(size);
        for _ in 0..4 {
            let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}");
            assert_eq!(proxy.exchange(request).expect(200).text(), body);
        }
    }
}

#[test]
fn a_put_too_long_to_be_kept_is_not_sent_again() {
    let (mute, other) = (mute(), mute());
    let proxy = pool(&[&mute, &other], "");
    let body = "x".repeat(200_000);
    let request =
        format!("PUT /?id=long HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    proxy.exchange(request).expect(502);
    assert_eq!(mute.count() + other.count(), 1);
}

#[test]
fn a_post_that_got_no_answer_is_502_and_sent_once() {
    let (one, two) = (mute(), mute());
    let proxy = pool(&[&one, &two], "");
    for number in 0..20 {
        proxy.client().post(&format!("/?id={number}"), "body").expect(502);
        let seen = |origin: &Origin| origin.ledger().get(&number.to_string()).copied().unwrap_or(0);
        assert_eq!(seen(&one) + seen(&two), 1);
    }
    assert_eq!(proxy.expect_reason("upstream-closed")["status"], 502);
}

#[test]
fn a_request_is_tried_twice_at_most_and_never_at_the_same_host() {
    let origins = [mute(), mute(), mute(), mute()];
    let proxy = pool(&[&origins[0], &origins[1], &origins[2], &origins[3]], "");
    for number in 0..10 {
        let id = number.to_string();
        proxy.get(&format!("/?id={id}")).expect(502);
        let counts: Vec<usize> =
            origins.iter().map(|origin| origin.ledger().get(&id).copied().unwrap_or(0)).collect();
        assert!(counts.iter().sum::<usize>() <= 2 && counts.iter().all(|count| *count <= 1), "{counts:?}");
    }
}

#[test]
fn tries_can_be_raised_and_every_host_is_tried_once() {
    let good = Origin::says("good");
    let refusing: Vec<Port> = (0..4).map(|_| Port::free()).collect();
    let proxy = pool(&[&refusing[0], &refusing[1], &refusing[2], &refusing[3], &good], " retry tries=5");
    for _ in 0..5 {
        proxy.get("/").expect(200);
    }
}

#[test]
fn retry_off_means_one_try() {
    let (mute, good) = (mute(), Origin::says("good"));
    let proxy = pool(&[&mute, &good], " retry off");
    let statuses: Vec<u16> = (0..10).map(|_| proxy.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 5, "{statuses:?}");
}

#[test]
fn an_answer_that_has_begun_is_never_tried_again() {
    let cut = Origin::serve(|_| Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun").close());
    let good = Origin::says("good");
    let proxy = pool(&[&cut, &good], "");
    for number in 0..10 {
        let mut client = proxy.client();
        client.send(format!("GET /?id={number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        if let Ok(answer) = client.try_response("GET") {
            // 502 when the cut was seen before anything had gone out; still, nothing is sent again.
            assert!(answer.text() == "good" || answer.status == 502);
        }
        let seen = |origin: &Origin| origin.ledger().get(&number.to_string()).copied().unwrap_or(0);
        assert_eq!(seen(&cut) + seen(&good), 1);
    }
}

/// An origin whose second answer on each connection is this and then the end, beside a good one.
fn cut_at_the_second(part: &'static str) -> (Origin, Origin, Proxy) {
    let origin = Origin::script(move |connection| {
        if connection.request().is_some() {
            connection.answer(Answer::text("warm"));
            connection.request();
            connection.send(part);
        }
    });
    let good = Origin::says("good");
    let proxy = pool(&[&origin, &good], "balance round-robin");
    (0..2).for_each(|_| _ = proxy.client().get("/?id=warm").expect(200));
    (origin, good, proxy)
}

fn seen(origins: [&Origin; 2]) -> usize {
    let of =
        |origin: &Origin| ["0", "1"].iter().filter_map(|id| origin.ledger().get(*id).copied()).sum::<usize>();
    origins.into_iter().map(of).sum()
}

#[test]
fn a_head_that_breaks_off_is_asked_for_again_where_that_is_safe() {
    for part in
        ["H", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r"]
    {
        let (origin, good, proxy) = cut_at_the_second(part);
        let statuses: Vec<u16> = (0..2).map(|number| proxy.get(&format!("/?id={number}")).status).collect();
        assert_eq!(statuses, [200, 200], "{part}");
        assert_eq!(seen([&origin, &good]), 3, "one of them twice: {part}");
        let (origin, good, proxy) = cut_at_the_second(part);
        let post = |number| proxy.client().post(&format!("/?id={number}"), "body").status;
        let statuses: Vec<u16> = (0..2).map(post).collect();
        assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
        assert_eq!(seen([&origin, &good]), 2, "each once: {part}");
        proxy.expect_reason("truncated");
    }
}

#[test]
fn an_answer_of_which_the_client_has_heard_is_never_tried_again() {
    let (origin, good, proxy) = cut_at_the_second("HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n");
    let statuses: Vec<u16> = (0..2).map(|number| proxy.get(&format!("/?id={number}")).status).collect();
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
    assert_eq!(seen([&origin, &good]), 2, "each once");
}

/// Answers and closes without having said so, as soon as it has answered.
fn stale() -> Origin {
    Origin::serve(|request| Answer::text(request.query("id").unwrap_or("")).close())
}

#[test]
fn t13_a_stale_connection_costs_nothing_not_even_a_post() {
    let origin = stale();
    let proxy = pool(&[&origin], "");
    let mut client = proxy.client();
    for number in 0..200 {
        let closed = origin.ended();
        let answer = match number % 2 {
            0 => client.get(&format!("/?id={number}")),
            _ => client.post(&format!("/?id={number}"), "body"),
        };
        assert_eq!(answer.expect(200).text(), number.to_string());
        eventually("the close", Duration::from_secs(5), || (origin.ended() > closed).then_some(()));
    }
    assert!(origin.ledger().values().all(|count| *count == 1), "nothing twice");
    assert_eq!(origin.count(), 200);
}

#[test]
fn t13_a_connection_that_closes_just_when_it_is_used() {
    // Here nobody waits for the close: sometimes it comes before the next request is written, sometimes after.
    let origin = stale();
    let proxy = pool(&[&origin], "");
    let mut client = proxy.client();
    let mut refused = 0;
    for number in 0..1000 {
        if number % 2 == 0 {
            assert_eq!(client.get(&format!("/?id={number}")).expect(200).text(), number.to_string());
        } else {
            // A POST whose bytes were written before the close was seen may have been processed: 502, sent once.
            match client.post(&format!("/?id={number}"), "body").status {
                200 => {}
                502 => refused += 1,
                status => panic!("{status}"),
            }
        }
    }
    assert!(origin.ledger().values().all(|count| *count == 1), "nothing twice");
    assert!(refused < 100, "{refused} of 500");
}

#[test]
fn t13_a_connection_that_closes_with_the_request_unread_costs_a_get_nothing() {
    let origin = Origin::script(|connection| {
        if let Some(request) = connection.request() {
            connection.answer(Answer::text(request.query("id").unwrap_or("")));
            connection.unread(); // what has come and is not read resets the connection
        }
    });
    // No further attempts are wanted, and this is none.
    let proxy = pool(&[&origin], " retry off");
    let mut client = proxy.client();
    for number in 0..20 {
        assert_eq!(client.get(&format!("/?id={number}")).expect(200).text(), number.to_string());
    }
    assert_eq!(proxy.metric("portunus_retries_total", &[]), 0.0);
    // Nobody can tell an unread POST from one that was read in part.
    let answer = client.post("/?id=post", "body");
    assert!(matches!(answer.status, 200 | 502), "{}", answer.status);
    assert!(origin.ledger().values().all(|count| *count == 1), "nothing twice");
}

#[test]
fn a_used_connection_that_is_reset_after_a_hint_was_answered() {
    let origin = Origin::script(|connection| {
        if connection.request().is_some() {
            connection.answer(Answer::text("ok"));
            if connection.request().is_some() {
                connection.answer(Answer::raw("HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n").reset());
            }
        }
    });
    let proxy = pool(&[&origin], " retry off");
    let mut client = proxy.client();
    client.get("/?id=warm").expect(200);
    client.get("/?id=get").expect(502);
    assert_eq!(origin.ledger().get("get"), Some(&1));
}

#[test]
fn a_used_connection_that_dies_after_the_request_was_written() {
    // The second request of each connection is read and never answered.
    let origin = Origin::script(|connection| {
        if let Some(request) = connection.request() {
            connection.answer(Answer::text(request.query("id").unwrap_or("")));
            connection.request();
        }
    });
    let proxy = pool(&[&origin], "");
    let mut client = proxy.client();
    client.get("/?id=warm").expect(200);
    assert_eq!(client.get("/?id=get").expect(200).text(), "get", "sent again on a fresh connection");
    // The host has shown that it closes without a word: what must not be lost gets a connection of its own.
    client.post("/?id=post", "body").expect(200);
    assert_eq!(origin.ledger().get("post"), Some(&1));
    assert_eq!(origin.ledger().get("get"), Some(&2));
}

#[test]
fn t18_all_down_is_told_at_once() {
    let (one, two) = (Port::free(), Port::free());
    let proxy = pool(&[&one, &two], "");
    let begun = Instant::now();
    for _ in 0..20 {
        let answer = proxy.get("/");
        assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
        assert!(!answer.text().contains(&one.to_string()), "nothing inner is told");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    proxy.log("the reason", |line| line["error"] == "connect-failed" || line["error"] == "no-host");
    let good = Origin::serve_at(two.address(), |_| Answer::text("back"));
    drop(two);
    let _ = good;
}

#[test]
fn t18_a_host_that_comes_back_is_used_again() {
    let origin = Origin::says("one");
    let proxy = pool(&[&origin], "");
    proxy.get("/").expect(200);
    origin.kill();
    assert!(matches!(proxy.get("/").status, 502 | 503));
    let again = Origin::serve_at(origin.address(), |_| Answer::text("two"));
    let answer = eventually("the host", Duration::from_secs(15), || {
        Some(proxy.get("/")).filter(|answer| answer.status == 200)
    });
    assert_eq!(answer.text(), "two");
    drop(again);
}

#[test]
fn a_connect_that_hangs_is_given_up() {
    // A listener whose queue is full lets connects hang.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("a port");
    socket.listen(0).expect("to listen");
    let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    let _fillers: Vec<_> = (0..4)
        .map(|_| {
            let filler =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            filler.set_nonblocking(true).expect("non-blocking");
            let _ = filler.connect(&address.into());
            filler
        })
        .collect();
    let good = Origin::says("good");
    let proxy = pool(&[&address, &good], " connect timeout=300ms");
    for _ in 0..4 {
        proxy.get("/").expect(200);
    }
    let alone = pool(&[&address], " connect timeout=300ms");
    alone.get("/").expect(504);
    alone.expect_reason("connect-timeout");
}

#[test]
fn t17_no_keep_alive_means_a_connection_for_each_request() {
    let origin = Origin::says("ok");
    let proxy = pool(&[&origin], " keep-alive off");
    let mut client = proxy.client();
    for _ in 0..5 {
        client.get("/").expect(200);
    }
    assert_eq!(origin.connections(), 5);
    assert_eq!(origin.last().fields.one("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
}

#[test]
fn the_time_of_idle_connections_is_learned() {
    let origin = Origin::serve(|_| Answer::fields("Keep-Alive: timeout=1\r\n", "ok"));
    let proxy = pool(&[&origin], "");
    // The proxy closes first, so that the two never meet on the way; four seconds if it had not learned. A pause of the machine may come
    // between.
    eventually("a close in time", Duration::from_secs(60), || {
        let before = origin.ended();
        let begun = Instant::now();
        proxy.get("/").expect(200);
        eventually("the proxy's close", Duration::from_secs(10), || (origin.ended() > before).then_some(()));
        (begun.elapsed() < Duration::from_millis(1500)).then_some(())
    });
}
