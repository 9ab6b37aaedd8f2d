//! turnstile: how many exchanges a worker begins before it turns to those it has begun, and whom it refuses when the line is long.

use crate::clock::Clock;
use crate::crowd::{Crowd, Wait};
use portunus_message::Tick;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// How many exchanges may begin in one turn. A worker that has more to do than it can would begin them all otherwise, each with
/// a connection to its host, and finish none.
const EACH_TURN: u32 = 32;

/// How many requests of a connection are served in a row once its turn has come, at most. What a connection is made of has left the processor's
/// caches while it stood in line, so that the first of them costs up to twice as much as the others.
const IN_A_ROW: u8 = 8;
/// They are fewer where the others would have to wait for longer than about this.
const ROUND: Duration = Duration::from_secs(1);

/// Where exchanges that need an upstream wait for their turn, connection by connection, first come, first served. A worker that keeps
/// up with what comes has nobody waiting here.
#[derive(Debug, Default)]
pub struct Turnstile {
    /// How often the worker's runtime has had nothing left to run: a turn is over then, too.
    rests: Arc<AtomicU32>,
    /// Begun in this turn, and how many rests there had been.
    begun: Cell<u32>,
    rested: Cell<u32>,
    /// Those whose connection has its turn, who go first.
    inner: Line,
    outer: Line,
    /// How long a turn takes: over many of them, as the line is measured by, and of late.
    turn: Cell<Duration>,
    lateness: Cell<Duration>,
    /// Who waits for longer than there is time.
    pub crowd: Crowd,
    bell: Notify,
}

impl Turnstile {
    /// That of a worker whose runtime counts its rests here.
    pub fn new(rests: Arc<AtomicU32>) -> Turnstile {
        Turnstile { rests, ..Turnstile::default() }
    }

    /// Lets an exchange begin, if it need not wait for its turn.
    pub fn passes_at_once(&self) -> bool {
        let rests = self.rests.load(Relaxed);
        if self.rested.replace(rests) != rests {
            self.begun.set(0);
        }
        let may = self.begun.get() < EACH_TURN && !self.is_needed();
        if may {
            self.begun.set(self.begun.get() + 1);
        }
        may
    }

    /// Lets an exchange begin, at once or when its turn has come; false when it is refused, because there has been a crowd for a
    /// while and it would have to wait for longer than `most`. `ahead` is of its connection: how many of its next requests go first.
    pub async fn pass(&self, clock: &Clock, most: Duration, ahead: &mut u8) -> bool {
        if self.passes_at_once() {
            return true;
        }
        let wait = self.wait(clock.now(), most);
        if wait.is_longer(1) && self.crowd.is_strict(&wait) {
            return false;
        }
        let line = match *ahead {
            0 => &self.outer,
            _ => &self.inner,
        };
        *ahead = ahead.checked_sub(1).unwrap_or_else(|| self.in_a_row() - 1);
        line.wait(&self.bell).await;
        clock.refresh();
        true
    }

    /// How long whoever comes now has to wait, who may wait for so long at `most`.
    pub fn wait(&self, now: Tick, most: Duration) -> Wait {
        Wait { now, delay: self.delay(), most }
    }

    /// How many requests in a row a connection has whose turn comes now; at least one.
    fn in_a_row(&self) -> u8 {
        let rounds = ROUND.as_secs_f64() / self.delay().as_secs_f64();
        rounds.clamp(1.0, f64::from(IN_A_ROW)) as u8
    }

    /// How late the worker is: so much later than it came, what comes is looked at.
    pub fn lateness(&self) -> Duration {
        self.lateness.get()
    }

    /// Hears how late it was.
    pub fn was_late(&self, by: Duration) {
        self.lateness.set((self.lateness.get() * 3 + by) / 4);
    }

