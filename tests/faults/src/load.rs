//! load: an open loop — requests leave at their times whatever became of those before, so that a stall is counted.

use crate::exchange::{self, Connection};
use crate::ledger::{Class, Ledger, Outcome};
use crate::origin::Origin;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What to send, and how fast.
#[derive(Clone)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// Requests a second.
    pub rate: u32,
    /// How many leave together; 1 means evenly spread.
    pub burst: u32,
    /// How many kept connections there are at least; where all are busy another one is made.
    pub connections: usize,
    /// How many connections there are at most; a request that finds none waits for one, and its time runs,
    pub connections_max: usize,
    /// or is not sent.
    pub waits: bool,
    /// The kinds of requests, one after the other, again and again.
    pub mix: &'static [Class],
    /// The host that is asked for.
    pub host: String,
    /// What stands before the path.
    pub prefix: String,
    /// What is added to the query of a request with this number, `&fault=…` for example.
    pub query: fn(u64) -> String,
    /// How long an answer may take.
    pub patience: Duration,
    /// Whether a connection serves more than one request.
    pub keep_alive: bool,
}

/// The standard mix: of 20 requests 16 GETs of 1 KiB, 3 POSTs of 4 KiB, one GET of 256 KiB.
pub const STANDARD: &[Class] = {
    use Class::{Get, Large, Post};
    &[Get, Get, Get, Post, Get, Get, Get, Get, Get, Post, Get, Get, Get, Large, Get, Get, Post, Get, Get, Get]
};

impl Plan {
    /// The standard load.
    pub fn standard(address: SocketAddr, rate: u32) -> Plan {
        Plan {
            address,
            rate,
            burst: 1,
            connections: (rate as usize / 5).clamp(8, 200),
            connections_max: 5000,
            waits: true,
            mix: STANDARD,
            host: "faults.test".to_owned(),
            prefix: String::new(),
            query: |_| String::new(),
            patience: Duration::from_secs(5),
            keep_alive: true,
        }
    }

    /// Only requests of this kind.
    pub fn only(self, mix: &'static [Class]) -> Plan {
        Plan { mix, ..self }
    }

    /// When the request with this number is to leave.
    fn at(&self, number: u64) -> Duration {
        let burst = u64::from(self.burst.max(1));
        Duration::from_nanos((number / burst * burst).saturating_mul(1_000_000_000) / u64::from(self.rate))
    }
}

/// A load that runs.
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What the requests of one load share.
pub struct Shared {
    /// What is sent.
    pub plan: Plan,
    begun: Instant,
    name: String,
    stop: AtomicBool,
    /// Connections on which nothing is asked, the one that has waited longest first.
    pub idle: Mutex<VecDeque<Connection>>,
    /// How many connections are open.
    pub open: Arc<AtomicUsize>,
    /// One for each connection that there may be.
    pub permits: Semaphore,
    ledger: Mutex<Ledger>,
}

impl Load {
    /// Starts it; it goes on until `finish`.
    pub fn start(plan: Plan) -> Load {
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let permits = plan.connections_max;
        let shared = Arc::new(Shared {
            plan,
            begun: Instant::now(),
            name: format!("{}.{}", std::process::id(), LOADS.fetch_add(1, Relaxed)),
            stop: AtomicBool::new(false),
            idle: Mutex::default(),
            open: Arc::default(),
            permits: Semaphore::new(permits),
            ledger: Mutex::default(),
        });
        let of_thread = shared.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(run(of_thread));
        });
        Load { shared, thread }
    }

    /// How long it has run.
    pub fn age(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// How many connections have been opened.
    pub fn opened(&self) -> u64 {
        self.shared.ledger().opened
    }

    /// Waits until it has run for `age`.
    pub fn reach(&self, age: Duration) {
        while let Some(left) = age.checked_sub(self.age()).filter(|left| !left.is_zero()) {
            thread::park_timeout(left);
        }
    }

    /// Lets it run for another `time`.
    pub fn go_on(&self, time: Duration) {
        self.reach(self.age() + time);
    }

    /// Sends no more, waits for what is under way, and gives the ledger.
    pub fn finish(self) -> Ledger {
        self.shared.stop.store(true, Relaxed);
        self.thread.join().expect("the load");
        std::mem::take(&mut *lock(&self.shared.ledger))
    }

    /// The same, with what `origins` have seen of it: attempts, and POSTs that arrived more than once.
    pub fn finish_with<'a>(self, origins: impl IntoIterator<Item = &'a Origin>) -> Ledger {
        let prefix = format!("{}-", self.shared.name);
        let mut ledger = self.finish();
        let mut posts: HashMap<String, u64> = HashMap::new();
        for origin in origins {
            for (class, id) in origin.seen().into_iter().filter(|(_, id)| id.starts_with(&prefix)) {
                ledger.attempts += 1;
                if class == 'P' {
                    *posts.entry(id).or_default() += 1;
                }
            }
        }
        ledger.doubled = posts.values().filter(|count| **count > 1).count() as u64;
        ledger
    }
}

impl Shared {
    /// The id of the request with this number.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }

    /// The ledger, to write in.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

async fn run(shared: Arc<Shared>) {
    let begun = tokio::time::Instant::from_std(shared.begun);
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0.. {
        let at = shared.plan.at(number);
        tokio::time::sleep_until(begun + at).await;
        if shared.stop.load(Relaxed) {
            break;
        }
        under_way.spawn(one(shared.clone(), number, at, begun + at));
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

async fn one(shared: Arc<Shared>, number: u64, at: Duration, due: tokio::time::Instant) {
    let class = shared.plan.mix[number as usize % shared.plan.mix.len()];
    let end = exchange::ask(&shared, number, class, due + shared.plan.patience).await;
    let outcome = Outcome { number, class, at, latency: due.elapsed(), end };
    shared.ledger().outcomes.push(outcome);
}

/// Locks, even after a panic elsewhere.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
