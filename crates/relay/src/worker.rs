//! Worker: what belongs to one thread and is shared by all its connections.

use crate::asker::Asker;
use crate::buffers::Buffers;
use crate::cells::{Count, WorkerCells};
use crate::census::{self, Census};
use crate::client::Active;
use crate::clock::Clock;
use crate::crowd::{Aside, Wait};
use crate::deadlines::Deadlines;
use crate::net::{Detached, Sockets, Stream};
use crate::plan::Listen;
use crate::pressure::Level;
use crate::run::{Counters, Run};
use crate::seats::{self, NoSeat, Place, Seats};
use crate::snapshot::Snapshot;
use crate::stats::{Recorder, Stats};
use crate::stock::Stock;
use crate::totals::Totals;
use crate::turnstile::Turnstile;
use portunus_message::{Limits, Peer, Tick};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How long a connection that has not said anything yet is waited for when the worker is to stop.
const FIRST_WORD: Duration = Duration::from_secs(3);
/// How long one is waited for that has had an answer already.
const NEXT_WORD: Duration = Duration::from_secs(1);
/// How long a tunnel may go on whose host is no longer part of what runs, unless its pool says otherwise.
pub const TUNNELS_OF_THE_PAST: Duration = Duration::from_secs(300);
/// How long the two sides of a tunnel have for their good-byes; it is part of the time they are given.
pub const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Configurations that are not in force any more and may have exchanges for as long as these take.
const PAST_MAX: usize = 8;
/// How long a connection that has had all its time may still be read, so that what it was sent is not lost to a reset.
const LAST_MOMENT: Duration = Duration::from_millis(200);
/// Connections that keep the memory of an exchange between two requests.
const ACTIVES_KEPT: usize = 320;
/// How long no connections are handed over to a worker that has enough to do for those it has, from a turn in which it had.
const BUSY: Duration = Duration::from_millis(50);
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
    /// Where exchanges wait for their turn when there are too many.
    pub turnstile: Turnstile,
    /// Who holds how much, while memory is nearly gone.
    pub census: Census,
    /// Who hears of finished exchanges.
    pub recorder: RefCell<Box<dyn Recorder>>,
    /// Who answers the filters' questions.
    pub asker: Asker,
    /// How long it had worked when it refused connections last, because it had enough to do for those it had.
    pub refused_after: Cell<Duration>,
    /// Refused connections that are read for a moment.
    pub refused_lingering: Cell<usize>,
    index: usize,
    run: RefCell<Rc<Run>>,
    counters: Counters,
    #[allow(clippy::vec_box)] // they move between here and the connections, and are large
    actives: Stock<Box<Active>>,
    actives_out: Cell<usize>,
    random: Cell<u64>,
    draining_since: Cell<Option<Tick>>,
    over_at: Cell<Tick>,
    tunnels: Cell<Duration>,
    /// Whether a successor serves already, so that quiet connections may wait for their next request.
    has_successor: Cell<bool>,
    last_calls: Cell<usize>,
    level_seen: Cell<Level>,
    wants_seen: Cell<u32>,
    census_at: Cell<Tick>,
    /// What was in force before and still has exchanges, the oldest first.
    past: RefCell<Vec<Weak<Run>>>,
    shared: Arc<Shared>,
    sweeper: Notify,
    leaving: Notify,
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// Places among the open connections.
    pub seats: Seats,
    /// The way to each worker.
    pub mail: Vec<mpsc::UnboundedSender<Message>>,
    /// What each worker has counted, as it was when it last wrote that down; it stays when a worker has ended.
    pub totals: Totals,
    handed_over: AtomicUsize,
}

/// What a worker can be told.
pub enum Message {
    /// Put this Snapshot in force, and listen on these sockets and nowhere else.
    Apply(Arc<Snapshot>, Sockets),
    /// Serve this connection, which another worker has accepted.
    Arrive(Arrival),
    /// Write down what you have counted, and say so.
    Count(std::sync::mpsc::Sender<()>),
    /// Accept nothing more, finish what runs.
    Drain(Farewell),
    /// End now.
    Stop,
}

