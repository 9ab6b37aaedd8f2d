//! Worker: one thread with its runtime, its listeners, its pools; and Workers, all of them.

use crate::accept::{self, Arrival};
use crate::asker::Asker;
use crate::buffers::Buffers;
use crate::client::Active;
use crate::clock::{self, Clock};
use crate::deadlines::{Deadlines, SWEEP_EVERY};
use crate::net::{self, Listener, Sockets, Stream};
use crate::plan::Listen;
use crate::pool::HostPool;
use crate::snapshot::{Route, Snapshot};
use crate::stats::{Recorder, Stats};
use crate::tally::cells::{PoolCells, RouteCells, WorkerCells};
use portunus_message::{Crime, Limits, Request, Tick};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How long a connection that has not said anything yet is waited for when the worker is to stop.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// Connections that keep the memory of an exchange between two requests.
const ACTIVES_KEPT: usize = 320;
/// Connections on their way from one worker to another.
const HAND_OVER_QUEUE: usize = 256;

/// What belongs to one thread and is shared by all its connections.
pub struct Worker {
    /// Its idea of now.
    pub clock: Clock,
    /// The deadlines of its connections.
    pub deadlines: Rc<Deadlines>,
    /// Its read buffers.
    pub buffers: Rc<Buffers>,
    /// What it has counted.
    pub cells: WorkerCells,
    /// Who hears of finished exchanges.
    pub recorder: RefCell<Box<dyn Recorder>>,
    /// Who answers the filters' questions.
    pub asker: Asker,
    index: usize,
    run: RefCell<Rc<Run>>,
    retired: RefCell<HashMap<Box<str>, Rc<RouteCells>>>,
    actives: RefCell<Vec<Box<Active>>>,
    actives_out: Cell<usize>,
    random: Cell<u64>,
    draining_since: Cell<Option<Tick>>,
    over_at: Cell<Tick>,
    shared: Arc<Shared>,
    sweeper: Notify,
}

/// What all workers share.
#[derive(Debug)]
struct Shared {
    /// Open connections of each worker.
    open: Vec<AtomicUsize>,
    mail: Vec<mpsc::UnboundedSender<Message>>,
    handed_over: AtomicUsize,
    connections_max: AtomicUsize,
}

/// A Snapshot as one worker runs it: with its own pools and counters.
pub struct Run {
    /// What it runs.
    pub snapshot: Arc<Snapshot>,
    /// Its pools, in the Snapshot's order.
    pub pools: Vec<RunPool>,
    routes: Vec<Rc<RouteCells>>,
    limits: Rc<Limits>,
}

/// A pool as one worker runs it.
pub struct RunPool {
    /// Its hosts, in the Snapshot's order.
    pub hosts: Vec<Rc<HostPool>>,
    /// What this worker has counted of it.
    pub cells: Rc<PoolCells>,
}

enum Message {
    Apply(Arc<Snapshot>, Sockets),
    Arrive(Arrival0),
    Stats(std::sync::mpsc::Sender<Stats>),
    Drain(Duration),
    Stop,
}

/// An arrival on its way to another thread: without the first thread's runtime.
struct Arrival0 {
    stream: net::Detached,
    peer: portunus_message::Peer,
    listen: Listen,
}

impl Worker {
    /// The Snapshot in force, for one exchange.
    pub fn run(&self) -> Rc<Run> {
        Rc::clone(&self.run.borrow())
    }

    /// The bounds that hold before a route is known.
    pub fn limits(&self) -> Rc<Limits> {
        Rc::clone(&self.run.borrow().limits)
    }

    /// How long a client connection may be quiet now: less while most connections are used.
    pub fn keep_alive(&self) -> Duration {
        let run = self.run.borrow();
        let open: usize = self.shared.open.iter().map(|open| open.load(Relaxed)).sum();
        let pressed = open > self.shared.connections_max.load(Relaxed) / 4 * 3;
        if pressed { run.limits.keep_alive_pressed } else { run.limits.keep_alive }
    }

