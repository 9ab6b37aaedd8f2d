//! state: what a host's standing is called in status, metrics and log.

use portunus_message::Tick;
use portunus_relay::hosts::Host;
use portunus_relay::standing::{Order, Probe};
use std::time::Duration;

/// What a host's standing is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is used.
    #[default]
    Good,
    /// Its health checks say that it is not well.
    Failing,
    /// It is out for what it did to requests.
    Ejected,
    /// Its time out is over, and it is tried with a few requests.
    Trial,
    /// It has been found to answer nobody, and so many others are out that it could not be ejected: it is used when no other is left.
    Silent,
    /// It asked to be left alone for a while: it is used when no other is left, or when most ask for it.
    Resting,
    /// An operator wants it to finish what it has.
    Draining,
}

impl State {
    /// Every state.
    pub const ALL: [State; 7] = [
        State::Good,
        State::Failing,
        State::Ejected,
        State::Trial,
        State::Silent,
        State::Resting,
        State::Draining,
    ];

    /// The one that `host` is in; of several the one that will last longest.
    pub fn of(host: &Host, now: Tick) -> State {
        let standing = &host.live.standing;
        if standing.order() == Order::Drain {
            State::Draining
        } else if standing.probe() == Probe::Failing {
            State::Failing
        } else if standing.is_ejected(now) {
            State::Ejected
        } else if standing.is_on_trial() {
            State::Trial
        } else if host.live.silence.is_mute() {
            State::Silent
        } else if host.live.is_resting(now) {
            State::Resting
        } else {
            State::Good
        }
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            State::Good => "good",
            State::Failing => "failing",
            State::Ejected => "ejected",
            State::Trial => "trial",
            State::Silent => "silent",
            State::Resting => "resting",
            State::Draining => "draining",
        }
    }
}

/// Why `host` is in `state`, as far as that is not the state itself; `check` is why its latest check failed.
pub fn reason(host: &Host, state: State, check: Option<String>) -> Option<String> {
    match state {
        State::Failing => check,
        State::Ejected | State::Trial => Some(host.live.conduct.reason().word().to_owned()),
        State::Resting => Some("retry-after".to_owned()),
        State::Good | State::Silent | State::Draining => None,
    }
}

/// For how much longer `host` is ejected.
pub fn ejected_for(host: &Host, now: Tick) -> Duration {
    host.live.standing.ejected_until().since(now)
}