/// How a worker is to end.
#[derive(Clone, Debug, Default)]
pub struct Farewell {
    /// How long exchanges may take, unless their pool says otherwise.
    pub grace: Duration,
    /// How long tunnels may take, unless their pool says otherwise.
    pub tunnels: Duration,
    /// What a successor listens at already.
    pub handed_over: Arc<BTreeSet<Listen>>,
    /// Whether everything has to end now, whatever it was given.
    pub at_once: bool,
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
    /// Worker `index` of those that have `shared` in common, running `snapshot`; its runtime counts in `rests` how often nothing was left to run.
    pub fn new(
        index: usize,
        snapshot: Arc<Snapshot>,
        recorder: Box<dyn Recorder>,
        shared: Arc<Shared>,
        rests: Arc<AtomicU32>,
    ) -> Worker {
        let buffers = Rc::new(Buffers::default());
        let counters = Counters::default();
        let run = Run::new(snapshot, None, &buffers, shared.mail.len(), &counters);
        Worker {
            clock: Clock::new(),
            deadlines: Rc::default(),
            buffers,
            cells: WorkerCells::default(),
            turnstile: Turnstile::new(rests),
            census: Census::default(),
            recorder: RefCell::new(recorder),
            asker: Asker::default(),
            refused_after: Cell::default(),
            refused_lingering: Cell::new(0),
            index,
            run: RefCell::new(Rc::new(run)),
            counters,
            actives: Stock::new(ACTIVES_KEPT),
            actives_out: Cell::new(0),
            random: Cell::new(RandomState::new().hash_one(index) | 1),
            draining_since: Cell::new(None),
            over_at: Cell::new(Tick::NEVER),
            tunnels: Cell::default(),
            has_successor: Cell::new(false),
            last_calls: Cell::new(0),
            level_seen: Cell::default(),
            wants_seen: Cell::default(),
            census_at: Cell::default(),
            past: RefCell::default(),
            shared,
            sweeper: Notify::new(),
            leaving: Notify::new(),
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
        let seats = &self.shared.seats;
        let pressed = seats.taken() > seats.max() / 4 * 3 || self.level() >= Level::Tight;
        if pressed { run.limits.keep_alive_pressed } else { run.limits.keep_alive }
    }

    /// How short memory is.
    pub fn level(&self) -> Level {
        self.shared.seats.pressure.level()
    }

    /// When a quiet connection has to go because memory is short.
    pub fn tight_until(&self, now: Tick) -> Tick {
        if self.level() < Level::Tight {
            Tick::NEVER
        } else {
            now + self.run.borrow().limits.keep_alive_pressed
        }
    }

    /// Gives back the memory of exchanges that are over, where nobody has needed it since the last time. To be called once a second.
    pub fn trim(&self) {
        self.buffers.trim();
        self.actives.trim();
    }

    /// Gives back all of it.
    pub fn empty(&self) {
        self.buffers.empty();
        self.actives.empty();
    }

    /// Gives up what is only kept for later, when it costs more than it is worth: all of it while memory is short, and idle upstream
    /// connections when they take the descriptors that clients need. To be called ten times a second.
    pub fn tidy(&self) {
        let level = self.level();
        if self.level_seen.replace(level) < level {
            self.deadlines.wake_all(); // quiet connections have less time now
        }
        self.take_census(level);
        if level >= Level::Tight {
            self.empty();
        }
        let wants = self.shared.seats.pressure.wants();
        let are_wanted = self.wants_seen.replace(wants) != wants;
        if level >= Level::Tight || are_wanted || self.idle() > self.idle_max() {
            self.close_idle();
        }
    }

    /// Closes what is only kept for later, here and soon on every other worker, because there is no descriptor left. Says whether there was
    /// anything to close here.
    pub fn give_up_idle(&self) -> bool {
        self.shared.seats.pressure.want_descriptors();
        let any = self.idle() > 0;
        self.close_idle();
        any
    }

    /// How many idle connections to upstreams there are.
    fn idle(&self) -> usize {
        let run = self.run.borrow();
        run.pools.iter().flat_map(|pool| &pool.hosts).map(|host| host.idle_count()).sum()
    }

    fn close_idle(&self) {
        let run = self.run();
        run.pools.iter().flat_map(|pool| &pool.hosts).for_each(|host| host.close_idle());
    }

    /// While memory is nearly gone those who hold the most have to go, few at a time: it may be enough.
    fn take_census(&self, level: Level) {
        if level < Level::Ending {
            if self.census_at.take() != Tick(0) {
                self.census.end();
            }
            return;
        }
        let now = self.clock.now();
        if now >= self.census_at.get() {
            self.census_at.set(now + census::EVERY);
            self.census.decide();
            self.deadlines.wake_all(); // everybody tells what he holds, and some hear that they have to go
        }
    }

    /// How many idle upstream connections this worker may have: what the descriptors leave when each client needs two, and some are
    /// kept back as they are from clients.
    fn idle_max(&self) -> usize {
        let left = seats::descriptors_allow().saturating_sub(2 * self.shared.seats.taken());
        left / self.count().max(1)
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
        self.actives.take().unwrap_or_default()
    }

    /// Whether so many connections hold the memory of an exchange that a quiet one should give it back at once.
    pub fn is_crowded(&self) -> bool {
        self.actives_out.get() > ACTIVES_KEPT
    }

    /// Takes it back.
    pub fn give_active(&self, active: Box<Active>) {
        self.actives_out.set(self.actives_out.get().saturating_sub(1));
        self.actives.give(active);
    }

    /// Whether the worker is to stop.
    pub fn is_draining(&self) -> bool {
        self.draining_since.get().is_some()
    }

    /// When a quiet connection has to go because the worker is to stop. It is given a moment, for a request that is on its way meets a
    /// closed connection otherwise; and if a successor serves already, and nobody waits for the end, all the time there is: whoever
    /// asks again hears that the connection ends.
    pub fn sends_away_at(&self, requests: u64, opened: Tick) -> Tick {
        match self.draining_since.get() {
            None => Tick::NEVER,
            Some(_) if self.has_successor.get() => self.over_at.get(),
            Some(since) if requests == 0 => (since.max(opened) + FIRST_WORD).min(self.over_at.get()),
            Some(since) => (since + NEXT_WORD).min(self.over_at.get()),
        }
    }

    /// A listener is about to close.
    pub fn begins_last_call(&self) {
        self.last_calls.set(self.last_calls.get() + 1);
    }

    /// It is closed.
    pub fn ends_last_call(&self) {
        self.last_calls.set(self.last_calls.get().saturating_sub(1));
    }

    /// Whether a listener is about to close.
    pub fn has_last_call(&self) -> bool {
        self.last_calls.get() > 0
    }

    /// `time`, or what is left until the end, but for a moment that everybody gets.
    pub fn at_most(&self, time: Duration) -> Duration {
        time.min(self.over_at.get().since(self.clock.now()).max(LAST_MOMENT))
    }

    /// When a tunnel has to say good-bye: `drain` is what its pool gives it, `retired` since when its host is no longer part of what runs.
    pub fn tunnel_closes_at(&self, drain: Option<Duration>, retired: Option<Tick>) -> Tick {
        let at = |since: Tick, time: Duration| since + drain.unwrap_or(time).saturating_sub(CLOSE_TIME);
        let stop = self.draining_since.get().map_or(Tick::NEVER, |since| at(since, self.tunnels.get()));
        stop.min(retired.map_or(Tick::NEVER, |since| at(since, TUNNELS_OF_THE_PAST)))
    }

    /// Another worker that has far fewer connections, and time for more.
    pub fn less_busy(&self) -> Option<usize> {
        self.shared.seats.far_fewer_than(self.index, self.clock.now())
    }

    /// Gives a new connection to another worker; back when it cannot be taken.
    pub fn hand_over(&self, to: usize, stream: Stream, peer: Peer, listen: &Listen) -> Result<(), Stream> {
        // Those on their way have no seats yet, but descriptors.
        let on_the_way = self.shared.handed_over.load(Relaxed);
        let seats = &self.shared.seats;
        if on_the_way >= HAND_OVER_QUEUE || seats.taken() + on_the_way >= seats.max() {
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
        self.shared.seats.taken_by(self.index)
    }

    /// How long whoever comes now has to wait for a turn.
    pub fn wait(&self) -> Wait {
        self.turnstile.wait(self.clock.now(), self.limits().worker_lag)
    }

    /// Looks, at the end of a turn, whether there is a crowd; `waits`: whether somebody waits for the next one.
    pub fn feel(&self, waits: bool) {
        let (crowd, wait) = (&self.turnstile.crowd, self.wait());
        match waits {
            true => crowd.feel(&wait, self.open()),
            false => crowd.line_has_ended(&wait),
        }
        if waits && (wait.is_crowded() || crowd.is_strict(&wait)) {
            self.shared.seats.set_busy_until(self.index, wait.now + BUSY);
        }
    }

    /// Whether a connection that has its answer has to leave, because few are kept inside; it is set aside then.
    pub fn lets_go(&self) -> Option<Aside> {
        let crowd = &self.turnstile.crowd;
        let lets_go = crowd.may_be_strict(self.clock.now()) && crowd.lets_go(&self.wait(), self.open());
        lets_go.then(|| crowd.set_aside())
    }

    /// Resolves when a connection has ended.
    pub async fn one_has_left(&self) {
        self.leaving.notified().await;
    }

    /// Resolves when there is something to sweep again.
    pub async fn something_to_sweep(&self) {
        self.sweeper.notified().await;
    }

    /// Which worker this is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shared.mail.len()
    }

    /// Begins to stop; what still runs when its time is over is ended.
    pub fn begin_drain(&self, farewell: &Farewell) {
        let now = self.clock.refresh();
        if farewell.at_once {
            self.over_at.set(now);
            self.deadlines.end_all();
        } else {
            self.over_at.set(now + farewell.grace);
            self.tunnels.set(farewell.tunnels);
            self.has_successor.set(!farewell.handed_over.is_empty());
            self.deadlines.begin_ending(now, farewell.grace);
        }
        self.draining_since.set(Some(now));
        self.deadlines.wake_all();
    }

    /// Writes down what it has counted.
    pub fn count_up(&self) {
        // What is on a host is counted by all workers together; one of them tells it.
        let tells = self.shared.totals.first_at_work() == Some(self.index);
        self.shared.totals.write(self.index, self.stats(tells));
    }

    /// Writes down for the last time what it has counted: nothing is under way on it any more.
    pub fn count_out(&self) {
        self.shared.totals.close(self.index, self.stats(false));
    }

    fn stats(&self, tells_in_flight: bool) -> Stats {
        let mut stats = Stats {
            connections: self.cells.connections.get(),
            connections_open: self.open() as u64,
            connections_refused: self.cells.connections_refused.each_ref().map(Count::get),
            accept_failures: self.cells.accept_failures.get(),
            handshakes_open: self.cells.handshakes_open.get(),
            handshakes: self.cells.handshakes.each_ref().map(Count::get),
            active: self.cells.active.get(),
            crimes: self.cells.crimes(),
            underscores_dropped: self.cells.underscores_dropped.get(),
            ..Stats::default()
        };
        self.run().read(tells_in_flight, &mut stats);
        stats
    }

    /// Puts a new Snapshot in force: the next exchange on any connection sees it, those under way keep theirs.
    pub fn apply(&self, snapshot: Arc<Snapshot>) {
        let workers = self.shared.mail.len();
        let run = Run::new(snapshot, Some(&self.run()), &self.buffers, workers, &self.counters);
        self.shared.seats.heed(&run.limits);
        let run = Rc::new(run);
        let old = self.run.replace(Rc::clone(&run));
        let now = self.clock.refresh();
        let retired = old.gone_from(&run).filter(|host| host.retire(now)).count();
        if retired + self.bury(&old, &run, now) > 0 {
            self.deadlines.wake_all(); // tunnels have an end now that had none
        }
    }

    /// Looks whether a host gives no answers while others of its pool do.
    pub fn look_for_silence(&self, now: Tick) {
        let past: Vec<_> = self.past.borrow().iter().filter_map(Weak::upgrade).collect();
        self.run().look_for_silence(&past, now);
    }

    /// Remembers what was in force, and lets the oldest end when they hold too many configurations. A change of a
    /// pool's members is no other configuration.
    fn bury(&self, old: &Rc<Run>, new: &Rc<Run>, now: Tick) -> usize {
        let mut past = self.past.borrow_mut();
        past.push(Rc::downgrade(old));
        past.retain(|run| run.strong_count() > 0);
        let (mut configurations, mut later, mut news) = (0, Rc::clone(new), 0);
        for run in past.iter().rev().filter_map(Weak::upgrade) {
            configurations += usize::from(!run.is_configured_like(&later));
            if configurations > PAST_MAX && run.retired.replace(Some(now)).is_none() {
                news += 1;
            }
            later = run;
        }
        news
    }
}

impl Shared {
    /// For workers that are reached by `mail`.
    pub fn new(mail: Vec<mpsc::UnboundedSender<Message>>, limits: &Limits) -> Shared {
        let (seats, totals) = (Seats::new(mail.len(), limits), Totals::of(mail.len()));
        Shared { seats, mail, totals, handed_over: AtomicUsize::new(0) }
    }
}

/// A place among the open connections; given back when dropped.
pub struct Seat(Rc<Worker>, Place);

impl Seat {
    /// Takes a place for a client, if there is one for it. Those in front of whom another proxy stands, and those of this machine, have
    /// no share of their own: nobody knows how many they are.
    pub fn take(worker: &Rc<Worker>, peer: &Peer, listen: &Listen) -> Result<Seat, NoSeat> {
        let ip = peer.client.ip();
        let alone = matches!(listen, Listen::Tcp(_)) && is_alone(worker, ip);
        let place = worker.shared.seats.take(worker.index, alone.then_some(ip))?;
        Ok(Seat(Rc::clone(worker), place))
    }

    /// Takes a place for a client of whom nothing is known yet.
    pub fn for_nobody_yet(worker: &Rc<Worker>) -> Result<Seat, NoSeat> {
        let place = worker.shared.seats.take(worker.index, None)?;
        Ok(Seat(Rc::clone(worker), place))
    }

    /// Hears which client the place is for, who may have too many of them.
    pub fn learn(&mut self, client: IpAddr) -> Result<(), NoSeat> {
        if is_alone(&self.0, client) { self.0.shared.seats.learn(&mut self.1, client) } else { Ok(()) }
    }
}

/// Whether no proxy that is trusted is at this address.
fn is_alone(worker: &Worker, client: IpAddr) -> bool {
    !worker.run.borrow().snapshot.trust.has(client.to_canonical())
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.shared.seats.give_back(&self.1);
        self.0.leaving.notify_one();
    }
}
