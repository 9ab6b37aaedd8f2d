//! patience: which CAs want to be left alone, whatever the name, and until when, and which ones give no answer; it outlives a reload.

use super::Refusal;
use super::client::Heard;
use crate::certs::schedule::Failing;
use hyper::StatusCode;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Which CAs want to be left alone.
#[derive(Debug, Default)]
pub struct Patience {
    /// Guards until when each does, by its directory, and what it has said.
    until: Mutex<HashMap<String, (Instant, String)>>,
    /// Guards when each that gives no answer was asked in vain, by its directory, and how that ended.
    silent: Mutex<HashMap<String, (Instant, String)>>,
}

impl Patience {
    /// Why this CA is not asked now.
    pub fn refusal(&self, directory: &str) -> Option<Refusal> {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, reason) = until.get(directory)?;
        let left = at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(Refusal { reason: reason.clone(), kind: Failing::Outage, wait: Some(left) })
    }

    /// A CA has given no answer, or none of a CA.
    pub fn unanswered(&self, directory: &str, reason: &str) {
        self.silent().insert(directory.to_owned(), (Instant::now(), reason.to_owned()));
    }

    /// A CA does what it is there for.
    pub fn answered(&self, directory: &str) {
        self.silent().remove(directory);
    }

    /// Whether this CA has given no answer of late, and why: the others are asked before it.
    pub fn silence(&self, directory: &str) -> Option<String> {
        let silent = self.silent();
        silent.get(directory).filter(|(at, _)| at.elapsed() < SILENT_FOR).map(|(_, reason)| reason.clone())
    }

    /// The operator has changed something: all are asked in the order that is written.
    pub fn ask_all(&self) {
        self.silent().clear();
    }

    fn silent(&self) -> MutexGuard<'_, HashMap<String, (Instant, String)>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A CA has said this to somebody who asked for a name. One that can do no more (503) says it to everybody. One that has counted too much
    /// (429) may have counted the name or the account, which it does not tell: others wait for a while only, and not for what
    /// strangers have asked for, who could keep written names waiting for ever.
    pub fn heed(&self, directory: &str, heard: &Heard, stranger: bool, reason: &str) {
        let most = match heard.status {
            Some(StatusCode::SERVICE_UNAVAILABLE) => BUSY_MAX,
            Some(StatusCode::TOO_MANY_REQUESTS) if !stranger => COUNTED_MAX,
            _ => return,
        };
        let wait = heard.retry_after.unwrap_or(UNTOLD).min(most);
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.insert(directory.to_owned(), (Instant::now() + wait, reason.to_owned()));
    }
}

/// How long everybody waits at most for what one has been told.
const BUSY_MAX: Duration = Duration::from_secs(3600);
const COUNTED_MAX: Duration = Duration::from_secs(15 * 60);
/// How long others are asked before one that has given no answer.
const SILENT_FOR: Duration = Duration::from_secs(5 * 60);
/// How long when the CA does not say it.
const UNTOLD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_no_answer_is_remembered_until_it_does_or_something_is_changed() {
        let patience = Patience::default();
        patience.unanswered("a", "no connection");
        assert_eq!(patience.silence("a").as_deref(), Some("no connection"));
        assert!(patience.silence("b").is_none() && patience.refusal("a").is_none());
        patience.answered("a");
        assert!(patience.silence("a").is_none());
        patience.unanswered("a", "no connection");
        patience.ask_all();
        assert!(patience.silence("a").is_none());
    }

    #[test]
    fn what_strangers_are_told_holds_for_them_alone() {
        let patience = Patience::default();
        let heard = |status: u16, seconds: u64| Heard {
            status: StatusCode::from_u16(status).ok(),
            retry_after: Some(Duration::from_secs(seconds)),
            ..Heard::default()
        };
        patience.heed("a", &heard(429, 7200), true, "too many");
        patience.heed("a", &heard(403, 7200), false, "no");
        assert!(patience.refusal("a").is_none());
        patience.heed("a", &heard(429, 7200), false, "too many");
        let refusal = patience.refusal("a").unwrap();
        assert!(refusal.wait.unwrap() <= COUNTED_MAX && refusal.reason == "too many");
        assert!(patience.refusal("b").is_none());
        patience.heed("b", &heard(503, 0), true, "busy");
        assert!(patience.refusal("b").is_none(), "it is over");
        patience.heed("b", &heard(503, 60), true, "busy");
        assert!(patience.refusal("b").is_some());
    }
}
