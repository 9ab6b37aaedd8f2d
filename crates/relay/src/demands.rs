//! Demands: names that clients ask for and that have no certificate yet, on sites that get them then; one store for all workers, bounded.

use crate::plan::{Signer, Wanted};
use portunus_message::Tick;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How many names may wait for an answer at one time; more are turned away (attack D10).
pub const WAITING_MAX: usize = 100;
/// How many names are remembered that shall have none.
const REFUSED_MAX: usize = 10_000;
/// For how long a name stays in the line for which nobody asks any more: whoever waits asks twice a second.
pub const GONE_AFTER: Duration = Duration::from_secs(2);
/// For how long at most nobody is asked about them again.
pub const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What is asked for now.
#[derive(Debug, Default)]
pub struct Demands {
    /// Guards the names.
    names: Mutex<Names>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Names {
    /// When somebody has asked for each the last time.
    waiting: BTreeMap<Wanted, Tick>,
    refused: BTreeMap<String, Tick>,
}

impl Demands {
    /// A client asks for this name. Whether it may wait for it.
    pub fn ask(&self, name: &str, by: Signer, now: Tick) -> bool {
        let mut names = self.lock();
        if names.refused.get(name).is_some_and(|until| now < *until) {
            return false;
        }
        let wanted = Wanted { name: name.to_owned(), by };
        if let Some(asked) = names.waiting.get_mut(&wanted) {
            *asked = now;
            return true;
        }
        if names.waiting.len() >= WAITING_MAX {
            names.pass_over(now);
        }
        let room = names.waiting.len() < WAITING_MAX;
        if room {
            names.waiting.insert(wanted, now);
            self.added.notify_one();
        }
        room
    }

    /// Resolves when there may be new ones.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// The names that somebody waits for.
    pub fn waiting(&self, now: Tick) -> Vec<Wanted> {
        let mut names = self.lock();
        names.pass_over(now);
        names.waiting.keys().cloned().collect()
    }

    /// There is a certificate now.
    pub fn granted(&self, wanted: &Wanted) {
        self.lock().waiting.remove(wanted);
    }

    /// There is none, and none for a while; whoever waits for it need not, and another name may have the place.
    pub fn refused(&self, wanted: &Wanted, now: Tick, time: Duration) {
        let mut names = self.lock();
        if names.waiting.remove(wanted).is_none() {
            return;
        }
        if names.refused.len() >= REFUSED_MAX {
            names.refused.retain(|_, until| now < *until);
        }
        if names.refused.len() < REFUSED_MAX {
            names.refused.insert(wanted.name.clone(), now + time.min(REFUSED_FOR));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// Drops those from the line that nobody waits for any more.
    fn pass_over(&mut self, now: Tick) {
        self.waiting.retain(|_, asked| now.since(*asked) < GONE_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_waits_once_and_a_refused_one_not_again_for_a_while() {
        let (demands, now) = (Demands::default(), Tick::default());
        assert!(demands.ask("a.example", Signer::Acme, now) && demands.ask("a.example", Signer::Acme, now));
        let [waiting] = &demands.waiting(now)[..] else { panic!("one") };
        demands.refused(waiting, now, REFUSED_FOR * 100);
        assert!(!demands.ask("a.example", Signer::Acme, now + REFUSED_FOR / 2));
        assert!(demands.waiting(now).is_empty());
        assert!(demands.ask("a.example", Signer::Acme, now + REFUSED_FOR));
        let other = Wanted { name: "b.example".into(), by: Signer::Acme };
        demands.refused(&other, now, REFUSED_FOR);
        assert!(demands.ask("b.example", Signer::Acme, now), "nobody has asked for it");
    }

    #[test]
    fn a_name_that_nobody_waits_for_any_more_leaves_the_line() {
        let (demands, now) = (Demands::default(), Tick::default());
        for at in 0..WAITING_MAX {
            assert!(demands.ask(&format!("{at}.example"), Signer::Acme, now));
        }
        let later = now + GONE_AFTER / 2;
        assert!(demands.ask("0.example", Signer::Acme, later));
        assert!(!demands.ask("new.example", Signer::Acme, later));
        assert!(demands.ask("new.example", Signer::Acme, now + GONE_AFTER));
        let names: Vec<_> = demands.waiting(now + GONE_AFTER).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["0.example", "new.example"]);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let (demands, now) = (Demands::default(), Tick::default());
        let asked = (0..WAITING_MAX + 1).map(|at| demands.ask(&format!("{at}.example"), Signer::Acme, now));
        assert_eq!(asked.filter(|taken| *taken).count(), WAITING_MAX);
        demands.granted(&Wanted { name: "0.example".into(), by: Signer::Acme });
        assert!(demands.ask("new.example", Signer::Acme, now));
    }
}
