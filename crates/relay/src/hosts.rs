//! Host, Hosts: address, weight, whether it is up, live counters.

use crate::conduct::{Conduct, Reason};
use crate::latency::Latency;
use crate::plan::{Address, PrefaceVersion, Protocol};
use crate::silence::Silence;
use crate::standing::{Order, Probe, Standing};
use crate::tls::Behind;
use crate::trouble::Trouble;
use portunus_message::Tick;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The index of a host in its [`Hosts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

/// The members of a pool, in the order written.
#[derive(Debug, Default)]
pub struct Hosts {
    list: Vec<Arc<Host>>,
    /// What holds whatever the pool's policy is.
    pub rules: Rules,
    /// Whether there are hosts in other zones than this proxy.
    pub has_zones: bool,
}

/// What holds for a choice among hosts whatever the policy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// While fewer hosts than this are good, those that are not good are used as well; 0: never.
    pub keep: u32,
    /// How long a host that came back is brought up to its weight; zero: it has it at once.
    pub slow_start: Duration,
}

/// One member. It outlives reloads that keep it, with its counters and its state.
#[derive(Debug)]
pub struct Host {
    /// What was written.
    pub address: Address,
    /// `address` as text, for logs, labels and hashing.
    pub name: Box<str>,
    /// Its share.
    pub weight: u32,
    /// Whether it is used only when no other is left.
    pub backup: bool,
    /// Requests that may be on it at one time; `u32::MAX`: as many as the pool has.
    pub max_in_flight: u32,
    /// Whether it stands in another zone than this proxy.
    pub far: bool,
    /// How hands are shaken with it; none: it is spoken with plainly.
    pub tls: Option<Behind>,
    /// The PROXY header that it is told by whom a connection is from.
    pub preface: Option<PrefaceVersion>,
    /// Which version of HTTP it is spoken with in.
    pub protocol: Protocol,
    /// What every Snapshot shares of it.
    pub live: Arc<Live>,
}

/// What changes of a host while it runs.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests that are on it.
    pub in_flight: AtomicU32,
    /// How many turns it has had among equals (`least-requests`), in parts of one.
    pub turn: AtomicU64,
    /// Whether it may be chosen, and why not.
    pub standing: Standing,
    /// What ejection has counted against it.
    pub conduct: Conduct,
    /// Whether it has stopped to answer.
    pub silence: Silence,
    /// Why no connection to it has come about of late.
    pub trouble: Trouble,
    /// How quick it has been, for policies that ask.
    pub latency: Latency,
    /// How long it keeps idle connections open, in milliseconds, once that is known; 0 until then.
    pub idle_ms: AtomicU32,
    /// Until when it asked to be left alone (`Retry-After`), in microseconds of a [`Tick`].
    rests_until: AtomicU64,
    /// Until when its idle connections are not trusted, likewise.
    distrusted_until: AtomicU64,
}

impl Live {
    /// Hears that it wants to be left alone until then.
    pub fn rest_until(&self, until: Tick) {
        self.rests_until.store(until.0, Relaxed);
    }

    /// It has closed a connection without a word: until then those that are idle are not trusted with requests that must not be lost.
    pub fn distrust_until(&self, until: Tick) {
        self.distrusted_until.fetch_max(until.0, Relaxed);
    }

    /// Whether it has done so a short while ago.
    pub fn is_distrusted(&self, now: Tick) -> bool {
        now.0 < self.distrusted_until.load(Relaxed)
    }

    /// Whether it asked to be left alone: it is chosen only when no other host is there.
    pub fn is_resting(&self, now: Tick) -> bool {
        now.0 < self.rests_until.load(Relaxed)
    }
}

impl Host {
    /// A host with its own fresh state, or with the state that an earlier Snapshot had of it.
    pub fn new(address: Address, weight: u32, backup: bool, live: Option<Arc<Live>>) -> Host {
        let live = live.unwrap_or_default();
        let name = address.to_string().into();
        let (far, max_in_flight, tls, preface, protocol) = (false, u32::MAX, None, None, Protocol::Auto);
        Host { name, address, weight, backup, far, max_in_flight, tls, preface, protocol, live }
    }

    /// The same host, in another zone than this proxy or not.
    pub fn placed(self, far: bool) -> Host {
        Host { far, ..self }
    }

    /// The same, spoken with over TLS or not.
    pub fn behind(self, tls: Option<Behind>) -> Host {
        Host { tls, ..self }
    }

    /// The same, told whom its connections are from or not.
    pub fn prefaced(self, preface: Option<PrefaceVersion>) -> Host {
        Host { preface, ..self }
    }

    /// The same, spoken with in this version of HTTP.
    pub fn speaking(self, protocol: Protocol) -> Host {
        Host { protocol, ..self }
    }

    /// The same with a bound on the requests that may be on it at one time.
    pub fn bounded(self, max_in_flight: Option<u32>) -> Host {
        Host { max_in_flight: max_in_flight.unwrap_or(u32::MAX), ..self }
    }

    /// Whether a connection to one of them is as good as one to the other.
    pub fn is_spoken_with_like(&self, other: &Host) -> bool {
        let secured_alike = match (&self.tls, &other.tls) {
            (Some(own), Some(its)) => own.is_same(its),
            (own, its) => own.is_none() && its.is_none(),
        };
        secured_alike && self.preface == other.preface && self.protocol == other.protocol
    }

    /// Whether it may be spoken with in HTTP/2.
    pub fn may_speak_http2(&self) -> bool {
        match self.protocol {
            Protocol::Auto => self.tls.is_some(),
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        }
    }

    /// Whether as many requests are on it as may be.
    pub fn is_full(&self) -> bool {
        self.in_flight() >= self.max_in_flight
    }

    /// Requests that are on it.
    pub fn in_flight(&self) -> u32 {
        self.live.in_flight.load(Relaxed)
    }

    /// Its share now: what was written, unless an operator has set another.
    pub fn share(&self) -> u32 {
        self.live.standing.weight().unwrap_or(self.weight)
    }

    /// Whether it is out for what it did to requests, and may be well again: somebody listens there, and nobody has found that it answers
    /// nobody, or fails its checks.
    pub fn may_be_well(&self, now: Tick) -> bool {
        let standing = &self.live.standing;
        self.share() > 0
            && standing.order() == Order::Serve
            && standing.is_ejected(now)
            && standing.probe() != Probe::Failing
            && self.live.conduct.reason() != Reason::Refused
            && !self.live.silence.is_mute()
    }

    /// Whether it may be chosen: nobody has a reason against it, it is of some weight, and it has not been found to answer nobody. One that was
    /// ejected gets no more than a few requests at a time until it has proved good.
    pub fn is_usable(&self, now: Tick) -> bool {
        let standing = &self.live.standing;
        self.share() > 0
            && standing.is_good(now)
            && !self.live.silence.is_mute()
            && (!standing.is_on_trial() || self.in_flight() < TRIAL_AT_ONCE)
    }
}

/// How many requests at a time an ejected host is tried with.
const TRIAL_AT_ONCE: u32 = 3;

impl Hosts {
    /// These, in this order.
    pub fn new(list: Vec<Arc<Host>>) -> Hosts {
        Hosts { has_zones: list.iter().any(|host| host.far), list, rules: Rules::default() }
    }

    /// The same under these rules.
    pub fn ruled(self, rules: Rules) -> Hosts {
        Hosts { rules, ..self }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The host with this index.
    pub fn get(&self, id: HostId) -> Option<&Arc<Host>> {
        self.list.get(id.0 as usize)
    }

    /// All, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (HostId, &Arc<Host>)> {
        (0u32..).map(HostId).zip(&self.list)
    }
}

/// A set of hosts of one pool, without allocation for the first 64.
#[derive(Clone, Debug, Default)]
pub struct HostSet {
    first: u64,
    /// 64 more in each.
    rest: Vec<u64>,
}

impl HostSet {
    /// Adds `id`.
    pub fn insert(&mut self, id: HostId) {
        match place_of(id) {
            (None, bit) => self.first |= bit,
            (Some(word), bit) => {
                if word >= self.rest.len() {
                    self.rest.resize(word + 1, 0);
                }
                if let Some(word) = self.rest.get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }

    /// Whether `id` is in it.
    pub fn has(&self, id: HostId) -> bool {
        match place_of(id) {
            (None, bit) => self.first & bit != 0,
            (Some(word), bit) => self.rest.get(word).is_some_and(|word| word & bit != 0),
        }
    }

    /// Takes `id` out.
    pub fn remove(&mut self, id: HostId) {
        match place_of(id) {
            (None, bit) => self.first &= !bit,
            (Some(word), bit) => {
                if let Some(word) = self.rest.get_mut(word) {
                    *word &= !bit;
                }
            }
        }
    }

    /// Whether there is one in it that is not in `others`.
    pub fn has_beside(&self, others: &HostSet) -> bool {
        let rest = others.rest.iter().chain(std::iter::repeat(&0));
        self.first & !others.first != 0 || self.rest.iter().zip(rest).any(|(own, its)| own & !its != 0)
    }

    /// Whether there is none in it.
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.iter().all(|&word| word == 0)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.first = 0;
        self.rest.clear();
    }
}

/// In which word behind the first one its bit is, and which one there.
fn place_of(id: HostId) -> (Option<usize>, u64) {
    ((id.0 as usize / 64).checked_sub(1), 1 << (id.0 % 64))
}
