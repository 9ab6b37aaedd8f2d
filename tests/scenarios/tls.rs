//! tls: hands are shaken at the front — names, certificates, versions, tickets, and what is no handshake (rows B22, D5–D7, D10, D15).

use portunus_tests::binary::has;
use portunus_tests::tls::{Authority, Pair, Trusting};
use portunus_tests::{Answer, Client, Origin, Place, Proxy, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

/// A proxy with two sites, each with a certificate of its own, and an authority that both are from.
struct Stage {
    proxy: Proxy,
    authority: Authority,
    a: Pair,
    b: Pair,
}

fn stage(origin: &Origin) -> Stage {
    let (place, authority) = (Place::new(), Authority::new("front"));
    let (a, b) = (authority.issue(&["a.test"]), authority.issue(&["b.test", "*.b.test", "a.test"]));
    a.write(&place, "a");
    b.write(&place, "b");
    let proxy = Proxy::start_in(
        place,
        &format!(
            "site a.test {{ listen @listen; tls a.pem a.key; proxy {origin} }}\n\
             site b.test *.b.test {{ listen @listen; tls b.pem b.key; response-header set X-Scheme ${{scheme}}; proxy {origin} }}\n"
        ),
    );
    Stage { proxy, authority, a, b }
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn each_name_gets_its_own_certificate_and_its_requests_pass() {
    let origin = Origin::says("hello");
    let Stage { proxy, authority, a, b } = stage(&origin);
    let trusting = Trusting::new(&authority);
    for (name, pair) in [("a.test", &a), ("b.test", &b), ("x.b.test", &b), ("A.TEST", &a)] {
        let mut secured = trusting.must_connect(proxy.address(), name);
        assert!(pair.is(&secured.shown), "{name}");
        assert_eq!(secured.protocol.as_deref(), Some(&b"http/1.1"[..]));
        for _ in 0..3 {
            let answer = secured.client.exchange(get(name)).expect(200);
            assert_eq!(answer.text(), "hello");
        }
    }
    let mut secured = trusting.must_connect(proxy.address(), "b.test");
    assert_eq!(secured.client.exchange(get("b.test")).fields.one("x-scheme"), Some("https"));
    assert_eq!(origin.last().fields.one("x-forwarded-proto"), Some("https"));
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"full\""], 3.0);
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"resumed\""], 2.0);
}

#[test]
fn d10_an_unknown_name_or_protocol_gets_an_alert_and_no_certificate() {
    let origin = Origin::says("hello");
    let Stage { proxy, authority, .. } = stage(&origin);
    let refused = |result: Result<_, String>| result.map(|_| ()).unwrap_err();
    let error = refused(Trusting::new(&authority).connect(proxy.address(), "c.test"));
    assert!(error.contains("UnrecognisedName"), "{error}");
    let error = refused(Trusting::new(&authority).connect(proxy.address(), "127.0.0.1"));
    assert!(error.contains("UnrecognisedName"), "{error}");
    let other = Trusting::with(&authority, None, &["imap"]);
    let error = refused(other.connect(proxy.address(), "a.test"));
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"unknown-name\""], 2.0);
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"no-protocol\""], 1.0);
}

#[test]
fn b22_d6_a_host_beside_the_certificate_of_the_connection_is_misdirected() {
    let origin = Origin::says("hello");
    let Stage { proxy, authority, .. } = stage(&origin);
    let trusting = Trusting::new(&authority);
    let mut secured = trusting.must_connect(proxy.address(), "a.test");
    secured.client.exchange(get("b.test")).expect(421);
    proxy.expect_reason("misdirected");
    let mut secured = trusting.must_connect(proxy.address(), "b.test");
    secured.client.exchange(get("x.b.test")).expect(200);
    secured.client.exchange(get("a.test")).expect(200); // its certificate proves that host, too
    secured.client.exchange(get("nobody.test")).expect(421);
}

