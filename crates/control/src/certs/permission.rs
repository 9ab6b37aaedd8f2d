//! permission: whether a name that nobody wrote down shall have a certificate; whoever is named by `ask` says it.

use super::acme::{Refusal, Web};
use super::schedule::Failing;
use portunus_relay::plan::{Plan, Signer, Wanted};
use portunus_relay::snapshot::Snapshot;
use portunus_relay::values::print_duration;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Whether it has to be asked. What we sign ourselves costs nobody else anything, so there it is the operator's choice.
pub fn is_needed(plan: &Plan, wanted: &Wanted) -> bool {
    wanted.by == Signer::Acme || plan.settings.acme.ask.is_some()
}

/// Whether `name` may have one. No client waits longer than for its handshake, so nobody waits longer for the answer.
pub async fn of(snapshot: &Snapshot, name: &str) -> Result<(), Refusal> {
    let ask = snapshot.plan().settings.acme.ask.as_deref();
    let ask = ask.ok_or_else(|| Refusal::own("nobody can be asked whether it may"))?;
    let roots = snapshot.certificates().roots.get(&None);
    let web = Web::new(roots.map(|roots| &**roots)).map_err(Refusal::own)?;
    let time = snapshot.plan().settings.limits.handshake_time;
    let status = timeout(time, web.get(&question(ask, name))).await;
    let status =
        status.unwrap_or_else(|_| Err(format!("`ask` does not answer within {}", print_duration(time))));
    let status = status.map_err(Refusal::own)?;
    match status.as_u16() {
        200 => Ok(()),
        status @ 500.. => Err(Refusal::own(format!("`ask` does not know ({status})"))),
        status => Err(Refusal {
            reason: format!("`ask` does not allow it ({status})"),
            kind: Failing::Refused,
            wait: None,
        }),
    }
}

/// What is asked. Names that are asked about have letters, digits, `-` and `.` only, see `automatic::may_be_demanded`.
fn question(ask: &str, name: &str) -> String {
    let mark = if ask.contains('?') { '&' } else { '?' };
    format!("{ask}{mark}domain={name}")
}

/// What was told of late of somebody who is asked and gives no answer.
#[derive(Debug, Default)]
pub struct Told(Vec<(Instant, String)>);

impl Told {
    /// Whether it is told now: when it has not been for a while, and there is room for something else.
    pub fn is_due(&mut self, words: &str, now: Instant) -> bool {
        self.0.retain(|(at, _)| now.duration_since(*at) < TELL_EVERY);
        let is_due = self.0.len() < TOLD_MAX && self.0.iter().all(|(_, told)| told != words);
        if is_due {
            self.0.push((now, words.to_owned()));
        }
        is_due
    }
}

/// How often the same is told.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How much is told in that time: clients decide how often somebody is asked.
const TOLD_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_due("no connection", now) && !told.is_due("no connection", now + TELL_EVERY / 2));
        assert!(told.is_due("500", now + TELL_EVERY / 2) && !told.is_due("500", now + TELL_EVERY));
        assert!(told.is_due("500", now + TELL_EVERY * 3 / 2));
        let later = now + TELL_EVERY * 10;
        let count = (0..60).filter(|number| told.is_due(["500", "503"][number % 2], later)).count();
        assert_eq!(count, 2, "in turn");
        assert!((0..60).filter(|number| told.is_due(&number.to_string(), later)).count() < TOLD_MAX);
    }

    #[test]
    fn the_name_is_one_of_the_words_behind_the_url() {
        assert_eq!(question("http://a/may", "b.example"), "http://a/may?domain=b.example");
        assert_eq!(question("http://a/may?token=x", "b.example"), "http://a/may?token=x&domain=b.example");
    }
}
