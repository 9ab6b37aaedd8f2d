//! faults: origins die, logs stall, clients misbehave; good traffic goes on (T11, T19, T27, T30, T35).

use portunus_tests::load::{Load, failed, get, post, quantile};
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Client, Fault, Origin, Place, Proxy, Request, eventually};
use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

fn answer(request: &Request) -> Answer {
    Answer::text(request.query("id").unwrap_or("-"))
}

#[test]
fn t11_one_of_three_origins_is_killed_again_and_again() {
    let mut origins = [Origin::serve(answer), Origin::serve(answer), Origin::serve(answer)];
    let servers: String = origins.iter().map(|origin| format!(" server {origin}\n")).collect();
    let proxy = Proxy::start(&format!("workers 2\npool p {{\n{servers}}}\n{}", site("proxy p")));
    let gets = Load::start(proxy.address(), 3, get);
    let posts = Load::start(proxy.address(), 1, post);
    let mut ledger: HashMap<String, usize> = HashMap::new();
    let mut note = |origin: &Origin| {
        for (id, count) in origin.ledger() {
            *ledger.entry(id).or_default() += count;
        }
    };
    for round in 0..6 {
        gets.wait_for(300);
        let dead = &mut origins[round % 3];
        dead.kill();
        gets.wait_for(300);
        note(dead);
        *dead = Origin::serve_at(dead.address(), answer);
    }
    gets.wait_for(100);
    let (gets, posts) = (gets.finish(), posts.finish());
    origins.iter().for_each(&mut note);
    let lost = failed(&gets);
    assert!(
        lost.is_empty(),
        "{} of {} GETs failed: {:?}",
        lost.len(),
        gets.len(),
        &lost[..lost.len().min(5)]
    );
    assert!(gets.iter().all(|outcome| outcome.body == outcome.id.as_bytes()), "somebody else's answer");
    for outcome in &posts {
        assert!(matches!(outcome.result, Ok(200 | 502)), "{outcome:?}");
        let seen = ledger.get(&outcome.id).copied().unwrap_or(0);
        assert!(seen <= 1, "POST {} was delivered {seen} times", outcome.id);
    }
    assert!(failed(&posts).len() <= 12, "only those under way at a kill: {}", failed(&posts).len());
}

#[test]
fn t19_a_slow_route_does_not_slow_another() {
    let slow = Origin::script(|connection| {
        while connection.request().is_some() {
            connection.until_closed();
        }
    });
    let fast = Origin::serve(answer);
    let proxy = Proxy::site(format!("route /slow {{ proxy {slow} }}\n proxy {fast}"));
    let stuck: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = proxy.client();
            client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    slow.wait_for(200);
    let load = Load::start(proxy.address(), 4, get);
    load.wait_for(2000);
    let outcomes = load.finish();
    assert!(failed(&outcomes).is_empty());
    assert!(quantile(&outcomes, 0.9) < Duration::from_secs(1), "{:?}", quantile(&outcomes, 0.9));
    drop(stuck);
}

#[test]
fn t27_a_thousand_slow_clients_beside_good_traffic() {
    let big = vec![b'x'; 4 << 20];
    let origin = Origin::serve(
        move |request| if request.target == "/big" { Answer::body(&big) } else { answer(request) },
    );
    let proxy = Proxy::start(&format!(
        "workers 2\nlimits {{ header-time 5s; body-idle 5s; response-idle 5s }}\n{}",
        site(&format!("proxy {origin}"))
    ));
    let before = proxy.memory_bytes();
    let mut slow: Vec<Client> = Vec::new();
    for number in 0..1000 {
        let mut client = match number % 4 {
            3 => Client::narrow(proxy.address(), 4 << 10),
            _ => proxy.client(),
        };
        let start: &str = match number % 4 {
            0 => "",
            1 => "GET / HTTP/1.1\r\nHost: a\r\nX-Slow",
            2 => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nslow",
            _ if number % 20 == 3 => "GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
            _ => "G",
        };
        client.send(start);
        slow.push(client);
    }
    let load = Load::start(proxy.address(), 4, get);
    load.wait_for(4000);
    let outcomes = load.finish();
    let lost = failed(&outcomes);
    assert!(lost.is_empty(), "{} of {}: {:?}", lost.len(), outcomes.len(), lost.first());
    assert!(quantile(&outcomes, 0.9) < Duration::from_secs(1), "{:?}", quantile(&outcomes, 0.9));
    let grown = proxy.memory_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for a thousand slow clients");
    eventually("the end of every slow client", Duration::from_secs(30), || {
        (proxy.metric("portunus_connections", &[]) < 10.0).then_some(())
    });
}

