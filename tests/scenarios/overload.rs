//! overload: more than there is room for — descriptors run out (T26), one source takes too much — and those who are there notice nothing.

use portunus_tests::load::{Load, failed, get};
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Client, Origin, Place, Proxy, eventually};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

/// A proxy that may have so many descriptors.
fn bounded(descriptors: usize, text: &str) -> Proxy {
    Proxy::start_by(
        |_, _| {
            let mut command = Command::new("bash");
            command.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""));
            command.arg(portunus_tests::binary::portunus());
            command
        },
        Place::new(),
        text,
    )
}

/// Processor time of a process so far, in hundredths of a second.
fn processor_time(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("its times");
    let (_, rest) = stat.rsplit_once(") ").expect("its name");
    rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Connects from an address of the loopback network.
fn connect_from(from: [u8; 4], to: SocketAddr) -> Option<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::from(from)), 0).into()).ok()?;
    socket.connect_timeout(&to.into(), Duration::from_millis(500)).ok()?;
    Some(socket)
}

#[test]
fn t26_no_descriptors_left_and_nobody_notices() {
    let origin = Origin::serve(|request| Answer::text(&request.target));
    // Whoever has to come again, because its connection has had its number of requests, is one more of the crowd.
    let text = "workers 2\nlog access off\nlimits { requests 100000000 }";
    let proxy = bounded(256, &format!("{text}\n{}", site(&format!("proxy {origin}"))));
    let load = Load::start(proxy.address(), 4, get);
    load.wait_for_everybody();
    // Far more than there is room for, and they stay.
    let connect = |_| TcpStream::connect_timeout(&proxy.address(), Duration::from_millis(500)).ok();
    let crowd: Vec<TcpStream> = (0..600).filter_map(connect).collect();
    assert!(crowd.len() > 300, "{}", crowd.len());
    eventually("refusals", SOON, || {
        (proxy.metric("portunus_connections_refused_total", &[]) >= 100.0).then_some(())
    });
    let asked = load.asked();
    let (before, begun) = (processor_time(proxy.id()), Instant::now());
    eventually("two seconds", SOON, || (begun.elapsed() > Duration::from_secs(2)).then_some(()));
    let spent = processor_time(proxy.id()) - before;
    assert!(load.asked() > asked, "those who were there go on");
    proxy.admin("GET", "/ready").expect(200);
    assert_eq!(proxy.metric("portunus_accept_failures_total", &[]), 0.0, "it never comes to that");
    drop(crowd);
    let begun = Instant::now();
    eventually("room again", SOON, || {
        let mut client = Client::try_connect(proxy.address())?;
        client.try_send("GET /new HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
        client.try_response("GET").ok().filter(|answer| answer.status == 200).map(drop)
    });
    let room = begun.elapsed();
    let outcomes = load.finish();
    assert!(failed(&outcomes).is_empty(), "{:?}", failed(&outcomes).first());
    println!(
        "t26: {} requests of those inside, {spent} hundredths of a second in two seconds, room again after {room:?}",
        outcomes.len()
    );
}

/// Answers when so many requests are there, so that each has a connection of its own.
fn together(count: usize) -> Origin {
    let (seen, all, room) = (AtomicUsize::new(0), Condvar::new(), Mutex::new(()));
    Origin::serve(move |_| {
        let number = seen.fetch_add(1, SeqCst);
        let are_all = || seen.load(SeqCst) > number / count * count + count - 1;
        let guard = room.lock().expect("no panic");
        all.notify_all();
        let waited = all.wait_timeout_while(guard, SOON, |()| !are_all()).expect("no panic");
        Answer::text(if waited.1.timed_out() { "alone" } else { "together" })
    })
}

#[test]
fn h7_connections_kept_for_later_make_room_when_no_descriptor_is_left() {
    const CLIENTS: usize = 20;
    let origin = together(CLIENTS);
    let pools: String = (0..8).map(|at| format!("pool p{at} {{ server {origin} }}\n")).collect();
    let routes: String = (0..8).map(|at| format!("route /p{at} {{ proxy p{at} }}\n")).collect();
    let proxy = bounded(160, &format!("{pools}{}", site(&routes)));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| proxy.client().patience(SOON)).collect();
    for at in 0..8 {
        for client in &mut clients {
            client.send(format!("GET /p{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        for client in &mut clients {
            assert_eq!(client.response().expect(200).text(), "together", "pool {at}");
        }
    }
    assert!(origin.connections() > 8 * CLIENTS - 20, "hardly any was kept: {}", origin.connections());
}

#[test]
fn a_crowd_that_cannot_get_in_costs_little() {
    let proxy = bounded(128, "log access off\nsite * {\n listen @listen\n respond 200 ok\n}\n");
    let connect = |_| TcpStream::connect_timeout(&proxy.address(), Duration::from_millis(200)).ok();
    let mut crowd: Vec<TcpStream> = (0..300).filter_map(connect).collect();
    let (before, begun) = (processor_time(proxy.id()), Instant::now());
    // It comes back as fast as it can.
    while begun.elapsed() < Duration::from_secs(2) {
        let more: Vec<TcpStream> = (0..50).filter_map(connect).collect();
        crowd.extend(more);
        if crowd.len() > 700 {
            crowd.drain(57..400);
        }
    }
    let spent = processor_time(proxy.id()) - before;
    let most = begun.elapsed().as_millis() as u64 / 50;
    assert!(spent <= most, "{spent} of {most} hundredths of a second: more than a fifth of a core");
}

#[test]
fn one_source_cannot_take_every_place() {
    let proxy = Proxy::start(&format!("limits {{ connections 100 }}\n{}", site("respond 200 ok")));
    let greedy: Vec<_> = (0..90).filter_map(|_| connect_from([127, 9, 9, 9], proxy.address())).collect();
    // Alone it may have three quarters.
    eventually("its connections", SOON, || (proxy.metric("portunus_connections", &[]) >= 75.0).then_some(()));
    let others: Vec<_> = (1..6).filter_map(|at| connect_from([127, 0, 1, at], proxy.address())).collect();
    assert_eq!(others.len(), 5);
    eventually("theirs", SOON, || (proxy.metric("portunus_connections", &[]) >= 80.0).then_some(()));
    eventually("its refusals", SOON, || {
        (proxy.metric("portunus_connections_refused_total", &["unfair-share"]) >= 15.0).then_some(())
    });
    proxy.get("/").expect(200);
    drop((greedy, others));
}

#[test]
fn a_refused_client_gets_its_answer_whatever_it_sends() {
    let proxy = Proxy::start(&format!("limits {{ connections 1 }}\n{}", site("respond 200 ok")));
    let mut inside = proxy.client();
    inside.get("/").expect(200);
    for _ in 0..20 {
        let mut client = proxy.client();
        let _ = client.try_send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n{}",
            "x".repeat(20000)
        ));
        assert_eq!(client.try_response("POST").map(|answer| answer.status), Ok(503));
    }
    inside.get("/").expect(200);
}
