//! Workers: one thread a core, each with its runtime and its listeners; and what they are told.

use crate::accept;
use crate::clock;
use crate::deadlines::SWEEP_EVERY;
use crate::doors::Doors;
use crate::net::{Sockets, Stream};
use crate::pressure::Pressure;
use crate::snapshot::Snapshot;
use crate::stats::{Recorder, Stats};
use crate::worker::{Arrival, Farewell, Message, Shared, Worker};
use portunus_message::Limits;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

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
        let shared = Arc::new(Shared::new(mail, &snapshot.plan().settings.limits));
        let mut threads = Vec::with_capacity(count);
        for (index, (recorder, mailbox)) in recorders.into_iter().zip(boxes).enumerate() {
            let (snapshot, sockets, shared) = (Arc::clone(snapshot), sockets.clone(), Arc::clone(&shared));
            let body = move || thread(index, snapshot, sockets, recorder, mailbox, shared);
            threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(body)?);
        }
        Ok(Workers { shared, threads })
    }

    /// Says how many connections there is memory for.
    pub fn tell_memory(&self, connections: usize, limits: &Limits) {
        self.pressure().set_connections(connections);
        self.shared.seats.heed(limits);
    }

    /// Where to say how short memory is.
    pub fn pressure(&self) -> &Arc<Pressure> {
        &self.shared.seats.pressure
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Puts a new Snapshot in force, and listens on `sockets` and nowhere else.
    pub fn apply(&self, snapshot: &Arc<Snapshot>, sockets: &Sockets) {
        self.tell_all(|| Message::Apply(Arc::clone(snapshot), sockets.clone()));
    }

    /// What all have counted, added up, those included that have ended. Waits until every other one has answered, a second at most;
    /// who has not answered by then counts as it did when it was last asked.
    pub fn stats(&self) -> Stats {
        self.ask(Duration::from_secs(1));
        self.shared.totals.sum()
    }

    /// Stops accepting and lets what runs come to its end, within the bounds of `farewell`. The caller drops its own [`Sockets`] first.
    pub fn drain(&self, farewell: &Farewell) {
        self.tell_all(|| Message::Drain(farewell.clone()));
    }

    /// Whether every worker answers within `patience`.
    pub fn all_answer(&self, patience: Duration) -> bool {
        self.ask(patience) == self.threads.len()
    }

    /// Lets every worker write down what it has counted; says how many have done so within `patience`.
    fn ask(&self, patience: Duration) -> usize {
        let (answer, answers) = std::sync::mpsc::channel();
        self.tell_all(|| Message::Count(answer.clone()));
        drop(answer);
        let until = clock::read() + patience;
        std::iter::from_fn(|| answers.recv_timeout(until.since(clock::read())).ok()).count()
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

/// How many tasks may run until the kernel is asked for events. Tasks are short; the more answers come together, the more of them leave in one
/// write on connections that many requests share.
const TASKS_BETWEEN_EVENTS: u32 = 256;

fn thread(
    index: usize,
    snapshot: Arc<Snapshot>,
    sockets: Sockets,
    recorder: Box<dyn Recorder + Send>,
    mailbox: mpsc::UnboundedReceiver<Message>,
    shared: Arc<Shared>,
) {
    let rests = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&rests);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .event_interval(TASKS_BETWEEN_EVENTS)
        .on_thread_park(move || _ = counted.fetch_add(1, Relaxed))
        .build_local(tokio::runtime::LocalOptions::default());
    let Ok(runtime) = runtime else { return };
    runtime.block_on(live(index, snapshot, sockets, recorder, mailbox, shared, rests));
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
    rests: Arc<AtomicU32>,
) {
    let worker = Rc::new(Worker::new(index, snapshot, recorder, shared, rests));
    tokio::task::spawn_local(sweep(Rc::clone(&worker)));
    tokio::task::spawn_local(keep_turns(Rc::clone(&worker)));
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
                worker.apply(snapshot);
                doors.open(&sockets, &worker);
            }
            Some(Message::Arrive(Arrival { stream, peer, listen })) => {
                worker.has_arrived();
                if let Ok(stream) = Stream::attach(stream) {
                    let _ = accept::serve(stream, peer, Rc::new(listen), &worker);
                }
            }
            Some(Message::Count(answer)) => {
                worker.count_up();
                let _ = answer.send(()); // nobody may be waiting any more
            }
            Some(Message::Drain(farewell)) => {
                doors.close_all(&farewell.handed_over, &worker);
                worker.begin_drain(&farewell);
            }
            Some(Message::Stop) | None => break,
        }
    }
    worker.recorder.borrow_mut().flush();
    // Before the mailbox goes: whoever waits for an answer finds it in the totals.
    worker.count_out();
}

/// Calls exchanges that wait for their turn.
async fn keep_turns(worker: Rc<Worker>) {
    worker.turnstile.keep(&worker.clock, |waits| worker.feel(waits)).await;
}

/// Ends when no connection is open any more, nor on its way.
async fn drained(worker: &Worker) {
    while worker.open() > 0 || worker.expects_arrivals() || worker.has_last_call() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Ten times a second, while there is anything to look after: deadlines and records, and once a second idle connections and stocks.
async fn sweep(worker: Rc<Worker>) {
    let mut round = 0u32;
    loop {
        let idle = worker.run().pools.iter().flat_map(|pool| &pool.hosts).any(|host| host.idle_count() > 0);
        if worker.deadlines.is_empty() && !idle {
            worker.recorder.borrow_mut().flush();
            worker.empty();
            worker.look_for_silence(worker.clock.now()); // what was answered is not told while it sleeps
            worker.something_to_sweep().await;
        }
        let due = worker.clock.refresh() + SWEEP_EVERY;
        tokio::time::sleep(SWEEP_EVERY).await;
        let now = worker.clock.refresh();
        worker.turnstile.was_late(now.since(due));
        worker.deadlines.sweep(now);
        worker.tidy();
        worker.recorder.borrow_mut().flush();
        round = round.wrapping_add(1);
        if round.is_multiple_of(10) {
            worker.trim();
            let run = worker.run();
            for (pool, mine) in run.snapshot.pools().iter().zip(&run.pools) {
                mine.tell_budget(pool, now);
                mine.hosts.iter().for_each(|host| host.sweep(now));
            }
            worker.look_for_silence(now);
        }
    }
}

#[cfg(test)]
mod tests;
