//! t09_stop: a stop while slow requests are under way, tunnels are open and new connections arrive.

use crate::ledger::Class::Get;
use crate::ledger::End;
use crate::load::{Load, Plan};
use crate::stage::{EVERYBODY, Row, Stage, Test};
use crate::subject::Front;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub(super) const TEST: Test = Test {
    name: "T9",
    about: "a stop with 300 slow requests, 100 tunnels, 500 connections a second arriving",
    figure: "each request begun is answered; each connection made gets an answer; tunnels get 1001; ended within grace + 1 s",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let grace = stage.size(4, 10);
    let front = Front::of(&origins)
        .with_portunus(&format!("grace {grace}s"), "", "")
        .with_all_nginx(
            &format!("worker_shutdown_timeout {grace}s; "),
            "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }",
            "  location /tunnel { proxy_pass http://p; proxy_set_header Upgrade $http_upgrade; \
             proxy_set_header Connection $connection_upgrade; }",
        )
        .with_haproxy_grace(grace);
    let mut subject = stage.start(&front);
    let address = subject.address();
    let slow_count = stage.size(100, 300);
    let slow = Plan {
        burst: slow_count,
        rate: slow_count,
        patience: Duration::from_secs(20),
        ..Plan::standard(address, 1)
    };
    let slow = Load::start(Plan { query: |_| "&fault=slow:2500".to_owned(), ..slow }.only(&[Get]));
    let arriving =
        Plan { keep_alive: false, connections_max: 50, ..Plan::standard(address, stage.size(200, 500)) };
    let arriving = Load::start(arriving.only(&[Get]));
    let mut tunnels: Vec<TcpStream> = (0..stage.size(20, 100)).map(|_| tunnel(address)).collect();
    arriving.go_on(Duration::from_millis(500));
    subject.stop();
    let begun = Instant::now();
    // One burst of slow requests has been sent; the next is not due for a second yet.
    let slow = slow.finish();
    // A client of a tunnel answers the close, as a browser does.
    let told = tunnels
        .iter_mut()
        .filter_map(|stream| said_goodbye(stream, begun + Duration::from_secs(grace + 2)))
        .count();
    let ended = subject.has_ended_within(Duration::from_secs(grace + 10));
    let time = begun.elapsed();
    let arriving = arriving.finish();
    let cut = arriving.count(|outcome| !matches!(outcome.end, End::Right | End::Refused));
    let lost = slow.failed();
    let tunnel_count = tunnels.len();
    let mut row = Row::of(arriving);
    row.note("slow requests", format!("{}, failed {lost} {}", slow.sent(), slow.failures()));
    row.note("connections made and not answered", cut);
    row.note("tunnels told 1001", format!("{told} of {tunnel_count}"));
    row.note("ended after", format!("{:.1} s of {grace}", time.as_secs_f64()));
    row.must(lost == 0, format!("{lost} slow requests failed: {}", slow.failures()));
    row.must(
        cut == 0,
        format!("{cut} connections were made and not answered\n{}", row.ledger().first_failures()),
    );
    row.must(told == tunnel_count, format!("{told} of {tunnel_count} tunnels were told"));
    row.must(
        ended && time < Duration::from_secs(grace + 1) + stage.leeway(),
        format!("it took {time:?} to end"),
    );
    row
}

fn tunnel(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let ask = "GET /tunnel?id=x HTTP/1.1\r\nHost: faults.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(ask.as_bytes()).expect("to ask");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Whether the close frame with status 1001 came (RFC 6455 §5.5.1); it is answered.
fn said_goodbye(stream: &mut TcpStream, until: Instant) -> Option<()> {
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).ok()?;
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).ok()?;
    let _ = stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]);
    (frame == [0x88, 0x02, 0x03, 0xe9]).then_some(())
}
