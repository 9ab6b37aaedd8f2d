//! Seats: places among the open client connections, shared by all workers; once half are taken, each source gets its fair share.

use crate::net;
use crate::pressure::{Level, Pressure};
use portunus_message::{Limits, Tick};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Places among the open client connections.
#[derive(Debug)]
pub struct Seats {
    /// Those taken, of each worker.
    open: Vec<AtomicUsize>,
    /// Until when each worker has enough to do for those it has.
    busy_until: Vec<AtomicU64>,
    max: AtomicUsize,
    sources: Sources,
    /// How short memory is.
    pub pressure: Arc<Pressure>,
}

/// Why a connection gets no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// All are taken.
    Full,
    /// Half are taken, and its source has more than its share.
    UnfairShare,
    /// Memory is short.
    LowMemory,
    /// There is far more to do than can be done.
    Overloaded,
}

/// One place; to be given back to [`Seats::give_back`].
#[derive(Debug)]
pub struct Place {
    worker: usize,
    source: Option<Source>,
}

impl Seats {
    /// For so many workers.
    pub fn new(workers: usize, limits: &Limits) -> Seats {
        let seats = Seats {
            open: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            busy_until: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            max: AtomicUsize::new(0),
            sources: Sources::default(),
            pressure: Arc::default(),
        };
        seats.heed(limits);
        seats
    }

    /// Takes other limits over. 0 means: what the descriptors allow, and what there is memory for. More than the descriptors allow there
    /// never are: the admin API needs some, too.
    pub fn heed(&self, limits: &Limits) {
        let allowed = descriptors_allow();
        let max = match limits.connections {
            // Two for each exchange.
            0 => self.pressure.connections().map_or(usize::MAX, |memory| memory).min((allowed / 2).max(1)),
            limit => limit.min(allowed),
        };
        self.max.store(max, Relaxed);
    }

    /// How many there are.
    pub fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.open.iter().map(|open| open.load(Relaxed)).sum()
    }

    /// How many are taken by a worker's connections.
    pub fn taken_by(&self, worker: usize) -> usize {
        self.open.get(worker).map_or(0, |open| open.load(Relaxed))
    }

    /// Hears until when a worker has enough to do for those it has.
    pub fn set_busy_until(&self, worker: usize, until: Tick) {
        if let Some(busy) = self.busy_until.get(worker) {
            busy.store(until.0, Relaxed);
        }
    }

    /// A worker that has far fewer connections than this one, and time for more.
    pub fn far_fewer_than(&self, worker: usize, now: Tick) -> Option<usize> {
        let mine = self.taken_by(worker);
        if self.open.len() < 2 || mine <= FEW {
            return None;
        }
        let has_time = |at: &usize| self.busy_until.get(*at).is_some_and(|busy| busy.load(Relaxed) <= now.0);
        let least = (0..self.open.len()).filter(has_time).min_by_key(|&at| self.taken_by(at))?;
        (self.taken_by(least).saturating_mul(5) < mine.saturating_mul(4)).then_some(least)
    }

    /// A place for a connection of `worker` from `client`; none is counted for a source that is nobody's.
    pub fn take(&self, worker: usize, client: Option<IpAddr>) -> Result<Place, NoSeat> {
        let (taken, max) = (self.taken(), self.max());
        if taken >= max {
            return Err(NoSeat::Full);
        }
        if self.pressure.level() >= Level::Refusing {
            return Err(NoSeat::LowMemory);
        }
        let source = client.map(|client| self.count(client, taken)).transpose()?;
        if let Some(open) = self.open.get(worker) {
            open.fetch_add(1, Relaxed);
        }
        Ok(Place { worker, source })
    }

    /// Counts a place that was taken for nobody yet for `client`.
    pub fn learn(&self, place: &mut Place, client: IpAddr) -> Result<(), NoSeat> {
        let source = self.count(client, self.taken())?;
        if let Some(before) = place.source.replace(source) {
            self.sources.remove(before);
        }
        Ok(())
    }

    /// Counts one more for `client`, if it may have it while so many places are taken.
    fn count(&self, client: IpAddr, taken: usize) -> Result<Source, NoSeat> {
        let (source, max) = (self.sources.source(client), self.max());
        let share = match taken {
            few if few < max / 2 => usize::MAX,
            many if many < max - max / KEPT_PART => max / self.sources.count().max(1),
            _ => SHARE_MIN, // what is left is for those who have come late
        };
        if self.sources.add(source, share.max(SHARE_MIN)) { Ok(source) } else { Err(NoSeat::UnfairShare) }
    }

    /// Takes it back.
    pub fn give_back(&self, place: &Place) {
        if let Some(open) = self.open.get(place.worker) {
            open.fetch_sub(1, Relaxed);
        }
        if let Some(source) = place.source {
            self.sources.remove(source);
        }
    }
}

