//! reload: the configuration changes while requests run, and nobody notices (T1, T2, T4).

use portunus_tests::load::{Load, failed, get, post};
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Client, Origin, Proxy, eventually};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn named(name: &str) -> Origin {
    let name = name.to_owned();
    Origin::serve(move |_| Answer::text(&name))
}

/// Waits until a new request gets this answer.
#[track_caller]
fn until_it_says(proxy: &Proxy, text: &str) {
    eventually(text, SOON, || (proxy.get("/").text() == text).then_some(()));
}

#[test]
fn t1_twenty_reloads_lose_nothing() {
    let (a, b) = (named("a"), named("b"));
    let one = format!("workers 2\n{}", site(&format!("proxy {a}")));
    let two = format!(
        "workers 2\n{}",
        site(&format!("response-header set X-New 1\n route /load {{ proxy {b} {a} }}\n proxy {b}"))
    );
    let proxy = Proxy::start(&one);
    let gets = Load::start(proxy.address(), 3, get);
    let posts = Load::start(proxy.address(), 1, post);
    for number in 0..20 {
        proxy.write_config(if number % 2 == 0 { &two } else { &one });
        match number % 3 {
            0 => proxy.signal("HUP"),
            _ => drop(proxy.command(&["reload"]).expect(0)),
        }
        until_it_says(&proxy, if number % 2 == 0 { "b" } else { "a" });
        gets.wait_for(150);
    }
    let (gets, posts) = (gets.finish(), posts.finish());
    assert!(failed(&gets).is_empty(), "{:?}", &failed(&gets)[..failed(&gets).len().min(5)]);
    assert!(failed(&posts).is_empty(), "{:?}", &failed(&posts)[..failed(&posts).len().min(5)]);
    assert!(gets.len() >= 3000);
    for outcome in &posts {
        let seen = |origin: &Origin| origin.ledger().get(&outcome.id).copied().unwrap_or(0);
        assert_eq!(seen(&a) + seen(&b), 1, "{}", outcome.id);
    }
    proxy.expect_metric("portunus_reloads_total", &["result=\"ok\""], 20.0);
}

#[test]
fn t1_connections_pools_and_counters_are_kept() {
    let origin = named("a");
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    for number in 0..10 {
        client.get("/").expect(200);
        proxy.write_config(&site(&format!("response-header set X-Number {number}\n proxy {origin}")));
        proxy.command(&["reload"]).expect(0);
        let answer = client.get("/").expect(200);
        assert_eq!(
            answer.fields.one("x-number"),
            Some(number.to_string().as_str()),
            "the same connection, the new rules"
        );
    }
    assert_eq!(origin.connections(), 1, "the pool is kept");
    let requests = proxy.metric("portunus_requests_total", &["http_response_status_code=\"200\""]);
    assert!(requests >= 19.0, "{requests}");
}

#[test]
fn an_exchange_sees_one_configuration_from_start_to_end() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::serve(move |_| {
        let _ = wait.lock().expect("the lock").recv_timeout(Duration::from_secs(10));
        Answer::text("slow")
    });
    let proxy = Proxy::site(format!("response-header set X-Which old\n proxy {origin}"));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for(1);
    proxy.write_config(&site("response-header set X-Which new\n respond 200 fast"));
    proxy.command(&["reload"]).expect(0);
    go.send(()).expect("to go on");
    let answer = client.response().expect(200);
    assert_eq!((answer.text().as_str(), answer.fields.one("x-which")), ("slow", Some("old")));
    assert_eq!(client.get("/").expect(200).text(), "fast");
}