    /// A random number (xorshift64*): for choices and names, not for secrets.
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The memory for exchanges, used before or new.
    pub fn take_active(&self) -> Box<Active> {
        self.actives_out.set(self.actives_out.get() + 1);
        self.actives.borrow_mut().pop().unwrap_or_default()
    }

    /// Whether so many connections hold the memory of an exchange that a quiet one should give it back at once.
    pub fn is_crowded(&self) -> bool {
        self.actives_out.get() > ACTIVES_KEPT
    }

    /// Takes it back.
    pub fn give_active(&self, active: Box<Active>) {
        self.actives_out.set(self.actives_out.get().saturating_sub(1));
        let mut actives = self.actives.borrow_mut();
        if actives.len() < ACTIVES_KEPT {
            actives.push(active);
        }
    }

    /// Whether the worker is to stop.
    pub fn is_draining(&self) -> bool {
        self.draining_since.get().is_some()
    }

    /// Whether a quiet connection has to go because the worker is to stop; one that has not had its first answer is given a moment.
    pub fn sends_away(&self, requests: u64, opened: Tick, now: Tick) -> bool {
        let Some(since) = self.draining_since.get() else { return false };
        requests > 0 || now >= since.max(opened) + FIRST_WORD
    }

    /// When everything must be over.
    pub fn over_at(&self) -> Tick {
        self.over_at.get()
    }

    /// Whether everything must be over.
    pub fn is_over(&self, now: Tick) -> bool {
        now >= self.over_at.get()
    }

    /// Another worker that has far fewer connections.
    pub fn less_busy(&self) -> Option<usize> {
        let open = |at: usize| self.shared.open.get(at).map_or(usize::MAX, |open| open.load(Relaxed));
        if self.shared.open.len() < 2 {
            return None;
        }
        let mine = open(self.index);
        let least = (0..self.shared.open.len()).min_by_key(|&at| open(at))?;
        (mine > 32 && open(least).saturating_mul(5) < mine.saturating_mul(4)).then_some(least)
    }

    /// Gives a new connection to another worker; back when it cannot be taken.
    pub fn hand_over(&self, to: usize, arrival: Arrival) -> Result<(), Arrival> {
        if self.shared.handed_over.load(Relaxed) >= HAND_OVER_QUEUE {
            return Err(arrival);
        }
        let Some(mail) = self.shared.mail.get(to) else { return Err(arrival) };
        let Arrival { stream, peer, listen } = arrival;
        let Ok(stream) = stream.detach() else { return Ok(()) };
        self.shared.handed_over.fetch_add(1, Relaxed);
        // A worker that has ended already: the connection is closed, as it would be there.
        let _ = mail.send(Message::Arrive(Arrival0 { stream, peer, listen }));
        Ok(())
    }

    /// There is something to sweep again.
    pub fn wake_sweeper(&self) {
        self.sweeper.notify_one();
    }

    fn stats(&self) -> Stats {
        let run = self.run();
        let names = run.snapshot.routes().iter().map(|route| route.name.to_string());
        let routes = names.zip(run.routes.iter().map(|cells| cells.read())).collect();
        let pool = |(pool, mine): (&crate::snapshot::Pool, &RunPool)| {
            let hosts = mine.hosts.iter().map(|host| {
                // What is on a host is counted by all workers together; one of them tells it.
                let in_flight = if self.index == 0 { host.host.in_flight() } else { 0 };
                (host.host.name.to_string(), host.cells.read(host.idle_count(), in_flight))
            });
            (pool.name.to_string(), mine.cells.read(hosts.collect()))
        };
        Stats {
            connections: self.cells.connections.get(),
            connections_open: self.shared.open.get(self.index).map_or(0, |open| open.load(Relaxed) as u64),
            connections_refused: self.cells.connections_refused.get(),
            accept_failures: self.cells.accept_failures.get(),
            active: self.cells.active.get(),
            routes,
            pools: run.snapshot.pools().iter().zip(&run.pools).map(pool).collect(),
            crimes: self.cells.crimes(),
            underscores_dropped: self.cells.underscores_dropped.get(),
        }
    }

