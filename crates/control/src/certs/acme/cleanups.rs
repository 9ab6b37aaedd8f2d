//! cleanups: the records that are being taken out of the DNS; the end of the program waits for that, but not for long.

use crate::observe::log;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The records that are being taken away.
#[derive(Debug, Default)]
pub struct Cleanups {
    records: watch::Sender<Vec<String>>, // bounded by the time that each has
}

impl Cleanups {
    /// This one is being taken away until the guard is dropped.
    pub fn begin(self: &Arc<Self>, record: &str) -> UnderWay {
        self.records.send_modify(|all| all.push(record.to_owned()));
        UnderWay { all: Arc::clone(self), record: record.to_owned() }
    }

    /// Waits until all are gone, but no longer than this, and tells of those that may not be.
    pub async fn finish(&self, until: Instant) {
        for record in self.left(until).await {
            log::warn(format_args!("the record {record} may still be there: the program ends now"));
        }
    }

    /// The records that are still being taken away then; it is over when there are none.
    async fn left(&self, until: Instant) -> Vec<String> {
        let mut records = self.records.subscribe();
        let _ = timeout_at(until, records.wait_for(Vec::is_empty)).await;
        self.records.borrow().clone()
    }
}

/// A record is being taken away until this is dropped.
pub struct UnderWay {
    all: Arc<Cleanups>,
    record: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.records.send_modify(|all| {
            if let Some(place) = all.iter().position(|one| *one == self.record) {
                all.swap_remove(place);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_end_waits_for_those_that_run_and_not_for_ever() {
        let cleanups = Arc::new(Cleanups::default());
        let (begin, long) = (Instant::now(), Instant::now() + Duration::from_secs(600));
        assert!(cleanups.left(long).await.is_empty(), "nobody is waited for");
        let [first, same] = ["_acme-challenge.a.example."; 2].map(|record| cleanups.begin(record));
        drop(first);
        let left = tokio::spawn({
            let cleanups = Arc::clone(&cleanups);
            async move { cleanups.left(long).await }
        });
        tokio::task::yield_now().await;
        assert!(!left.is_finished());
        drop(same);
        assert!(left.await.unwrap().is_empty() && begin.elapsed() < Duration::from_secs(60));
        let _hangs = cleanups.begin("_acme-challenge.b.example.");
        assert_eq!(cleanups.left(begin).await, ["_acme-challenge.b.example."]);
    }
}