#[test]
fn t4_a_bad_reload_is_refused_whole() {
    let proxy = Proxy::site("respond 200 old");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy =
        format!("site * {{\n listen {}\n respond 200 new\n}}\n", taken.local_addr().expect("its address"));
    for (text, part) in [
        ("site * {\n listen @listen\n respnd 200 new\n}\n", "respond"),
        ("site * {\n listen @listen\n respond 200 new\n", "portunus.conf:"),
        ("", "there is no `site`"),
        ("site * {\n listen @listen\n proxy nowhere\n}\n", "nowhere"),
        ("limits { header-bytes lots }\nsite * {\n listen @listen\n respond 200 new\n}\n", "lots"),
        ("include missing.conf\n", "missing.conf"),
        (&busy, ""),
    ] {
        proxy.write_config(text);
        let run = proxy.command(&["reload"]);
        assert_ne!(run.code, 0, "accepted: {text}");
        assert!(run.stderr.contains(part), "{part:?} in {}", run.stderr);
        assert_eq!(proxy.get("/").expect(200).text(), "old", "{text}");
    }
    proxy.signal("HUP");
    proxy.wait_for_stderr("refused");
    proxy.wait_for_metric("portunus_reloads_total", &["result=\"refused\""], 6.0);
    proxy.expect_metric("portunus_config_last_reload_successful", &[], 0.0);
    proxy.write_config(&site("respond 200 new"));
    proxy.command(&["reload"]).expect(0);
    assert_eq!(proxy.get("/").text(), "new");
}

#[test]
fn what_a_refused_file_might_have_kept_is_a_warning_in_the_log_beside_its_errors() {
    let proxy = Proxy::site("respond 200 old");
    proxy.write_config("site * {\n listen 127.0.0.1:443\n respnd 200 new\n}\n");
    proxy.signal("HUP");
    for (text, level) in [("is refused", "error"), ("at port 443", "warning"), ("respnd", "error")] {
        let line = proxy.wait_for_stderr(text);
        assert!(line.contains(&format!(" {level}  ")), "{level}: {line}");
    }
}

#[test]
fn t4_huge_garbage_is_refused_quickly() {
    let proxy = Proxy::site("respond 200 old");
    for text in [
        "x".repeat(20 << 20),
        "{".repeat(1 << 20),
        "a {\n".repeat(100_000),
        "\u{0}".repeat(1000),
        "nonsense 1\n".repeat(100_000),
    ] {
        proxy.write_config(&text);
        let begun = std::time::Instant::now();
        assert_ne!(proxy.command(&["reload"]).code, 0);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(proxy.get("/").text(), "old");
    }
}

#[test]
fn watch_applies_what_is_written() {
    let text = |answer: &str| format!("watch\n{}", site(&format!("respond 200 {answer}")));
    let proxy = Proxy::start(&text("one"));
    for answer in ["two", "three", "four"] {
        proxy.write_config(&text(answer));
        until_it_says(&proxy, answer);
    }
    proxy.write_config("watch\nsite nonsense\n");
    proxy.wait_for_stderr("refused");
    assert_eq!(proxy.get("/").text(), "four");
    proxy.write_config(&text("five"));
    until_it_says(&proxy, "five");
}

#[test]
fn watch_notices_the_first_file_that_an_include_takes_in() {
    let text = format!("watch\ninclude sites/*.conf\n{}", site("respond 200 one"));
    let proxy = Proxy::start(&text);
    let folder = proxy.place().path().join("sites");
    std::fs::create_dir(&folder).expect("a folder");
    proxy.wait_for_stderr("is in force");
    let more = format!("site http://more.test {{ listen {}; respond 200 more }}\n", proxy.address());
    std::fs::write(folder.join("more.conf"), more).expect("to write");
    eventually("the new site", SOON, || {
        let answer = proxy.exchange("GET / HTTP/1.1\r\nHost: more.test\r\nConnection: close\r\n\r\n");
        (answer.text() == "more").then_some(())
    });
}

