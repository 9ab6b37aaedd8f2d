//! gate: how many connections are accepted while a worker has enough to do for those it has, and who of those outside is told.

use super::{AT_ONCE, refuse};
use crate::net::{Listener, Stream};
use crate::plan::Listen;
use crate::seats::NoSeat;
use crate::worker::Worker;
use portunus_message::Tick;
use std::rc::Rc;
use std::time::Duration;

/// The part of a worker's work in which connections are refused while there are far too many.
const REFUSING: f64 = 0.02;
/// As much of it as one may take at least: what is less is kept for later.
const REFUSAL: Duration = Duration::from_micros(20);
/// How long it looks away while nobody is let in, at most.
const PAUSE: Duration = Duration::from_millis(25);
/// How long after a crowd connections are accepted one by one, so that they do not make the next one.
const LATELY: Duration = Duration::from_secs(10);

/// What a listener remembers of crowds.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// When there was one, and when somebody was let in during it.
    crowded: Option<Tick>,
    let_in: Tick,
    /// When somebody was last found outside who had not waited to the end.
    given_up: Option<Tick>,
    /// How many were passed over since others had a turn.
    passed_over: u32,
}

impl Gate {
    /// Lets everybody else have a turn, and says how many connections may be accepted after that: while the worker has enough to do for
    /// those it has, one each time that all of them have had their turn; while few are kept inside, as many as have left, and one now and
    /// then. The others wait in the kernel's queue, which costs nobody anything; when some of them have given up, a small part of the work
    /// is telling them that they wait in vain.
    pub(super) async fn rest(&mut self, listener: &Listener, listen: &Listen, worker: &Rc<Worker>) -> u32 {
        self.passed_over = 0;
        worker.clock.refresh();
        let (crowd, wait) = (&worker.turnstile.crowd, worker.wait());
        let is_strict = crowd.is_strict(&wait);
        if !is_strict && !wait.is_crowded() {
            tokio::task::yield_now().await;
            return if self.is_wary(worker) { 1 } else { AT_ONCE };
        }
        if is_strict && crowd.room(&wait, worker.open()) > 0 {
            tokio::task::yield_now().await;
        } else {
            let pause = tokio::time::sleep(PAUSE.min(wait.most / 4));
            tokio::select! {
                () = pause => {}
                () = worker.one_has_left(), if is_strict => {} // and makes room
            }
        }
        self.refuse_some(listener, listen, worker);
        let now = worker.clock.refresh();
        self.crowded = Some(now);
        let wait = worker.wait();
        let apart = match crowd.is_strict(&wait) {
            true if crowd.room(&wait, worker.open()) > 0 => Duration::ZERO,
            true => wait.most,
            false => wait.delay.min(wait.most),
        };
        if now.since(self.let_in) < apart {
            return 0;
        }
        self.let_in = now;
        1
    }

    /// Hears that somebody had waited outside.
    pub(super) fn has_kept_waiting(&self, worker: &Worker) {
        if self.is_wary(worker) {
            worker.turnstile.crowd.saw_outside(worker.clock.now());
        }
    }

    /// Whether a connection is not let in because its client has left while it waited: what it asked for would be done for nobody.
    pub(super) fn passes_over(&mut self, stream: &Stream, worker: &Worker) -> bool {
        let passes_over = self.passed_over < AT_ONCE && self.is_wary(worker) && stream.has_ended();
        if passes_over {
            self.passed_over += 1;
            self.given_up = Some(worker.clock.now());
        }
        passes_over
    }

    /// Tells some of those outside that they wait in vain, if there are too many, and some of those before them have not waited to the end.
    fn refuse_some(&mut self, listener: &Listener, listen: &Listen, worker: &Rc<Worker>) {
        let mut worked = worker.clock.worked();
        let share = worked.saturating_sub(worker.refused_after.get()).min(PAUSE).mul_f64(REFUSING);
        if share < REFUSAL {
            return;
        }
        let until = worked + share;
        while worked < until && worker.turnstile.crowd.is_too_large(&worker.wait()) && self.is_in_vain(worker)
        {
            let Ok((stream, _)) = listener.accept_now() else { break };
            if stream.has_ended() {
                self.given_up = Some(worker.clock.now());
                forget(stream, worker);
            } else {
                worker.cells.connections.add(1);
                refuse::refuse(stream, listen, NoSeat::Overloaded, worker);
            }
            worked = worker.clock.worked();
        }
        worker.refused_after.set(worked);
    }

    fn is_in_vain(&self, worker: &Worker) -> bool {
        self.given_up.is_some_and(|at| worker.clock.now().since(at) < LATELY)
    }

    fn is_wary(&self, worker: &Worker) -> bool {
        self.crowded.is_some_and(|crowded| worker.clock.now().since(crowded) < LATELY)
    }
}

/// Closes a connection that nobody waits for an answer on.
pub(super) fn forget(stream: Stream, worker: &Worker) {
    worker.cells.connections.add(1);
    refuse::count(NoSeat::Overloaded, worker);
    drop(stream);
}