#[test]
fn d5_a_hello_may_come_byte_by_byte() {
    let origin = Origin::says("hello");
    let Stage { proxy, authority, .. } = stage(&origin);
    // Somebody between the two who passes everything on one byte at a time.
    let between = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, to) = (between.local_addr().unwrap(), proxy.address());
    std::thread::spawn(move || {
        let (mut near, _) = between.accept().unwrap();
        let mut far = TcpStream::connect(to).unwrap();
        far.set_nodelay(true).unwrap();
        let (mut back, mut forth) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = near.read(&mut bytes) {
            for byte in &bytes[..count] {
                far.write_all(std::slice::from_ref(byte)).unwrap();
            }
        }
    });
    let mut secured = Trusting::new(&authority).must_connect(address, "a.test");
    assert_eq!(secured.client.exchange(get("a.test")).expect(200).text(), "hello");
}

#[test]
fn d15_plain_http_is_told_so_and_what_is_nothing_is_closed() {
    let origin = Origin::says("hello");
    let Stage { proxy, .. } = stage(&origin);
    let answer = proxy.exchange("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(400);
    assert!(answer.text().contains("HTTPS"));
    let mut socket = TcpStream::connect(proxy.address()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.write_all(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00").unwrap();
    let mut said = Vec::new();
    socket.read_to_end(&mut said).unwrap();
    assert_eq!(said, [21, 3, 3, 0, 2, 2, 50], "a decode_error");
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"not-tls\""], 1.0);
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"bad-hello\""], 1.0);
    assert_eq!(origin.count(), 0);
}

#[test]
fn who_does_not_go_on_is_let_go_after_its_time() {
    let (place, authority) = (Place::new(), Authority::new("front"));
    authority.issue(&["a.test"]).write(&place, "a");
    let proxy = Proxy::start_in(
        place,
        "limits { handshake-time 1s }\nsite a.test { listen @listen; tls a.pem a.key; respond 200 hello }\n",
    );
    for first in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let (began, mut socket) = (Instant::now(), TcpStream::connect(proxy.address()).unwrap());
        socket.write_all(first).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut said = Vec::new();
        socket.read_to_end(&mut said).unwrap();
        assert!(said.is_empty() && began.elapsed() > Duration::from_millis(700), "{said:?}");
    }
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"timeout\""], 2.0);
}

#[test]
fn when_many_shake_hands_the_slow_ones_have_less_time() {
    let (place, authority) = (Place::new(), Authority::new("front"));
    authority.issue(&["a.test"]).write(&place, "a");
    let proxy = Proxy::start_in(
        place,
        "limits { handshakes 10; handshake-time-pressed 300ms }\n\
         site a.test { listen @listen; tls a.pem a.key; respond 200 hello }\n",
    );
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(proxy.address()).unwrap()).collect();
    let mut secured = Trusting::new(&authority).must_connect(proxy.address(), "a.test");
    secured.client.exchange(get("a.test")).expect(200);
    // Those above the bound go at once, the others have the usual ten seconds.
    let timeouts = || proxy.metric("portunus_tls_handshakes_total", &["result=\"timeout\""]);
    eventually("the slow ones' end", Duration::from_secs(5), || (timeouts() >= 30.0).then_some(()));
    assert!(proxy.metric("portunus_tls_handshakes", &[]) <= 10.0);
    drop(silent);
}

