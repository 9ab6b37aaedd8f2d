//! queue: how many requests a pool and a server have at one time, who waits, and for how long.

use portunus_tests::load::side_by_side;
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Origin, Proxy, eventually};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// An origin whose requests end when they are let go, and that knows how many it had at one time.
struct Busy {
    origin: Origin,
    door: Arc<Door>,
}

#[derive(Default)]
struct Door {
    free: Mutex<usize>,
    changed: Condvar,
    inside: AtomicUsize,
    most: AtomicUsize,
    is_open: AtomicBool,
}

impl Busy {
    fn start() -> Busy {
        let door = Arc::new(Door::default());
        let its = Arc::clone(&door);
        let origin = Origin::serve(move |request| {
            let inside = its.inside.fetch_add(1, SeqCst) + 1;
            its.most.fetch_max(inside, SeqCst);
            let free = its.free.lock().expect("the door");
            let waits = |free: &mut usize| *free == 0 && !its.is_open.load(SeqCst);
            let mut free = its.changed.wait_while(free, waits).expect("the door");
            *free = free.saturating_sub(1);
            its.inside.fetch_sub(1, SeqCst);
            Answer::text(request.query("id").unwrap_or("-"))
        });
        Busy { origin, door }
    }

    /// Lets so many requests end.
    fn let_go(&self, count: usize) {
        *self.door.free.lock().expect("the door") += count;
        self.door.changed.notify_all();
    }

    /// Lets all end, from now on.
    fn open(&self) {
        self.door.is_open.store(true, SeqCst);
        self.let_go(0);
    }

    fn inside(&self) -> usize {
        self.door.inside.load(SeqCst)
    }

    fn most(&self) -> usize {
        self.door.most.load(SeqCst)
    }

    #[track_caller]
    fn wait_for(&self, count: usize) {
        eventually("requests at the origin", Duration::from_secs(10), || {
            (self.inside() == count).then_some(())
        });
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.open();
    }
}

/// An origin that gives no answer where the path says so.
fn fails_where_asked() -> Origin {
    Origin::serve(|request| match request.target.starts_with("/fails") {
        true => Answer::nothing(),
        false => Answer::text("other"),
    })
}

fn proxy(servers: &str, settings: &str) -> Proxy {
    Proxy::start(&format!("workers 2\npool p {{\n{servers}\n{settings}\n}}\n{}", site("proxy p")))
}

fn of(busy: &Busy, settings: &str) -> Proxy {
    proxy(&format!("server {}", busy.origin), settings)
}

fn queued(proxy: &Proxy) -> f64 {
    proxy.metric("portunus_pool_queued", &[])
}

#[track_caller]
fn wait_for_queued(proxy: &Proxy, count: f64) {
    eventually("requests in the queue", Duration::from_secs(10), || (queued(proxy) == count).then_some(()));
}

#[test]
fn a_pool_never_has_more_than_it_may_have_and_all_are_served() {
    let busy = Busy::start();
    let proxy = of(&busy, "max-in-flight 4; queue wait=20s");
    let statuses = std::thread::scope(|scope| {
        let clients = scope.spawn(|| side_by_side(40, |number| proxy.get(&format!("/?id={number}")).status));
        busy.wait_for(4);
        wait_for_queued(&proxy, 36.0);
        busy.let_go(10);
        wait_for_queued(&proxy, 26.0);
        busy.open();
        clients.join().expect("the clients")
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(busy.most(), 4);
    assert!(busy.origin.ledger().values().all(|count| *count == 1));
    assert_eq!(queued(&proxy), 0.0);
    eventually("nothing in flight", Duration::from_secs(5), || {
        (proxy.metric("portunus_pool_in_flight", &[]) == 0.0).then_some(())
    });
}

#[test]
fn who_finds_the_queue_full_is_told_at_once() {
    let busy = Busy::start();
    let proxy = of(&busy, "max-in-flight 1; queue length=2 wait=60s");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| proxy.get("/").expect(200));
        }
        wait_for_queued(&proxy, 2.0);
        let answer = proxy.get("/").expect(503);
        assert!(answer.fields.one("retry-after").is_some());
        // Those who came before it are waiting all the same.
        assert_eq!(queued(&proxy), 2.0);
        busy.open();
    });
    let line = proxy.expect_reason("queue-full");
    assert_eq!((&line["status"], &line["tries"], &line["side"]), (&503.into(), &0.into(), &"proxy".into()));
    assert_eq!(busy.most(), 1);
}

