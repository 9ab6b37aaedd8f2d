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
const REFUSING: f64 = 0.05;
/// How many connections are accepted in one go while few are kept inside, when nobody of those waits.
const AT_ONCE_STRICTLY: u32 = 4;
/// How long after a crowd connections are accepted one by one, so that they do not make the next one.
const LATELY: Duration = Duration::from_secs(10);

/// What a listener remembers of crowds.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// When there was one, and when somebody was let in during it.
    crowded: Option<Tick>,
    let_in: Tick,
    /// How long the worker had worked when it refused last.
    worked: Duration,
    /// How many were passed over since others had a turn.
    passed_over: u32,
}

impl Gate {
    /// Lets everybody else have a turn, and says how many connections may be accepted after that: while the worker has enough to do for
    /// those it has, one each time that all of them have had their turn, and hardly anybody while few are kept inside. The others wait in the kernel's queue, which
    /// costs nobody anything; when that lasts, a small part of the work is telling them that they wait in vain.
    pub(super) async fn rest(&mut self, listener: &Listener, listen: &Listen, worker: &Rc<Worker>) -> u32 {
        self.passed_over = 0;
        let most = worker.limits().worker_lag;
        let turnstile = &worker.turnstile;
        if !turnstile.is_crowded(worker.clock.refresh(), most) && !turnstile.is_strict(worker.clock.now()) {
            tokio::task::yield_now().await;
            return if self.is_wary(worker) { 1 } else { AT_ONCE };
        }
        let pause = most / 4;
        tokio::time::sleep(pause).await;
        let mut worked = worker.clock.worked();
        let until = worked + worked.saturating_sub(self.worked).min(pause).mul_f64(REFUSING);
        while worked < until && worker.turnstile.is_overrun(worker.clock.refresh(), most) {
            let Ok((stream, _)) = listener.accept_now() else { break };
            if stream.has_ended() {
                forget(stream, worker);
            } else {
                worker.cells.connections.add(1);
                refuse::refuse(stream, listen, NoSeat::Overloaded, worker);
            }
            worked = worker.clock.worked();
        }
        self.worked = worked;
        let now = worker.clock.refresh();
        self.crowded = Some(now);
        let is_strict = turnstile.is_strict(now);
        if is_strict && !turnstile.is_crowded(now, most) {
            return if turnstile.delay().is_zero() { AT_ONCE_STRICTLY } else { 1 };
        }
        let apart = if is_strict { turnstile.delay().max(most) } else { turnstile.delay() };
        if now.since(self.let_in) < apart {
            return 0;
        }
        self.let_in = now;
        1
    }

    /// Whether a connection is not let in because its client has left while it waited: what it asked for would be done for nobody.
    pub(super) fn passes_over(&mut self, stream: &Stream, worker: &Worker) -> bool {
        let passes_over = self.passed_over < AT_ONCE && self.is_wary(worker) && stream.has_ended();
        self.passed_over += u32::from(passes_over);
        passes_over
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