#[test]
fn bodies_pass_whole_in_both_directions() {
    let body: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let back = body.clone();
    let origin = Origin::serve(move |request| match request.method.as_str() {
        "GET" => Answer::body(&back),
        _ => Answer::body(&request.body),
    });
    let Stage { proxy, authority, .. } = stage(&origin);
    let mut secured = Trusting::new(&authority).must_connect(proxy.address(), "a.test");
    let client = &mut secured.client;
    assert!(client.exchange(get("a.test")).expect(200).body == body);
    for size in [1, 16_383, 16_384, 16_385, 300_000] {
        let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n");
        client.send(head).send(&body[..size]);
        assert!(client.response().expect(200).body == body[..size], "{size}");
    }
    let mut chunked = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body[..100_000].chunks(7_000) {
        chunked.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    client.send(&chunked);
    assert!(client.response().expect(200).body == body[..100_000]);
}

#[test]
fn requests_may_come_in_one_record_and_in_many() {
    let origin = Origin::serve(|request| Answer::text(&request.target));
    let Stage { proxy, authority, .. } = stage(&origin);
    let mut secured = Trusting::new(&authority).must_connect(proxy.address(), "a.test");
    let all: String = (0..20).map(|at| format!("GET /{at} HTTP/1.1\r\nHost: a.test\r\n\r\n")).collect();
    secured.client.send(&all);
    for at in 0..20 {
        assert_eq!(secured.client.response().expect(200).text(), format!("/{at}"));
    }
    for byte in get("a.test").as_bytes() {
        secured.client.send([*byte]);
    }
    secured.client.response().expect(200);
}

#[test]
fn a_client_that_leaves_is_noticed_while_its_answer_is_awaited() {
    let origin = Origin::script(|connection| {
        connection.request();
        connection.until_closed();
    });
    let Stage { proxy, authority, .. } = stage(&origin);
    let mut secured = Trusting::new(&authority).must_connect(proxy.address(), "a.test");
    secured.client.send(get("a.test"));
    origin.wait_for(1);
    drop(secured); // without a word of TLS
    proxy.wait_for_errors("client-gone", 1.0);
}

#[test]
fn a_session_is_resumed_and_never_at_another_policy() {
    let (place, authority) = (Place::new(), Authority::new("front"));
    authority.issue(&["a.test", "b.test"]).write(&place, "a");
    let proxy = Proxy::start_in(
        place,
        "site a.test { listen @listen; tls a.pem a.key; respond 200 a }\n\
         site b.test { listen @listen; tls a.pem a.key from=1.3; respond 200 b }\n",
    );
    let trusting = Trusting::new(&authority);
    let resumed = |name: &str| {
        let mut secured = trusting.must_connect(proxy.address(), name);
        secured.client.exchange(get(name)).expect(200);
        secured.resumed
    };
    assert!(!resumed("a.test") && resumed("a.test") && resumed("a.test"));
    assert!(!resumed("b.test") && resumed("b.test"));
    // Whoever asks for nothing has them, too: some send their request when their last message has been acknowledged (Nagle).
    assert_eq!(Trusting::new(&authority).tickets(proxy.address(), "a.test"), Ok(2));
    // One for the one that is used up.
    assert_eq!(trusting.tickets(proxy.address(), "a.test"), Ok(1));
    // A reload that leaves the policy as it is keeps its tickets.
    proxy.signal("HUP");
    eventually("the reload", SOON, || {
        (proxy.metric("portunus_reloads_total", &["result=\"ok\""]) == 1.0).then_some(())
    });
    assert!(resumed("a.test") && resumed("b.test"));
    // The same hosts with another policy: the client is still served, by the certificate, and not by what it had before.
    let mut secured = trusting.must_connect(proxy.address(), "a.test");
    secured.client.exchange(get("b.test")).expect(421);
}

#[test]
fn two_kinds_of_key_for_one_name_and_no_old_versions() {
    if !has("openssl") {
        return;
    }
    let (place, authority) = (Place::new(), Authority::new("front"));
    authority.issue_rsa(&["a.test"]).write(&place, "rsa");
    authority.issue(&["a.test"]).write(&place, "ec");
    let proxy = Proxy::start_in(
        place,
        "site a.test { listen @listen; tls rsa.pem rsa.key; tls ec.pem ec.key; respond 200 a }\n\
         site b.test { listen @listen; tls ec.pem ec.key from=1.3; respond 200 b }\n",
    );
    let says = |name: &str, words: &[&str]| s_client(&proxy, name, words);
    let usual = says("a.test", &[]);
    assert!(usual.contains("TLSv1.3") && usual.contains("ECDSA"), "{usual}");
    let old = says("a.test", &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]);
    assert!(old.contains("Cipher is ECDHE-RSA-AES128-GCM-SHA256"), "{old}");
    let both = says("a.test", &["-tls1_2"]);
    assert!(both.contains("Cipher is ECDHE-ECDSA"), "{both}");
    for words in [
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"][..], // CBC
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256"],             // no forward secrecy
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
    ] {
        let said = says("a.test", words);
        assert!(said.contains("alert"), "{words:?}: {said}");
    }
    assert!(says("b.test", &["-tls1_2"]).contains("alert protocol version"));
    assert!(says("b.test", &["-tls1_3"]).contains("TLSv1.3"));
}

