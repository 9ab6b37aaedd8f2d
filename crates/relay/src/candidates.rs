//! Candidates: which hosts a policy may choose among at a moment, and with which weight — tiers, zones, slow start and the floor.

use crate::hosts::{Host, HostId, HostSet, Hosts};
use crate::standing::Order;
use portunus_message::Tick;
use std::time::Duration;

/// Weights are counted in hundredths while slow start is set, so that a host of weight 1 can be brought up in steps.
const STEPS: u32 = 100;
/// With how many hundredths of its weight a host begins.
const FIRST_STEP: u128 = 10;
/// How long a host that refused a connection is left alone while hosts that are not good are used.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// How much more than its part a zone takes, in tenths, before requests go to others: a zone stays alone as long as ten
/// fourteenths of its weight are good.
const ZONE_SPARE: u64 = 14;

/// The hosts that a policy may choose among. Every one has weight, was not tried, and is of the tier and the zone whose
/// turn it is.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    hosts: &'a Hosts,
    tried: &'a HostSet,
    now: Tick,
    at: u32,
    /// Which tier.
    backup: bool,
    /// Whether hosts that are not good are taken too,
    forced: bool,
    /// even those that answer nobody.
    mute_too: bool,
    zone: Zone,
    /// How long hosts that came back are brought up; zero: not at all.
    ramp: Duration,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its index.
    pub id: HostId,
    /// The host.
    pub host: &'a Host,
    /// Its weight now, to be compared with the other candidates' and with nothing else.
    pub share: u32,
    /// What `share` would be as written.
    full: u32,
}

/// Hosts of which zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    All,
    Own,
    Far,
}

impl Hosts {
    /// Those that a policy may choose: good, of weight, not in `tried`; backups only when no other is left, hosts of
    /// other zones only when the own zone has lost more than it can spare, and hosts that are not good only when fewer
    /// than [`crate::hosts::Rules::keep`] are, those that answer nobody last. The same `draw` decides alike; where keys matter it comes from the key.
    pub fn candidates_for<'a>(&'a self, tried: &'a HostSet, now: Tick, draw: u64) -> Candidates<'a> {
        let mut all = Candidates::of(self, tried, now);
        let mut first = all.next();
        // One good host is mostly all that is asked for, and there it is.
        if (first.is_none() || self.rules.keep > 1) && self.is_below_floor(now) {
            all.force();
            first = all.next();
        }
        all.backup = first.is_none();
        all.at = 0;
        if self.has_zones && !all.backup {
            all.zone = all.choose_zone(draw);
        }
        if self.rules.slow_start > Duration::ZERO {
            let rises = |one: Candidate<'_>| rising(one.host, self.rules.slow_start, now).is_some();
            if !all.all(rises) {
                all.ramp = self.rules.slow_start;
            }
            all.at = 0;
        }
        all
    }

    /// The only host there is, when it may be chosen: then there is nothing to choose.
    pub fn only(&self, tried: &HostSet, now: Tick) -> Option<HostId> {
        let id = HostId(0);
        let host = self.get(id).filter(|_| self.len() == 1)?;
        (host.is_usable(now) && !tried.has(id)).then_some(id)
    }

    /// Those that have room and may serve, of whatever tier and zone.
    pub fn open(&self, now: Tick) -> HostSet {
        let nobody = HostSet::default();
        let mut all = Candidates::of(self, &nobody, now);
        if self.is_below_floor(now) {
            all.force();
        }
        let mut open = HostSet::default();
        let has_room = |host: &Host| !host.is_full() && all.may_serve(host);
        self.iter().filter(|(_, host)| has_room(host)).for_each(|(id, _)| open.insert(id));
        open
    }

    /// The same for whoever wants to know what is left, and does not choose.
    pub fn candidates<'a>(&'a self, tried: &'a HostSet, now: Tick) -> Candidates<'a> {
        self.candidates_for(tried, now, 0)
    }

    /// Whether fewer hosts are good than shall be kept, so that others are used as well.
    pub fn is_below_floor(&self, now: Tick) -> bool {
        let keep = self.rules.keep as usize;
        self.iter().filter(|(_, host)| host.is_usable(now)).take(keep).count() < keep
    }
}

