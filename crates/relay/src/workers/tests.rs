//! Workers from end to end: real sockets, an origin of threads, and whatever may go wrong between them.

use super::*;
use crate::net::Given;
use crate::plan::{
    Args, Directive, Forward, HostPattern, Keep, KeepAlive, Listen, Matcher, Plan, PoolPlan, RoutePlan,
    ServerPlan, SitePlan, SlowStart,
};
use crate::pressure::Level;
use crate::stats::{Names, Unshaken};
use portunus_message::{Crime, Exchange, Limits};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const PATIENCE: Duration = Duration::from_secs(30);

/// Counts what it hears.
struct Ear(Arc<AtomicUsize>);

impl Recorder for Ear {
    fn record(&mut self, _: &Exchange, _: &Names<'_>) {
        self.0.fetch_add(1, SeqCst);
    }

    fn unshaken(&mut self, _: &Unshaken<'_>) {}
    fn flush(&mut self) {}
}

/// One worker before one origin.
struct Proxy {
    workers: Workers,
    snapshot: Arc<Snapshot>,
    address: String,
    heard: Arc<AtomicUsize>,
    // Closed when the test is over.
    _sockets: Sockets,
}

impl Proxy {
    fn start(origin: SocketAddr, filters: &[&str], limits: Limits) -> Proxy {
        let directive = |name: &str| Directive { name: name.to_owned(), args: Args::default() };
        let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let mut plan = Plan::default();
        plan.settings.limits = limits.clone();
        plan.pools.push(PoolPlan {
            name: "origin".into(),
            servers: vec![ServerPlan {
                address: crate::plan::Address::Socket(origin),
                weight: 1,
                backup: false,
                max_in_flight: None,
                zone: None,
                found_by: None,
            }],
            balance: directive("round-robin"),
            keep_alive: KeepAlive { idle: 16, time: None },
            connect_timeout: Duration::from_secs(5),
            tls: None,
            proxy_protocol: None,
            protocol: Default::default(),
            retry: crate::plan::Retry { tries: 1, ..Default::default() },
            queue: Default::default(),
            hedge: None,
            drain: None,
            eject: crate::plan::Eject::default(),
            health: None,
            slow_start: SlowStart::default(),
            keep: Keep::default(),
            sticky: None,
        });
        plan.sites.push(SitePlan {
            names: vec![HostPattern::Any],
            listen: vec![listen.clone()],
            prefaced: Vec::new(),
            tls: None,
            routes: vec![RoutePlan {
                name: "all".into(),
                matcher: Matcher::default(),
                priority: 0,
                filters: filters.iter().map(|name| directive(name)).collect(),
                forward: vec![Forward { pool: "origin".into(), weight: 1 }],
                split: None,
                canary: None,
                mirror: None,
                retry: Default::default(),
                hedge: None,
                urgency: Default::default(),
                limits: limits.into(),
            }],
        });
        let snapshot = Arc::new(Snapshot::compile(&plan, None).unwrap());
        let sockets = Sockets::open(&BTreeSet::from([listen]), 1, None, &mut Given::default()).unwrap();
        let heard = Arc::new(AtomicUsize::new(0));
        let ears: Vec<Box<dyn Recorder + Send>> = vec![Box::new(Ear(Arc::clone(&heard)))];
        let workers = Workers::start(&snapshot, &sockets, ears).unwrap();
        let address = sockets.addresses().remove(0);
        Proxy { workers, snapshot, address, heard, _sockets: sockets }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(&self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// The counters, once they say `settled`.
    fn stats(&self, settled: impl Fn(&Stats) -> bool) -> Stats {
        let until = clock::read() + PATIENCE;
        loop {
            let stats = self.workers.stats();
            if settled(&stats) || clock::read() >= until {
                return stats;
            }
            std::thread::yield_now();
        }
    }

    fn in_flight(&self) -> u32 {
        self.snapshot.hosts().map(|(_, host)| host.in_flight()).sum()
    }

    fn end(self) -> bool {
        self.workers.drain(&Farewell::default());
        self.workers.join(PATIENCE)
    }
}

/// An origin that does `answer` with every connection, after its first head.
fn origin(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                while read_head(&mut stream).is_some() {
                    answer(&mut stream);
                }
            });
        }
    });
    address
}

/// A head, byte by byte so that nothing after it is taken.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn get(client: &mut TcpStream, path: &str) -> Option<String> {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).ok()?;
    let head = read_head(client)?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).ok()?;
    Some(head)
}

fn crimes(stats: &Stats, crime: Crime) -> u64 {
    Crime::ALL.iter().zip(&stats.crimes).find(|(known, _)| **known == crime).map_or(0, |(_, many)| *many)
}

/// Of so many requests of T31 one panics.
const ONE_IN: usize = 1_000;

