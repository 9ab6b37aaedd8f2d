//! crowd: whether more clients stay than a worker can serve, and how many connections it keeps inside meanwhile.

use portunus_message::Tick;
use std::cell::Cell;
use std::time::Duration;

/// How long there has to be a crowd until few are kept inside: a pause of the whole process, or a thousand new connections at once, are
/// over by then.
const STANDING: Duration = Duration::from_secs(1);
/// The same when that was so lately.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it is "lately".
const LATELY: Duration = Duration::from_secs(10);
/// How long few are kept inside until it is tried whether all may come in; twice as long each time that the crowd is back at once.
const STRICT: Duration = Duration::from_secs(10);
const STRICT_MAX: Duration = Duration::from_secs(40);
/// How long nobody has to have waited until everybody may come in.
const CALM: Duration = Duration::from_millis(50);
/// How long nobody has to have waited until some more may.
const QUIET: Duration = Duration::from_millis(25);
/// How many that is.
const MORE: usize = 4;

/// What a worker knows of those who wait for it, inside and outside.
#[derive(Debug, Default)]
pub struct Crowd {
    /// Since when there has been one all the time.
    since: Cell<Option<Tick>>,
    /// When somebody was last found outside who had waited there.
    outside_at: Cell<Option<Tick>>,
    /// When whoever came inside last had to wait.
    waited_at: Cell<Tick>,
    strict: Cell<Option<Strict>>,
}

/// A time in which few are kept inside.
#[derive(Clone, Copy, Debug)]
struct Strict {
    until: Tick,
    time: Duration,
    inside: usize,
}

/// How long whoever comes now would have to wait for a turn, and how long anybody may (`worker-lag`; 0: however long).
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// When that is.
    pub now: Tick,
    /// How long.
    pub delay: Duration,
    /// How long it may be.
    pub most: Duration,
}

impl Wait {
    /// Whether the worker has enough to do for those it has.
    pub fn is_crowded(&self) -> bool {
        self.is_longer(2)
    }

    /// Whether it is longer than a part of what it may be.
    pub fn is_longer(&self, part: u32) -> bool {
        !self.most.is_zero() && self.delay > self.most / part
    }
}

impl Crowd {
    /// Hears, each turn in which somebody waits, how long the line is, while so many connections are open. There is a crowd while whoever comes has to wait for
    /// more than half of what is allowed, or somebody is outside (as in CoDel, RFC 8289: none for a moment is enough).
    pub fn feel(&self, wait: &Wait, open: usize) {
        let now = wait.now;
        if now.since(self.waited_at.replace(now)) >= CALM {
            self.relax(now);
        }
        if self.may_be_strict(now) {
            return;
        }
        let last = self.strict.get();
        let stands = wait.is_crowded() || self.is_outside(wait);
        self.since.set(stands.then(|| self.since.get().unwrap_or(now)));
        let (needed, time) = match last.filter(|strict| now.since(strict.until) < LATELY) {
            Some(strict) => (AGAIN, (strict.time * 2).min(STRICT_MAX)),
            None => (STANDING, STRICT),
        };
        if self.since.get().is_some_and(|since| now.since(since) >= needed) {
            self.since.set(None);
            self.strict.set(Some(Strict { until: now + time, time, inside: open }));
        }
    }

    /// Hears that nobody waits inside any more.
    pub fn is_gone(&self) {
        self.since.set(None);
    }

    /// Hears that somebody has waited outside.
    pub fn stands_outside(&self, now: Tick) {
        self.outside_at.set(Some(now));
    }

    /// Whether few are kept inside, because there was a crowd that stayed: what a request costs rises with the connections it has to be
    /// looked for in.
    pub fn is_strict(&self, wait: &Wait) -> bool {
        self.may_be_strict(wait.now) && self.quiet_for(wait) < CALM
    }

    /// Whether that may be so: what is asked for every answer, before anybody looks how long the line is.
    pub fn may_be_strict(&self, now: Tick) -> bool {
        self.strict.get().is_some_and(|strict| now < strict.until)
    }

    /// Whether there are clients outside for whom there is no time.
    pub fn is_too_large(&self, wait: &Wait) -> bool {
        self.is_strict(wait) && self.is_outside(wait)
    }

    /// Whether one of `open` connections that has its answer has to leave for that: for somebody who came in beyond those who may be inside,
    /// or because these are too many; then nobody gets its place.
    pub fn lets_go(&self, wait: &Wait, open: usize) -> bool {
        let Some(strict) = self.strict.get().filter(|_| self.is_too_large(wait)) else { return false };
        if wait.is_longer(10) {
            let inside = strict.inside.min(open).saturating_sub(1).max(1);
            self.strict.set(Some(Strict { inside, ..strict }));
            return true;
        }
        open > strict.inside
    }

    /// How many more than `open` connections may be inside while few are.
    pub fn room(&self, wait: &Wait, open: usize) -> usize {
        if self.quiet_for(wait) >= QUIET {
            let grown = |strict: Strict| Strict { inside: strict.inside.max(open + MORE), ..strict };
            self.strict.set(self.strict.get().map(grown));
        }
        self.strict.get().map_or(0, |strict| strict.inside.saturating_sub(open))
    }

    /// Nobody has waited for a while.
    fn relax(&self, now: Tick) {
        if let Some(strict) = self.strict.get().filter(|strict| now < strict.until) {
            self.strict.set(Some(Strict { until: now, time: STRICT / 2, ..strict }));
        }
    }