    /// Puts a new Snapshot in force: the next exchange on any connection sees it, those under way keep theirs.
    fn apply(&self, snapshot: Arc<Snapshot>, workers: usize) {
        let old = self.run();
        let run = Run::new(snapshot, Some(&old), &self.buffers, workers, &mut self.retired.borrow_mut());
        self.shared.connections_max.store(connections_max(&run.limits), Relaxed);
        *self.run.borrow_mut() = Rc::new(run);
    }
}

impl Run {
    fn new(
        snapshot: Arc<Snapshot>,
        old: Option<&Run>,
        buffers: &Rc<Buffers>,
        workers: usize,
        retired: &mut HashMap<Box<str>, Rc<RouteCells>>,
    ) -> Run {
        let old_pools: HashMap<&str, &RunPool> = old
            .map(|old| old.snapshot.pools().iter().map(|pool| &*pool.name).zip(&old.pools).collect())
            .unwrap_or_default();
        let pools = snapshot.pools().iter().map(|pool| {
            let before = old_pools.get(&*pool.name);
            let hosts = pool.hosts.iter().map(|(_, host)| {
                let new = HostPool::new(
                    Arc::clone(host),
                    pool.keep_alive,
                    pool.connect_timeout,
                    workers,
                    Rc::clone(buffers),
                );
                let same =
                    before.and_then(|pool| pool.hosts.iter().find(|old| old.host.address == host.address));
                if let Some(same) = same {
                    new.adopt(same);
                }
                Rc::new(new)
            });
            RunPool {
                hosts: hosts.collect(),
                cells: before.map(|pool| Rc::clone(&pool.cells)).unwrap_or_default(),
            }
        });
        let pools = pools.collect();
        if let Some(old) = old {
            // Counters outlive a route, so that taking it away and putting it back does not turn them back.
            let names = old.snapshot.routes().iter().map(|route| route.name.clone());
            retired.extend(names.zip(old.routes.iter().map(Rc::clone)));
        }
        let routes =
            snapshot.routes().iter().map(|route| retired.remove(&route.name).unwrap_or_default()).collect();
        if retired.len() > snapshot.routes().len() + 1000 {
            retired.clear();
        }
        let limits = Rc::new(snapshot.plan().settings.limits.clone());
        Run { snapshot, pools, routes, limits }
    }

    /// The counters of a route.
    pub fn route_cells(&self, at: u32) -> Option<&RouteCells> {
        self.routes.get(at as usize).map(|cells| &**cells)
    }

    /// The route for a request that came by `listen`.
    pub fn find(
        &self,
        listen: &Listen,
        request: &Request,
        client_ip: IpAddr,
    ) -> Result<(u32, &Route), Crime> {
        let table = &self.snapshot.table;
        let listen = table.listens().binary_search(listen).map_err(|_| Crime::NoSite)?;
        let at = table.find(listen, request, client_ip)?;
        self.snapshot.route(at).map(|route| (at, route)).ok_or(Crime::Internal)
    }
}

/// A place among the open connections; given back when dropped.
pub struct Seat(Rc<Worker>);

