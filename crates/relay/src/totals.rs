//! Totals: what each worker has counted, by its own hand; it stays when the worker has ended, so that no counter goes back.

use crate::stats::Stats;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A page for each worker.
#[derive(Debug)]
pub struct Totals(Vec<Mutex<Page>>);

#[derive(Debug, Default)]
struct Page {
    stats: Stats,
    is_closed: bool,
}

impl Totals {
    /// With so many empty pages.
    pub fn of(workers: usize) -> Totals {
        Totals((0..workers).map(|_| Mutex::default()).collect())
    }

    /// What a worker has counted so far.
    pub fn write(&self, worker: usize, stats: Stats) {
        if let Some(page) = self.0.get(worker) {
            lock(page).stats = stats;
        }
    }

    /// What a worker has counted in its whole life; nothing is under way on it any more.
    pub fn close(&self, worker: usize, stats: Stats) {
        if let Some(page) = self.0.get(worker) {
            *lock(page) = Page { stats: stats.without_gauges(), is_closed: true };
        }
    }

    /// The first worker that has not ended.
    pub fn first_at_work(&self) -> Option<usize> {
        self.0.iter().position(|page| !lock(page).is_closed)
    }

    /// All pages, added up.
    pub fn sum(&self) -> Stats {
        let mut sum = Stats::default();
        self.0.iter().for_each(|page| sum.add(&lock(page).stats));
        sum
    }
}

fn lock(page: &Mutex<Page>) -> MutexGuard<'_, Page> {
    page.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{HostStats, PoolStats};

    fn stats(connections: u64) -> Stats {
        let host = HostStats { connects: connections, idle: 1, in_flight: 1, ..HostStats::default() };
        let hosts = vec![("h".to_owned(), host)];
        let pool = PoolStats { hosts, requests: connections, queued: 1, limit: 1, ..PoolStats::default() };
        let pools = vec![("p".to_owned(), pool)];
        Stats { connections, connections_open: 1, active: 1, handshakes_open: 1, pools, ..Stats::default() }
    }

    #[test]
    fn what_a_worker_counted_stays_when_it_has_ended_and_what_it_had_does_not() {
        let totals = Totals::of(2);
        totals.write(0, stats(3));
        totals.write(1, stats(4));
        assert_eq!((totals.sum().connections, totals.sum().active, totals.first_at_work()), (7, 2, Some(0)));
        totals.close(0, stats(5));
        let sum = totals.sum();
        assert_eq!((sum.connections, totals.first_at_work()), (9, Some(1)));
        assert_eq!((sum.active, sum.connections_open, sum.handshakes_open), (1, 1, 1));
        let (_, pool) = &sum.pools[0];
        let (_, host) = &pool.hosts[0];
        assert_eq!((pool.requests, pool.queued, pool.limit), (9, 1, 1));
        assert_eq!((host.connects, host.idle, host.in_flight), (9, 1, 1));
        totals.close(1, stats(4));
        assert_eq!((totals.sum().connections, totals.first_at_work()), (9, None));
    }
}
