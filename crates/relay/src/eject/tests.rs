//! Ejection in virtual time.

use super::*;
use crate::hosts::HostId;
use crate::plan::Address;

/// A pool of equal hosts, its judge, and the time.
struct Stage {
    hosts: Arc<Hosts>,
    judge: Judge,
    now: Tick,
}

fn stage(count: u16, plan: Eject) -> Stage {
    let host = |at: u16| Host::new(Address::Socket(([10, 0, 0, 1], at + 1).into()), 1, false, None);
    let hosts = Arc::new(Hosts::new((0..count).map(|at| Arc::new(host(at))).collect()));
    let judge = Judge::new(plan, Arc::clone(&hosts), Arc::default());
    Stage { hosts, judge, now: Tick(1_000_000) }
}

impl Stage {
    fn host(&self, at: u32) -> &Host {
        self.hosts.get(HostId(at)).unwrap()
    }

    fn hear(&self, at: u32, heard: Heard, times: usize) {
        (0..times).for_each(|_| self.judge.heard(self.host(at), heard, self.now));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn is_in(&self, at: u32) -> bool {
        self.host(at).is_usable(self.now)
    }

    /// For how much longer it is out.
    fn out_for(&self, at: u32) -> Duration {
        self.host(at).live.standing.ejected_until().since(self.now)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_heard_of_a_crime() {
    assert_eq!(Heard::crime(Crime::ConnectFailed), Heard::Refused);
    for late in [Crime::ConnectTimeout, Crime::FirstByteTimeout, Crime::UpstreamStalled, Crime::Deadline] {
        assert_eq!(Heard::crime(late), Heard::Timeout);
    }
    assert_eq!(Heard::crime(Crime::UpstreamClosed), Heard::Broken);
    assert_eq!(Heard::crime(Crime::BadResponse), Heard::Broken);
}

#[test]
fn failures_in_a_row_eject_and_a_good_answer_between_them_does_not() {
    let stage = stage(3, Eject { rate_percent: 0, ..Eject::default() });
    for _ in 0..10 {
        stage.hear(0, Heard::Broken, 4);
        stage.hear(0, Heard::Good, 1);
    }
    stage.hear(0, Heard::Broken, 4);
    assert!(stage.is_in(0));
    stage.hear(0, Heard::Timeout, 1);
    assert!(!stage.is_in(0) && stage.is_in(1));
    assert_eq!(stage.out_for(0), 10 * SECOND);
    assert_eq!(stage.host(0).live.conduct.reason(), Reason::Timeouts);
}

#[test]
fn a_share_of_failures_ejects() {
    let stage = stage(3, Eject::default());
    for _ in 0..9 {
        stage.hear(0, Heard::Poor, 1);
        stage.hear(0, Heard::Good, 1);
    }
    assert!(stage.is_in(0));
    stage.hear(0, Heard::Poor, 1);
    assert_eq!((stage.is_in(0), stage.host(0).live.conduct.reason()), (false, Reason::Rate));
    for _ in 0..1000 {
        stage.hear(1, Heard::Poor, 1);
        stage.hear(1, Heard::Good, 3);
    }
    assert!(stage.is_in(1), "a quarter is less than half");
}

#[test]
fn a_good_host_costs_nothing_again_after_a_window() {
    let stage = stage(2, Eject::default());
    stage.hear(0, Heard::Broken, 1);
    assert!(!stage.host(0).live.conduct.is_clean());
    stage.hear(0, Heard::Good, 19);
    assert!(stage.host(0).live.conduct.is_clean());
}

#[test]
fn a_refused_connect_ejects_at_once_for_a_short_time_even_the_last() {
    let mut stage = stage(2, Eject::default());
    stage.hear(0, Heard::Refused, 1);
    stage.hear(1, Heard::Refused, 1);
    assert!(!stage.is_in(0) && !stage.is_in(1));
    stage.pass(SECOND);
    assert!(stage.is_in(0) && stage.is_in(1));
    stage.hear(0, Heard::Refused, 1);
    assert_eq!(stage.out_for(0), SECOND, "its time does not grow");
}

#[test]
fn half_of_the_hosts_are_kept_and_always_one() {
    let stage = stage(5, Eject::default());
    (0..5).for_each(|at| stage.hear(at, Heard::Broken, 100));
    assert_eq!((0..5).filter(|&at| stage.is_in(at)).count(), 3);
    let stage = self::stage(1, Eject { keep_percent: 0, ..Eject::default() });
    stage.hear(0, Heard::Broken, 100);
    assert!(stage.is_in(0));
    let stage = self::stage(4, Eject { keep_percent: 0, ..Eject::default() });
    (0..4).for_each(|at| stage.hear(at, Heard::Broken, 100));
    assert_eq!((0..4).filter(|&at| stage.is_in(at)).count(), 1);
}

#[test]
fn hosts_that_checks_have_taken_out_count_as_gone() {
    let stage = stage(4, Eject::default());
    stage.host(3).live.standing.set_probe(Probe::Failing);
    stage.host(2).live.standing.set_probe(Probe::Failing);
    stage.hear(0, Heard::Broken, 100);
    assert!(stage.is_in(0));
}

#[test]
fn after_its_time_it_is_tried_with_a_few_and_then_fully_back() {
    let mut stage = stage(2, Eject::default());
    stage.hear(0, Heard::Broken, 5);
    stage.hear(0, Heard::Good, 5); // these were under way before
    assert!(!stage.is_in(0));
    stage.pass(10 * SECOND);
    let in_flight = &stage.host(0).live.in_flight;
    in_flight.store(3, std::sync::atomic::Ordering::Relaxed);
    assert!(!stage.is_in(0), "three at a time");
    in_flight.store(2, std::sync::atomic::Ordering::Relaxed);
    assert!(stage.is_in(0));
    stage.hear(0, Heard::Good, 2);
    assert!(stage.host(0).live.standing.is_on_trial());
    stage.hear(0, Heard::Good, 1);
    assert!(!stage.host(0).live.standing.is_on_trial() && stage.host(0).live.conduct.is_clean());
    assert_eq!(stage.host(0).live.standing.back_since(), Some(stage.now));
}

#[test]
fn bans_grow_while_it_fails_and_shrink_while_it_does_not() {
    let mut stage = stage(2, Eject::default());
    stage.hear(0, Heard::Broken, 5);
    for round in 2..5 {
        stage.pass(stage.out_for(0));
        stage.hear(0, Heard::Broken, 1);
        assert_eq!(stage.out_for(0), 10 * round * SECOND);
    }
    stage.pass(40 * SECOND);
    stage.hear(0, Heard::Good, 3);
    stage.pass(25 * SECOND);
    stage.hear(0, Heard::Broken, 5);
    assert_eq!(stage.out_for(0), 30 * SECOND, "four, less two good stretches, and one more");
}

#[test]
fn bans_are_bounded() {
    let mut stage = stage(2, Eject::default());
    stage.hear(0, Heard::Broken, 5);
    for _ in 0..50 {
        stage.pass(stage.out_for(0));
        stage.hear(0, Heard::Broken, 1);
    }
    assert_eq!(stage.out_for(0), 300 * SECOND);
}

#[test]
fn one_that_is_much_slower_than_the_median_goes() {
    let stage = stage(4, Eject { latency_percent: Some(300), ..Eject::default() });
    let answer = |at: u32, ms: u64| {
        stage.judge.heard_latency(stage.host(at), Duration::from_millis(ms), stage.now);
    };
    for _ in 0..200 {
        (1..4).for_each(|at| answer(at, 20));
        answer(0, 50);
    }
    assert!(stage.is_in(0), "two and a half times is not three");
    for _ in 0..200 {
        answer(0, 80);
    }
    assert_eq!((stage.is_in(0), stage.host(0).live.conduct.reason()), (false, Reason::Latency));
}

#[test]
fn what_is_off_does_nothing() {
    let stage = stage(3, Eject { on: false, latency_percent: Some(300), ..Eject::default() });
    stage.hear(0, Heard::Refused, 100);
    stage.hear(0, Heard::Broken, 100);
    assert!(stage.is_in(0));
}

#[test]
fn a_probe_ends_a_ban_or_lengthens_it() {
    let mut stage = stage(2, Eject::default());
    stage.hear(0, Heard::Broken, 5);
    keep_out(stage.host(0), stage.now + 20 * SECOND);
    assert_eq!(stage.out_for(0), 20 * SECOND);
    keep_out(stage.host(1), stage.now + 20 * SECOND);
    assert!(stage.is_in(1), "only one that is out is kept out");
    try_now(stage.host(0), stage.now);
    assert!(stage.is_in(0) && stage.host(0).live.standing.is_on_trial());
    stage.hear(0, Heard::Broken, 1);
    assert!(!stage.is_in(0));
    stage.pass(SECOND);
    let_in(stage.host(0), stage.now);
    assert!(stage.is_in(0) && !stage.host(0).live.standing.is_on_trial());
}

#[test]
fn every_change_rings() {
    let mut stage = stage(2, Eject::default());
    let mut bell = stage.judge.alarm.listen();
    stage.hear(0, Heard::Broken, 4);
    assert!(!bell.has_changed().unwrap());
    stage.hear(0, Heard::Broken, 1);
    assert!(bell.has_changed().unwrap());
    bell.mark_unchanged();
    stage.pass(10 * SECOND);
    stage.hear(0, Heard::Good, 3);
    assert!(bell.has_changed().unwrap());
}
