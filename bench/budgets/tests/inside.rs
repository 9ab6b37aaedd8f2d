//! Budgets of the relay, run in this process: memory taken per request, and what many routes cost.

#![allow(clippy::unwrap_used, clippy::expect_used)] // it is a test from end to end

use portunus_budgets::client::Client;
use portunus_budgets::heap::{self, Counting};
use portunus_budgets::origin::Origin;
use portunus_budgets::report;
use portunus_message::{Exchange, Request};
use portunus_relay::dispatch::Table;
use portunus_relay::net::{Given, Sockets};
use portunus_relay::plan::{
    Address, Directive, Eject, Forward, HostPattern, Keep, KeepAlive, Listen, Matcher, PathMatch, Plan,
    PoolPlan, RoutePlan, ServerPlan, SitePlan, SlowStart,
};
use portunus_relay::snapshot::Snapshot;
use portunus_relay::stats::{Names, Recorder, Unshaken};
use portunus_relay::worker::Farewell;
use portunus_relay::workers::Workers;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[global_allocator]
static HEAP: Counting = Counting;

/// Held by a test while it measures: in one process, one at a time.
static ALONE: Mutex<()> = Mutex::new(());

const CONNECTIONS: usize = 64;

#[test]
fn a_warm_request_takes_no_memory() {
    heap::excuse_this_thread();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let origin = Origin::start().unwrap();
    let (workers, address) = start(&plan(origin.address, 1));
    let mut client = Client::new(address);
    client.connect(CONNECTIONS).unwrap();
    client.ask_on_all(50).unwrap();
    // What a request takes, it takes in every run. In a single one something else may come on top: a moment in which more
    // requests than ever before were under way at once takes one more connection to the origin.
    let runs = (0..5).map(|_| {
        let before = heap::taken();
        let requests = client.ask_on_all(100).unwrap();
        (heap::taken() - before) as f64 / requests as f64
    });
    let each = runs.fold(f64::INFINITY, f64::min);
    drop(client);
    workers.drain(&Farewell::default());
    workers.join(Duration::from_secs(5));
    report("heap allocations per request", format!("{each:.4}"), "0, told apart from 0.001");
    assert!(each < 0.001, "{each:.4}");
}

/// A whole request costs what it costs; only finding its route can grow with the number of routes. So the growth is
/// measured by itself, where no noise of sockets hides or feigns it, and held against the cost of a whole request.
#[test]
fn ten_thousand_routes_cost_as_much_as_one() {
    heap::excuse_this_thread();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let origin = Origin::start().unwrap();
    let whole = whole_request(&plan(origin.address, 1));
    let one = finding(&plan(origin.address, 1), 1);
    let many = finding(&plan(origin.address, 10_000), 10_000);
    let ratio = (whole + many - one) / whole;
    let parts = format!(
        "{ratio:.3}: {:.0} ns to find one of 10,000, {:.0} ns the only one, {:.0} ns a request",
        many, one, whole
    );
    report("cost with 10,000 routes against one", parts, 1.05);
    assert!(ratio <= 1.05, "{ratio:.3}");
}

/// Nanoseconds of processor time that one request takes of the worker: the least of several runs.
fn whole_request(plan: &Plan) -> f64 {
    let before: BTreeSet<String> = threads().collect();
    let (workers, address) = start(plan);
    let new: Vec<String> = threads().filter(|thread| !before.contains(thread)).collect();
    let mut client = Client::new(address);
    client.connect(CONNECTIONS).unwrap();
    client.ask_on_all(50).unwrap();
    let runs = (0..10).map(|_| {
        let began = processor_time(&new);
        let requests = client.ask_on_all(50).unwrap();
        (processor_time(&new) - began) as f64 / requests as f64
    });
    let least = runs.fold(f64::INFINITY, f64::min);
    drop(client);
    workers.drain(&Farewell::default());
    workers.join(Duration::from_secs(5));
    least
}

