//! due: what is done for a name next, and when; a function of what is known of it.

use super::note::{self, Note};
use portunus_relay::plan::{Plan, Signer, Wanted};
use portunus_relay::tls::Certificate;
use std::time::SystemTime;

/// A name that wants a certificate.
pub struct Name {
    /// What is remembered of it.
    pub note: Note,
    /// Whether something is being done for it.
    pub busy: bool,
    /// Not before this, whatever the note says.
    pub rests_until: Option<SystemTime>,
    /// Whoever is asked about names that nobody wrote down has said yes.
    pub permitted: bool,
}

impl Name {
    /// One of which this is remembered.
    pub fn new(note: Note) -> Name {
        Name { note, busy: false, rests_until: None, permitted: false }
    }
}

/// What can be done for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Asking whether it may have a certificate at all.
    Ask,
    /// Getting a certificate.
    Get,
    /// Asking the CA when it wants the one that is there to be renewed.
    Look,
}

/// What is done for a name next, and when.
pub fn due(
    wanted: &Wanted,
    name: &Name,
    certificate: Option<&Certificate>,
    plan: &Plan,
    now: SystemTime,
) -> (SystemTime, Task) {
    let note = &name.note;
    let rest = note.waits_until(now).into_iter().chain(name.rests_until).max();
    let not_before_rest = |at: SystemTime| rest.map_or(at, |rest| rest.max(at));
    let Some(certificate) = certificate else { return (not_before_rest(now), Task::Get) };
    let authorities = &plan.settings.acme.authorities;
    let is_foreign = |from: &String| !authorities.iter().any(|authority| authority.directory == *from);
    let renew = match note.from.as_ref().filter(|_| wanted.by == Signer::Acme) {
        // The operator wants certificates from other CAs now.
        Some(from) if is_foreign(from) => now,
        _ => note.renew_at(&wanted.name, certificate, now),
    };
    let renew = not_before_rest(renew);
    let look = note.look_at.map_or(now, note::moment).max(name.rests_until.unwrap_or(now));
    match wanted.by == Signer::Acme && note.from.is_some() && look < renew {
        true => (look, Task::Look),
        false => (renew, Task::Get),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::automatic::Authority;
    use portunus_relay::plan::AcmeAuthority;
    use std::sync::Arc;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const CA: &str = "https://ca.example/directory";

    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.settings.acme.authorities = vec![AcmeAuthority::at(CA.to_owned())];
        plan
    }

    fn wanted(by: Signer) -> Wanted {
        Wanted { name: "a.example".to_owned(), by }
    }

    /// A certificate for 30 days, made at `now`.
    fn certificate(now: SystemTime) -> Arc<Certificate> {
        Authority::make(now).unwrap().0.sign("a.example", now).unwrap()
    }

    #[test]
    fn who_has_none_gets_one_at_once_or_when_it_may_be_tried_again() {
        let (now, wanted) = (SystemTime::now(), wanted(Signer::Acme));
        assert!(due(&wanted, &Name::new(Note::default()), None, &plan(), now) == (now, Task::Get));
        let later = note::moment(note::seconds(now) + 300);
        let failed = Note { next_try: Some(note::seconds(later)), ..Note::default() };
        assert!(due(&wanted, &Name::new(failed.clone()), None, &plan(), now) == (later, Task::Get));
        let elsewhere = Name { rests_until: Some(now + 2 * DAY), ..Name::new(failed) };
        assert!(due(&wanted, &elsewhere, None, &plan(), now).0 == now + 2 * DAY);
    }

    #[test]
    fn the_ca_is_asked_when_then_it_is_renewed_and_after_a_failure_not_too_often() {
        let now = SystemTime::now();
        let (own, shown) = (wanted(Signer::Internal), certificate(now));
        let (at, task) = due(&own, &Name::new(Note::default()), Some(&shown), &plan(), now);
        assert!(task == Task::Get && (now + 18 * DAY..now + 20 * DAY).contains(&at));

        let wanted = wanted(Signer::Acme);
        let mut note = Note { from: Some(CA.to_owned()), ..Note::default() };
        assert!(due(&wanted, &Name::new(note.clone()), Some(&shown), &plan(), now) == (now, Task::Look));
        note.look_at = Some(note::seconds(now + 25 * DAY));
        note.window = Some([note::seconds(now + 3 * DAY), note::seconds(now + 4 * DAY)]);
        let (at, task) = due(&wanted, &Name::new(note.clone()), Some(&shown), &plan(), now);
        assert!(task == Task::Get && (now + 3 * DAY - DAY / 24..now + 4 * DAY).contains(&at));
        note.next_try = Some(note::seconds(now + 6 * DAY));
        let (at, task) = due(&wanted, &Name::new(note), Some(&shown), &plan(), now + 5 * DAY);
        assert!(task == Task::Get && note::seconds(at) == note::seconds(now + 6 * DAY));
    }

    #[test]
    fn one_from_a_ca_that_is_not_wanted_any_more_is_replaced() {
        let (now, note) =
            (SystemTime::now(), Note { from: Some("https://staging.example".into()), ..Note::default() });
        let at = due(&wanted(Signer::Acme), &Name::new(note), Some(&certificate(now)), &plan(), now);
        assert!(at == (now, Task::Get));
    }

    #[test]
    fn one_that_is_due_on_arrival_is_left_for_a_while() {
        // By a clock that is 80 days ahead, 30 days are over.
        let (now, wanted) = (SystemTime::now(), wanted(Signer::Acme));
        let (shown, wrong) = (certificate(now), now + 80 * DAY);
        let mut note = Note::obtained(CA, &wanted.name, &shown, wrong);
        note.look_at = Some(note::seconds(wrong + 10 * DAY));
        note.window = Some([note::seconds(now), note::seconds(now + DAY)]);
        let (at, task) = due(&wanted, &Name::new(note), Some(&shown), &plan(), wrong);
        assert!(task == Task::Get);
        assert!((wrong + DAY..wrong + 2 * DAY).contains(&at));
    }
}
