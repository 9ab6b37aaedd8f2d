//! Stock: things that are used again: what comes back is kept, up to a bound, and what nobody needs is let go of.

use std::cell::{Cell, RefCell};

/// Things of one kind that wait to be used again, the one that came back last first: it is most likely in the processor's cache.
#[derive(Debug)]
pub struct Stock<T> {
    kept: RefCell<Vec<T>>,
    most: usize,
    /// The fewest that have been here since the last look: so many were too many.
    fewest: Cell<usize>,
}

impl<T> Stock<T> {
    /// An empty stock that keeps at most so many.
    pub const fn new(most: usize) -> Stock<T> {
        Stock { kept: RefCell::new(Vec::new()), most, fewest: Cell::new(0) }
    }

    /// One of them, if there is one.
    #[inline]
    pub fn take(&self) -> Option<T> {
        let mut kept = self.kept.borrow_mut();
        let one = kept.pop();
        self.fewest.set(self.fewest.get().min(kept.len()));
        one
    }

    /// Takes one back; with too many of them it is dropped.
    #[inline]
    pub fn give(&self, one: T) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < self.most {
            kept.push(one);
        }
    }

    /// Lets go of half of those that nobody has needed since the last time: after a peak its memory goes back, and a load that only
    /// swings finds most of what it needs.
    pub fn trim(&self) {
        let mut kept = self.kept.borrow_mut();
        let spare = self.fewest.get().div_ceil(2).min(kept.len());
        kept.drain(..spare);
        self.fewest.set(kept.len());
    }

    /// Lets go of all of them.
    pub fn empty(&self) {
        self.kept.take();
        self.fewest.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(things: impl IntoIterator<Item = u32>) -> Stock<u32> {
        let stock = Stock::new(100);
        things.into_iter().for_each(|thing| stock.give(thing));
        stock
    }

    fn all(stock: &Stock<u32>) -> Vec<u32> {
        std::iter::from_fn(|| stock.take()).collect()
    }

    #[test]
    fn what_came_last_goes_first_and_too_many_are_not_kept() {
        let stock = of(0..101);
        assert_eq!(all(&stock), (0..100).rev().collect::<Vec<_>>());
    }

    #[test]
    fn what_nobody_needs_goes_away_and_what_is_needed_stays() {
        let stock = of(0..40);
        stock.trim(); // a first look: nothing is known
        for _ in 0..20 {
            let used: Vec<u32> = (0..10).filter_map(|_| stock.take()).collect();
            assert_eq!(used.len(), 10);
            used.into_iter().for_each(|thing| stock.give(thing));
            stock.trim();
        }
        assert_eq!(all(&stock).len(), 10);
    }

    #[test]
    fn a_quiet_stock_becomes_empty() {
        let stock = of(0..100);
        (0..9).for_each(|_| stock.trim());
        assert!(all(&stock).is_empty());
    }
}