#[test]
fn a_queue_is_no_longer_than_it_may_be_however_many_come_at_once() {
    for (server, settings) in [(" max-in-flight=2", "max-in-flight off"), ("", "max-in-flight 2")] {
        let busy = Busy::start();
        let proxy = proxy(
            &format!("server {}{server}", busy.origin),
            &format!("{settings}; queue length=4 wait=60s"),
        );
        let statuses = std::thread::scope(|scope| {
            let clients = scope.spawn(|| side_by_side(120, |_| proxy.get("/").status));
            proxy.wait_for_errors("queue-full", 114.0);
            busy.wait_for(2);
            wait_for_queued(&proxy, 4.0);
            busy.open();
            clients.join().expect("the clients")
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 6, "{statuses:?}");
        assert_eq!(busy.most(), 2);
    }
}

#[test]
fn an_adaptive_bound_stays_where_only_one_server_has_its_own() {
    let (busy, other) = (Busy::start(), Busy::start());
    let servers = format!("server {}\nserver {} max-in-flight=1 backup", busy.origin, other.origin);
    let proxy = proxy(&servers, "");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| proxy.get("/").expect(200));
        }
        busy.wait_for(3);
        assert_eq!(proxy.metric("portunus_pool_in_flight", &[]), 3.0);
        assert_eq!(proxy.metric("portunus_pool_limit", &[]), 256.0);
        busy.open();
    });
    eventually("nothing in flight", Duration::from_secs(10), || {
        (proxy.metric("portunus_pool_in_flight", &[]) == 0.0).then_some(())
    });
}

#[test]
fn who_has_waited_long_enough_is_told_so() {
    let busy = Busy::start();
    let proxy = of(&busy, "max-in-flight 1; queue wait=300ms");
    std::thread::scope(|scope| {
        scope.spawn(|| proxy.get("/").expect(200));
        busy.wait_for(1);
        let begun = Instant::now();
        let answer = proxy.get("/").expect(503);
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        assert!(answer.fields.one("retry-after").is_some());
        busy.open();
    });
    proxy.expect_reason("queue-timeout");
    proxy.get("/").expect(200);
}

