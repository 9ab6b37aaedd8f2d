//! proxy_protocol: whom a connection is from is told by a proxy in front, and told to the hosts behind (row A47).

use portunus_tests::binary::has;
use portunus_tests::proxy::Run;
use portunus_tests::tls::{Authority, Trusting};
use portunus_tests::{Answer, Client, Origin, Place, Port, Proxy, eventually};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const TOLD: &str = "PROXY TCP4 192.0.2.7 198.51.100.9 56789 8443\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The same in version 2, with an extension that means nothing.
fn told_v2() -> Vec<u8> {
    let ends = [192, 0, 2, 7, 198, 51, 100, 9, 0xdd, 0xd5, 0x20, 0xfb];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..], &ends, b"\x04\0\x01x"].concat()
}

/// A proxy that believes this machine, answers who asks, and passes the rest on.
fn believing(origin: &Origin, limits: &str) -> Proxy {
    Proxy::start(&format!(
        "limits {{ {limits} }}\n\
         site * {{ listen @listen proxy-protocol from=127.0.0.0/8,192.0.2.99\n\
         route /who {{ respond 200 \"${{client.ip}} ${{client.port}} ${{server.port}}\" }}\n\
         route /inside {{ access allow 192.0.2.0/24; access deny all; respond 200 in }}\n\
         proxy {origin} }}\n"
    ))
}

#[test]
fn who_asks_is_who_the_header_names() {
    let origin = Origin::says("hello");
    let proxy = believing(&origin, "");
    let who = "GET /who HTTP/1.1\r\nHost: a\r\n\r\n";
    for told in [TOLD.as_bytes(), &told_v2()] {
        let mut client = proxy.client();
        // In one piece with the request, whose first byte is not part of it.
        let answer = client.exchange([told, who.as_bytes()].concat()).expect(200);
        assert_eq!(answer.text(), "192.0.2.7 56789 8443");
        assert_eq!(client.get("/who").text(), "192.0.2.7 56789 8443");
        assert_eq!(client.get("/inside").text(), "in");
        assert_eq!(client.get("/hello").expect(200).text(), "hello");
    }
    assert_eq!(origin.last().fields.one("x-forwarded-for"), Some("192.0.2.7"));
    let line = proxy.log_of("/hello");
    assert_eq!((&line["client"], &line["client_port"]), (&"192.0.2.7".into(), &56789.into()));
    assert_eq!(line["via"], "127.0.0.1");
    // A second header is what it is: no request.
    proxy.client().send(TOLD).exchange([TOLD, who].concat()).expect(400);
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let origin = Origin::says("hello");
    let proxy = believing(&origin, "");
    for told in [TOLD.as_bytes().to_vec(), told_v2()] {
        let mut client = proxy.client();
        for byte in told {
            client.send([byte]);
        }
        assert_eq!(client.get("/who").text(), "192.0.2.7 56789 8443");
    }
}

#[test]
fn whoever_speaks_for_himself_is_who_the_kernel_says() {
    let origin = Origin::says("hello");
    let proxy = believing(&origin, "");
    for own in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x02xx",
        b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0",
    ] {
        let mut client = proxy.client();
        client.send(own);
        assert!(client.get("/who").text().starts_with("127.0.0.1 "));
        client.get("/inside").expect(403);
    }
    assert!(proxy.log_of("/inside").get("via").is_none());
}

#[test]
fn a47_no_header_no_connection() {
    let origin = Origin::says("hello");
    let proxy = believing(&origin, "proxy-header-time 300ms; proxy-header-bytes 512");
    let mut too_long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\0".to_vec();
    too_long.resize(16 + 512, 0);
    let mut past_the_end = told_v2();
    let length = past_the_end.len();
    past_the_end[length - 2] = 2;
    for bad in [
        GET.as_bytes(),
        b"\x16\x03\x01\x02\0\x01",
        b"PROXY TCP4 192.0.2.7\r\n",
        format!("PROXY UNKNOWN {}", "x".repeat(120)).as_bytes(),
        &too_long,
        &past_the_end,
    ] {
        proxy.client().send(bad).expect_close();
    }
    proxy.wait_for_errors("bad-proxy-header", 6.0);
    assert_eq!(proxy.expect_reason("bad-proxy-header")["phase"], "accept");
    proxy.client().expect_close();
    proxy.client().send("PROXY TCP4 192").expect_close();
    proxy.wait_for_errors("proxy-header-timeout", 2.0);
    drop(proxy.client()); // whoever leaves without a word has done nothing wrong
    assert_eq!(origin.count(), 0);
    assert_eq!(proxy.client().send(TOLD).get("/").text(), "hello");
}

