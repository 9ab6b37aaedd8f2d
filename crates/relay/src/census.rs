//! Census: who holds how much while memory is nearly gone; those who hold the most have to go first.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

/// How often it is decided who holds the most.
pub const EVERY: Duration = Duration::from_millis(500);
/// Whoever holds less is never one of them: its end would help nobody.
const HELD_MIN: usize = 64 << 10;
/// One of so many goes each time, and one in any case.
const ONE_OF: usize = 16;

/// What the exchanges of a worker hold, as they tell it while memory is nearly gone.
#[derive(Debug, Default)]
pub struct Census {
    /// By connection; there are no more than there are seats.
    told: RefCell<HashMap<usize, usize>>,
    /// Whoever holds so much has to go; none while nobody has to.
    bar: Cell<Option<usize>>,
    /// How many still have to.
    left: Cell<usize>,
}

impl Census {
    /// Hears, once each time, how many bytes the exchange of a connection holds; says whether it has to go.
    pub fn must_go(&self, connection: usize, held: impl FnOnce() -> usize) -> bool {
        let mut told = self.told.borrow_mut();
        let Entry::Vacant(place) = told.entry(connection) else { return false };
        let held = held();
        if self.left.get() > 0 && self.bar.get().is_some_and(|bar| held >= bar) {
            self.left.set(self.left.get() - 1);
            return true;
        }
        place.insert(held);
        false
    }

    /// Decides who has to go, by what was told since the last time.
    pub fn decide(&self) {
        let mut told: Vec<usize> = self.told.take().into_values().filter(|held| *held >= HELD_MIN).collect();
        if told.is_empty() {
            return self.bar.set(None);
        }
        let go = told.len().div_ceil(ONE_OF);
        let at = told.len() - go;
        let (_, bar, _) = told.select_nth_unstable(at);
        // A little lower: what one holds comes and goes.
        self.bar.set(Some(*bar / 4 * 3));
        self.left.set(go);
    }

    /// Nobody has to go any more.
    pub fn end(&self) {
        self.told.take();
        self.bar.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    #[test]
    fn the_biggest_go_first_and_few_at_a_time() {
        let census = Census::default();
        let ask = |most: usize| {
            let must_go = |at: &usize| census.must_go(*at, || at * at * 100 * KIB);
            (1..=most).rev().filter(must_go).collect::<Vec<_>>()
        };
        assert!(ask(40).is_empty(), "nothing is known of the others yet");
        census.decide();
        assert_eq!(ask(40), [40, 39, 38]);
        census.decide();
        assert_eq!(ask(37), [37, 36, 35], "those who had to go have told nothing since");
        census.end();
        assert!(ask(34).is_empty());
    }

    #[test]
    fn equals_do_not_all_go_and_small_ones_never() {
        let census = Census::default();
        let tell = |held: usize| (0..32).filter(|&at| census.must_go(at, || held)).count();
        assert_eq!(tell(100 * KIB), 0);
        census.decide();
        assert_eq!(tell(100 * KIB), 2);
        census.end();
        tell(KIB);
        census.decide();
        assert_eq!(tell(KIB), 0);
    }
}
