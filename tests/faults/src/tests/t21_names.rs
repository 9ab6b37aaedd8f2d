//! t21_names: the addresses behind a name are exchanged, then DNS says nothing, fails, says that there are none.

use crate::load::Load;
use crate::origin::Origin;
use crate::stage::{Row, Stage, Test};
use crate::subject::{Front, Kind, Subject};
use portunus_tests::nameserver::{Mood, NameServer};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

pub(super) const TEST: Test = Test {
    name: "T21",
    about: "other addresses behind a name, then no DNS; a start without DNS",
    figure: "0 failed; other addresses used within TTL + 1 s; it starts, and serves when DNS is there",
    // The free nginx resolves a name in a pool once, at its start, and does not start when that fails.
    against: &[Kind::Portunus, Kind::Haproxy],
    run,
};

const NAME: &str = "users.internal";
const ADDRESSES: [&str; 3] = ["127.0.0.11", "127.0.0.12", "127.0.0.13"];

fn run(stage: &Stage) -> Row {
    let names = NameServer::start();
    let port = free_port();
    let [a, b, c] = ADDRESSES.map(|address| Origin::start_at(&stage.place, address, at(address, port)));
    names.set(NAME, &ADDRESSES[..2]);
    let front = Front::of([format!("{NAME}:{port}")])
        .with_portunus(&format!("resolver {names}"), "", "")
        .with_haproxy_names(&names);
    let subject = stage.start(&front);
    std::thread::scope(|scope| {
        // HAProxy resolves after it has begun to listen.
        scope.spawn(|| serves(&subject, Duration::from_secs(10)));
    });
    let load = Load::start(stage.standard(&subject));
    load.go_on(Duration::from_secs(2));
    names.set(NAME, &ADDRESSES[1..]);
    let swapped = load.age();
    let before = c.count();
    while c.count() == before && load.age() < swapped + Duration::from_secs(20) {
        load.go_on(Duration::from_millis(20));
    }
    let used = load.age() - swapped;
    load.go_on(Duration::from_secs(1));
    let left = a.count();
    for mood in [Mood::Silent, Mood::Failing, Mood::Empty] {
        names.feel(mood);
        load.go_on(stage.seconds(4, 200));
    }
    let late = a.count() - left;
    let mut row = Row::of(load.finish_with([&a, &b, &c]));
    names.feel(Mood::Silent);
    let other = stage.start(&front);
    names.feel(Mood::Well);
    let begun = Instant::now();
    let serves = serves(&other, Duration::from_secs(15));
    row.note("other addresses used after", format!("{:.1} s (TTL 1 s)", used.as_secs_f64()));
    row.note("started without DNS, served after", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    row.must_lose_nothing();
    row.must(
        used <= Duration::from_secs(2) + stage.leeway(),
        format!("the other addresses were used after {used:?}"),
    );
    row.must(late == 0, format!("{late} requests went to an address that was no longer there"));
    row.must(serves, "it did not serve after a start without DNS");
    row.must_please([&a, &b, &c]);
    row
}

/// Whether it answers 200 within this time.
fn serves(subject: &Subject, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        let load = Load::start(crate::load::Plan {
            connections: 1,
            ..crate::load::Plan::standard(subject.address(), 20)
        });
        load.go_on(Duration::from_millis(200));
        if load.finish().right() > 0 {
            return true;
        }
    }
    false
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// One that is free at all the addresses.
fn free_port() -> u16 {
    loop {
        let first = TcpListener::bind(at(ADDRESSES[0], 0)).expect("a port");
        let port = first.local_addr().expect("its address").port();
        if ADDRESSES[1..].iter().all(|address| TcpListener::bind(at(address, port)).is_ok()) {
            return port;
        }
    }
}
