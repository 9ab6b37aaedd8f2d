//! crowd: whether more clients stay than a worker can serve, and how many connections it keeps inside meanwhile.

use portunus_message::Tick;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long there has to be a crowd until few are kept inside: a pause of the whole process, or a thousand new connections at once, are
/// over by then.
const STANDING: Duration = Duration::from_secs(1);
/// The same when that was so lately.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it is "lately".
const LATELY: Duration = Duration::from_secs(10);
/// How long few are kept inside until it is tried whether all may come in; twice as long each time that the crowd is back at once.
const STRICT: Duration = Duration::from_secs(5);
const STRICT_MAX: Duration = Duration::from_secs(40);
/// How long nobody has to have waited until everybody may come in.
const CALM: Duration = Duration::from_millis(50);
/// How long nobody has to have waited until some more may.
const QUIET: Duration = Duration::from_millis(25);
/// How many that is.
const MORE: usize = 4;
/// How many are always kept inside: so many may begin in one turn, and others may be the reason why the line is long.
const FEWEST: usize = 32;

/// What a worker knows of those who wait for it, inside and outside.
#[derive(Debug, Default)]
pub struct Crowd {
    /// Since when there has been one all the time.
    since: Cell<Option<Tick>>,
    /// When somebody was last found outside who had waited there.
    outside_at: Cell<Option<Tick>>,
    /// Whether somebody waits inside, and when somebody last did.
    waits: Cell<bool>,
    waited_at: Cell<Tick>,
    /// Whether the line was too long and has not been short since.
    long: Cell<bool>,
    strict: Cell<Option<Strict>>,
    /// Connections that are not among those kept inside.
    aside: Rc<Cell<usize>>,
}