/// What openssl says of a handshake for this name.
fn s_client(proxy: &Proxy, name: &str, words: &[&str]) -> String {
    let address = proxy.address().to_string();
    let child = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-servername", name])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("openssl");
    String::from_utf8_lossy(&[child.stdout, child.stderr].concat()).into_owned()
}

#[test]
fn a_site_says_which_versions_suites_and_curves() {
    if !has("openssl") {
        return;
    }
    let (place, authority) = (Place::new(), Authority::new("front"));
    authority.issue(&["a.test", "b.test", "c.test"]).write(&place, "ec");
    let proxy = Proxy::start_in(
        place,
        "site a.test { listen @listen; tls ec.pem ec.key; respond 200 a }\n\
         site b.test { listen @listen; tls ec.pem ec.key versions=1.3 suites=TLS_AES_256_GCM_SHA384 curves=secp384r1; respond 200 b }\n\
         site c.test { listen @listen; tls ec.pem ec.key versions=1.2 suites=ECDHE-ECDSA-AES256-GCM-SHA384 curves=P-256; respond 200 c }\n",
    );
    let says = |name: &str, words: &[&str]| s_client(&proxy, name, words);
    let has = |said: String, words: &str| assert!(said.contains(words), "{words} in {said}");
    // Our order counts, but for who has no AES.
    let all = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
    has(says("a.test", &["-ciphersuites", all]), "Cipher is TLS_AES_128_GCM_SHA256");
    let phone = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
    has(says("a.test", &["-ciphersuites", phone]), "Cipher is TLS_CHACHA20_POLY1305_SHA256");
    has(says("b.test", &["-ciphersuites", phone]), "alert");
    has(says("b.test", &["-ciphersuites", all]), "Cipher is TLS_AES_256_GCM_SHA384");
    has(says("b.test", &["-groups", "P-256:P-384"]), ", 384 bits");
    has(says("b.test", &["-groups", "X25519"]), "alert");
    has(says("b.test", &["-tls1_2"]), "alert");
    has(says("c.test", &["-tls1_3"]), "alert");
    has(says("c.test", &["-tls1_2"]), "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384");
    has(says("c.test", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]), "alert");
    has(says("c.test", &["-tls1_2", "-groups", "X25519"]), "alert");
}

#[test]
fn curl_is_content() {
    if !has("curl") {
        return;
    }
    let origin = Origin::says("hello");
    let Stage { proxy, authority, .. } = stage(&origin);
    let roots = proxy.place().write("ca.pem", authority.certificate());
    let port = proxy.address().port();
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let version: Vec<&str> = version.split('=').collect();
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--max-time", "10", "--cacert"])
            .arg(&roots)
            .args(["--resolve", &format!("a.test:{port}:127.0.0.1"), &format!("https://a.test:{port}/")])
            .args(version)
            .output()
            .expect("curl");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{output:?}");
    }
}

/// The certificate that is shown for `a.test`.
fn shown(trusting: &Trusting, proxy: &Proxy) -> Vec<u8> {
    trusting.must_connect(proxy.address(), "a.test").shown
}