    /// How long nobody has waited inside.
    fn quiet_for(&self, wait: &Wait) -> Duration {
        if wait.delay.is_zero() { wait.now.since(self.waited_at.get()) } else { Duration::ZERO }
    }

    fn is_outside(&self, wait: &Wait) -> bool {
        self.outside_at.get().is_some_and(|at| wait.now.since(at) < wait.most * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came of a second of `delay`, from `begin` (ms) on, looked at each 10 ms, with a hundred connections.
    fn second(crowd: &Crowd, begin: u64, delay: u64) -> bool {
        (0..=100).map(|step| feel(crowd, begin + step * 10, delay)).last().unwrap()
    }

    fn feel(crowd: &Crowd, at: u64, delay: u64) -> bool {
        crowd.feel(&wait(at, delay), 100);
        crowd.is_strict(&wait(at, delay))
    }

    /// At so many milliseconds it is so many until the next turn.
    fn wait(at: u64, delay: u64) -> Wait {
        let ms = Duration::from_millis;
        Wait { now: Tick::default() + ms(100_000 + at), delay: ms(delay), most: ms(100) }
    }

    #[test]
    fn few_are_kept_inside_when_somebody_has_had_to_wait_too_long_for_a_second() {
        let crowd = Crowd::default();
        assert!(!second(&crowd, 0, 50), "half of what is allowed");
        assert!(!feel(&crowd, 1010, 51) && !feel(&crowd, 2000, 51));
        assert!(!feel(&crowd, 2005, 50), "one moment without is enough");
        assert!(!second(&crowd, 2010, 51) || feel(&crowd, 3010, 51));
        assert!(crowd.is_strict(&wait(3010, 51)) && crowd.is_strict(&wait(3010, 0)));

        let crowd = Crowd::default();
        let unbounded = |at| Wait { most: Duration::ZERO, ..wait(at, 1_000_000) };
        (0..200).for_each(|step| crowd.feel(&unbounded(step * 10), 100));
        assert!(!crowd.is_strict(&unbounded(2000)) && !unbounded(2000).is_crowded());
    }

    #[test]
    fn or_when_somebody_is_always_outside_though_the_line_is_short() {
        let crowd = Crowd::default();
        for at in (0..=1000).step_by(10) {
            crowd.stands_outside(wait(at, 40).now);
            assert_eq!(feel(&crowd, at, 40), at == 1000);
        }
        assert!(crowd.is_too_large(&wait(1000, 2)));
        assert!((101..=125).all(|step| feel(&crowd, step * 10, 40)));
        assert!(!crowd.is_too_large(&wait(1250, 40)), "nobody is outside any more");
        assert!(!crowd.lets_go(&wait(1250, 40), 100), "for whom would it leave?");
    }

    #[test]
    fn those_who_leave_for_the_others_give_their_places_to_nobody() {
        let crowd = Crowd::default();
        second(&crowd, 0, 60);
        crowd.stands_outside(wait(1000, 60).now);
        assert_eq!(crowd.room(&wait(1000, 60), 100), 0);
        assert_eq!(crowd.room(&wait(1000, 60), 98), 2, "two have left by themselves");
        assert!(crowd.lets_go(&wait(1000, 60), 98));
        assert_eq!(crowd.room(&wait(1000, 60), 97), 0);
        assert!(!crowd.lets_go(&wait(1000, 10), 97), "the line is short enough");
        assert!(crowd.lets_go(&wait(1000, 10), 98), "somebody has come in beyond them");
        assert_eq!(crowd.room(&wait(1000, 10), 97), 0);
        assert!(crowd.lets_go(&wait(1000, 11), 1) && crowd.lets_go(&wait(1000, 11), 0));
        assert_eq!(crowd.room(&wait(1000, 11), 0), 1, "somebody may always be inside");
        assert_eq!(crowd.room(&wait(1024, 0), 50), 0);
        assert_eq!(crowd.room(&wait(1025, 0), 50), MORE, "nobody has waited for a while");
    }

    #[test]
    fn it_is_tried_again_later_and_later_unless_it_was_calm() {
        let crowd = Crowd::default();
        second(&crowd, 0, 60);
        let mut at = 1000;
        for time in [10, 20, 40, 40] {
            assert!((0..time * 100).all(|step| feel(&crowd, at + step * 10, 5)), "{time}");
            at += time * 1000;
            assert!((0..10).all(|step| !feel(&crowd, at + step * 10, 60)), "all may come in");
            at += 100;
            assert!(feel(&crowd, at, 60), "it is back");
        }
        assert!(crowd.is_strict(&wait(at + 49, 0)) && !crowd.is_strict(&wait(at + 50, 0)), "nobody waits");
        at += 60;
        assert!(!feel(&crowd, at, 60), "all may come in");
        assert!((0..10).map(|step| feel(&crowd, at + step * 10, 60)).filter(|strict| *strict).count() == 0);
        at += 100;
        assert!(feel(&crowd, at, 60));
        assert!((0..1000).all(|step| feel(&crowd, at + step * 10, 5)));
        assert!(!feel(&crowd, at + 10_000, 5), "ten seconds, as at first");
        assert!(!second(&crowd, at + 25_000, 51) || feel(&crowd, at + 26_000, 51));
    }
}
