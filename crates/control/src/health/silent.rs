//! silent: asks hosts that have requests and give no answers whether anybody is there; one where nobody is, is ejected, and asked until somebody is.

use super::ejected::in_time;
use super::{http, tcp};
use crate::apply::Supervisor;
use crate::observe::log;
use portunus_message::Tick;
use portunus_relay::clock;
use portunus_relay::eject::Suspect;
use portunus_relay::hosts::Host;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a host where nobody was is left alone, the first time; twice as long each further time,
const PAUSE: Duration = Duration::from_secs(1);
/// but never longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Asks those that are suspected.
pub fn look(supervisor: &Arc<Supervisor>) {
    for suspect in supervisor.running().snapshot.alarm.take_suspects() {
        tokio::spawn(follow(suspect, Arc::downgrade(supervisor)));
    }
}

/// Asks once. A host that answers is only slow, or has long answers; one that does not is asked until it does, for as long as anybody has
/// to do with it.
async fn follow(Suspect { host, pool, judge }: Suspect, supervisor: Weak<Supervisor>) {
    let silence = &host.live.silence;
    if is_there(&host).await {
        return silence.looked(true, clock::read());
    }
    let now = clock::read();
    judge.is_silent(&host, now);
    silence.looked(false, now);
    let is_kept = host.live.standing.ejected_until() == Tick(0);
    if is_kept {
        log::warn(format_args!(
            "pool {pool}: {} answers nobody; it gets no requests while others are there",
            host.name
        ));
    }
    let mut pause = PAUSE;
    while silence.is_mute() && supervisor.upgrade().is_some_and(|supervisor| is_of_use(&host, &supervisor)) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        if silence.is_mute() && is_there(&host).await {
            silence.looked(true, clock::read());
        }
    }
    if is_kept && !silence.is_mute() {
        log::info(format_args!("pool {pool}: {} answers again", host.name));
    }
}

async fn is_there(host: &Host) -> bool {
    let ask = async { http::is_anybody_there(tcp::connect(host).await?.0, &host.name).await };
    in_time(ask).await.is_ok()
}

/// Whether requests are on it, or may come to it.
fn is_of_use(host: &Host, supervisor: &Supervisor) -> bool {
    let running = supervisor.running();
    let is_member = |(_, member): (_, &Arc<Host>)| Arc::ptr_eq(&member.live, &host.live);
    host.in_flight() > 0 || running.snapshot.pools().iter().any(|pool| pool.hosts.iter().any(is_member))
}