    /// Calls those in line, turn by turn, for ever; `felt` hears after each turn whether somebody still waits.
    pub async fn keep(&self, clock: &Clock, felt: impl Fn(bool)) {
        loop {
            self.bell.notified().await;
            while self.is_needed() {
                // Everybody who is ready to go on does so first.
                let begun = clock.refresh();
                tokio::task::yield_now().await;
                self.took(clock.refresh().since(begun));
                felt(true);
                self.call();
            }
            felt(false);
        }
    }

    fn took(&self, turn: Duration) {
        // Of a worker that has a slice of a processor now and then most turns are short, and some last from one slice to the next.
        self.turn.set((self.turn.get() * 31 + turn) / 32);
        self.was_late(turn);
    }

    fn delay(&self) -> Duration {
        self.turn.get().mul_f64((self.inner.length() + self.outer.length()) as f64 / f64::from(EACH_TURN))
    }

    fn is_needed(&self) -> bool {
        self.inner.length() + self.outer.length() > 0
    }

    /// A new turn: so many may begin.
    fn call(&self) {
        let first = self.inner.call(EACH_TURN);
        self.begun.set(first + self.outer.call(EACH_TURN - first));
    }
}

/// Those who wait, first come, first served.
#[derive(Debug, Default)]
struct Line {
    waiting: RefCell<VecDeque<Waker>>,
    /// How many have ever stood here, and how many of them have been called.
    joined: Cell<u64>,
    called: Cell<u64>,
}

impl Line {
    fn length(&self) -> u64 {
        self.joined.get() - self.called.get()
    }

    /// Calls so many at most, and says how many it was.
    fn call(&self, most: u32) -> u32 {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(most as usize);
        self.called.set(self.called.get() + count as u64);
        waiting.drain(..count).for_each(Waker::wake);
        count as u32
    }