#[test]
fn a47_only_who_is_listed_is_believed() {
    let origin = Origin::says("hello");
    let proxy = Proxy::start(&format!(
        "trusted-proxies 127.0.0.0/8\n\
         site * {{ listen @listen proxy-protocol from=192.0.2.0/24; proxy {origin} }}\n\
         site * {{ listen @listen2 proxy-protocol; proxy {origin} }}\n"
    ));
    proxy.client().try_send([TOLD, GET].concat()).ok();
    proxy.client().expect_close();
    proxy.wait_for_errors("untrusted-proxy", 2.0);
    assert_eq!(proxy.expect_reason("untrusted-proxy")["client"], "127.0.0.1");
    assert_eq!(origin.count(), 0);
    // Without a list of its own, the trusted proxies are believed; whose fields are believed is asked of who is told.
    let mut client = Client::connect(proxy.further_address(1));
    client.send(TOLD).exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n").expect(200);
    assert_eq!(origin.last().fields.one("x-forwarded-for"), Some("192.0.2.7"));
}

#[test]
fn it_comes_before_tls_and_over_unix_sockets() {
    let origin = Origin::says("hello");
    let (place, authority) = (Place::new(), Authority::new("front"));
    authority.issue(&["a.test"]).write(&place, "a");
    let proxy = Proxy::start_in(
        place,
        &format!(
            "site a.test {{ listen @listen tls proxy-protocol from=127.0.0.1; listen unix:@dir/in proxy-protocol; tls a.pem a.key\n\
             proxy {origin} }}\n"
        ),
    );
    // Somebody in front who says whom each connection is from, and whose first packet is cut in the middle of the header.
    let between = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, to) = (between.local_addr().unwrap(), proxy.address());
    thread::spawn(move || {
        let (mut near, _) = between.accept().unwrap();
        let mut far = TcpStream::connect(to).unwrap();
        far.set_nodelay(true).unwrap();
        let (mut back, mut forth) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut back, &mut forth));
        let mut hello = [0; 4096];
        let count = near.read(&mut hello).unwrap();
        let first = [TOLD.as_bytes(), &hello[..count]].concat();
        far.write_all(&first[..20]).unwrap();
        far.write_all(&first[20..]).unwrap();
        std::io::copy(&mut near, &mut far)
    });
    let mut secured = Trusting::new(&authority).must_connect(address, "a.test");
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(secured.client.exchange(get).expect(200).text(), "hello");
    assert_eq!(origin.last().fields.one("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(origin.last().fields.one("x-forwarded-proto"), Some("https"));
    let mut client = Client::connect_unix(&proxy.place().file("in"));
    assert_eq!(client.send(TOLD).exchange(get).expect(200).text(), "hello");
    assert_eq!(origin.last().fields.one("x-forwarded-for"), Some("192.0.2.7"));
}

/// A server that expects a header before each request: it answers with the header, and keeps all of them.
struct Expecting {
    address: SocketAddr,
    headers: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Expecting {
    fn start() -> Expecting {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, headers) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let kept = Arc::clone(&headers);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || Expecting::serve(stream.unwrap(), &kept));
            }
        });
        Expecting { address, headers }
    }

    /// One connection, with as many requests as come by it.
    fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Vec<u8>>>) {
        let (mut bytes, mut header) = (Vec::new(), None);
        loop {
            let start = bytes.windows(5).position(|five| five == b"GET /");
            if let (Some(at), None) = (start, &header) {
                kept.lock().unwrap().push(bytes[..at].to_vec());
                header = Some(bytes.drain(..at).collect::<Vec<u8>>());
            }
            if let (Some(header), true) = (&header, bytes.ends_with(b"\r\n\r\n")) {
                bytes.clear();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", header.len());
                let _ = stream.write_all(&[head.as_bytes(), header].concat());
            }
            let mut more = [0; 4096];
            match stream.read(&mut more) {
                Ok(count @ 1..) => bytes.extend_from_slice(&more[..count]),
                _ => return,
            }
        }
    }
}

