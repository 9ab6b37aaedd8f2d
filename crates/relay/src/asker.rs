//! Asker: finds out what filters ask, off the worker where that takes long.

use crate::context::{Answer, Question};
use crate::filter::password;
use portunus_message::Tick;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a password that fitted is not checked again.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// How many of them are remembered.
const REMEMBERED_MAX: usize = 1024;
/// How many may be checked at once for each worker (attack G5).
const AT_ONCE: usize = 2;
/// How many may wait for that.
const WAITING_MAX: usize = 64;

/// Answers a worker's questions.
#[derive(Debug)]
pub struct Asker {
    slots: Arc<Semaphore>,
    waiting: std::cell::Cell<usize>,
    fitted: RefCell<HashMap<u128, Tick>>,
    keys: (RandomState, RandomState),
}

impl Default for Asker {
    fn default() -> Asker {
        Asker {
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: std::cell::Cell::new(0),
            fitted: RefCell::default(),
            keys: (RandomState::new(), RandomState::new()),
        }
    }
}

impl Asker {
    /// The answer to `question`; `Unknown` when too many wait.
    pub async fn ask(&self, question: Question, now: Tick) -> Answer {
        let Question::Password { hash, password } = question;
        let key = self.key(&hash, &password);
        if self.fitted.borrow().get(&key).is_some_and(|&until| now < until) {
            return Answer::Yes;
        }
        if self.waiting.get() >= WAITING_MAX {
            return Answer::Unknown;
        }
        let place = Place::take(&self.waiting);
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return Answer::Unknown };
        let checked = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            password::verify(&hash, &password)
        });
        let checked = checked.await;
        drop(place);
        match checked {
            Ok(true) => {
                self.remember(key, now);
                Answer::Yes
            }
            Ok(false) => Answer::No,
            Err(_) => Answer::Unknown,
        }
    }

    /// Two keyed hashes: the password itself is not kept.
    fn key(&self, hash: &str, password: &[u8]) -> u128 {
        let high = self.keys.0.hash_one((hash, password));
        let low = self.keys.1.hash_one((hash, password));
        u128::from(high) << 64 | u128::from(low)
    }

    fn remember(&self, key: u128, now: Tick) {
        let mut fitted = self.fitted.borrow_mut();
        if fitted.len() >= REMEMBERED_MAX {
            fitted.retain(|_, until| now < *until);
            if fitted.len() >= REMEMBERED_MAX {
                fitted.clear();
            }
        }
        fitted.insert(key, now + REMEMBERED_FOR);
    }
}

/// One of those that wait; given up also when the client goes away meanwhile.
struct Place<'a>(&'a std::cell::Cell<usize>);

impl<'a> Place<'a> {
    fn take(count: &'a std::cell::Cell<usize>) -> Place<'a> {
        count.set(count.get() + 1);
        Place(count)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
