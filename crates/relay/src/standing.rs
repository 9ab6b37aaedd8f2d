//! Standing: whether a host may be chosen, and who has what against it; each word in it has one writer.

use portunus_message::Tick;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Whether a host may be chosen. Shared by all workers and by every Snapshot that has the host.
#[derive(Debug)]
pub struct Standing {
    /// Written by active health checks only: a [`Probe`].
    probe: AtomicU8,
    /// Written by passive ejection only: until when it is out, in microseconds of a [`Tick`]; 0 when it is not.
    ejected_until: AtomicU64,
    /// Written by an operator only: an [`Order`].
    order: AtomicU8,
    /// Written by an operator only: the weight instead of the one written; `u32::MAX` for none.
    weight: AtomicU32,
    /// When it came back last, in microseconds of a [`Tick`]; 0 while it has been there from the start. Slow start counts from here.
    back_since: AtomicU64,
    /// Written by whoever connects: when it refused a connection last, in microseconds of a [`Tick`]; 0 for never.
    refused_at: AtomicU64,
}

/// What active checks have found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Probe {
    /// Nothing yet, or nobody looks.
    #[default]
    Unknown,
    /// It answers as it should.
    Passing,
    /// It does not.
    Failing,
}

/// What an operator wants of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// To serve.
    #[default]
    Serve,
    /// To take nothing new but what is bound to it, and finish what it has.
    Drain,
}

impl Default for Standing {
    fn default() -> Standing {
        Standing {
            probe: AtomicU8::new(Probe::Unknown as u8),
            ejected_until: AtomicU64::new(0),
            order: AtomicU8::new(Order::Serve as u8),
            weight: AtomicU32::new(u32::MAX),
            back_since: AtomicU64::new(0),
            refused_at: AtomicU64::new(0),
        }
    }
}

impl Standing {
    /// Whether nobody has anything against it.
    pub fn is_good(&self, now: Tick) -> bool {
        self.probe() != Probe::Failing && !self.is_ejected(now) && self.order() == Order::Serve
    }

    /// What active checks have found.
    pub fn probe(&self) -> Probe {
        match self.probe.load(Relaxed) {
            1 => Probe::Passing,
            2 => Probe::Failing,
            _ => Probe::Unknown,
        }
    }

    /// Says what active checks have found; gives back what they had found before.
    pub fn set_probe(&self, probe: Probe) -> Probe {
        let before = self.probe();
        self.probe.store(probe as u8, Relaxed);
        before
    }

    /// Whether it is out for what it did to requests.
    pub fn is_ejected(&self, now: Tick) -> bool {
        self.ejected_until.load(Relaxed) > now.0
    }

    /// Until when it is out; [`Tick`] 0 when it was never out, or was let back in.
    pub fn ejected_until(&self) -> Tick {
        Tick(self.ejected_until.load(Relaxed))
    }

    /// Puts it out until then; [`Tick`] 0 lets it back in.
    pub fn eject_until(&self, until: Tick) {
        self.ejected_until.store(until.0, Relaxed);
    }

    /// What an operator wants of it.
    pub fn order(&self) -> Order {
        if self.order.load(Relaxed) == Order::Drain as u8 { Order::Drain } else { Order::Serve }
    }

    /// Says what an operator wants of it.
    pub fn set_order(&self, order: Order) {
        self.order.store(order as u8, Relaxed);
    }

    /// The weight that an operator has set instead of the one written.
    pub fn weight(&self) -> Option<u32> {
        Some(self.weight.load(Relaxed)).filter(|&weight| weight != u32::MAX)
    }

    /// Sets the weight instead of the one written; `None` goes back to that.
    pub fn set_weight(&self, weight: Option<u32>) {
        self.weight.store(weight.unwrap_or(u32::MAX), Relaxed);
    }

    /// When it came back last; none while it has been there from the start.
    pub fn back_since(&self) -> Option<Tick> {
        Some(self.back_since.load(Relaxed)).filter(|&at| at != 0).map(Tick)
    }

    /// Since when it has been good without a break, as far as that is known: it came back, or the time of its ejection
    /// was over.
    pub fn good_since(&self) -> Option<Tick> {
        let since = self.back_since.load(Relaxed).max(self.ejected_until.load(Relaxed));
        Some(since).filter(|&at| at != 0).map(Tick)
    }

    /// Hears that it refused a connection.
    pub fn refused(&self, now: Tick) {
        self.refused_at.store(now.0.max(1), Relaxed);
    }

    /// Whether it refused a connection within the time up to `now`.
    pub fn has_refused(&self, within: Duration, now: Tick) -> bool {
        let at = self.refused_at.load(Relaxed);
        at != 0 && now.since(Tick(at)) < within
    }

    /// Hears that it came (back) into service at `now`.
    pub fn came_back(&self, now: Tick) {
        self.back_since.store(now.0.max(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_alone_keeps_a_host_out() {
        let (standing, now) = (Standing::default(), Tick(5));
        assert!(standing.is_good(now));
        standing.set_probe(Probe::Failing);
        assert!(!standing.is_good(now));
        standing.set_probe(Probe::Passing);
        assert!(standing.is_good(now));
        standing.eject_until(Tick(6));
        assert!(!standing.is_good(now) && standing.is_good(Tick(6)));
        standing.eject_until(Tick(0));
        standing.set_order(Order::Drain);
        assert!(!standing.is_good(now));
        standing.set_order(Order::Serve);
        assert!(standing.is_good(now));
    }

    #[test]
    fn a_weight_set_by_hand_can_be_taken_back() {
        let standing = Standing::default();
        standing.set_weight(Some(0));
        assert_eq!(standing.weight(), Some(0));
        standing.set_weight(None);
        assert_eq!(standing.weight(), None);
    }
}