#[test]
fn t10_a_changed_pair_is_used_within_a_second_and_a_bad_one_never() {
    let origin = Origin::says("hello");
    let Stage { proxy, authority, a, .. } = stage(&origin);
    let trusting = Trusting::new(&authority);
    let mut before = trusting.must_connect(proxy.address(), "a.test");
    assert!(a.is(&before.shown));
    let ended = std::sync::atomic::AtomicBool::new(false);
    let (ended, busy, address) = (&ended, &Trusting::new(&authority), proxy.address());
    let mut late = 0;
    let handshakes = std::thread::scope(|scope| {
        let others = scope.spawn(move || {
            let mut count = 0;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let mut secured = busy.must_connect(address, "a.test");
                secured.client.exchange(get("a.test")).expect(200);
                count += 1;
            }
            count
        });
        for round in 0..100 {
            let new = authority.issue(&["a.test"]);
            if round % 2 == 0 {
                new.write(proxy.place(), "a"); // in place
            } else {
                for (kind, content) in [("key", &new.key), ("pem", &new.certificate)] {
                    let fresh = proxy.place().write("fresh", content);
                    std::fs::rename(fresh, proxy.place().file(&format!("a.{kind}"))).unwrap();
                }
            }
            let trusting = Trusting::new(&authority); // one that resumes nothing
            let begun = Instant::now();
            eventually("the new certificate", SOON, || new.is(&shown(&trusting, &proxy)).then_some(()));
            late += usize::from(begun.elapsed() > Duration::from_secs(1));
            before.client.exchange(get("a.test")).expect(200);
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        others.join().unwrap()
    });
    assert!(handshakes > 100, "{handshakes}");
    assert!(late <= 20, "{late} of a hundred took longer than a second"); // the machine may have paused
    proxy.expect_metric("portunus_certificate_changes_total", &["result=\"ok\""], 100.0);
    assert_eq!(proxy.metric("portunus_reloads_total", &["result=\"ok\""]), 0.0);
    // What does not fit is refused, told once, and the last one goes on; when it fits again it is used.
    let last = shown(&Trusting::new(&authority), &proxy);
    let other = authority.issue(&["a.test"]);
    proxy.place().write("a.key", &other.key);
    proxy.wait_for_stderr("the key `a.key` does not belong to the certificate");
    assert_eq!(shown(&Trusting::new(&authority), &proxy), last);
    proxy.expect_metric("portunus_certificate_changes_total", &["result=\"refused\""], 1.0);
    proxy.expect_metric("portunus_certificates_failing", &[], 1.0);
    proxy.place().write("a.pem", &other.certificate);
    eventually("the pair that fits", SOON, || {
        other.is(&shown(&Trusting::new(&authority), &proxy)).then_some(())
    });
    proxy.expect_metric("portunus_certificates_failing", &[], 0.0);
}

#[test]
fn a_reload_changes_certificates_and_connections_go_on() {
    let origin = Origin::says("hello");
    let Stage { proxy, authority, b, .. } = stage(&origin);
    let trusting = Trusting::new(&authority);
    let mut before = trusting.must_connect(proxy.address(), "a.test");
    proxy.write_config(&format!("site a.test {{ listen @listen; tls b.pem b.key; proxy {origin} }}\n"));
    proxy.command(&["reload"]).expect(0);
    eventually("the other certificate", SOON, || {
        b.is(&shown(&Trusting::new(&authority), &proxy)).then_some(())
    });
    before.client.exchange(get("a.test")).expect(200);
    proxy.write_config("site a.test { listen @listen; tls a.pem b.key; respond 200 }\n");
    let refused = proxy.command(&["reload"]).expect(3);
    let said = refused.stdout + &refused.stderr;
    assert!(said.contains("does not belong to the certificate"), "{said}");
    before.client.exchange(get("a.test")).expect(200);
}

#[test]
fn who_comes_without_a_name_gets_the_site_for_any_host() {
    let (place, authority) = (Place::new(), Authority::new("front"));
    let pair = authority.issue(&["127.0.0.1", "localhost"]);
    pair.write(&place, "a");
    let text = "site * { listen @listen; tls a.pem a.key; respond 200 any }\n";
    let proxy = Proxy::start_in(place, text);
    let trusting = Trusting::new(&authority);
    for name in ["127.0.0.1", "localhost"] {
        let mut secured = trusting.must_connect(proxy.address(), name);
        assert!(pair.is(&secured.shown));
        assert_eq!(secured.client.exchange(get(name)).expect(200).text(), "any");
    }
    let _ = Client::connect(proxy.address()); // a plain connection that says nothing is none's fault
}

