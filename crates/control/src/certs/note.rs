//! note: what is remembered of a name beside its certificate, so that a restart neither forgets a failure nor an order.

use super::acme::{Begun, Refusal};
use super::schedule::{self, Failing};
use crate::automatic::{Store, key};
use crate::observe::log;
use portunus_relay::tls::Certificate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is remembered of a name. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// When this was learnt.
    pub at: u64,
    /// The directory of the CA that its certificate is from.
    pub from: Option<String>,
    /// When the CA wants it to be renewed.
    pub window: Option<[u64; 2]>,
    /// When the CA is asked for that again.
    pub look_at: Option<u64>,
    /// Tries in a row that no CA has heard of.
    pub outages: u32,
    /// Tries since the latest that went well that a CA has refused.
    pub refused: u32,
    /// Not before this is it tried again.
    pub next_try: Option<u64>,
    /// Not before this is the certificate renewed, however due it looks.
    pub renewed_from: Option<u64>,
    /// CAs, by their directory, that want to be left alone with this name until then.
    pub told: BTreeMap<String, u64>,
    /// Why the latest try has failed.
    pub error: Option<String>,
    /// Which CAs have not given the certificate, though they come before the one that has, and why.
    pub passed_over: Option<String>,
    /// The orders that have not come to their end: one with each CA.
    pub orders: Vec<Begun>,
}

impl Note {
    /// The one in the store; what cannot be read is as good as none.
    pub fn read(store: &dyn Store, name: &str) -> Note {
        let bytes = store.read(&key(name, "json")).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What is known, or what is in the store when that is newer: another program may have put it there, and a store may be one that
    /// cannot be written.
    pub fn latest(self, store: &dyn Store, name: &str) -> Note {
        let kept = Note::read(store, name);
        if kept.at > self.at { kept } else { self }
    }

    /// A certificate was got from this CA.
    pub fn obtained(directory: &str, name: &str, certificate: &Certificate, now: SystemTime) -> Note {
        let dates = dates(certificate);
        let note = Note { from: Some(directory.to_owned()), at: seconds(now), ..Note::default() };
        if note.renew_at(name, certificate, now) <= now {
            log::warn(format_args!(
                "the new certificate of {name} is to be renewed at once: it is valid from {} until {}; is the clock right?",
                certificate.dates[0], certificate.dates[1]
            ));
        }
        Note { renewed_from: Some(seconds(now + schedule::rest(dates)).saturating_add(1)), ..note }
    }

    /// The operator has changed something, and wants to see what comes of it.
    pub fn hurry(&mut self, now: SystemTime) {
        self.next_try = None;
        self.at = seconds(now);
    }

    /// Puts it into the store.
    pub fn keep(&self, store: &dyn Store, name: &str) -> Result<(), String> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        let key = key(name, "json");
        store.write(&key, &bytes).map_err(|error| format!("{}: {error}", store.place(&key)))
    }

    /// A try has come to nothing, for these reasons. How long it is waited for the next one.
    pub fn failed(&mut self, name: &str, refusals: &[Refusal], now: SystemTime) -> Duration {
        let refused = refusals.iter().any(|one| one.kind == Failing::Refused);
        let kind = if refused { Failing::Refused } else { Failing::Outage };
        // The CA that can be asked soonest decides.
        let told = refusals.iter().map(|one| one.wait.unwrap_or_default()).min();
        let count = match kind {
            Failing::Outage => &mut self.outages,
            Failing::Refused => &mut self.refused,
        };
        *count = count.saturating_add(1);
        let pause = schedule::pause(*count, kind, told, schedule::spread(name, *count));
        self.next_try = Some(seconds(now + pause));
        self.at = seconds(now);
        self.error = Some(refusals.iter().map(|one| &*one.reason).collect::<Vec<_>>().join("; "));
        if refused {
            self.outages = 0;
        }
        pause
    }

    /// This CA has given nothing.
    pub fn heard(&mut self, directory: &str, refusal: &Refusal, now: SystemTime) {
        if let Some(wait) = refusal.wait {
            self.told.insert(directory.to_owned(), seconds(now + wait));
        }
        // What was refused is not taken up again.
        if refusal.kind == Failing::Refused {
            self.orders.retain(|order| order.directory != directory);
        }
    }

    /// Forgets what other CAs have said.
    pub fn forget_but(&mut self, is_known: impl Fn(&String) -> bool) {
        self.told.retain(|directory, _| is_known(directory));
        self.orders.retain(|order| is_known(&order.directory));
    }

    /// Until when it has to be waited; none: it has not.
    pub fn waits_until(&self, now: SystemTime) -> Option<SystemTime> {
        self.holding(self.next_try, now)
    }

