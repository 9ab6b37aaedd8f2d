//! shedding: a pool that is asked more than it can do keeps doing it, in time; others do not notice; pauses cost nobody.

use portunus_tests::load::{Load, get, side_by_side};
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Origin, Proxy, Request, eventually};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long an origin works on one request.
const WORK: Duration = Duration::from_millis(20);
/// On how many at one time: two hundred a second.
const AT_A_TIME: usize = 4;

/// Work that only so many can do at one time; the others wait for them, as threads of a server do.
#[derive(Default)]
struct Shop {
    busy: Mutex<usize>,
    changed: Condvar,
    /// Those that are worked on or wait for that.
    inside: AtomicUsize,
    /// How long all works together have taken, in microseconds.
    worked: AtomicU64,
}

impl Shop {
    fn work(&self) {
        self.inside.fetch_add(1, SeqCst);
        let busy = self.busy.lock().expect("the shop");
        let mut busy = self.changed.wait_while(busy, |busy| *busy >= AT_A_TIME).expect("the shop");
        *busy += 1;
        drop(busy);
        let begun = Instant::now();
        let until = begun + WORK;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        self.worked.fetch_add(begun.elapsed().as_micros() as u64, SeqCst);
        self.inside.fetch_sub(1, SeqCst);
        *self.busy.lock().expect("the shop") -= 1;
        self.changed.notify_one();
    }
}

fn small_server() -> (Origin, Arc<Shop>) {
    let shop = Arc::new(Shop::default());
    let its = Arc::clone(&shop);
    let origin = Origin::serve(move |request: &Request| {
        its.work();
        Answer::text(request.query("id").unwrap_or("-"))
    });
    (origin, shop)
}

fn metric(proxy: &Proxy, name: &str, pool: &str) -> f64 {
    proxy.metric(name, &[&format!("pool=\"{pool}\"")])
}

#[test]
fn t24_an_overloaded_pool_goes_on_and_says_no_at_once() {
    let (origin, shop) = small_server();
    let proxy = Proxy::start(&format!("workers 2\npool p {{ server {origin} }}\n{}", site("proxy p")));
    // A light load shows how long answers take.
    let light = Load::start(proxy.address(), 2, get);
    light.wait_for(150);
    assert!(light.finish().iter().all(|outcome| outcome.result == Ok(200)));
    let (begun, worked) = (Instant::now(), shop.worked.load(SeqCst));
    let heavy = Load::start(proxy.address(), 300, get);
    eventually("the bound to follow", Duration::from_secs(30), || {
        (metric(&proxy, "portunus_pool_limit", "p") <= 64.0).then_some(())
    });
    let settled = begun.elapsed();
    let mut inside = Vec::new();
    eventually("some time under the new bound", Duration::from_secs(60), || {
        inside.push(shop.inside.load(SeqCst));
        (begun.elapsed() > settled * 2 + Duration::from_secs(3)).then_some(())
    });
    let (lasted, worked) = (begun.elapsed().as_secs_f64(), shop.worked.load(SeqCst) - worked);
    let outcomes = heavy.finish();
    let served: Vec<_> = outcomes.iter().filter(|outcome| outcome.result == Ok(200)).cloned().collect();
    let shed: Vec<_> = outcomes.iter().filter(|outcome| outcome.result == Ok(503)).cloned().collect();
    assert_eq!(served.len() + shed.len(), outcomes.len(), "nothing but answers and refusals");
    assert!(!shed.is_empty());
    // It has its hands full, whatever the machine gives it.
    let busy = worked as f64 / 1e6 / AT_A_TIME as f64 / lasted;
    assert!(busy >= 0.5, "{busy} of {lasted} s, {} served", served.len());
    // At once: whoever waits in line for a second is told another reason.
    let (at_once, late) = (proxy.errors("overloaded"), proxy.errors("queue-timeout"));
    assert!(at_once > late, "{at_once} were told at once, {late} after a second");
    // Without a bound each would wait for three hundred others.
    inside.sort_unstable();
    let usual = inside[inside.len() / 2];
    assert!(usual <= 100, "{usual} at the server at one time, settled after {settled:?}");
    proxy.expect_reason("overloaded");
    eventually("good again", Duration::from_secs(10), || (proxy.get("/").status == 200).then_some(()));
}

#[test]
fn t19_the_overload_of_one_pool_is_not_that_of_another() {
    let ((small, _), good) = (small_server(), Origin::says("good"));
    let proxy = Proxy::start(&format!(
        "workers 2\npool small {{ server {small} }}\npool good {{ server {good} }}\n{}",
        site("route /load { proxy small }; proxy good")
    ));
    let heavy = Load::start(proxy.address(), 100, get);
    heavy.wait_for(200);
    for _ in 0..50 {
        assert_eq!(proxy.get("/").expect(200).text(), "good");
    }
    heavy.finish();
}

#[test]
fn a_pause_of_a_server_costs_nobody_an_answer() {
    // For a while nothing is answered, and four hundred requests come.
    let open = Arc::new((Mutex::new(true), Condvar::new()));
    let its = Arc::clone(&open);
    let origin = Origin::serve(move |_| {
        let is_open = its.0.lock().expect("the door");
        drop(its.1.wait_while(is_open, |is_open| !*is_open).expect("the door"));
        Answer::text("ok")
    });
    // The server's kernel may take them late: that is another story.
    let proxy = Proxy::start(&format!(
        "workers 2\nlimits {{ connect 30s }}\npool p {{ server {origin} }}\n{}",
        site("proxy p")
    ));
    let light = Load::start(proxy.address(), 2, get);
    light.wait_for(500);
    light.finish();
    *open.0.lock().expect("the door") = false;
    let statuses = std::thread::scope(|scope| {
        let clients = scope.spawn(|| side_by_side(400, |_| proxy.get("/").status));
        eventually("all of them at the server", Duration::from_secs(20), || {
            (metric(&proxy, "portunus_pool_in_flight", "p") >= 400.0).then_some(())
        });
        *open.0.lock().expect("the door") = true;
        open.1.notify_all();
        clients.join().expect("the clients")
    });
    let lost = statuses.iter().filter(|status| **status != 200).count();
    assert_eq!(lost, 0, "of four hundred");
}
