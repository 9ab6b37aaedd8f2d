//! Deadlines: one reused deadline for each connection of a worker, swept ten times a second.

use portunus_message::Tick;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// How late a deadline may be noticed.
pub const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// All deadlines of a worker. Setting one is a store; a sweep looks at each once and wakes those that are over.
#[derive(Debug, Default)]
pub struct Deadlines {
    slots: RefCell<Slab<Slot>>,
    ending: Cell<Option<Ending>>,
}

#[derive(Debug)]
struct Slot {
    at: Tick,
    waker: Option<Waker>,
    /// How long what it is for may go on once the end has begun, when that is not the usual time.
    allowed: Option<Duration>,
}

/// The end of all connections of a worker.
#[derive(Clone, Copy, Debug)]
struct Ending {
    since: Tick,
    grace: Duration,
}

/// One deadline; it is forgotten when dropped.
#[derive(Debug)]
pub struct Deadline {
    all: Rc<Deadlines>,
    key: usize,
    at: Cell<Tick>,
    unusual: Cell<bool>,
}

impl Deadlines {
    /// A deadline that never comes.
    pub fn add(self: &Rc<Deadlines>) -> Deadline {
        let key = self.slots.borrow_mut().insert(Slot { at: Tick::NEVER, waker: None, allowed: None });
        let (at, unusual) = (Cell::new(Tick::NEVER), Cell::new(false));
        Deadline { all: Rc::clone(self), key, at, unusual }
    }

    /// Wakes the tasks whose deadline is over.
    pub fn sweep(&self, now: Tick) {
        let ending = self.ending.get();
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if (slot.at <= now || ending.is_some_and(|ending| ending.cuts(slot, now)))
                && let Some(waker) = &slot.waker
            {
                waker.wake_by_ref();
            }
        }
    }

    /// Everything has to end: within `grace`, or the time that is allowed to it.
    pub fn begin_ending(&self, since: Tick, grace: Duration) {
        self.ending.set(Some(Ending { since, grace }));
    }

    /// Everything has to end now.
    pub fn end_all(&self) {
        self.ending.set(Some(Ending { since: Tick(0), grace: Duration::ZERO }));
        self.slots.borrow_mut().iter_mut().for_each(|(_, slot)| slot.allowed = None);
    }

    /// Wakes every task, so that it may see that the worker is stopping.
    pub fn wake_all(&self) {
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Whether the connection of deadline `key` has had all the time that it is given at the end.
    pub fn is_cut(&self, key: usize, now: Tick) -> bool {
        let slots = self.slots.borrow();
        self.ending.get().zip(slots.get(key)).is_some_and(|(ending, slot)| ending.cuts(slot, now))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Ending {
    fn cuts(&self, slot: &Slot, now: Tick) -> bool {
        now >= self.since + slot.allowed.unwrap_or(self.grace)
    }
}

impl Deadline {
    /// Says how long this connection may go on once the end has begun; it holds until [`Deadline::allow_usual`].
    pub fn allow(&self, time: Duration) {
        if let Some(slot) = self.all.slots.borrow_mut().get_mut(self.key) {
            slot.allowed = Some(time);
            self.unusual.set(true);
        }
    }

    /// It may go on as long as any other.
    pub fn allow_usual(&self) {
        if self.unusual.replace(false)
            && let Some(slot) = self.all.slots.borrow_mut().get_mut(self.key)
        {
            slot.allowed = None;
        }
    }

    /// Its number among those of the worker.
    pub fn key(&self) -> usize {
        self.key
    }

    /// Moves it to `at`.
    pub fn set(&self, at: Tick) {
        if self.at.replace(at) != at
            && let Some(slot) = self.all.slots.borrow_mut().get_mut(self.key)
        {
            slot.at = at;
        }
    }

    /// It shall never come.
    pub fn clear(&self) {
        self.set(Tick::NEVER);
    }

    /// Where it stands.
    pub fn at(&self) -> Tick {
        self.at.get()
    }

    /// Makes a sweep wake this task. A connection is one task for its whole life, so this is done when it begins.
    pub fn wakes(&self, cx: &Context<'_>) {
        if let Some(slot) = self.all.slots.borrow_mut().get_mut(self.key) {
            match &slot.waker {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => slot.waker = Some(cx.waker().clone()),
            }
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.all.slots.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sweep_wakes_what_is_over_and_nothing_else() {
        let all = Rc::new(Deadlines::default());
        let (early, late) = (all.add(), all.add());
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        early.wakes(&Context::from_waker(&waker));
        late.wakes(&Context::from_waker(&waker));
        early.set(Tick(10));
        late.set(Tick(20));
        all.sweep(Tick(9));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        all.sweep(Tick(10));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        early.clear();
        all.sweep(Tick(30));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        drop((early, late));
        assert!(all.is_empty());
    }

    #[test]
    fn at_the_end_each_has_its_own_time() {
        let all = Rc::new(Deadlines::default());
        let (usual, long, short) = (all.add(), all.add(), all.add());
        long.allow(Duration::from_secs(60));
        short.allow(Duration::from_secs(1));
        let cut = |seconds: u64| {
            [&usual, &long, &short].map(|deadline| all.is_cut(deadline.key(), Tick(seconds * 1_000_000)))
        };
        assert_eq!(cut(1000), [false; 3]);
        all.begin_ending(Tick(0), Duration::from_secs(30));
        assert_eq!(
            [cut(0), cut(1), cut(30), cut(60)],
            [[false; 3], [false, false, true], [true, false, true], [true; 3]]
        );
        short.allow_usual();
        assert_eq!(cut(29), [false; 3]);
        all.end_all();
        assert_eq!(cut(0), [true; 3]);
    }
}