#[test]
fn a_client_that_leaves_gives_up_its_place() {
    let busy = Busy::start();
    let proxy = of(&busy, "max-in-flight 1; queue length=1 wait=20s");
    std::thread::scope(|scope| {
        scope.spawn(|| proxy.get("/?id=first").expect(200));
        busy.wait_for(1);
        let mut leaving = proxy.client();
        leaving.send("GET /?id=leaving HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_for_queued(&proxy, 1.0);
        leaving.reset();
        wait_for_queued(&proxy, 0.0);
        scope.spawn(|| proxy.get("/?id=second").expect(200));
        wait_for_queued(&proxy, 1.0);
        busy.open();
    });
    assert_eq!(busy.origin.ledger().get("leaving"), None, "it never went anywhere");
    proxy.expect_reason("client-gone");
}

#[test]
fn nobody_waits_where_there_is_no_queue() {
    let busy = Busy::start();
    let proxy = of(&busy, "max-in-flight 1; queue off");
    std::thread::scope(|scope| {
        scope.spawn(|| proxy.get("/").expect(200));
        busy.wait_for(1);
        proxy.get("/").expect(503);
        busy.open();
    });
}

#[test]
fn those_who_wait_are_served_in_the_order_they_came() {
    let busy = Busy::start();
    let proxy = of(&busy, "max-in-flight 1; queue wait=20s");
    std::thread::scope(|scope| {
        for number in 0..6 {
            let proxy = &proxy;
            scope.spawn(move || proxy.get(&format!("/?id={number}")).expect(200));
            match number {
                0 => busy.wait_for(1),
                waiting => wait_for_queued(proxy, waiting.into()),
            }
        }
        busy.open();
    });
    let order: Vec<_> =
        busy.origin.requests().iter().filter_map(|request| request.query("id").map(str::to_owned)).collect();
    assert_eq!(order, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_server_never_has_more_than_it_may_have() {
    let (small, large) = (Busy::start(), Busy::start());
    let servers = format!("server {} max-in-flight=1\nserver {} max-in-flight=3", small.origin, large.origin);
    let proxy = proxy(&servers, "queue wait=20s");
    let statuses = std::thread::scope(|scope| {
        let clients = scope.spawn(|| side_by_side(20, |number| proxy.get(&format!("/?id={number}")).status));
        small.wait_for(1);
        large.wait_for(3);
        wait_for_queued(&proxy, 16.0);
        small.let_go(1);
        wait_for_queued(&proxy, 15.0);
        small.open();
        large.open();
        clients.join().expect("the clients")
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!((small.most(), large.most()), (1, 3));
}

#[test]
fn a_full_server_is_passed_over_while_others_have_room() {
    let (small, other) = (Busy::start(), Origin::says("other"));
    let proxy = proxy(&format!("server {} max-in-flight=1\nserver {other}", small.origin), "");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Round-robin: one of the first two goes to the small one.
            side_by_side(2, |_| proxy.get("/").expect(200));
        });
        small.wait_for(1);
        for _ in 0..10 {
            assert_eq!(proxy.get("/").expect(200).text(), "other");
        }
        small.open();
    });
    assert_eq!(small.most(), 1);
}

#[test]
fn what_one_server_has_failed_waits_for_room_on_another_and_is_in_nobodys_way() {
    let busy = Busy::start();
    let fails = fails_where_asked();
    let servers = format!("server {fails} max-in-flight=2\nserver {} max-in-flight=1", busy.origin);
    let proxy = proxy(&servers, "queue wait=60s; eject off; retry budget=100%");
    let ask = |number| proxy.get(&format!("/fails?id={number}")).status;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(0));
        busy.wait_for(1);
        let others = scope.spawn(|| side_by_side(3, ask));
        wait_for_queued(&proxy, 3.0);
        (0..20).for_each(|_| assert_eq!(proxy.get("/").expect(200).text(), "other"));
        busy.open();
        assert_eq!((first.join().expect("a client"), others.join().expect("clients")), (200, vec![200; 3]));
    });
    assert_eq!(busy.most(), 1);
}

#[test]
fn what_waits_after_a_failure_holds_no_room_on_the_pool_and_no_place_that_others_want() {
    let busy = Busy::start();
    let fails = fails_where_asked();
    let servers = format!("server {fails} max-in-flight=2\nserver {} max-in-flight=1", busy.origin);
    // Room for three, and places for two.
    let settings = "max-in-flight 3; queue length=2 wait=60s; eject off; retry budget=100%";
    let proxy = proxy(&servers, settings);
    let ask = |number| proxy.get(&format!("/fails?id={number}")).status;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(0));
        busy.wait_for(1);
        let waiting = [scope.spawn(|| ask(1)), scope.spawn(|| ask(2))];
        wait_for_queued(&proxy, 2.0);
        (0..20).for_each(|_| assert_eq!(proxy.get("/").expect(200).text(), "other"));
        // No place is left for one more who has failed, and none is taken from those who wait.
        assert_eq!(ask(3), 502);
        busy.open();
        let statuses = waiting.map(|one| one.join().expect("a client"));
        assert_eq!(first.join().expect("a client"), 200);
        assert!(statuses.iter().filter(|status| **status == 200).count() >= 1, "{statuses:?}");
    });
    assert_eq!(busy.most(), 1);
}