    /// Waits to be called; `bell` says that somebody does.
    async fn wait(&self, bell: &Notify) {
        let mut number = None;
        poll_fn(|cx| match number {
            Some(number) if number < self.called.get() => Poll::Ready(()),
            Some(_) => Poll::Pending, // a task has one waker for as long as it lives
            None => {
                number = Some(self.joined.replace(self.joined.get() + 1));
                self.waiting.borrow_mut().push_back(cx.waker().clone());
                bell.notify_one();
                Poll::Pending
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    const MOST: Duration = Duration::from_millis(100);

    /// Polls once, as a worker's task would be.
    fn begins(turnstile: &Turnstile, clock: &Clock) -> Option<bool> {
        let mut ahead = 0;
        let mut pass = Box::pin(turnstile.pass(clock, MOST, &mut ahead));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        match pass.as_mut().poll(&mut cx) {
            Poll::Ready(passed) => Some(passed),
            Poll::Pending => None,
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn so_many_begin_in_a_turn_and_the_others_in_the_order_in_which_they_came() {
        let local = tokio::task::LocalSet::new();
        let turnstile = Rc::new(Turnstile::default());
        let clock = Rc::new(Clock::default());
        let begun = Rc::new(RefCell::new(Vec::new()));
        local
            .run_until(async {
                let (keeper, time) = (Rc::clone(&turnstile), Rc::clone(&clock));
                let keeper = tokio::task::spawn_local(async move { keeper.keep(&time, |_| ()).await });
                let each = |number| {
                    let (turnstile, clock, begun) =
                        (Rc::clone(&turnstile), Rc::clone(&clock), Rc::clone(&begun));
                    async move {
                        assert!(turnstile.pass(&clock, MOST, &mut 0).await);
                        begun.borrow_mut().push((number, turnstile.outer.called.get()));
                    }
                };
                let all: Vec<_> = (0..300).map(|number| tokio::task::spawn_local(each(number))).collect();
                for one in all {
                    one.await.unwrap();
                }
                keeper.abort();
            })
            .await;
        let begun = begun.borrow();
        assert!(begun.is_sorted());
        assert_eq!(begun.iter().filter(|(_, called)| *called == 0).count(), EACH_TURN as usize);
        let second = begun.iter().skip(EACH_TURN as usize).take(EACH_TURN as usize);
        assert!(second.into_iter().all(|(_, called)| *called == u64::from(EACH_TURN)));
        assert_eq!(begun.len(), 300);
    }

    #[test]
    fn a_turn_is_over_when_nothing_is_left_to_run() {
        let rests = Arc::new(AtomicU32::new(0));
        let (turnstile, clock) = (Turnstile::new(Arc::clone(&rests)), Clock::default());
        let begun = |count| (0..count).filter(|_| begins(&turnstile, &clock) == Some(true)).count();
        assert_eq!(begun(EACH_TURN - 1), EACH_TURN as usize - 1);
        rests.fetch_add(1, Relaxed);
        assert_eq!(begun(EACH_TURN + 1), EACH_TURN as usize, "the last one waits");
        rests.fetch_add(1, Relaxed);
        assert_eq!(begun(1), 0, "nobody goes before those who wait");
    }

    #[test]
    fn a_connection_whose_turn_has_come_is_served_some_times_in_a_row() {
        let (turnstile, clock) = (Turnstile::default(), Clock::default());
        let mut cx = std::task::Context::from_waker(Waker::noop());
        (0..EACH_TURN * 2).for_each(|_| _ = begins(&turnstile, &clock)); // half of them wait
        let mut ahead = 0;
        for turn in 0..u32::from(IN_A_ROW) {
            let mut pass = Box::pin(turnstile.pass(&clock, MOST, &mut ahead));
            assert!(pass.as_mut().poll(&mut cx).is_pending());
            (0..EACH_TURN * 2).for_each(|_| _ = begins(&turnstile, &clock)); // others come behind it
            turnstile.call();
            if turn == 0 {
                assert!(pass.as_mut().poll(&mut cx).is_pending(), "those of before go first");
                turnstile.call();
            }
            assert!(pass.as_mut().poll(&mut cx).is_ready(), "{turn}");
        }
        assert_eq!(ahead, 0);
        turnstile.turn.set(Duration::from_millis(50));
        while turnstile.delay() < ROUND / 2 {
            _ = begins(&turnstile, &clock);
        }
        assert_eq!(turnstile.in_a_row(), 2, "nobody waits for much longer than a second");
        let mut pass = Box::pin(turnstile.pass(&clock, MOST, &mut ahead));
        assert!(pass.as_mut().poll(&mut cx).is_pending());
        turnstile.call();
        assert!(pass.as_mut().poll(&mut cx).is_pending(), "it is the others' turn");
    }

    #[test]
    fn who_would_wait_too_long_is_refused_while_few_are_kept_inside() {
        let (turnstile, clock) = (Turnstile::default(), Clock::new());
        turnstile.turn.set(Duration::from_millis(30));
        let pass = |count| (0..count).filter(|_| begins(&turnstile, &clock).is_some()).count();
        assert_eq!(pass(EACH_TURN * 2), EACH_TURN as usize);
        assert_eq!(turnstile.delay(), Duration::from_millis(30));
        while turnstile.delay() <= MOST {
            assert_eq!(begins(&turnstile, &clock), None);
        }
        let begun = clock.now();
        let feel = |now| turnstile.crowd.feel(&turnstile.wait(now, MOST), 100);
        feel(begun);
        assert_eq!(begins(&turnstile, &clock), None, "nobody is refused at once");
        feel(begun + Duration::from_secs(1));
        assert_eq!(begins(&turnstile, &clock), Some(false));
        turnstile.call();
        assert_eq!(begins(&turnstile, &clock), None, "it would not wait so long any more");
    }

    #[test]
    fn a_long_moment_is_late_but_makes_no_long_line() {
        let turnstile = Turnstile::default();
        turnstile.was_late(Duration::from_secs(4));
        assert_eq!(turnstile.lateness(), Duration::from_secs(1));
        turnstile.outer.joined.set(320);
        assert_eq!(turnstile.delay(), Duration::ZERO);
        turnstile.took(Duration::from_millis(32));
        assert_eq!(turnstile.delay(), Duration::from_millis(10));
    }
}
