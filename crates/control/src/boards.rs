//! boards: what health checks, discovery and the watch over certificates have found, for status and metrics.

use portunus_relay::plan::Address;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pool and host.
pub type Name = (String, String);

/// What the checks have found, for status and metrics.
#[derive(Debug, Default)]
pub struct Checks(Mutex<BTreeMap<Name, Found>>);

/// What the checks of one host have found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Checks that were passed.
    pub passed: u64,
    /// Checks that were not.
    pub failed: u64,
    /// Why the latest was not.
    pub latest: Option<String>,
}

impl Checks {
    /// What is known of a host of a pool.
    pub fn of(&self, pool: &str, host: &str) -> Option<Found> {
        self.lock().get(&(pool.to_owned(), host.to_owned())).cloned()
    }

    /// Hears of a check.
    pub fn note(&self, name: &Name, result: &Result<(), String>) {
        let mut all = self.lock();
        let found = all.entry(name.clone()).or_default();
        match result {
            Ok(()) => found.passed += 1,
            Err(_) => found.failed += 1,
        }
        found.latest = result.as_ref().err().cloned();
    }

    /// Forgets a host that is not checked any more.
    pub fn forget(&self, name: &Name) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of the latest look at each name, for status and metrics.
#[derive(Debug, Default)]
pub struct Names(Mutex<BTreeMap<Address, Option<String>>>);

impl Names {
    /// Every name, with why it cannot be resolved now.
    pub fn all(&self) -> Vec<(Address, Option<String>)> {
        self.lock().iter().map(|(name, failing)| (name.clone(), failing.clone())).collect()
    }

    /// Hears of a look at a name.
    pub fn note(&self, name: &Address, failing: Option<&String>) {
        self.lock().insert(name.clone(), failing.cloned());
    }

    /// Forgets a name that nobody uses any more.
    pub fn forget(&self, name: &Address) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has become of changed certificates.
#[derive(Debug, Default)]
pub struct Renewals {
    taken: AtomicU64,
    refused: AtomicU64,
    /// Guards which files cannot be used now, and why; the ones before go on.
    failing: Mutex<BTreeMap<PathBuf, String>>,
}

impl Renewals {
    /// How many were taken, and how many refused.
    pub fn counts(&self) -> [u64; 2] {
        [self.taken.load(Relaxed), self.refused.load(Relaxed)]
    }

    /// The certificates whose files cannot be used now, and why.
    pub fn failing(&self) -> BTreeMap<PathBuf, String> {
        lock(&self.failing).clone()
    }

    /// This one has been taken.
    pub fn took(&self, certificate: &Path) {
        self.taken.fetch_add(1, Relaxed);
        lock(&self.failing).remove(certificate);
    }

    /// This one cannot be used.
    pub fn refuse(&self, certificate: &Path, reason: String) {
        self.refused.fetch_add(1, Relaxed);
        lock(&self.failing).insert(certificate.to_owned(), reason);
    }

    /// Forgets what cannot be used any more because nobody asks for it, or is as it was.
    pub fn keep(&self, still: impl Fn(&Path) -> bool) {
        self.failing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|certificate, _| still(certificate));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