/// The files that say how long each thread of this process has run.
fn threads() -> impl Iterator<Item = String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.map(|task| task.path().join("schedstat").display().to_string())
}

fn processor_time(threads: &[String]) -> u64 {
    let texts = threads.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// Nanoseconds to find a route, each of `routes` in turn: the least of many runs.
fn finding(plan: &Plan, routes: usize) -> f64 {
    let table = Table::compile(plan).unwrap_or_else(|_| panic!("the plan compiles"));
    let requests: Vec<Request> =
        (0..routes.max(1000)).map(|number| request(number * 7919 % routes)).collect();
    let client_ip = "127.0.0.1".parse().unwrap();
    let runs = (0..50).map(|_| {
        let began = Instant::now();
        for request in &requests {
            let _ = black_box(table.find(0, black_box(request), client_ip));
        }
        began.elapsed().as_nanos() as f64 / requests.len() as f64
    });
    runs.fold(f64::INFINITY, f64::min)
}

fn request(route: usize) -> Request {
    let mut request = Request::default();
    request.target.set_authority(b"budget.example").unwrap();
    request.target.set_path(format!("/service-{route}/item").as_bytes()).unwrap();
    request
}

/// Starts one worker that runs `plan`; says where it listens.
fn start(plan: &Plan) -> (Workers, SocketAddr) {
    let snapshot = Snapshot::compile(plan, None).unwrap_or_else(|_| panic!("the plan compiles"));
    let listen: BTreeSet<Listen> = plan.sites.iter().flat_map(|site| site.listen.iter().cloned()).collect();
    let sockets = Sockets::open(&listen, 1, None, &mut Given::default())
        .unwrap_or_else(|(listen, error)| panic!("{listen}: {error}"));
    let address = sockets.addresses().first().unwrap().parse().unwrap();
    (Workers::start(&Arc::new(snapshot), &sockets, vec![Box::new(Nobody)]).unwrap(), address)
}

/// Nobody hears of the exchanges.
struct Nobody;

impl Recorder for Nobody {
    fn record(&mut self, _: &Exchange, _: &Names<'_>) {}
    fn unshaken(&mut self, _: &Unshaken<'_>) {}
    fn flush(&mut self) {}
}

/// One site with `routes` routes by path, and one more for every other path, all to one origin.
fn plan(origin: SocketAddr, routes: usize) -> Plan {
    let pool = PoolPlan {
        name: "origin".to_owned(),
        servers: vec![ServerPlan {
            address: Address::Socket(origin),
            weight: 1,
            backup: false,
            max_in_flight: None,
            zone: None,
            found_by: None,
        }],
        balance: Directive { name: "round-robin".to_owned(), args: Default::default() },
        keep_alive: KeepAlive { idle: 256, time: None },
        connect_timeout: Duration::from_secs(2),
        tls: None,
        proxy_protocol: None,
        protocol: Default::default(),
        retry: Default::default(),
        queue: Default::default(),
        hedge: None,
        drain: None,
        eject: Eject::default(),
        health: None,
        slow_start: SlowStart::default(),
        keep: Keep::default(),
        sticky: None,
    };
    let paths = (0..routes).map(|number| PathMatch::Prefix(format!("/service-{number}")));
    let routes = paths.chain([PathMatch::Any]).map(|path| RoutePlan {
        name: format!("{path:?}"),
        matcher: Matcher { path, ..Matcher::default() },
        priority: 0,
        filters: Vec::new(),
        forward: vec![Forward { pool: "origin".to_owned(), weight: 1 }],
        split: None,
        canary: None,
        mirror: None,
        retry: Default::default(),
        hedge: None,
        urgency: Default::default(),
        limits: Arc::default(),
    });
    let site = SitePlan {
        names: vec![HostPattern::Any],
        listen: vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())],
        prefaced: Vec::new(),
        tls: None,
        routes: routes.collect(),
    };
    Plan { pools: vec![pool], sites: vec![site], ..Plan::default() }
}