/// A connection that is not among those kept inside, while this lives: it is not sent away, or it is already.
#[derive(Debug)]
pub struct Aside(Rc<Cell<usize>>);

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A time in which few are kept inside.
#[derive(Clone, Copy, Debug)]
struct Strict {
    until: Tick,
    time: Duration,
    inside: usize,
    /// How many connections there were besides.
    aside: usize,
    grown_at: Tick,
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
    /// Hears, each turn in which somebody waits, how long the line is, while so many connections are open. There is a crowd while whoever
    /// comes has to wait for more than half of what is allowed, or somebody is outside (as in CoDel, RFC 8289: none for a moment is enough).
    pub fn feel(&self, wait: &Wait, open: usize) {
        let now = wait.now;
        if now.since(self.waited_at.replace(now)) >= CALM && !self.waits.get() {
            self.relax(now);
        }
        self.waits.set(true);
        self.long.set(wait.is_crowded() || (self.long.get() && wait.is_longer(20)));
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
            let inside = self.inside(open);
            self.strict.set(Some(Strict {
                until: now + time,
                time,
                inside,
                aside: open - inside,
                grown_at: now,
            }));
        }
    }

    /// Hears that nobody waits inside any more.
    pub fn line_has_ended(&self, wait: &Wait) {
        self.waits.set(false);
        self.long.set(false);
        if !self.is_outside(wait) {
            self.since.set(None);
        }
    }

    /// Whether connections that may have many requests under way are to have few: from a line that is too long on until it is short.
    pub fn presses(&self) -> bool {
        self.long.get()
    }

    /// Counts a connection no longer among those kept inside.
    pub fn set_aside(&self) -> Aside {
        self.aside.set(self.aside.get() + 1);
        Aside(Rc::clone(&self.aside))
    }

    /// Hears that somebody has waited outside.
    pub fn saw_outside(&self, now: Tick) {
        self.outside_at.set(Some(now));
    }

    /// Whether few are kept inside, because there was a crowd that stayed: what a request costs rises with the connections it has to be
    /// looked for in.
    pub fn is_strict(&self, wait: &Wait) -> bool {
        self.may_be_strict(wait.now) && self.quiet_for(wait.now) < CALM
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
        let open = self.inside(open);
        let fewer = strict.inside.min(open).saturating_sub(1);
        if wait.is_longer(10) && fewer >= FEWEST {
            self.strict.set(Some(Strict { inside: fewer, ..strict }));
            return true;
        }
        open > strict.inside.max(FEWEST)
    }

    /// How many more than `open` connections may be inside while few are.
    pub fn room(&self, wait: &Wait, open: usize) -> usize {
        let Some(mut strict) = self.strict.get() else { return 0 };
        // A newcomer may turn out to be one that is not sent away: there is room for as many of those as there were.
        let open = open.saturating_sub(strict.aside);
        if self.quiet_for(wait.now) >= QUIET && wait.now.since(strict.grown_at) >= QUIET {
            (strict.inside, strict.grown_at) = (strict.inside.max(open + MORE), wait.now);
            self.strict.set(Some(strict));
        }
        strict.inside.max(FEWEST).saturating_sub(open)
    }

    /// Nobody has waited for a while.
    fn relax(&self, now: Tick) {
        if let Some(strict) = self.strict.get().filter(|strict| now < strict.until) {
            self.strict.set(Some(Strict { until: now, time: STRICT / 2, ..strict }));
        }
    }

    /// How long nobody has waited inside.
    fn quiet_for(&self, now: Tick) -> Duration {
        if self.waits.get() { Duration::ZERO } else { now.since(self.waited_at.get()) }
    }

    /// How many of `open` connections are among those that are kept inside.
    fn inside(&self, open: usize) -> usize {
        open.saturating_sub(self.aside.get())
    }

    fn is_outside(&self, wait: &Wait) -> bool {
        self.outside_at.get().is_some_and(|at| wait.now.since(at) < wait.most * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is strict after each of so many looks, 10 ms apart, from `begin` (ms) on, with a line of `delay` (ms) and a hundred connections.
    fn feel(crowd: &Crowd, begin: u64, looks: u64, delay: u64) -> Vec<bool> {
        let look = |at| {
            crowd.feel(&wait(at, delay), 100);
            crowd.is_strict(&wait(at, delay))
        };
        (0..looks).map(|step| look(begin + step * 10)).collect()
    }

    /// At so many milliseconds it is so many until the next turn.
    fn wait(at: u64, delay: u64) -> Wait {
        let ms = Duration::from_millis;
        Wait { now: Tick::default() + ms(100_000 + at), delay: ms(delay), most: ms(100) }
    }

    /// One that is strict from 1000 ms on, with somebody outside.
    fn strict() -> Crowd {
        let crowd = Crowd::default();
        feel(&crowd, 0, 101, 60);
        crowd.saw_outside(wait(1000, 60).now);
        crowd
    }

    fn is_first_at(strict: &[bool]) -> Option<usize> {
        strict.iter().position(|strict| *strict)
    }

    #[test]
    fn few_are_kept_inside_when_somebody_has_had_to_wait_too_long_for_a_second() {
        let crowd = Crowd::default();
        assert_eq!(is_first_at(&feel(&crowd, 0, 300, 50)), None, "half of what is allowed");
        assert_eq!(is_first_at(&feel(&crowd, 3000, 99, 51)), None);
        assert_eq!(is_first_at(&feel(&crowd, 3990, 1, 50)), None, "one moment without is enough");
        assert_eq!(is_first_at(&feel(&crowd, 4000, 101, 51)), Some(100));

        let unbounded = |at| Wait { most: Duration::ZERO, ..wait(at, 1_000_000) };
        let crowd = Crowd::default();
        (0..200).for_each(|step| crowd.feel(&unbounded(step * 10), 100));
        assert!(!crowd.is_strict(&unbounded(2000)) && !unbounded(2000).is_crowded());
    }

    #[test]
    fn or_when_somebody_is_always_outside_though_the_line_is_short_or_empty_for_a_moment() {
        let crowd = Crowd::default();
        for at in (0..=1000).step_by(10) {
            crowd.saw_outside(wait(at, 40).now);
            assert_eq!(feel(&crowd, at, 1, 40), [at == 1000]);
            crowd.line_has_ended(&wait(at, 0));
        }
        feel(&crowd, 1000, 1, 2);
        assert!(crowd.is_too_large(&wait(1000, 2)));
        assert!(feel(&crowd, 1010, 25, 40).iter().all(|strict| *strict));
        assert!(!crowd.is_too_large(&wait(1250, 40)), "nobody is outside any more");
        assert!(!crowd.lets_go(&wait(1250, 40), 100), "for whom would it leave?");

        let crowd = Crowd::default();
        for at in (0..=3000).step_by(10) {
            feel(&crowd, at, 1, 60);
            if at % 900 == 0 {
                crowd.line_has_ended(&wait(at, 0));
            }
        }
        assert!(!crowd.is_strict(&wait(3000, 60)), "nobody waited for a moment, inside or outside");
    }

    #[test]
    fn those_who_leave_for_the_others_give_their_places_to_nobody() {
        let crowd = strict();
        assert_eq!(crowd.room(&wait(1000, 60), 100), 0);
        assert_eq!(crowd.room(&wait(1000, 60), 98), 2, "two have left by themselves");
        assert!(crowd.lets_go(&wait(1000, 60), 98));
        let aside = crowd.set_aside();
        assert_eq!(crowd.room(&wait(1000, 60), 98), 0);
        assert!(!crowd.lets_go(&wait(1000, 10), 98), "it may take long to leave");
        drop(aside);
        assert_eq!(crowd.room(&wait(1000, 60), 97), 0);
        assert!(!crowd.lets_go(&wait(1000, 10), 97), "the line is short enough");
        assert!(crowd.lets_go(&wait(1000, 10), 98), "somebody has come in beyond them");
        assert_eq!(crowd.room(&wait(1000, 10), 97), 0);
    }

    #[test]
    fn some_are_kept_whoever_makes_the_line_long() {
        let crowd = Crowd::default();
        let mut others: Vec<Aside> = (0..40).map(|_| crowd.set_aside()).collect();
        (0..=100).for_each(|step| crowd.feel(&wait(step * 10, 60), 140));
        crowd.saw_outside(wait(1000, 60).now);
        let left = (0..100).take_while(|gone| crowd.lets_go(&wait(1000, 90), 140 - gone)).count();
        assert_eq!(left, 100 - FEWEST);
        assert_eq!(crowd.room(&wait(1000, 90), 40 + FEWEST), 0);
        assert_eq!(crowd.room(&wait(1000, 90), 40), FEWEST);
        let came = (0..100).take_while(|came| {
            others.push(crowd.set_aside());
            crowd.room(&wait(1000, 90), 40 + came) > 0
        });
        assert_eq!(came.count(), FEWEST, "whatever they turn out to be");
    }

    #[test]
    fn some_more_come_in_each_time_that_nobody_has_waited_for_a_while() {
        let crowd = strict();
        (0..60).for_each(|gone| _ = crowd.lets_go(&wait(1000, 60), 100 - gone));
        assert_eq!(crowd.room(&wait(1030, 5), 40), 0, "somebody waits");
        crowd.line_has_ended(&wait(1000, 0));
        assert_eq!(crowd.room(&wait(1024, 0), 40), 0);
        assert_eq!(crowd.room(&wait(1025, 0), 40), 4);
        assert_eq!(crowd.room(&wait(1025, 0), 44), 0, "four, and no more");
        assert_eq!(crowd.room(&wait(1049, 0), 44), 0);
    }

    #[test]
    fn it_is_tried_again_later_and_later_unless_it_was_calm() {
        let crowd = strict();
        let mut at = 1000;
        for seconds in [5, 10, 20, 40, 40] {
            assert_eq!(feel(&crowd, at, seconds * 100, 5), vec![true; seconds as usize * 100]);
            at += seconds * 1000;
            assert_eq!(is_first_at(&feel(&crowd, at, 11, 60)), Some(10), "it is back");
            at += 100;
        }
        crowd.line_has_ended(&wait(at, 0));
        assert!(crowd.is_strict(&wait(at + 49, 0)) && !crowd.is_strict(&wait(at + 50, 0)), "nobody waits");
        assert!(!crowd.is_strict(&wait(at + 60, 150)), "nor is it when the next crowd comes");
        assert_eq!(is_first_at(&feel(&crowd, at + 60, 11, 60)), Some(10));
        at += 160;
        assert_eq!(feel(&crowd, at, 501, 5), [vec![true; 500], vec![false]].concat(), "as long as at first");
        assert_eq!(is_first_at(&feel(&crowd, at + 15_000, 101, 60)), Some(100), "that was long ago");
    }

    #[test]
    fn a_line_that_was_too_long_presses_until_it_is_short() {
        let crowd = Crowd::default();
        for (delay, presses) in [(50, false), (51, true), (6, true), (5, false), (50, false), (51, true)] {
            feel(&crowd, 0, 1, delay);
            assert_eq!(crowd.presses(), presses, "{delay}");
        }
        crowd.line_has_ended(&wait(10, 0));
        assert!(!crowd.presses());
    }
}