/// A proxy with a site that wants certificates of clients, one that asks for them, and one that does neither.
fn asking() -> (Proxy, Authority, Authority) {
    let (place, authority, clients) = (Place::new(), Authority::new("front"), Authority::new("clients"));
    authority.issue(&["want.test", "ask.test", "no.test"]).write(&place, "all");
    place.write("clients.pem", clients.certificate());
    let answer = "respond 200 \"${tls.client.subject}|${tls.client.names}|${tls.version}|${tls.sni}\"";
    let proxy = Proxy::start_in(
        place,
        &format!(
            "site want.test {{ listen @listen; tls all.pem all.key; client-auth require ca=clients.pem; hsts for=1d; {answer} }}\n\
             site ask.test {{ listen @listen; tls all.pem all.key; client-auth optional ca=clients.pem\n\
               route /inner {{ access allow all san=URI:spiffe://x/app; access deny all; {answer} }}\n {answer} }}\n\
             site no.test {{ listen @listen; tls all.pem all.key; {answer} }}\n"
        ),
    );
    (proxy, authority, clients)
}

#[test]
fn clients_prove_who_they_are_and_it_can_be_told() {
    let (proxy, authority, clients) = asking();
    let own = clients.issue_client("app one", &["app.internal", "spiffe://x/app"]);
    let known = Trusting::with(&authority, Some(&own), &["http/1.1"]);
    let mut secured = known.must_connect(proxy.address(), "want.test");
    let answer = secured.client.exchange(get("want.test")).expect(200);
    let names = "DNS:app.internal,URI:spiffe://x/app";
    assert_eq!(answer.text(), format!("CN=app one|{names}|TLSv1.3|want.test"));
    assert_eq!(answer.fields.one("strict-transport-security"), Some("max-age=86400"));
    let inner = |who: &Trusting| {
        let mut secured = who.must_connect(proxy.address(), "ask.test");
        secured.client.exchange("GET /inner HTTP/1.1\r\nHost: ask.test\r\n\r\n").status
    };
    assert_eq!(inner(&known), 200);
    let other = clients.issue_client("app two", &["spiffe://x/apple"]);
    assert_eq!(inner(&Trusting::with(&authority, Some(&other), &["http/1.1"])), 403);
    assert_eq!(inner(&Trusting::new(&authority)), 403);
    let mut secured = Trusting::new(&authority).must_connect(proxy.address(), "ask.test");
    assert_eq!(secured.client.exchange(get("ask.test")).expect(200).text(), "||TLSv1.3|ask.test");
}

#[test]
fn d8_who_proves_nothing_or_the_wrong_thing_is_turned_away() {
    let (proxy, authority, _) = asking();
    let stranger = Authority::new("clients").issue_client("app one", &["spiffe://x/app"]);
    let refused = |who: &Trusting, name: &str| match who.connect(proxy.address(), name) {
        Err(_) => true,
        // In TLS 1.3 a client hears of it only after it believes to be done.
        Ok(mut secured) => {
            let _ = secured.client.try_send(get(name));
            secured.client.try_response("GET").is_err()
        }
    };
    let strange = Trusting::with(&authority, Some(&stranger), &["http/1.1"]);
    assert!(refused(&Trusting::new(&authority), "want.test"));
    assert!(refused(&strange, "want.test") && refused(&strange, "ask.test"));
    assert!(!refused(&strange, "no.test"));
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"client-certificate\""], 3.0);
    let line = proxy.log("the handshake", |line| line["error"] == "client-certificate");
    assert_eq!(
        (&line["phase"], &line["side"], &line["status"]),
        (&"tls".into(), &"client".into(), &().into())
    );
    assert!(line["detail"].as_str().is_some_and(|detail| detail.contains("certificate")), "{line}");
    assert!(["want.test", "ask.test"].contains(&line["host"].as_str().unwrap_or_default()), "{line}");
}

