//! rounds: once a second a look at what moves by itself — canaries, and pools that fall below their floor — and a line in the log.

use crate::apply::Supervisor;
use crate::floor;
use crate::observe::log;
use portunus_relay::clock;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// Makes its rounds as long as the program runs.
pub async fn run(supervisor: Arc<Supervisor>) {
    let mut below = BTreeSet::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let (running, now) = (supervisor.running(), clock::read());
        let mut lines = supervisor.canaries().look(running.snapshot.canaries(), now);
        lines.extend(floor::look(running.snapshot.pools(), &mut below, now));
        for (warn, line) in lines {
            if warn { log::warn(line) } else { log::info(line) }
        }
    }
}
