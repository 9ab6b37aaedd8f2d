//! tls_upstream: TLS to servers — whom they have to be, what is shown to them, and what is never sent to the wrong ones (row D11).

use portunus_tests::tls::{Authority, Pair, server};
use portunus_tests::{Answer, Origin, Place, Proxy, eventually};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn origin(pair: &Pair) -> Origin {
    Origin::serve_tls(&server(pair, None), |request| Answer::body(&request.body))
}

/// A folder with the certificate of an authority in `ca.pem`.
fn place(authority: &Authority) -> Place {
    let place = Place::new();
    place.write("ca.pem", authority.certificate());
    place
}

fn start(place: Place, pool: &str) -> Proxy {
    // Hands are shaken with a server of this process, which may pause.
    Proxy::start_in(
        place,
        &format!("limits {{ connect 20s }}\npool p {{\n{pool}\n}}\nsite * {{ listen @listen; proxy p }}\n"),
    )
}

#[test]
fn requests_pass_over_connections_that_are_kept_and_verified() {
    let authority = Authority::new("back");
    let origin = origin(&authority.issue(&["127.0.0.1"]));
    let proxy = start(place(&authority), &format!("server https://{origin}\ntls ca=ca.pem"));
    let mut client = proxy.client();
    for size in [0, 1, 100, 20_000, 1_000_000] {
        let body = vec![b'x'; size];
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")).send(&body);
        assert!(client.response().expect(200).body == body, "{size}");
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(origin.handshakes(), [(None, false)]);
}

#[test]
fn sessions_are_resumed_and_a_name_is_asked_for() {
    let authority = Authority::new("back");
    let origin = origin(&authority.issue(&["inner.test"]));
    let proxy =
        start(place(&authority), &format!("server {origin}\nkeep-alive off\ntls ca=ca.pem name=inner.test"));
    for _ in 0..4 {
        proxy.get("/").expect(200);
    }
    let named = Some("inner.test".to_owned());
    let handshakes = origin.handshakes();
    assert_eq!(handshakes[0], (named.clone(), false));
    assert!(handshakes[1..].iter().all(|handshake| *handshake == (named.clone(), true)), "{handshakes:?}");
}

#[test]
fn who_does_not_prove_its_name_gets_nothing() {
    let (authority, stranger) = (Authority::new("back"), Authority::new("stranger"));
    let wrong_name = origin(&authority.issue(&["other.test"]));
    let wrong_authority = origin(&stranger.issue(&["127.0.0.1"]));
    for origin in [&wrong_name, &wrong_authority] {
        let proxy = start(place(&authority), &format!("server https://{origin}\ntls ca=ca.pem"));
        let answer = proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsecret");
        answer.expect(502);
        let line = proxy.expect_reason("upstream-certificate");
        let detail = line["detail"].as_str().unwrap_or_default();
        assert!(detail.starts_with("its certificate: "), "{line}");
        proxy.wait_for_stderr(&format!("no connection to {}: {detail}", origin.address()));
        assert_eq!(origin.count(), 0);
    }
    // The system believes neither of them.
    let proxy = start(place(&authority), &format!("server https://{wrong_authority}\ntls ca=ca.pem"));
    proxy.get("/").expect(502);
}

#[test]
fn a_certificate_that_signs_itself_is_believed_where_it_was_given() {
    let (own, other) = (Pair::of_itself(&["127.0.0.1"]), Pair::of_itself(&["127.0.0.1"]));
    let wrong_name = Pair::of_itself(&["other.test"]);
    for (shown, status) in [(&own, 200), (&other, 502), (&wrong_name, 502)] {
        let place = Place::new();
        place.write("ca.pem", format!("{}{}", own.certificate, wrong_name.certificate));
        let origin = origin(shown);
        let proxy = start(place, &format!("server https://{origin}\ntls ca=ca.pem"));
        proxy.get("/").expect(status);
    }
}

#[test]
fn another_server_gets_what_one_without_a_handshake_did_not() {
    let authority = Authority::new("back");
    let (good, bad) = (origin(&authority.issue(&["127.0.0.1"])), origin(&authority.issue(&["other.test"])));
    let plain = Origin::script(|connection| _ = connection.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let proxy = start(
        place(&authority),
        &format!("server {good}\nserver {bad}\nserver {plain}\nretry tries=3\ntls ca=ca.pem"),
    );
    for _ in 0..9 {
        let answer = proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(answer.expect(200).text(), "hi");
    }
    assert_eq!((good.count(), bad.count()), (9, 0));
}

#[test]
fn t13_a_kept_connection_that_ends_as_the_request_comes_costs_nothing_without_a_close_notify_either() {
    let authority = Authority::new("back");
    let config = server(&authority.issue(&["127.0.0.1"]), None);
    let (ends, end) = std::sync::mpsc::channel();
    let end = std::sync::Mutex::new(end);
    let origin = Origin::script(move |connection| {
        if connection.secure(&config) && connection.request().is_some() {
            connection.answer(Answer::text("ok"));
            let _ = end.lock().expect("the end").recv();
        }
    });
    let proxy = start(place(&authority), &format!("server https://{origin}\nretry off\ntls ca=ca.pem"));
    let mut client = proxy.client();
    client.get("/").expect(200);
    for number in 1..9 {
        // What comes meanwhile comes at once for it.
        proxy.signal("STOP");
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        ends.send(()).expect("an origin");
        eventually("the end", SOON, || (origin.ended() == number).then_some(()));
        proxy.signal("CONT");
        client.response().expect(200);
    }
    ends.send(()).expect("an origin");
}

#[test]
fn insecure_believes_anybody_and_says_so() {
    let stranger = Authority::new("stranger");
    let origin = origin(&stranger.issue(&["other.test"]));
    let proxy = Proxy::site(format!("proxy https://{origin} tls=insecure"));
    proxy.get("/").expect(200);
    assert!(proxy.stderr().contains("`insecure` believes whoever answers"), "{}", proxy.stderr());
    let checked = proxy.command(&["check"]).expect(0);
    assert!(checked.stderr.contains("`insecure` believes whoever answers"), "{}", checked.stderr);
}

#[test]
fn a_server_may_ask_for_our_certificate() {
    let (authority, clients) = (Authority::new("back"), Authority::new("clients"));
    let config = server(&authority.issue(&["127.0.0.1"]), Some(&clients));
    let origin = Origin::serve_tls(&config, |_| Answer::text("known"));
    let place = place(&authority);
    clients.issue_client("the proxy", &[]).write(&place, "own");
    let proxy = start(place, &format!("server {origin}\ntls ca=ca.pem cert=own.pem key=own.key"));
    assert_eq!(proxy.get("/").expect(200).text(), "known");
    // Another one on disk is shown from then on.
    Authority::new("nobody").issue_client("the proxy", &[]).write(proxy.place(), "own");
    eventually("the change of certificates", SOON, || {
        (proxy.metric("portunus_certificate_changes_total", &["result=\"ok\""]) == 1.0).then_some(())
    });
    assert_ne!(proxy.get("/").status, 200);
}

#[test]
fn health_checks_speak_tls_where_requests_do() {
    let authority = Authority::new("back");
    let (good, bad) = (origin(&authority.issue(&["127.0.0.1"])), origin(&authority.issue(&["other.test"])));
    let proxy = start(
        place(&authority),
        &format!("server {good}\nserver {bad}\nhealth /h every=100ms fails=1 passes=1\ntls ca=ca.pem"),
    );
    // The first one of all may have taken longer than it may.
    proxy.wait_for_stderr(&format!("{bad} fails its health check"));
    eventually("the reason", SOON, || {
        proxy.admin("GET", "/status").expect(200).text().contains("its certificate").then_some(())
    });
    good.wait_for(2);
    assert_eq!(good.last().target, "/h");
    for _ in 0..4 {
        proxy.get("/").expect(200);
    }
    assert_eq!(bad.count(), 0);
}

#[test]
fn an_answer_without_length_that_is_cut_off_is_seen_as_cut_off() {
    let authority = Authority::new("back");
    let config = server(&authority.issue(&["127.0.0.1"]), None);
    let origin = Origin::script(move |connection| {
        if connection.secure(&config) && connection.request().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it");
            connection.half_close(); // the connection ends, and TLS has not said so
            connection.until_closed();
        }
    });
    let proxy = start(place(&authority), &format!("server {origin}\ntls ca=ca.pem"));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response("GET").map_or(true, |answer| answer.status == 502));
    proxy.expect_reason("truncated");
}

