//! silent: asks hosts that have requests and give no answers whether anybody is there; one where nobody is, is ejected, and asked until somebody is.

use super::ejected::in_time;
use super::http;
use super::tcp::Miss;
use crate::apply::Supervisor;
use crate::observe::log;
use portunus_message::Tick;
use portunus_relay::clock;
use portunus_relay::eject::{Judge, Suspect};
use portunus_relay::hosts::Host;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a host where nobody was is left alone, the first time; twice as long each further time,
const PAUSE: Duration = Duration::from_secs(1);
/// but never longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// After so long requests may find out: it may be one that only does not answer this question.
const DOUBTED: Duration = Duration::from_secs(60);

/// Asks those that are suspected.
pub fn look(supervisor: &Arc<Supervisor>) {
    for Suspect { host, pool, judge } in supervisor.running().snapshot.alarm.take_suspects() {
        let supervisor = Arc::downgrade(supervisor);
        tokio::spawn(async move {
            follow(&host, &pool, &judge, supervisor).await;
            host.live.silence.is_left();
        });
    }
}

/// Asks once. A host that answers is only slow, or has long answers; one that does not is asked until it does, for as long as anybody has
/// to do with it.
async fn follow(host: &Arc<Host>, pool: &str, judge: &Judge, supervisor: Weak<Supervisor>) {
    let silence = &host.live.silence;
    match in_time(http::is_anybody_there(host)).await {
        Ok(()) => return silence.looked(true, clock::read()),
        Err(Miss::NoLook) => return,
        Err(Miss::Bad(_)) => {}
    }
    let begun = clock::read();
    judge.is_silent(host, begun);
    silence.looked(false, begun);
    let is_kept = host.live.standing.ejected_until() == Tick(0);
    if is_kept {
        let name = &host.name;
        log::warn(format_args!(
            "pool {pool}: {name} answers nobody; it gets no requests while others are there"
        ));
    }
    let (mut pause, mut due) = (PAUSE, begun + PAUSE);
    while silence.is_mute() && supervisor.upgrade().is_some_and(|supervisor| is_of_use(host, &supervisor)) {
        // Requests or checks may be quicker; then it is not followed any more, and may be suspected anew.
        tokio::time::sleep(PAUSE).await;
        let now = clock::read();
        if now < due || !silence.is_mute() {
            continue;
        }
        if in_time(http::is_anybody_there(host)).await.is_ok() {
            silence.looked(true, clock::read());
        } else if now.since(begun) >= DOUBTED {
            return silence.speaks();
        }
        pause = (pause * 2).min(PAUSE_MAX);
        due = now + pause;
    }
    if is_kept && !silence.is_mute() {
        log::info(format_args!("pool {pool}: {} answers again", host.name));
    }
}

/// Whether requests are on it, or may come to it.
fn is_of_use(host: &Host, supervisor: &Supervisor) -> bool {
    let running = supervisor.running();
    let is_member = |(_, member): (_, &Arc<Host>)| Arc::ptr_eq(&member.live, &host.live);
    host.in_flight() > 0 || running.snapshot.pools().iter().any(|pool| pool.hosts.iter().any(is_member))
}
