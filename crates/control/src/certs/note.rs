//! note: what is remembered of a name beside its certificate, so that a restart neither forgets a failure nor an order.

use super::acme::{Begun, Refusal};
use super::schedule::{self, Failing};
use crate::automatic::{Store, key};
use portunus_relay::tls::Certificate;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is remembered of a name. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
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
    /// Why the latest try has failed.
    pub error: Option<String>,
    /// The order that has not come to its end.
    pub begun: Option<Begun>,
}

impl Note {
    /// The one in the store; what cannot be read is as good as none.
    pub fn read(store: &dyn Store, name: &str) -> Note {
        let bytes = store.read(&key(name, "json")).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
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
        self.error = Some(refusals.iter().map(|one| &*one.reason).collect::<Vec<_>>().join("; "));
        // What was refused is not taken up again.
        if refused {
            self.outages = 0;
            self.begun = None;
        }
        pause
    }

    /// Until when it has to be waited; none: it has not.
    pub fn waits_until(&self) -> Option<SystemTime> {
        self.next_try.map(moment)
    }

    /// When the certificate is renewed.
    pub fn renew_at(&self, name: &str, certificate: &Certificate) -> SystemTime {
        let window = self.window.map(|window| window.map(moment));
        schedule::renew_at(dates(certificate), window, schedule::spread(name, 0))
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

/// As far as anybody plans: the year 5138.
const FAR: u64 = 100_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::automatic::store::tests::Memory;

    #[test]
    fn failures_are_remembered_and_what_was_begun_until_it_is_refused() {
        let (store, now) = (Memory::default(), moment(1_000_000));
        let begun = Begun { directory: "d".into(), url: "u".into(), key: "k".into() };
        let mut note = Note { begun: Some(begun.clone()), ..Note::default() };
        let outage = Refusal::own("nobody answers");
        assert!(note.failed("a.example", std::slice::from_ref(&outage), now) < Duration::from_secs(4));
        assert_eq!(note.begun.as_ref(), Some(&begun));
        note.keep(&store, "a.example").unwrap();
        assert_eq!(Note::read(&store, "a.example"), note);
        assert_eq!(Note::read(&store, "b.example"), Note::default());
        let told =
            Refusal { reason: "no".into(), kind: Failing::Refused, wait: Some(Duration::from_secs(7200)) };
        let pause = note.failed("a.example", std::slice::from_ref(&told), now);
        assert_eq!((pause, note.begun.clone()), (Duration::from_secs(7200), None));
        assert_eq!((note.outages, note.refused), (0, 1));
        let pause = note.failed("a.example", &[told, outage], now);
        assert!(pause < Duration::from_secs(2000), "another CA may be asked earlier");
        assert_eq!(note.error.as_deref(), Some("no; nobody answers"));
    }
}