#[test]
fn hosts_are_told_whom_each_connection_is_from() {
    let server = Expecting::start();
    for version in ["v1", "v2"] {
        let proxy = Proxy::start(&format!(
            "trusted-proxies 127.0.0.0/8\n\
             pool p {{ server {}; proxy-protocol {version} }}\n\
             site * {{ listen @listen; proxy p }}\n\
             site * {{ listen @listen2 proxy-protocol; proxy p }}\n\
             site * {{ listen unix:@dir/in; proxy p }}\n",
            server.address
        ));
        let expected = |told: &str, port: u16| match version {
            "v1" => told.as_bytes().to_vec(),
            _ if told == "PROXY UNKNOWN\r\n" => b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0".to_vec(),
            _ => {
                let words: Vec<&str> = told.trim().split(' ').collect();
                let ip = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
                let (from, to) = (ip(words[2]), ip(words[3]));
                let from_port: u16 = words[4].parse().unwrap();
                let ports = [from_port.to_be_bytes(), port.to_be_bytes()].concat();
                [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &from, &to, &ports].concat()
            }
        };
        // Two clients at once, several requests each: no connection is shared, and each names its own client.
        let streams = [0, 1].map(|_| TcpStream::connect(proxy.address()).unwrap());
        let mut clients = streams.map(|stream| (stream.local_addr().unwrap(), Client::over(stream)));
        for _ in 0..3 {
            for (own, client) in &mut clients {
                let port = proxy.address().port();
                let told = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {port}\r\n", own.port());
                assert_eq!(client.get("/").expect(200).body, expected(&told, port));
            }
        }
        // What a header has told is told on.
        let mut client = Client::connect(proxy.further_address(1));
        assert_eq!(client.send(TOLD).get("/").body, expected(TOLD, 8443));
        // What a trusted proxy says in a field counts too; the port is not known then.
        let forwarded = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.5\r\n\r\n";
        let port = proxy.address().port();
        let told = format!("PROXY TCP4 203.0.113.5 127.0.0.1 0 {port}\r\n");
        assert_eq!(proxy.client().exchange(forwarded).expect(200).body, expected(&told, port));
        let mut client = Client::connect_unix(&proxy.place().file("in"));
        assert_eq!(client.get("/").body, expected("PROXY UNKNOWN\r\n", 0));
    }
}

#[test]
fn health_checks_speak_for_the_proxy() {
    let server = Expecting::start();
    for (version, own) in [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")] {
        server.headers.lock().unwrap().clear();
        let _proxy = Proxy::start(&format!(
            "site * {{ listen @listen; proxy p }}\n\
             pool p {{ server {}; proxy-protocol {version}; health /h every=100ms }}\n",
            server.address
        ));
        eventually("a probe", SOON, || {
            server.headers.lock().unwrap().first().cloned().filter(|it| it == own)
        });
    }
}

#[test]
fn a_chain_of_two_proxies_tells_the_last_host() {
    let origin = Origin::says("hello");
    for (version, tls) in [("v1", false), ("v2", false), ("v2", true)] {
        let (place, authority) = (Place::new(), Authority::new("inner"));
        authority.issue(&["a"]).write(&place, "a");
        let own = if tls { "tls a.pem a.key" } else { "" };
        let inner = Proxy::start_in(
            place,
            &format!("site * {{ listen @listen proxy-protocol from=127.0.0.1; {own}; proxy {origin} }}\n"),
        );
        let place = Place::new();
        place.write("ca.pem", authority.certificate());
        let to = if tls { "tls ca=ca.pem name=a" } else { "" };
        let outer = Proxy::start_in(
            place,
            &format!(
                "pool p {{ server {}; proxy-protocol {version}; {to} }}\n\
                 site * {{ listen @listen proxy-protocol from=127.0.0.1; proxy p }}\n",
                inner.address()
            ),
        );
        let mut client = outer.client();
        client.send(TOLD);
        for _ in 0..3 {
            assert_eq!(client.get("/deep").expect(200).text(), "hello");
        }
        assert_eq!(inner.log_of("/deep")["client_port"], 56789);
    }
}