impl Seat {
    /// Takes a place, if all workers together have one left.
    pub fn take(worker: &Rc<Worker>) -> Option<Seat> {
        let shared = &worker.shared;
        let open: usize = shared.open.iter().map(|open| open.load(Relaxed)).sum();
        if open >= shared.connections_max.load(Relaxed) {
            return None;
        }
        shared.open.get(worker.index)?.fetch_add(1, Relaxed);
        Some(Seat(Rc::clone(worker)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(open) = self.0.shared.open.get(self.0.index) {
            open.fetch_sub(1, Relaxed);
        }
    }
}

/// A limit of 0 means: what the descriptors allow, two for each exchange, with a tenth kept back.
fn connections_max(limits: &Limits) -> usize {
    match limits.connections {
        0 => net::descriptors_max() / 10 * 9 / 2,
        limit => limit,
    }
}

/// All workers.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts as many threads as there are recorders.
    pub fn start(
        snapshot: &Arc<Snapshot>,
        sockets: &Sockets,
        recorders: Vec<Box<dyn Recorder + Send>>,
    ) -> io::Result<Workers> {
        let count = recorders.len();
        let (mail, boxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let shared = Arc::new(Shared {
            open: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            mail,
            handed_over: AtomicUsize::new(0),
            connections_max: AtomicUsize::new(connections_max(&snapshot.plan().settings.limits)),
        });
        let mut threads = Vec::with_capacity(count);
        for (index, (recorder, mailbox)) in recorders.into_iter().zip(boxes).enumerate() {
            let (snapshot, sockets, shared) = (Arc::clone(snapshot), sockets.clone(), Arc::clone(&shared));
            let body = move || thread(index, snapshot, sockets, recorder, mailbox, shared);
            threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(body)?);
        }
        Ok(Workers { shared, threads })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Puts a new Snapshot in force, and listens on `sockets` and nowhere else.
    pub fn apply(&self, snapshot: &Arc<Snapshot>, sockets: &Sockets) {
        self.tell_all(|| Message::Apply(Arc::clone(snapshot), sockets.clone()));
    }

    /// What all have counted, added up. Waits until every worker has answered, a second at most.
    pub fn stats(&self) -> Stats {
        let (answer, answers) = std::sync::mpsc::channel();
        self.tell_all(|| Message::Stats(answer.clone()));
        drop(answer);
        let until = clock::read() + Duration::from_secs(1);
        let mut sum = Stats::default();
        while let Ok(one) = answers.recv_timeout(until.since(clock::read())) {
            sum.add(&one);
        }
        sum
    }

    /// Stops accepting, lets what runs come to its end, and ends tunnels after `grace`. The caller drops its own [`Sockets`] first.
    pub fn drain(&self, grace: Duration) {
        self.tell_all(|| Message::Drain(grace));
    }

    /// Waits until all workers have ended; after `patience` they are told to stop at once. Says whether they ended by themselves.
    pub fn join(self, patience: Duration) -> bool {
        let until = clock::read() + patience;
        let mut in_time = true;
        for thread in self.threads {
            while !thread.is_finished() && clock::read() < until {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                in_time = false;
                for mail in &self.shared.mail {
                    let _ = mail.send(Message::Stop);
                }
            }
            let _ = thread.join();
        }
        in_time
    }

    /// Whether all workers have ended.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        for mail in &self.shared.mail {
            let _ = mail.send(message()); // a worker that has ended hears nothing
        }
    }
}

fn thread(
    index: usize,
    snapshot: Arc<Snapshot>,
    sockets: Sockets,
    recorder: Box<dyn Recorder + Send>,
    mailbox: mpsc::UnboundedReceiver<Message>,
    shared: Arc<Shared>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .build_local(tokio::runtime::LocalOptions::default());
    let Ok(runtime) = runtime else { return };
    runtime.block_on(live(index, snapshot, sockets, recorder, mailbox, shared));
    runtime.shutdown_background();
}

