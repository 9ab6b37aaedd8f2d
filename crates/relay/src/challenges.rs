//! Challenges: what is shown to a CA that looks whether a name is ours; put here by the control plane, few at a time, one store for all workers.

use crate::tls::{Flaw, Proofs};
use rustls::server::UnbufferedServerConnection;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a CA asks for a token (RFC 8555 §8.3).
const PATH: &str = "/.well-known/acme-challenge/";
/// How many are shown at one time; more are not needed, since few certificates are asked for at one time.
pub const CHALLENGES_MAX: usize = 1000;

/// What is shown now.
#[derive(Debug, Default)]
pub struct Challenges {
    /// Whether anything is: read for every request, so that they take no lock while there is nothing.
    open: AtomicBool,
    /// Guards what is shown.
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    tokens: HashMap<Box<str>, Arc<str>>,
    proofs: Proofs,
}

impl Challenges {
    /// What is answered to a request for `path`, if it asks for a token of ours.
    pub fn answer(&self, path: &str) -> Option<Arc<str>> {
        if !self.open.load(Relaxed) {
            return None;
        }
        let token = path.strip_prefix(PATH)?;
        self.lock().tokens.get(token).cloned()
    }

    /// A handshake with a CA that wants to see that `name` is ours.
    pub fn connection(&self, name: &str) -> Option<UnbufferedServerConnection> {
        if !self.open.load(Relaxed) {
            return None;
        }
        self.lock().proofs.connection(name)
    }

    /// Whether `protocols`, which a client offers, are those of a CA that wants to see that a name is ours.
    pub fn is_asked(protocols: &[Vec<u8>]) -> bool {
        matches!(protocols, [only] if only == crate::tls::PROOF_PROTOCOL)
    }

    /// Answers `text` for `token`. Whether there is room for it.
    pub fn show_token(&self, token: &str, text: &str) -> bool {
        let mut shown = self.lock();
        let room = shown.tokens.len() < CHALLENGES_MAX;
        if room {
            shown.tokens.insert(token.into(), text.into());
            self.open.store(true, Relaxed);
        }
        room
    }

    /// Shows `certificate`, as DER, with its key in PEM, for `name`. Whether there is room for it.
    pub fn show_proof(&self, name: &str, certificate: Vec<u8>, key: &[u8]) -> Result<bool, Flaw> {
        let mut shown = self.lock();
        let room = shown.proofs.len() < CHALLENGES_MAX;
        if room {
            shown.proofs.show(name, certificate, key)?;
            self.open.store(true, Relaxed);
        }
        Ok(room)
    }

    /// Answers no more for this token.
    pub fn hide_token(&self, token: &str) {
        let mut shown = self.lock();
        shown.tokens.remove(token);
        self.close_if_empty(&shown);
    }

    /// Shows nothing more for this name.
    pub fn hide_proof(&self, name: &str) {
        let mut shown = self.lock();
        shown.proofs.hide(name);
        self.close_if_empty(&shown);
    }

    fn close_if_empty(&self, shown: &Shown) {
        self.open.store(!(shown.tokens.is_empty() && shown.proofs.is_empty()), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_of_ours_are_answered_and_only_while_they_are_shown() {
        let challenges = Challenges::default();
        assert_eq!(challenges.answer("/.well-known/acme-challenge/abc"), None);
        assert!(challenges.show_token("abc", "abc.key"));
        assert_eq!(challenges.answer("/.well-known/acme-challenge/abc").as_deref(), Some("abc.key"));
        for other in ["/.well-known/acme-challenge/abd", "/.well-known/acme-challenge/", "/abc", "/"] {
            assert_eq!(challenges.answer(other), None, "{other}");
        }
        challenges.hide_token("abc");
        assert_eq!(challenges.answer("/.well-known/acme-challenge/abc"), None);
        assert!(!challenges.open.load(Relaxed));
    }

    #[test]
    fn who_offers_other_protocols_too_is_no_ca() {
        let offer = |all: &[&str]| all.iter().map(|one| one.as_bytes().to_vec()).collect::<Vec<_>>();
        assert!(Challenges::is_asked(&offer(&["acme-tls/1"])));
        assert!(!Challenges::is_asked(&offer(&["acme-tls/1", "http/1.1"])));
        assert!(!Challenges::is_asked(&offer(&[])));
    }
}