#[test]
fn who_says_something_else_than_tls_is_in_the_log_and_who_says_nothing_is_not() {
    let (proxy, authority, _) = asking();
    let silent = TcpStream::connect(proxy.address()).unwrap();
    let nobody = silent.local_addr().unwrap().port();
    drop(silent);
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"client-gone\""], 1.0);
    assert!(Trusting::new(&authority).connect(proxy.address(), "unknown.test").is_err());
    let line = proxy.log("the unknown name", |line| line["error"] == "unknown-name");
    assert_eq!(line["host"], "unknown.test");
    let mut plain = TcpStream::connect(proxy.address()).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: no.test\r\n\r\n").unwrap();
    let port = plain.local_addr().unwrap().port();
    // The lines are in their order, and the silent one was over before the others came.
    let line = proxy
        .log("plain HTTP, or nobody", |line| line["client_port"] == nobody || line["error"] == "not-tls");
    assert_eq!((&line["error"], &line["client_port"]), (&"not-tls".into(), &port.into()));
}

#[test]
fn d7_no_session_and_no_connection_gets_around_the_proof() {
    let (proxy, authority, clients) = asking();
    let own = clients.issue_client("app", &[]);
    let known = Trusting::with(&authority, Some(&own), &["http/1.1"]);
    for name in ["want.test", "ask.test"] {
        for _ in 0..2 {
            let mut secured = known.must_connect(proxy.address(), name);
            secured.client.exchange(get(name)).expect(200);
            assert!(!secured.resumed, "{name} gives no tickets");
        }
    }
    let open = Trusting::new(&authority);
    for host in ["want.test", "ask.test"] {
        let mut secured = open.must_connect(proxy.address(), "no.test");
        secured.client.exchange(get(host)).expect(421);
    }
    // Not the other way round either: what was proved for one site says nothing at another.
    let mut secured = known.must_connect(proxy.address(), "want.test");
    secured.client.exchange(get("ask.test")).expect(421);
    // With another authority in the file, a connection of before proves nothing any more.
    let mut before = known.must_connect(proxy.address(), "want.test");
    before.client.exchange(get("want.test")).expect(200);
    proxy.place().write("clients.pem", Authority::new("others").certificate());
    proxy.signal("HUP");
    eventually("the reload", SOON, || {
        (proxy.metric("portunus_reloads_total", &["result=\"ok\""]) == 1.0).then_some(())
    });
    before.client.exchange(get("want.test")).expect(421);
}

#[test]
fn a_websocket_passes_over_tls_on_both_sides() {
    let (place, authority) = (Place::new(), Authority::new("both"));
    let pair = authority.issue(&["a.test", "127.0.0.1"]);
    pair.write(&place, "a");
    place.write("ca.pem", authority.certificate());
    let config = portunus_tests::tls::server(&pair, None);
    let origin = Origin::script(move |connection| {
        if !connection.secure(&config) || connection.head().is_none() {
            return;
        }
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        loop {
            let bytes = connection.some();
            if bytes.is_empty() || !connection.send(&bytes) {
                return;
            }
        }
    });
    let text = format!(
        "limits {{ connect 20s }}\nsite a.test {{ listen @listen; tls a.pem a.key; proxy https://{origin} ca=ca.pem }}\n"
    );
    let proxy = Proxy::start_in(place, &text);
    let mut secured = Trusting::new(&authority).must_connect(proxy.address(), "a.test");
    secured.client.send(
        "GET /ws HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(secured.client.response_head().status, 101);
    for size in [1usize, 100, 125] {
        let mut frame = vec![0x82, 0x80 | size as u8, 0, 0, 0, 0];
        frame.extend(vec![b'x'; size]);
        secured.client.send(&frame);
        assert!(secured.client.exactly(frame.len()) == frame, "{size}");
    }
}

#[test]
fn files_that_are_watched_keep_no_listener_open() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::serve(move |_| {
        let _ = wait.lock().expect("the lock").recv_timeout(Duration::from_secs(20));
        Answer::text("late")
    });
    let Stage { mut proxy, authority, .. } = stage(&origin);
    let mut slow = Trusting::new(&authority).must_connect(proxy.address(), "a.test");
    slow.client.send(get("a.test"));
    origin.wait_for(1);
    proxy.signal("TERM");
    eventually("the end of listening", SOON, || {
        TcpStream::connect_timeout(&proxy.address(), SOON)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
            .then_some(())
    });
    go.send(()).expect("to go on");
    assert_eq!(slow.client.response().expect(200).text(), "late");
    assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0));
}