#[test]
fn a_reload_puts_it_on_and_takes_it_off() {
    let origin = Origin::says("hello");
    let text = |mark: &str| format!("site * {{ listen @listen {mark}; proxy {origin} }}\n");
    let proxy = Proxy::start(&text(""));
    proxy.get("/").expect(200);
    for (mark, told) in [("proxy-protocol from=127.0.0.1", TOLD), ("", "")] {
        proxy.write_config(&text(mark));
        proxy.signal("HUP");
        eventually("the reload", SOON, || {
            proxy.client().send([told, GET].concat()).try_response("GET").ok().filter(|it| it.status == 200)
        });
    }
}

#[test]
fn what_is_written_wrongly_is_told() {
    let place = Place::new();
    let told = |text: &str, wanted: &str| {
        let path = place.write("c.conf", text);
        let run = Run::of(["check", "-c", &path.to_string_lossy()]).expect(3);
        assert!(run.stderr.contains(wanted), "{}", run.stderr);
    };
    told("site * { listen :1 proxy-protocol; respond 200 x }", "whose PROXY headers are to be believed");
    told("site * { listen :1 proxy-protocol from=all; respond 200 x }", "anybody could claim any address");
    told("site * { listen :1 proxy-protocol from=10.0.0.0/99; respond 200 x }", "`10.0.0.0/99`");
    told("site * { listen :1 from=10.0.0.0/8; respond 200 x }", "none is wanted here");
    told("site * { listen :1 proxy-protocl; respond 200 x }", "perhaps `tls` and `proxy-protocol`");
    told(
        "site a.test { listen :1 proxy-protocol from=10.0.0.1; respond 200 x }\nsite b.test { listen :1; respond 200 x }",
        "this site does not want the PROXY protocol at [::]:1, and another one does",
    );
    told("pool p { server 127.0.0.1:1; proxy-protocol v3 }\nsite :1 { proxy p }", "`v3`");
    told("site :1 { proxy 127.0.0.1:1 proxy-protocol=v3 }", "`v3`");
}

/// A program that the test has started; it ends with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_in_front_and_behind() {
    if !has("haproxy") {
        return;
    }
    let origin = Origin::serve(|request| Answer::text(request.fields.one("x-seen").unwrap_or("")));
    let ports: Vec<Port> = (0..4).map(|_| Port::free()).collect();
    let proxy = Proxy::start(&format!(
        "site * {{ listen @listen proxy-protocol from=127.0.0.1; proxy p }}\n\
         site * {{ listen @listen2 proxy-protocol from=127.0.0.1; proxy {} proxy-protocol=v1 }}\n\
         pool p {{ server {}; proxy-protocol v2; health / every=100ms }}\n",
        ports[3], ports[2]
    ));
    let conf = format!(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n\
         listen front1\n  bind {}\n  server s {} send-proxy\n\
         listen front2\n  bind {}\n  server s {} send-proxy-v2\n\
         listen back2\n  mode http\n  bind {} accept-proxy\n  http-request set-header X-Seen %[src]:%[src_port]\n  server s {origin}\n\
         listen back1\n  mode http\n  bind {} accept-proxy\n  http-request set-header X-Seen %[src]:%[src_port]\n  server s {origin}\n",
        ports[0],
        proxy.address(),
        ports[1],
        proxy.further_address(1),
        ports[2],
        ports[3],
    );
    let path = proxy.place().write("haproxy.cfg", conf);
    let mut command = Command::new("haproxy");
    let quiet = command.arg("-db").arg("-f").arg(path).stdin(Stdio::null()).stdout(Stdio::null());
    let _haproxy = Server(quiet.stderr(Stdio::null()).spawn().expect("haproxy"));
    for front in [&ports[0], &ports[1]] {
        let stream = eventually("haproxy", SOON, || TcpStream::connect(front.address()).ok());
        let own = stream.local_addr().unwrap();
        let mut client = Client::over(stream);
        for _ in 0..3 {
            assert_eq!(client.get("/").expect(200).text(), own.to_string());
        }
    }
    eventually("a probe that haproxy takes", SOON, || {
        let last =
            origin.requests().into_iter().find(|it| it.fields.one("user-agent") == Some("portunus-health"));
        last.filter(|it| it.fields.one("x-seen").is_some_and(|seen| seen.starts_with("127.0.0.1:")))
    });
}