#[test]
fn t30_a_flood_of_pipelined_requests_is_fair_to_others() {
    let origin = Origin::serve(answer);
    let proxy = Proxy::site(format!("route /own {{ respond 200 own }}\n proxy {origin}"));
    let mut flooder = proxy.client();
    let flood = "GET /own HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                if flooder.try_send(&flood).is_err() {
                    return;
                }
                for _ in 0..1000 {
                    if flooder.try_response("GET").is_err() {
                        return;
                    }
                }
            }
        });
        let load = Load::start(proxy.address(), 2, get);
        load.wait_for(1000);
        let outcomes = load.finish();
        assert!(failed(&outcomes).is_empty());
        assert!(quantile(&outcomes, 0.5) < Duration::from_millis(200), "{:?}", quantile(&outcomes, 0.5));
    });
}

#[test]
fn t35_a_log_that_nobody_reads_stalls_nobody() {
    let place = Place::new();
    let pipe = place.file("access.log");
    assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    // Opened for reading and writing, so that nobody waits for the other end; never read.
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(0o4000)
        .open(&pipe)
        .expect("the pipe");
    let origin = Origin::serve(answer);
    let text = format!(
        "log access json @dir/access.log\nlimits {{ log-queue 64KiB }}\n{}",
        site(&format!("proxy {origin}"))
    );
    let proxy = Proxy::start_in(place, &text);
    let load = Load::start(proxy.address(), 3, get);
    load.wait_for(5000);
    let outcomes = load.finish();
    assert!(failed(&outcomes).is_empty(), "{:?}", failed(&outcomes).first());
    assert!(quantile(&outcomes, 0.9) < Duration::from_secs(1), "{:?}", quantile(&outcomes, 0.9));
    eventually("dropped lines to be counted", Duration::from_secs(10), || {
        (proxy.metric("portunus_log_dropped_lines_total", &[]) > 0.0).then_some(())
    });
    drop(reader);
}

#[test]
fn t34_a_full_disk_stalls_nobody() {
    let origin = Origin::serve(answer);
    let proxy = Proxy::start(&format!(
        "log access json /dev/full\nlimits {{ log-queue 64KiB }}\n{}",
        site(&format!("proxy {origin}"))
    ));
    let load = Load::start(proxy.address(), 2, get);
    load.wait_for(2000);
    assert!(failed(&load.finish()).is_empty());
    eventually("dropped lines to be counted", Duration::from_secs(10), || {
        (proxy.metric("portunus_log_dropped_lines_total", &[]) > 0.0).then_some(())
    });
}

#[test]
fn t13_an_origin_that_closes_idle_connections_at_any_time() {
    // Closes each connection after a few requests, a hair after the answer, unannounced.
    let origin = Origin::script(|connection| {
        for _ in 0..1 + connection.index % 4 {
            let Some(request) = connection.request() else { return };
            if !connection.answer(answer(&request)) {
                return;
            }
        }
    });
    let proxy = Proxy::start(&format!("workers 2\n{}", site(&format!("proxy {origin}"))));
    let gets = Load::start(proxy.address(), 4, get);
    gets.wait_for(5000);
    let outcomes = gets.finish();
    let lost = failed(&outcomes);
    assert!(lost.is_empty(), "{} of {} GETs failed: {:?}", lost.len(), outcomes.len(), lost.first());
    assert!(outcomes.iter().all(|outcome| outcome.body == outcome.id.as_bytes()));
}

#[test]
fn h7_few_descriptors_are_no_catastrophe() {
    let origin = Origin::serve(answer);
    let proxy = Proxy::start(&format!("limits {{ connections 50 }}\n{}", site(&format!("proxy {origin}"))));
    let mut good = proxy.client();
    good.get("/").expect(200);
    let crowd: Vec<Option<Client>> = (0..500).map(|_| Client::try_connect(proxy.address())).collect();
    for _ in 0..200 {
        good.get("/").expect(200);
    }
    proxy.admin("GET", "/live").expect(200);
    drop(crowd);
    eventually("room", Duration::from_secs(10), || {
        let mut client = Client::try_connect(proxy.address())?;
        client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        client.try_response("GET").ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn a48_peers_that_vanish_at_any_moment_leave_nothing_behind() {
    let origin = Origin::script(|connection| {
        while let Some(request) = connection.request() {
            if request.target.contains("reset") {
                return connection.reset();
            }
            if !connection.answer(answer(&request)) {
                return;
            }
        }
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let request = "POST /?id=x HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n01234567890123456789";
    for at in 0..=request.len() {
        let mut client = proxy.client();
        client.send(&request[..at]);
        match at % 3 {
            0 => client.reset(),
            1 => {
                client.half_close();
                assert_ne!(client.rest().err(), Some(Fault::Timeout), "stuck at byte {at}");
            }
            _ => drop(client),
        }
    }
    proxy.get("/reset").expect(502);
    proxy.get("/?id=after").expect(200);
    eventually("no connection and no request to be left", Duration::from_secs(10), || {
        (proxy.metric("portunus_connections", &[]) < 1.0).then_some(())
    });
}