/// How many connections the descriptors of the process allow at all: a tenth, and 64 at least, are kept back for the admin API and all that
/// is open anyway.
pub fn descriptors_allow() -> usize {
    let all = net::descriptors_max();
    all.saturating_sub(KEPT_MIN.max(all / 10)).max(1)
}

/// Who a connection is from, as a number that nobody outside can foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(u64);

/// Who a connection is from: an IPv4 address, or an IPv6 network of 64 bits, in which one host can have any address it wants.
fn network_of(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        // An IPv4 address has the upper half of the number empty; no such network is given to anybody.
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// How many connections each source has open. There are at most as many entries as seats.
#[derive(Debug)]
struct Sources {
    /// Each guards the sources of one part; held for one look-up.
    shards: [Mutex<HashMap<Source, usize, BuildHasherDefault<AsItIs>>>; SHARDS],
    count: AtomicUsize,
    hasher: RandomState,
}

/// Takes a number for its own hash: that of a [`Source`] is one already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Default for Sources {
    fn default() -> Sources {
        Sources {
            shards: std::array::from_fn(|_| Mutex::default()),
            count: AtomicUsize::new(0),
            hasher: RandomState::new(),
        }
    }
}

impl Sources {
    fn source(&self, client: IpAddr) -> Source {
        Source(self.hasher.hash_one(network_of(client)))
    }

    /// How many have a connection open.
    fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Counts one more, unless `source` has `share` already.
    fn add(&self, source: Source, share: usize) -> bool {
        let mut shard = self.shard(source).lock().unwrap_or_else(PoisonError::into_inner);
        match shard.get_mut(&source) {
            Some(open) if *open >= share => return false,
            Some(open) => *open += 1,
            None => {
                shard.insert(source, 1);
                self.count.fetch_add(1, Relaxed);
            }
        }
        true
    }

    fn remove(&self, source: Source) {
        let mut shard = self.shard(source).lock().unwrap_or_else(PoisonError::into_inner);
        match shard.get_mut(&source) {
            Some(open) if *open > 1 => *open -= 1,
            Some(_) => {
                shard.remove(&source);
                self.count.fetch_sub(1, Relaxed);
            }
            None => {}
        }
    }

    fn shard(&self, source: Source) -> &Mutex<HashMap<Source, usize, BuildHasherDefault<AsItIs>>> {
        // Bits from the middle: the table of a shard goes by those at both ends.
        let at = (source.0 >> 32) as usize % SHARDS;
        // Invariant: the remainder is below the length.
        &self.shards[at]
    }
}

