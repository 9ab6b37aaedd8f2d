//! Cells: a worker's own plain counters, read and added up when somebody asks.

use crate::stats::{HANDSHAKES, Handshake, Histogram, HostStats, PoolStats, REFUSALS, RouteStats};
use portunus_message::{Crime, Status};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// A counter of one worker.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Counts `by` more.
    pub fn add(&self, by: u64) {
        self.0.set(self.0.get().wrapping_add(by));
    }

    /// Counts `by` fewer.
    pub fn sub(&self, by: u64) {
        self.0.set(self.0.get().saturating_sub(by));
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Counts by status; as many entries as there were different ones, at most 500.
#[derive(Debug, Default)]
pub struct ByStatus(RefCell<Vec<(u16, u64)>>);

impl ByStatus {
    /// Counts one.
    pub fn add(&self, status: Status) {
        self.add_many(status.code(), 1);
    }

    fn add_many(&self, code: u16, many: u64) {
        let mut list = self.0.borrow_mut();
        match list.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += many,
            None => list.push((code, many)),
        }
    }

    /// All of them, by status.
    pub fn list(&self) -> Vec<(u16, u64)> {
        let mut list = self.0.borrow().clone();
        list.sort_unstable();
        list
    }
}

/// What a worker has counted of one route.
#[derive(Debug, Default)]
pub struct RouteCells {
    /// Requests by status.
    pub statuses: ByStatus,
    /// How long they took.
    pub duration: RefCell<Histogram>,
    /// Body bytes from clients.
    pub bytes_up: Count,
    /// Body bytes to clients.
    pub bytes_down: Count,
}

impl RouteCells {
    /// As plain data.
    pub fn read(&self) -> RouteStats {
        RouteStats {
            statuses: self.statuses.list(),
            duration: self.duration.borrow().clone(),
            bytes_up: self.bytes_up.get(),
            bytes_down: self.bytes_down.get(),
        }
    }
}

/// What a worker has counted of one pool.
#[derive(Debug, Default)]
pub struct PoolCells {
    /// Requests.
    pub requests: Count,
    /// Attempts that were wanted and had no place in the budget.
    pub retries_refused: Count,
    /// Second hosts asked because the first was slow.
    pub hedges: Count,
    /// Those of them that answered first.
    pub hedges_won: Count,
    /// Those that had no place in the budget.
    pub hedges_refused: Count,
    /// Attempts after the first.
    pub retries: Count,
    /// Requests for which no host could be chosen.
    pub no_host: Count,
    /// Requests that went to a host which was not good, because too few were.
    pub forced: Count,
    /// Copies that were answered.
    pub mirrored: Count,
    /// Copies that were sent, or should have been, and not answered.
    pub mirrors_failed: Count,
    /// Requests that were to be copied and were not: too large, or too many under way.
    pub mirrors_skipped: Count,
    /// Copies under way.
    pub mirrors_open: Count,
}

impl PoolCells {
    /// As plain data, with those of its hosts.
    pub fn read(&self, hosts: Vec<(String, HostStats)>) -> PoolStats {
        PoolStats {
            hosts,
            requests: self.requests.get(),
            retries: self.retries.get(),
            retries_refused: self.retries_refused.get(),
            no_host: self.no_host.get(),
            hedges: self.hedges.get(),
            hedges_won: self.hedges_won.get(),
            hedges_refused: self.hedges_refused.get(),
            forced: self.forced.get(),
            mirrored: self.mirrored.get(),
            mirrors_failed: self.mirrors_failed.get(),
            mirrors_skipped: self.mirrors_skipped.get(),
            ..PoolStats::default()
        }
    }
}

/// What a worker has counted of one host.
#[derive(Debug, Default)]
pub struct HostCells {
    /// Answers by status.
    pub statuses: ByStatus,
    /// Attempts that ended without an answer.
    pub failures: Count,
    /// Connections opened.
    pub connects: Count,
    /// Connections that could not be opened.
    pub connect_failures: Count,
    /// Pooled connections that turned out closed.
    pub stale: Count,
    /// From choosing it to the head of its answer.
    pub duration: RefCell<Histogram>,
}

impl HostCells {
    /// As plain data.
    pub fn read(&self, idle: usize, in_flight: u32) -> HostStats {
        HostStats {
            statuses: self.statuses.list(),
            failures: self.failures.get(),
            connects: self.connects.get(),
            connect_failures: self.connect_failures.get(),
            stale: self.stale.get(),
            idle: idle as u64,
            in_flight: in_flight.into(),
            duration: self.duration.borrow().clone(),
        }
    }
}

/// What a worker has counted of everything.
#[derive(Debug)]
pub struct WorkerCells {
    /// Client connections accepted.
    pub connections: Count,
    /// Times that accepting failed for want of descriptors or memory.
    pub accept_failures: Count,
    /// Client connections refused, in the order of [`crate::stats::REFUSALS`].
    pub connections_refused: [Count; REFUSALS.len()],
    /// TLS handshakes under way.
    pub handshakes_open: Count,
    /// Those that have ended, in the order of [`HANDSHAKES`].
    pub handshakes: [Count; HANDSHAKES.len()],
    /// Requests under way.
    pub active: Count,
    /// Fields dropped because of an underscore in their name.
    pub underscores_dropped: Count,
    crimes: Vec<Count>,
}

impl Default for WorkerCells {
    fn default() -> WorkerCells {
        WorkerCells {
            connections: Count::default(),
            accept_failures: Count::default(),
            connections_refused: Default::default(),
            handshakes_open: Count::default(),
            handshakes: Default::default(),
            active: Count::default(),
            underscores_dropped: Count::default(),
            crimes: Crime::ALL.iter().map(|_| Count::default()).collect(),
        }
    }
}

impl WorkerCells {
    /// Counts a handshake by its end.
    pub fn handshake(&self, end: Handshake) {
        if let Some(count) = self.handshakes.get(end as usize) {
            count.add(1);
        }
    }

    /// Counts one `crime`.
    pub fn crime(&self, crime: Crime) {
        if let Some(count) = self.crimes.get(crime as usize) {
            count.add(1);
        }
    }

    /// All crimes, in the order of [`Crime::ALL`].
    pub fn crimes(&self) -> Vec<u64> {
        self.crimes.iter().map(Count::get).collect()
    }
}

/// Counts one duration.
pub fn observe(histogram: &RefCell<Histogram>, duration: Duration) {
    histogram.borrow_mut().add(duration);
}