    /// How long this CA wants to be left alone with the name; none: no longer.
    pub fn told_by(&self, directory: &str, now: SystemTime) -> Option<Duration> {
        let until = self.holding(self.told.get(directory).copied(), now)?;
        until.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    /// When the certificate is renewed.
    pub fn renew_at(&self, name: &str, certificate: &Certificate, now: SystemTime) -> SystemTime {
        let window = self.window.map(|window| window.map(moment));
        let at = schedule::renew_at(dates(certificate), window, schedule::spread(name, 0));
        self.holding(self.renewed_from, now).map_or(at, |from| from.max(at))
    }

    /// A time until which it is waited. What was learnt in the future was learnt by a clock that was wrong.
    fn holding(&self, until: Option<u64>, now: SystemTime) -> Option<SystemTime> {
        until.filter(|_| moment(self.at) <= now + CLOCKS).map(moment)
    }
}

/// From when and until when it is good.
pub fn dates(certificate: &Certificate) -> [SystemTime; 2] {
    [certificate.not_before, certificate.not_after].map(|at| moment(u64::try_from(at).unwrap_or(0)))
}

/// The time so many seconds after 1970.
pub fn moment(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.min(FAR))
}

/// The same in seconds.
pub fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// By how much the clocks of programs may differ that share a store.
const CLOCKS: Duration = Duration::from_secs(3600);
/// As far as anybody plans: the year 5138.
const FAR: u64 = 100_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::automatic::store::tests::Memory;

    #[test]
    fn failures_are_remembered_and_what_was_begun_until_it_is_refused() {
        let (store, now) = (Memory::default(), moment(1_000_000));
        let order = |directory: &str| Begun { directory: directory.into(), url: "u".into(), key: "k".into() };
        let mut note = Note { orders: vec![order("d"), order("e")], ..Note::default() };
        let outage = Refusal::own("nobody answers");
        assert!(note.failed("a.example", std::slice::from_ref(&outage), now) < Duration::from_secs(4));
        note.heard("d", &outage, now);
        assert_eq!(note.orders.len(), 2);
        note.keep(&store, "a.example").unwrap();
        assert_eq!(Note::read(&store, "a.example"), note);
        assert_eq!(Note::read(&store, "b.example"), Note::default());
        let told =
            Refusal { reason: "no".into(), kind: Failing::Refused, wait: Some(Duration::from_secs(7200)) };
        let pause = note.failed("a.example", std::slice::from_ref(&told), now);
        note.heard("d", &told, now);
        assert_eq!((pause, note.told_by("d", now)), (Duration::from_secs(7200), Some(pause)));
        assert_eq!(note.orders, [order("e")], "what another CA has begun goes on");
        assert_eq!((note.outages, note.refused), (0, 1));
        let pause = note.failed("a.example", &[told, outage], now);
        assert!(pause < Duration::from_secs(2000), "another CA may be asked earlier");
        assert_eq!(note.error.as_deref(), Some("no; nobody answers"));
    }

    #[test]
    fn what_a_store_could_not_take_is_remembered_all_the_same() {
        let (store, now) = (Memory::default(), moment(1_000_000));
        let mut note = Note::default();
        note.failed("a.example", &[Refusal::own("one")], now);
        // Nothing was kept, and the next failure is the second one.
        let mut note = note.latest(&store, "a.example");
        note.failed("a.example", &[Refusal::own("two")], now);
        assert_eq!(note.outages, 2);
        let others = Note { at: note.at + 1, ..Note::default() };
        others.keep(&store, "a.example").unwrap();
        assert_eq!(note.clone().latest(&store, "a.example"), others);
        note.hurry(now + Duration::from_secs(2));
        assert_eq!((note.next_try, note.outages), (None, 2));
        assert_eq!(note.clone().latest(&store, "a.example"), note, "nobody has failed since");
    }

    #[test]
    fn a_time_that_was_written_by_a_wrong_clock_is_not_waited_for() {
        let (now, mut note) = (moment(1_000_000), Note::default());
        note.failed("a.example", &[Refusal::own("one")], now + CLOCKS * 50);
        note.told.insert("d".into(), seconds(now) + 60);
        assert_eq!((note.waits_until(now), note.told_by("d", now)), (None, None));
        assert!(note.waits_until(now + CLOCKS * 50).is_some());
        note.failed("a.example", &[Refusal::own("two")], now);
        assert!(note.waits_until(now).is_some());
        assert_eq!(note.told_by("d", now), Some(Duration::from_secs(60)));
        assert_eq!((note.told_by("d", now + Duration::from_secs(60)), note.told_by("e", now)), (None, None));
    }
}