#[test]
fn a_client_with_a_cookie_waits_for_its_server_and_keeps_it() {
    let (home, other) = (Busy::start(), Origin::says("other"));
    let dir = portunus_tests::Place::new();
    std::fs::write(dir.file("key"), "0123456789abcdef0123456789abcdef").expect("a key");
    let sticky = format!("sticky cookie=srv key=${{file.{}}}", dir.file("key").display());
    let servers = format!("server {} max-in-flight=1\nserver {other}", home.origin);
    let proxy = proxy(&servers, &format!("queue wait=2s; {sticky}"));
    home.let_go(1);
    let mine = eventually("a cookie of its own", Duration::from_secs(10), || {
        let answer = proxy.get("/").expect(200);
        let set = answer.fields.one("set-cookie").expect("a cookie").split(';').next().map(str::to_owned);
        set.filter(|_| answer.text() != "other")
    });
    let get =
        |path: &str| proxy.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {mine}\r\n\r\n"));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get("/?id=1"));
        home.wait_for(1);
        let second = scope.spawn(|| get("/?id=2"));
        wait_for_queued(&proxy, 1.0);
        home.let_go(2);
        assert_eq!(first.join().expect("a client").text(), "1");
        assert_eq!(second.join().expect("a client").text(), "2", "the other one has room");
        // One who has waited in vain is served elsewhere, and has its server again the next time.
        let third = scope.spawn(|| get("/?id=3"));
        home.wait_for(1);
        let fourth = get("/?id=4");
        assert_eq!((fourth.text().as_str(), fourth.fields.one("set-cookie")), ("other", None));
        home.open();
        assert_eq!(third.join().expect("a client").text(), "3");
        assert_eq!(get("/?id=5").text(), "5");
    });
}

#[test]
fn a_bound_can_be_changed_while_requests_wait() {
    let busy = Busy::start();
    let text = |most: u32| {
        let server = &busy.origin;
        format!("pool p {{ server {server}; max-in-flight {most}; queue wait=20s }}\n{}", site("proxy p"))
    };
    let proxy = Proxy::start(&text(1));
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| proxy.get("/").expect(200));
        }
        busy.wait_for(1);
        wait_for_queued(&proxy, 4.0);
        proxy.write_config(&text(3));
        proxy.command(&["reload"]).expect(0);
        busy.wait_for(3);
        wait_for_queued(&proxy, 2.0);
        busy.open();
    });
}

#[test]
fn urgent_requests_go_first_and_others_make_room_for_them() {
    let busy = Busy::start();
    let routes = "route /health { queue priority=high; proxy p }\n route /batch { queue priority=low; proxy p }\n proxy p";
    let proxy = Proxy::start(&format!(
        "workers 2\npool p {{\nserver {}\nmax-in-flight 1; queue length=3 wait=20s\n}}\n{}",
        busy.origin,
        site(routes)
    ));
    let statuses = std::thread::scope(|scope| {
        let ask = |path: &'static str| scope.spawn(|| proxy.get(path).status);
        let mut clients = vec![ask("/?id=first")];
        busy.wait_for(1);
        for (number, path) in ["/batch?id=batch", "/?id=second", "/health?id=health"].into_iter().enumerate()
        {
            clients.push(ask(path));
            wait_for_queued(&proxy, number as f64 + 1.0);
        }
        proxy.get("/batch?id=late").expect(503);
        clients.push(ask("/health?id=more-health"));
        let displaced = clients.remove(1).join().expect("the client");
        busy.open();
        let mut statuses = vec![displaced];
        statuses.extend(clients.into_iter().map(|client| client.join().expect("the client")));
        statuses
    });
    assert_eq!(statuses, [503, 200, 200, 200, 200]);
    let order: Vec<_> =
        busy.origin.requests().iter().filter_map(|request| request.query("id").map(str::to_owned)).collect();
    assert_eq!(order, ["first", "health", "more-health", "second"]);
    proxy.wait_for_errors("queue-full", 2.0);
}

#[test]
fn checks_and_the_admin_api_do_not_wait_for_room() {
    let busy = Busy::start();
    let checked = Origin::says("well");
    let proxy =
        of(&busy, &format!("server {checked}\nmax-in-flight 1; queue wait=20s; health tcp every=100ms"));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| proxy.get("/").status);
        }
        eventually("a full pool", Duration::from_secs(10), || (queued(&proxy) >= 1.0).then_some(()));
        let before = checked.connections();
        eventually("more checks", Duration::from_secs(10), || {
            (checked.connections() > before + 3).then_some(())
        });
        assert!(proxy.admin("GET", "/ready").status == 200 && proxy.admin("GET", "/status").status == 200);
        busy.open();
    });
}
