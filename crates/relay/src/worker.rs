//! Worker: what belongs to one thread and is shared by all its connections.

use crate::asker::Asker;
use crate::buffers::Buffers;
use crate::cells::WorkerCells;
use crate::client::Active;
use crate::clock::Clock;
use crate::deadlines::Deadlines;
use crate::lag::Lag;
use crate::net::{self, Detached, Sockets, Stream};
use crate::plan::Listen;
use crate::run::{Counters, Run};
use crate::snapshot::Snapshot;
use crate::stats::{Recorder, Stats};
use portunus_message::{Limits, Peer, Tick};
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
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
    /// How late it is.
    pub lag: Lag,
    /// Who hears of finished exchanges.
    pub recorder: RefCell<Box<dyn Recorder>>,
    /// Who answers the filters' questions.
    pub asker: Asker,
    index: usize,
    run: RefCell<Rc<Run>>,
    counters: Counters,
    #[allow(clippy::vec_box)] // they move between here and the connections, and are large
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
pub struct Shared {
    /// Open connections of each worker.
    open: Vec<AtomicUsize>,
    /// The way to each worker.
    pub mail: Vec<mpsc::UnboundedSender<Message>>,
    handed_over: AtomicUsize,
    connections_max: AtomicUsize,
}

/// What a worker can be told.
pub enum Message {
    /// Put this Snapshot in force, and listen on these sockets and nowhere else.
    Apply(Arc<Snapshot>, Sockets),
    /// Serve this connection, which another worker has accepted.
    Arrive(Arrival),
    /// Say what you have counted.
    Stats(std::sync::mpsc::Sender<Stats>),
    /// Accept nothing more, finish what runs, end tunnels after this time.
    Drain(Duration),
    /// End now.
    Stop,
}

/// A new connection on its way to another worker: it belongs to no runtime.
pub struct Arrival {
    /// The connection.
    pub stream: Detached,
    /// Both ends.
    pub peer: Peer,
    /// By which listener it came.
    pub listen: Listen,
}

impl Worker {
    /// Worker `index` of those that have `shared` in common, running `snapshot`.
    pub fn new(
        index: usize,
        snapshot: Arc<Snapshot>,
        recorder: Box<dyn Recorder>,
        shared: Arc<Shared>,
    ) -> Worker {
        let buffers = Rc::new(Buffers::default());
        let counters = Counters::default();
        let run = Run::new(snapshot, None, &buffers, shared.mail.len(), &counters);
        Worker {
            clock: Clock::new(),
            deadlines: Rc::default(),
            buffers,
            cells: WorkerCells::default(),
            lag: Lag::default(),
            recorder: RefCell::new(recorder),
            asker: Asker::default(),
            index,
            run: RefCell::new(Rc::new(run)),
            counters,
            actives: RefCell::default(),
            actives_out: Cell::new(0),
            random: Cell::new(RandomState::new().hash_one(index) | 1),
            draining_since: Cell::new(None),
            over_at: Cell::new(Tick::NEVER),
            shared,
            sweeper: Notify::new(),
        }
    }

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
        self.is_draining() && (requests > 0 || now >= self.first_word_at(opened))
    }

    /// Until when a connection that has not said anything is waited for because the worker is to stop.
    pub fn first_word_at(&self, opened: Tick) -> Tick {
        self.draining_since.get().map_or(Tick::NEVER, |since| since.max(opened) + FIRST_WORD)
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
    pub fn hand_over(&self, to: usize, stream: Stream, peer: Peer, listen: &Listen) -> Result<(), Stream> {
        if self.shared.handed_over.load(Relaxed) >= HAND_OVER_QUEUE {
            return Err(stream);
        }
        let Some(mail) = self.shared.mail.get(to) else { return Err(stream) };
        let Ok(stream) = stream.detach() else { return Ok(()) };
        self.shared.handed_over.fetch_add(1, Relaxed);
        match mail.send(Message::Arrive(Arrival { stream, peer, listen: listen.clone() })) {
            Err(mpsc::error::SendError(Message::Arrive(Arrival { stream, .. }))) => {
                self.has_arrived(); // that worker has ended already: it comes back
                Stream::attach(stream).map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    /// There is something to sweep again.
    pub fn wake_sweeper(&self) {
        self.sweeper.notify_one();
    }

    /// A connection that another worker handed over has arrived.
    pub fn has_arrived(&self) {
        self.shared.handed_over.fetch_sub(1, Relaxed);
    }

    /// Whether connections are on their way between workers.
    pub fn expects_arrivals(&self) -> bool {
        self.shared.handed_over.load(Relaxed) > 0
    }

    /// Connections open on this worker.
    pub fn open(&self) -> usize {
        self.shared.open.get(self.index).map_or(0, |open| open.load(Relaxed))
    }

    /// Resolves when there is something to sweep again.
    pub async fn something_to_sweep(&self) {
        self.sweeper.notified().await;
    }

    /// Which worker this is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Begins to stop; whatever still runs after `grace` is ended.
    pub fn begin_drain(&self, grace: Duration) {
        let now = self.clock.refresh();
        self.draining_since.set(Some(now));
        self.over_at.set(now + grace);
        self.deadlines.wake_all();
    }

    /// What it has counted, as plain data.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            connections: self.cells.connections.get(),
            connections_open: self.open() as u64,
            connections_refused: self.cells.connections_refused.get(),
            accept_failures: self.cells.accept_failures.get(),
            active: self.cells.active.get(),
            crimes: self.cells.crimes(),
            underscores_dropped: self.cells.underscores_dropped.get(),
            ..Stats::default()
        };
        // What is on a host is counted by all workers together; one of them tells it.
        self.run().read(self.index == 0, &mut stats);
        stats
    }

    /// Puts a new Snapshot in force: the next exchange on any connection sees it, those under way keep theirs.
    pub fn apply(&self, snapshot: Arc<Snapshot>) {
        let workers = self.shared.mail.len();
        let run = Run::new(snapshot, Some(&self.run()), &self.buffers, workers, &self.counters);
        self.shared.connections_max.store(connections_max(&run.limits), Relaxed);
        *self.run.borrow_mut() = Rc::new(run);
    }
}

impl Shared {
    /// For workers that are reached by `mail`.
    pub fn new(mail: Vec<mpsc::UnboundedSender<Message>>, limits: &Limits) -> Shared {
        Shared {
            open: mail.iter().map(|_| AtomicUsize::new(0)).collect(),
            mail,
            handed_over: AtomicUsize::new(0),
            connections_max: AtomicUsize::new(connections_max(limits)),
        }
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