/// How many requests T31 sends over each protocol: `T31_REQUESTS`, 300,000 of them in its long form.
fn requests() -> usize {
    std::env::var("T31_REQUESTS").map_or(6_000, |number| number.parse().unwrap())
}

/// A request that panics on its way in or on its way back, or one of those that do not.
fn path(number: usize) -> &'static str {
    match (number % ONE_IN, number / ONE_IN % 2) {
        (0, 0) => "/panic/in",
        (0, _) => "/panic/back",
        _ => "/",
    }
}

fn fine_origin() -> SocketAddr {
    origin(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap())
}

/// Every request was heard of, each panic counted once, and nothing is left of them.
fn has_counted(proxy: Proxy, requests: usize) {
    let stats = proxy.stats(|stats| stats.connections_open == 0);
    assert_eq!(crimes(&stats, Crime::Panic), requests.div_ceil(ONE_IN) as u64);
    assert_eq!((stats.active, stats.connections_open, proxy.in_flight()), (0, 0, 0));
    assert_eq!(proxy.heard.load(SeqCst), requests);
    assert!(proxy.end());
}

/// Connections that nothing but a panic ends.
fn unending() -> Limits {
    Limits { requests: u64::MAX, ..Limits::default() }
}

fn panics_over_http1(requests: usize) {
    let proxy = Proxy::start(fine_origin(), &["panics"], unending());
    let (mut client, mut steady) = (proxy.client(), proxy.client());
    for number in 0..requests {
        let path = path(number);
        let client = if number % 2 == 0 { &mut client } else { &mut steady };
        let head = get(client, path).unwrap();
        assert!(head.starts_with(if path == "/" { "HTTP/1.1 200 " } else { "HTTP/1.1 500 " }), "{head}");
        if path != "/" {
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "the connection of a panic ends");
            *client = proxy.client();
        }
    }
    drop((client, steady));
    has_counted(proxy, requests);
}

/// All over one connection, so many of them at a time.
async fn panics_over_http2(requests: usize, at_a_time: usize) {
    let proxy = Proxy::start(fine_origin(), &["panics"], unending());
    let stream = tokio::net::TcpStream::connect(&proxy.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for first in (0..requests).step_by(at_a_time) {
        let mut answers = Vec::new();
        for number in first..requests.min(first + at_a_time) {
            client = client.ready().await.unwrap();
            let request = http::Request::get(format!("http://a{}", path(number))).body(()).unwrap();
            answers.push((number, client.send_request(request, true).unwrap().0));
        }
        for (number, answer) in answers {
            let status = answer.await.unwrap().status();
            assert_eq!(status, if path(number) == "/" { 200 } else { 500 }, "request {number}");
        }
    }
    drop(client);
    connection.await.unwrap().unwrap();
    has_counted(proxy, requests);
}

#[test]
fn t31_a_panic_costs_its_exchange_and_nothing_else() {
    panics_over_http1(requests());
}

#[tokio::test]
async fn t31_a_panic_costs_its_stream_and_not_those_beside_it() {
    panics_over_http2(requests(), 20).await;
}

#[test]
fn a45_a_broken_answer_is_not_followed_by_another_once_its_head_has_left() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let origin = origin(move |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        gone.lock().unwrap().recv().unwrap();
        stream.write_all(b"5\r\nhelloXXXXXX").unwrap();
    });
    let proxy = Proxy::start(origin, &[], Limits::default());
    let mut client = proxy.client();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_head(&mut client).unwrap().starts_with("HTTP/1.1 200 "));
    go.send(()).unwrap();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest); // reset or closed, both will do
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("HTTP/1.1") && !rest.contains("0\r\n\r\n"), "{rest}");
    drop(client);
    assert!(proxy.end());
}

#[test]
fn a30_an_own_answer_to_a_handshake_ends_the_connection() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(free, &[], Limits::default());
    let mut client = proxy.client();
    client
        .write_all(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
              GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 502 "), "{all}");
    assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{all}");
    assert!(proxy.end());
}

#[test]
fn h1_a_client_that_does_not_read_our_own_answers_is_left() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let limits =
        Limits { response_idle: Duration::from_millis(300), requests: u64::MAX, ..Limits::default() };
    let proxy = Proxy::start(free, &[], limits);
    let mut client = proxy.client();
    // Answers that are never read fill the way back; then the way there fills as well.
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    let until = clock::read() + PATIENCE;
    while client.write_all(&request).is_ok() {}
    assert!(clock::read() < until, "left to the kernel");
    let stats = proxy.stats(|stats| stats.connections_open == 0);
    assert_eq!((stats.connections_open, stats.active), (0, 0));
    assert!(proxy.end());
}

#[test]
fn a_silent_connection_does_not_hold_up_the_end() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let limits = Limits { header_time: PATIENCE * 6, ..Limits::default() };
    let proxy = Proxy::start(free, &[], limits);
    let _silent = proxy.client();
    proxy.stats(|stats| stats.connections_open == 1);
    assert!(proxy.end());
}