const SHARDS: usize = 32;
/// So many connections are hardly anything to do for a worker.
const FEW: usize = 32;
/// How many descriptors are kept back at least.
const KEPT_MIN: usize = 64;
/// Which part of the places is kept for sources that have hardly any yet.
const KEPT_PART: usize = 4;
/// What every source may have, however many there are.
const SHARE_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(connections: usize) -> Seats {
        Seats::new(2, &Limits { connections, ..Limits::default() })
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_worker_with_time_takes_connections_of_one_that_has_far_more() {
        let seats = seats(1000);
        let _places: Vec<Place> = (0..100).map(|_| seats.take(0, None).unwrap()).collect();
        let fewer_than = |worker, now| seats.far_fewer_than(worker, Tick(now));
        assert_eq!((fewer_than(0, 10), fewer_than(1, 10)), (Some(1), None));
        seats.set_busy_until(1, Tick(20));
        assert_eq!(fewer_than(0, 19), None, "it has enough to do for those it has");
        let _others: Vec<Place> = (0..79).map(|_| seats.take(1, None).unwrap()).collect();
        assert_eq!(fewer_than(0, 20), Some(1));
        seats.take(1, None).unwrap();
        assert_eq!(fewer_than(0, 20), None, "they have nearly as many");
    }

    #[test]
    fn whoever_takes_what_they_get_leaves_something_for_the_next() {
        let seats = seats(400);
        let take_all =
            |client: &str| std::iter::from_fn(|| seats.take(1, ip(client)).ok()).collect::<Vec<Place>>();
        let greedy = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(take_all);
        assert_eq!(greedy.each_ref().map(Vec::len), [300, 16, 16]);
        for at in 0..68 {
            seats.take(0, ip(&format!("10.1.0.{at}"))).unwrap();
        }
        assert_eq!(seats.take(0, ip("10.2.0.1")).unwrap_err(), NoSeat::Full);
        greedy.iter().flatten().for_each(|place| seats.give_back(place));
        assert_eq!((seats.taken(), seats.sources.count()), (68, 68));
    }

    #[test]
    fn there_are_no_more_than_descriptors_allow() {
        assert_eq!(seats(usize::MAX).max(), descriptors_allow());
    }

    #[test]
    fn who_takes_too_many_gets_no_more_once_half_are_taken() {
        let seats = seats(200);
        let others: Vec<Place> =
            (1..5).map(|at| seats.take(0, ip(&format!("10.0.0.{at}"))).unwrap()).collect();
        let mut taken = 0;
        while seats.take(1, ip("10.9.9.9")).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, 96, "up to half of all, which is more than a fifth");
        assert_eq!(seats.take(1, ip("10.9.9.9")).unwrap_err(), NoSeat::UnfairShare);
        for at in 1..5 {
            seats.take(0, ip(&format!("10.0.0.{at}"))).unwrap();
        }
        seats.take(0, None).unwrap();
        drop(others);
    }

    #[test]
    fn whom_a_place_is_for_may_be_heard_later() {
        let seats = seats(200);
        let mut places: Vec<Place> = (0..125).map(|_| seats.take(0, None).unwrap()).collect();
        let (client, other) = (ip("10.9.9.9").unwrap(), ip("10.0.0.1"));
        seats.take(0, other).unwrap();
        let learned = places.iter_mut().map(|place| seats.learn(place, client)).filter(Result::is_ok).count();
        assert_eq!(learned, 100, "half of all are taken, and two ask");
        places.iter().for_each(|place| seats.give_back(place));
        assert_eq!((seats.taken(), seats.sources.count()), (1, 1));
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_source() {
        assert_eq!(
            network_of("2001:db8::1".parse().unwrap()),
            network_of("2001:db8::ffff:1".parse().unwrap())
        );
        assert_ne!(
            network_of("2001:db8::1".parse().unwrap()),
            network_of("2001:db8:0:1::1".parse().unwrap())
        );
        assert_eq!(network_of("::ffff:10.0.0.1".parse().unwrap()), network_of("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn short_memory_gives_no_seats_and_bounds_their_number() {
        let seats = seats(0);
        let before = seats.max();
        seats.pressure.set_connections(10);
        seats.heed(&Limits { connections: 0, ..Limits::default() });
        assert_eq!(seats.max(), 10.min(before));
        seats.pressure.set_level(Level::Refusing);
        assert_eq!(seats.take(0, None).unwrap_err(), NoSeat::LowMemory);
        seats.pressure.set_level(Level::Tight);
        seats.take(0, None).unwrap();
    }
}