/// A worker's life.
async fn live(
    index: usize,
    snapshot: Arc<Snapshot>,
    sockets: Sockets,
    recorder: Box<dyn Recorder>,
    mut mailbox: mpsc::UnboundedReceiver<Message>,
    shared: Arc<Shared>,
) {
    let buffers = Rc::new(Buffers::default());
    let workers = shared.mail.len();
    let run = Run::new(snapshot, None, &buffers, workers, &mut HashMap::new());
    let worker = Rc::new(Worker {
        clock: Clock::new(),
        deadlines: Rc::default(),
        buffers,
        cells: WorkerCells::default(),
        recorder: RefCell::new(recorder),
        asker: Asker::default(),
        index,
        run: RefCell::new(Rc::new(run)),
        retired: RefCell::default(),
        actives: RefCell::default(),
        actives_out: Cell::new(0),
        random: Cell::new(RandomState::new().hash_one(index) | 1),
        draining_since: Cell::new(None),
        over_at: Cell::new(Tick::NEVER),
        shared,
        sweeper: Notify::new(),
    });
    tokio::task::spawn_local(sweep(Rc::clone(&worker)));
    let mut doors = Doors::default();
    doors.open(&sockets, &worker);
    drop(sockets);
    loop {
        let message = tokio::select! {
            message = mailbox.recv() => message,
            () = drained(&worker), if worker.is_draining() => break,
        };
        match message {
            Some(Message::Apply(snapshot, sockets)) => {
                worker.apply(snapshot, workers);
                doors.open(&sockets, &worker);
            }
            Some(Message::Arrive(Arrival0 { stream, peer, listen })) => {
                worker.shared.handed_over.fetch_sub(1, Relaxed);
                if let Ok(stream) = Stream::attach(stream) {
                    accept::serve(stream, peer, Rc::new(listen), &worker);
                }
            }
            Some(Message::Stats(answer)) => drop(answer.send(worker.stats())),
            Some(Message::Drain(grace)) => {
                let now = worker.clock.refresh();
                worker.draining_since.set(Some(now));
                worker.over_at.set(now + grace);
                doors.close_all(&worker);
                worker.deadlines.wake_all();
            }
            Some(Message::Stop) | None => break,
        }
    }
    worker.recorder.borrow_mut().flush();
}

/// Ends when no connection is open any more.
async fn drained(worker: &Worker) {
    let open = || worker.shared.open.get(worker.index).map_or(0, |open| open.load(Relaxed));
    while open() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A worker's listeners, by their address.
#[derive(Default)]
struct Doors(HashMap<Listen, Door>);

struct Door {
    listener: Rc<Listener>,
    listen: Rc<Listen>,
    ours: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Doors {
    /// Listens on `sockets` and nowhere else; listeners that are open already stay as they are.
    fn open(&mut self, sockets: &Sockets, worker: &Rc<Worker>) {
        let gone: Vec<Listen> = self.0.keys().filter(|listen| !sockets.has(listen)).cloned().collect();
        for listen in gone {
            self.close(&listen, worker);
        }
        let known = |listen: &Listen| self.0.contains_key(listen);
        for (listen, ours, listener) in sockets.of_worker(worker.index, known) {
            let (listener, name) = (Rc::new(listener), Rc::new(listen.clone()));
            let task = accept::listen(Rc::clone(&listener), Rc::clone(&name), ours, Rc::clone(worker));
            let task = tokio::task::spawn_local(task);
            self.0.insert(listen, Door { listener, listen: name, ours, task });
        }
    }

    /// Stops listening; whoever has been let in by the kernel already is served.
    fn close(&mut self, listen: &Listen, worker: &Rc<Worker>) {
        if let Some(door) = self.0.remove(listen) {
            door.task.abort();
            accept::empty(&door.listener, &door.listen, door.ours, worker);
        }
    }

    fn close_all(&mut self, worker: &Rc<Worker>) {
        for listen in self.0.keys().cloned().collect::<Vec<_>>() {
            self.close(&listen, worker);
        }
    }
}

/// Ten times a second, while there is anything to look after: deadlines, records, and once a second idle connections.
async fn sweep(worker: Rc<Worker>) {
    let mut round = 0u32;
    loop {
        let idle = worker.run().pools.iter().flat_map(|pool| &pool.hosts).any(|host| host.idle_count() > 0);
        if worker.deadlines.is_empty() && !idle {
            worker.recorder.borrow_mut().flush();
            worker.sweeper.notified().await;
        }
        tokio::time::sleep(SWEEP_EVERY).await;
        let now = worker.clock.refresh();
        worker.deadlines.sweep(now);
        worker.recorder.borrow_mut().flush();
        round = round.wrapping_add(1);
        if round.is_multiple_of(10) {
            for host in worker.run().pools.iter().flat_map(|pool| &pool.hosts) {
                host.sweep(now);
            }
        }
    }
}