#[test]
fn t9_whoever_stands_in_the_queue_is_served_when_the_door_closes() {
    let origin = origin(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap());
    let Proxy { workers, address, _sockets: sockets, .. } = Proxy::start(origin, &[], Limits::default());
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..600 {
        let client = TcpStream::connect(&address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        clients.push(client);
    }
    drop(sockets);
    workers.drain(&Farewell { grace: PATIENCE, tunnels: PATIENCE, ..Farewell::default() });
    for (at, client) in clients.iter_mut().enumerate() {
        let answered = get(client, "/");
        assert!(answered.is_some_and(|head| head.starts_with("HTTP/1.1 200 ")), "client {at}");
    }
    drop(clients);
    assert!(workers.join(PATIENCE));
}

#[test]
fn short_memory_refuses_what_is_new_and_nothing_after_it_is_over() {
    let origin = origin(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap());
    let proxy = Proxy::start(origin, &[], Limits::default());
    let mut inside = proxy.client();
    assert!(get(&mut inside, "/").unwrap().starts_with("HTTP/1.1 200 "));
    let pressure = Arc::clone(proxy.workers.pressure());
    pressure.set_level(Level::Refusing);
    assert!(get(&mut inside, "/").unwrap().starts_with("HTTP/1.1 503 "));
    assert!(get(&mut proxy.client(), "/").unwrap().starts_with("HTTP/1.1 503 "));
    pressure.set_level(Level::Calm);
    assert!(get(&mut proxy.client(), "/").unwrap().starts_with("HTTP/1.1 200 "));
    let stats = proxy.stats(|stats| crimes(stats, Crime::LowMemory) == 1);
    assert_eq!(stats.connections_refused, [0, 0, 1, 0]);
    assert!(proxy.end());
}

#[test]
fn short_memory_shortens_the_patience_with_quiet_clients() {
    let origin = origin(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap());
    let limits = Limits { keep_alive_pressed: Duration::from_millis(200), ..Limits::default() };
    let proxy = Proxy::start(origin, &[], limits);
    let mut quiet = proxy.client();
    get(&mut quiet, "/").unwrap();
    // It waits without the memory of an exchange; so it waits under its first deadline.
    proxy.stats(|stats| stats.active == 0);
    proxy.workers.pressure().set_level(Level::Tight);
    let begun = clock::read();
    assert_eq!(quiet.read(&mut [0]).unwrap(), 0);
    assert!(clock::read().since(begun) < PATIENCE / 2);
    let stats = proxy.stats(|stats| stats.connections_open == 0);
    assert_eq!(stats.pools[0].1.hosts[0].1.idle, 0, "idle upstream connections are given up");
    assert!(proxy.end());
}

#[test]
fn short_memory_ends_what_a_client_does_not_take() {
    let origin = origin(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        let piece = vec![b'x'; 1 << 20];
        while stream.write_all(&piece).is_ok() {}
    });
    let proxy = Proxy::start(origin, &[], Limits::default());
    let mut slow = proxy.client();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    proxy.stats(|stats| stats.active == 1);
    proxy.workers.pressure().set_level(Level::Ending);
    let stats = proxy.stats(|stats| crimes(stats, Crime::LowMemory) == 1);
    assert_eq!(crimes(&stats, Crime::LowMemory), 1);
    assert!(proxy.end());
}

#[test]
fn when_memory_is_nearly_gone_the_biggest_go_first() {
    // The first sends more than its client takes, who is not slow; the second little, and then nothing for long.
    let connections = std::sync::atomic::AtomicU32::new(0);
    let origin = origin(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nlittle");
        let piece = vec![b'x'; 1 << 20];
        if connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            while stream.write_all(&piece).is_ok() {}
        }
    });
    let proxy = Proxy::start(origin, &[], Limits::default());
    let mut big = proxy.client();
    big.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    big.read_exact(&mut [0; 4096]).unwrap();
    let mut small = proxy.client();
    small.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_head(&mut small).unwrap();
    proxy.workers.pressure().set_level(Level::Ending);
    let (begun, mut piece) = (clock::read(), vec![0; 16 << 10]);
    let is_over = || crimes(&proxy.workers.stats(), Crime::LowMemory) > 0;
    while !is_over() && clock::read().since(begun) < PATIENCE && big.read_exact(&mut piece).is_ok() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(is_over() && clock::read().since(begun) < PATIENCE / 2, "it was not slow");
    let stats = proxy.workers.stats();
    assert_eq!((crimes(&stats, Crime::LowMemory), stats.active), (1, 1), "the other goes on");
    proxy.workers.pressure().set_level(Level::Calm);
    assert!(proxy.end());
}
