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
}

#[derive(Debug)]
struct Slot {
    at: Tick,
    waker: Option<Waker>,
}

/// One deadline; it is forgotten when dropped.
#[derive(Debug)]
pub struct Deadline {
    all: Rc<Deadlines>,
    key: usize,
    at: Cell<Tick>,
}

impl Deadlines {
    /// A deadline that never comes.
    pub fn add(self: &Rc<Deadlines>) -> Deadline {
        let key = self.slots.borrow_mut().insert(Slot { at: Tick::NEVER, waker: None });
        Deadline { all: Rc::clone(self), key, at: Cell::new(Tick::NEVER) }
    }

    /// Wakes the tasks whose deadline is over.
    pub fn sweep(&self, now: Tick) {
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if slot.at <= now
                && let Some(waker) = &slot.waker
            {
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes every task, so that it may see that the worker is stopping.
    pub fn wake_all(&self) {
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
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

impl Deadline {
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
}
