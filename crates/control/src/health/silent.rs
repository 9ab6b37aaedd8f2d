//! silent: asks hosts that have requests and give no answers whether anybody is there; one where nobody is, is ejected.

use super::ejected::in_time;
use super::{http, tcp};
use portunus_relay::clock;
use portunus_relay::eject::Alarm;

/// Asks those that are suspected. A host that answers is only slow, or has long answers.
pub fn look(alarm: &Alarm) {
    for (judge, host) in alarm.take_suspects() {
        tokio::spawn(async move {
            let ask = async { http::is_anybody_there(tcp::connect(&host).await?.0, &host.name).await };
            let alive = in_time(ask).await.is_ok();
            let now = clock::read();
            if !alive {
                judge.is_silent(&host, now);
            }
            host.live.silence.looked(alive, now);
        });
    }
}
