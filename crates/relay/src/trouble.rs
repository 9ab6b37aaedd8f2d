//! Trouble: why no connection to a host has come about of late, in words for people.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why the latest connection to a host has not come about. Where none fails, that is one load for each connection.
#[derive(Debug, Default)]
pub struct Trouble {
    state: AtomicU8,
    words: Mutex<Option<Arc<str>>>,
}

impl Trouble {
    /// A connection has not come about.
    pub fn note(&self, words: &str) {
        let mut known = self.lock();
        if known.as_deref() != Some(words) {
            *known = Some(words.into());
            self.state.store(NEWS, Relaxed);
        }
    }

    /// A connection has come about.
    pub fn over(&self) {
        if self.state.load(Relaxed) != NONE {
            *self.lock() = None;
            self.state.store(NONE, Relaxed);
        }
    }

    /// Why the latest one has not; none when it has.
    pub fn words(&self) -> Option<Arc<str>> {
        self.lock().clone()
    }

    /// Whether there are words that nobody has asked for by [`Trouble::news`].
    pub fn is_news(&self) -> bool {
        self.state.load(Relaxed) == NEWS
    }

    /// The words, if they are other ones than before; once.
    pub fn news(&self) -> Option<Arc<str>> {
        let words = self.lock();
        let is_news = self.state.compare_exchange(NEWS, TOLD, Relaxed, Relaxed).is_ok();
        words.clone().filter(|_| is_news)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NONE: u8 = 0;
const NEWS: u8 = 1;
const TOLD: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_news_once_until_it_is_over() {
        let trouble = Trouble::default();
        assert!(!trouble.is_news() && trouble.news().is_none() && trouble.words().is_none());
        trouble.note("no");
        assert!(trouble.is_news());
        assert_eq!(trouble.news().as_deref(), Some("no"));
        trouble.note("no");
        assert!(!trouble.is_news() && trouble.news().is_none());
        assert_eq!(trouble.words().as_deref(), Some("no"));
        trouble.note("never");
        assert_eq!(trouble.news().as_deref(), Some("never"));
        trouble.over();
        assert!(trouble.words().is_none() && !trouble.is_news());
        trouble.note("never");
        assert_eq!(trouble.news().as_deref(), Some("never"));
    }
}