#[test]
fn listeners_come_and_go_and_those_that_stay_are_undisturbed() {
    let both = "site * {\n listen @listen\n listen @listen2\n respond 200 both\n}\n";
    let proxy = Proxy::start("site * {\n listen @listen\n respond 200 one\n}\n");
    let mut kept = proxy.client();
    assert_eq!(kept.get("/").text(), "one");
    proxy.write_config(both);
    proxy.command(&["reload"]).expect(0);
    assert_eq!(Client::connect(proxy.further_address(1)).get("/").text(), "both");
    assert_eq!(kept.get("/").text(), "both");
    proxy.write_config("site * {\n listen @listen\n respond 200 one\n}\n");
    proxy.command(&["reload"]).expect(0);
    eventually("the end of the second listener", SOON, || {
        std::net::TcpStream::connect(proxy.further_address(1)).is_err().then_some(())
    });
    assert_eq!(kept.get("/").text(), "one");
}

#[test]
fn t2_a_storm_of_reloads_leaves_nothing_behind() {
    let origin = named("a");
    let proxy = Proxy::site(format!("proxy {origin}"));
    let load = Load::start(proxy.address(), 2, get);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).map_or(0, Iterator::count);
    let storm = |count: usize| {
        for number in 0..count {
            proxy.write_config(&site(&format!("response-header set X-N {number}\n proxy {origin}")));
            proxy.admin("POST", "/reload");
        }
    };
    storm(20);
    let (memory, open) = (proxy.memory_bytes(), descriptors());
    storm(150);
    let outcomes = load.finish();
    assert!(failed(&outcomes).is_empty(), "{:?}", failed(&outcomes).first());
    assert!(proxy.memory_bytes() < memory + (8 << 20), "{memory} → {}", proxy.memory_bytes());
    assert!(descriptors() <= open + 4, "{open} → {}", descriptors());
}

/// A site on these addresses.
fn at(listen: &[String], answer: &str) -> String {
    let listen: String = listen.iter().map(|address| format!(" listen {address}\n")).collect();
    format!("site * {{\n{listen} respond 200 {answer}\n}}\n")
}

#[test]
fn an_address_that_was_just_given_up_can_be_used_again_at_once() {
    let proxy = Proxy::start(&at(&["@listen".into(), "@listen2".into()], "one"));
    let address = proxy.further_address(1);
    let mut kept = Client::connect(address);
    kept.get("/").expect(200);
    for number in 0..10 {
        proxy.write_config(&at(&["@listen".into()], "two"));
        proxy.command(&["reload"]).expect(0);
        let text = format!("again-{number}");
        proxy.write_config(&at(&["@listen".into(), "@listen2".into()], &text));
        proxy.command(&["reload"]).expect(0);
        until_it_says(&proxy, &text);
        for _ in 0..8 {
            assert_eq!(connect_at_once(address).get("/").expect(200).text(), text);
        }
    }
    kept.get("/").expect(200);
}

/// Connects; the kernel's first packet must be answered. Nobody is turned away by a listener that is about to close: the kernel would try
/// again after a second.
#[track_caller]
fn connect_at_once(address: std::net::SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("not to wait");
    let _ = socket.connect(&address.into());
    // Counted, not measured: a pause of the machine is one look.
    let connected = (0..100).any(|_| {
        std::thread::park_timeout(Duration::from_millis(3));
        socket.peer_addr().is_ok()
    });
    assert!(connected, "the first packet got no answer");
    socket.set_nonblocking(false).expect("to wait");
    Client::over(std::net::TcpStream::from(socket))
}

#[test]
fn a_site_moves_between_one_address_and_any() {
    let proxy = Proxy::start(&at(&["@listen".into(), "@listen2".into()], "one"));
    let address = proxy.further_address(1);
    let any = format!("0.0.0.0:{}", address.port());
    for (listen, answer) in [(any.clone(), "any"), (address.to_string(), "this"), (any, "any-again")] {
        proxy.write_config(&at(&["@listen".into(), listen], answer));
        proxy.command(&["reload"]).expect(0);
        eventually(answer, SOON, || {
            let answered = Client::try_connect(address)?.get("/").text();
            (answered == answer).then_some(())
        });
    }
    let loads = proxy.metric("portunus_reloads_total", &["result=\"refused\""]);
    assert_eq!(loads, 0.0);
}