#[test]
fn records_that_come_in_pieces_do_not_disturb_what_is_sent_meanwhile() {
    let authority = Authority::new("back");
    let mut config = rustls::ServerConfig::clone(&server(&authority.issue(&["127.0.0.1"]), None));
    config.max_fragment_size = Some(32); // its tickets are many records
    let origin = Origin::serve_tls(&std::sync::Arc::new(config), |request| {
        Answer::text(&request.body.len().to_string())
    });
    let between = dribble(origin.address());
    let proxy = start(place(&authority), &format!("server {between}\ntls ca=ca.pem"));
    let mut client = proxy.client();
    for _ in 0..3 {
        let size = 400_000;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send(vec![b'x'; size]);
        assert_eq!(client.response().expect(200).text(), size.to_string());
    }
}

/// Passes on what comes for `to`, and what it says back one byte at a time.
fn dribble(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((near, _)) = listener.accept() {
            let far = TcpStream::connect(to).unwrap();
            near.set_nodelay(true).unwrap();
            let (mut near_copy, mut far_copy) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut near_copy, &mut far_copy));
            std::thread::spawn(move || {
                let mut near = near;
                for byte in std::io::BufReader::new(far).bytes() {
                    if !byte.is_ok_and(|byte| near.write_all(&[byte]).is_ok()) {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn other_rules_make_other_connections() {
    let (authority, stranger) = (Authority::new("back"), Authority::new("stranger"));
    let origin = origin(&authority.issue(&["127.0.0.1"]));
    let place = place(&authority);
    place.write("stranger.pem", stranger.certificate());
    let text = |ca: &str| {
        format!(
            "limits {{ connect 20s }}\npool p {{\nserver {origin}\ntls ca={ca}\n}}\nsite * {{ listen @listen; proxy p }}\n"
        )
    };
    let proxy = Proxy::start_in(place, &text("ca.pem"));
    let mut client = proxy.client();
    client.get("/").expect(200);
    proxy.write_config(&text("ca.pem").replace("site *", "# nothing of the pool\nsite *"));
    proxy.command(&["reload"]).expect(0);
    client.get("/").expect(200);
    assert_eq!(origin.connections(), 1, "the same rules keep the connection");
    proxy.write_config(&text("stranger.pem"));
    proxy.command(&["reload"]).expect(0);
    proxy.get("/").expect(502);
    assert_eq!(origin.count(), 2, "a connection that was made by other rules is not used");
}