impl<'a> Candidates<'a> {
    fn of(hosts: &'a Hosts, tried: &'a HostSet, now: Tick) -> Candidates<'a> {
        let (backup, forced, mute_too) = (false, false, false);
        let (at, zone, ramp) = (0, Zone::All, Duration::ZERO);
        Candidates { hosts, tried, now, at, backup, forced, mute_too, zone, ramp }
    }

    /// Hosts that are not good are taken, too; those that answer nobody only when there is nobody else at all.
    fn force(&mut self) {
        (self.forced, self.at) = (true, 0);
        self.mute_too = !self.hosts.iter().any(|(_, host)| self.may_serve(host));
    }

    /// The host with this index, if it is one of them.
    pub fn one(&self, id: HostId) -> Option<Candidate<'a>> {
        let host = self.hosts.get(id)?;
        self.fits(id, host).then(|| self.weigh(id, host))
    }

    fn fits(&self, id: HostId, host: &Host) -> bool {
        host.backup == self.backup
            && match self.zone {
                Zone::All => true,
                Zone::Own => !host.far,
                Zone::Far => host.far,
            }
            && !self.tried.has(id)
            && self.may_serve(host)
    }

    fn may_serve(&self, host: &Host) -> bool {
        let standing = &host.live.standing;
        host.is_usable(self.now)
            || self.forced
                && host.share() > 0
                && standing.order() == Order::Serve
                && !standing.has_refused(REFUSED_FOR, self.now)
                && (self.mute_too || !host.live.silence.is_mute())
    }

    fn weigh(&self, id: HostId, host: &'a Host) -> Candidate<'a> {
        if self.ramp.is_zero() {
            return Candidate { id, host, share: host.share(), full: host.weight };
        }
        let whole = host.share().saturating_mul(STEPS);
        let share = match rising(host, self.ramp, self.now) {
            None => whole,
            Some(hundredths) => host.share().saturating_mul(hundredths).max(1),
        };
        Candidate { id, host, share, full: host.weight.saturating_mul(STEPS) }
    }

    /// The zone for one request: the own one for as many as its good weight can bear, others for the rest.
    fn choose_zone(self, draw: u64) -> Zone {
        let (mut written, mut good, mut far_is_left, mut own_is_left) = (0u64, 0u64, false, false);
        for (id, host) in self.hosts.iter().filter(|(_, host)| host.backup == self.backup) {
            let may_serve = self.may_serve(host);
            let is_left = may_serve && !self.tried.has(id);
            if host.far {
                far_is_left |= is_left;
            } else {
                own_is_left |= is_left;
                written += u64::from(host.share());
                good += if may_serve { u64::from(host.share()) } else { 0 };
            }
        }
        let place = u128::from(mixed(draw)) * u128::from(written * 10);
        match (own_is_left, far_is_left) {
            (true, false) => Zone::Own,
            (false, _) => Zone::All,
            (true, true) if place < u128::from(good * ZONE_SPARE) << 64 => Zone::Own,
            (true, true) => Zone::Far,
        }
    }
}

impl<'a> Iterator for Candidates<'a> {
    type Item = Candidate<'a>;

    fn next(&mut self) -> Option<Candidate<'a>> {
        loop {
            let id = HostId(self.at);
            let host = self.hosts.get(id)?;
            self.at += 1;
            if self.fits(id, host) {
                return Some(self.weigh(id, host));
            }
        }
    }
}

impl Candidate<'_> {
    /// How much of its written weight it has now, 0 to 1.
    pub fn part(&self) -> f64 {
        if self.share >= self.full { 1.0 } else { f64::from(self.share) / f64::from(self.full) }
    }
}

/// How far a host has been brought up, in hundredths; none when it has all its weight.
fn rising(host: &Host, ramp: Duration, now: Tick) -> Option<u32> {
    let since = now.since(host.live.standing.good_since()?);
    let hundredths = since.as_micros() * u128::from(STEPS) / ramp.as_micros().max(1);
    u32::try_from(hundredths.max(FIRST_STEP)).ok().filter(|&hundredths| hundredths < STEPS)
}

/// The same number spread over all bits, so that whoever draws from `draw` as well is not tied to what was decided by it.
fn mixed(draw: u64) -> u64 {
    let draw = (draw ^ (draw >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    draw ^ (draw >> 32)
}

#[cfg(test)]
mod tests;
