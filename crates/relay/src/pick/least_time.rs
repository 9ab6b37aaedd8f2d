//! `least-time`: two hosts at random, by weight; the one that will probably answer sooner, failures counted as slowness.

use super::{Key, Outcome, Pick, two};
use crate::candidates::Candidate;
use crate::entry::Entry;
use crate::hosts::{HostId, HostSet, Hosts};
use portunus_message::Tick;

pub(super) const ENTRY: Entry<dyn Pick> = Entry {
    name: "least-time",
    manual: "Draws two servers at random, each with a chance by its weight, and gives the request to the one that will \
             probably answer sooner: by how long its answers took of late, times the requests it has, for its weight. A \
             slower answer counts at once, a quicker one by and by; what was heard is forgotten within half a minute or so, \
             so a server that has recovered is found again. Failures (no answer, or a status of 500 and above) count as \
             if each had taken a second, so a server that fails quickly attracts nothing. It suits servers that are not \
             equally fast, or not always.",
    example: "least-time",
    params: &[],
    answers: false,
    build: |args| {
        crate::args::Reader::new(&[], args)?;
        Ok(Box::new(LeastTime))
    },
};

/// What a failure costs, in microseconds: far more than the good answers it is weighed against, and little enough to be
/// forgotten in a minute.
const FAILURE_US: f64 = 1_000_000.0;
/// No answer is taken to be quicker than this, so that a host of which little is remembered does not look infinitely good.
const LATENCY_MIN_US: f64 = 50.0;

struct LeastTime;

impl Pick for LeastTime {
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId> {
        let (first, second) = two::draw(hosts.candidates_for(tried, key.now, key.random), key.random)?;
        let Some(second) = second else { return Some(first.id) };
        // Equal ones: the first draw decides, so that shares are kept.
        Some(if cost(&second, key.now) < cost(&first, key.now) { second.id } else { first.id })
    }

    fn heard(&self, hosts: &Hosts, id: HostId, outcome: &Outcome) {
        if let Some(host) = hosts.get(id) {
            host.live.latency.hear(outcome.latency, outcome.failed, outcome.at);
        }
    }
}

/// How long one more request would probably take on it, in microseconds, for its weight.
fn cost(one: &Candidate<'_>, now: Tick) -> f64 {
    let in_flight = f64::from(one.host.in_flight());
    let each = match one.host.live.latency.believe(now) {
        Some(belief) => belief.latency_us.max(LATENCY_MIN_US) + belief.failing * FAILURE_US,
        // Nothing is known: one request finds out, the others wait for what it finds.
        None if in_flight == 0.0 => 0.0,
        None => FAILURE_US,
    };
    each * (in_flight + 1.0) / f64::from(one.share)
}

#[cfg(test)]
mod tests;
