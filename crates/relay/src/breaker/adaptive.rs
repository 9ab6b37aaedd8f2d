//! adaptive: how many requests a pool takes before they only wait for each other, found from how long its answers take.

use super::spread::Spread;
use portunus_message::Tick;
use std::time::Duration;

/// Where every pool begins.
pub const START: u32 = 256;
/// It is never less than this: a pool with fewer requests on it is not held to be overloaded.
pub const LEAST: u32 = 16;
/// Nor more than this.
const MOST: u32 = 1 << 20;
/// While nothing at all is answered, nothing is known of an overload (a pause looks the same): so many may wait then.
const BLIND_MOST: u32 = 4096;
/// How often it is looked at, at most; and at least, while answers come.
const WINDOW: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Answers that a look needs.
const SAMPLES: u32 = 16;
/// The quantile that is looked at. Overload delays every request, the quick ones too; that some are slow is no overload.
const LOW: u32 = 25;
/// The one that is looked at while more wait than are going to be served: what is let in then is to be answered in time, and one
/// server of several may hold more than its share.
const MIDDLE: u32 = 50;
/// How much longer than usual is still fine: half as long again, and this many microseconds.
const SLACK: f64 = 5_000.0;
/// For how long answers have to take too long: what is over before is worked off without refusing anybody.
const LATE: Duration = Duration::from_secs(1);
/// After so long without an answer nothing is known of late.
const FORGETS: Duration = Duration::from_secs(10);
/// For how long answers may be rarer than before, and late, without anybody being refused for it: then the server has become slower, for as long
/// as something else keeps it busy, and is not asked for more.
const PAUSE: Duration = Duration::from_secs(3);
/// To which part of what it was the rate of answers has to fall.
const RARE: f64 = 0.7;
/// At how many looks one after the other it has to have been of no use that it was made less, until it is taken back: at one look the rate may be
/// anything.
const USELESS: u32 = 2;
/// How fast it grows while there is no need to be careful; and while more wait than are going to be served, where every room that is too
/// many is taken at once.
const GROWS: f64 = 1.25;
const GROWS_OUTRUN: f64 = 1.05;
/// How fast the usual time follows a longer one, in seconds.
const FOLLOWS: f64 = 300.0;

/// A usual time in microseconds: the least that was seen, slowly rising. 0 while nothing was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Usual(f64);

impl Usual {
    fn follow(&mut self, time: f64, passed: f64) {
        self.0 = match self.0 {
            usual if usual == 0.0 || time < usual => time,
            usual => usual + (time - usual) * (passed / FOLLOWS),
        };
    }
}

/// The bound of one pool.
#[derive(Debug)]
pub struct Adaptive {
    limit: f64,
    /// What is usual for [`LOW`], and for [`MIDDLE`].
    usual: [Usual; 2],
    seen: Spread,
    /// The most requests at one time since the last look.
    most: u32,
    looked: Tick,
    /// When the first of what was seen since then was heard of.
    seen_since: Tick,
    next: Tick,
    /// When an answer was heard of last.
    heard: Tick,
    /// For how long nothing may be heard until that means anything.
    silence: Duration,
    /// Answers a second, of late.
    rate: f64,
    /// Since when answers have taken too long.
    late_since: Option<Tick>,
    /// Since when they have been much rarer, too.
    rare_since: Option<Tick>,
    /// The most of them while answers took no longer than usual, slowly falling.
    usual_rate: f64,
    /// What the bound was before it was doubled for a pause.
    unpaused: Option<f64>,
    /// Whether answers took longer at the last look.
    is_slow: bool,
    /// How many requests there were, and how many answers a second, when it was first made less.
    before: Option<(f64, f64)>,
    /// At how many looks one after the other that was of no use.
    useless: u32,
}

impl Default for Adaptive {
    fn default() -> Adaptive {
        Adaptive {
            limit: f64::from(START),
            usual: [Usual::default(); 2],
            seen: Spread::default(),
            most: 0,
            looked: Tick::default(),
            seen_since: Tick::default(),
            next: Tick::default(),
            heard: Tick::default(),
            silence: WINDOW.0,
            rate: 0.0,
            usual_rate: 0.0,
            is_slow: false,
            late_since: None,
            rare_since: None,
            unpaused: None,
            before: None,
            useless: 0,
        }
    }
}

impl Adaptive {
    /// Hears how long answers took, how many requests there were at one time, and whether others wait who will not all be served; gives
    /// the bound.
    pub fn hear(&mut self, seen: &Spread, most: u32, outrun: bool, now: Tick) -> u32 {
        if self.seen.is_empty() {
            self.seen_since = now; // there may have been nothing at all for long
            if now.since(self.looked) >= FORGETS {
                (self.late_since, self.rare_since) = (None, None);
            }
        }
        self.seen.merge(seen);
        self.most = self.most.max(most);
        self.heard = now;
        if now >= self.next && (self.seen.len() >= SAMPLES || now.since(self.looked) >= WINDOW.1) {
            self.look(outrun, now);
        }
        self.limit()
    }

    /// How many answers a second there are, and were when all was well, of late; 0 when nothing is known.
    pub fn rates(&self) -> (f64, f64) {
        (self.rate, self.usual_rate)
    }

    /// Whether answers take longer than usual.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Hears that somebody found no room, when perhaps nothing is answered at all; gives the bound.
    pub fn hear_full(&mut self, now: Tick) -> u32 {
        if now.since(self.heard) >= self.silence {
            self.wait_out();
            self.heard = now;
        }
        self.limit()
    }

    /// The bound.
    pub fn limit(&self) -> u32 {
        self.limit as u32 // Invariant: between LEAST and MOST.
    }

    fn look(&mut self, outrun: bool, now: Tick) {
        let passed = now.since(self.looked).as_secs_f64().min(1.0);
        let mut times = [0.0; 2];
        for ((quantile, time), usual) in [LOW, MIDDLE].into_iter().zip(&mut times).zip(&mut self.usual) {
            let Some(seen) = self.seen.quantile(quantile) else { return };
            *time = seen.as_micros() as f64;
            usual.follow(*time, passed);
        }
        let ([low, middle], [usual_low, usual_middle]) = (times, self.usual);
        let (low, usual) = if outrun { (middle, usual_middle) } else { (low, usual_low) };
        let most = f64::from(self.most);
        let rate = f64::from(self.seen.len()) / passed.max(0.001);
        let fine = usual.0 * 1.5 + SLACK;
        let pauses = low > fine && rate < self.rate * RARE && {
            let since = *self.rare_since.get_or_insert(now);
            now.since(since) < PAUSE
        };
        if pauses {
            if most >= self.limit * 0.8 {
                self.wait_out();
            }
        } else if low > fine {
            // Of what there was room for in a pause, not much more than was used is still needed: a bound far above that would never be made less.
            if let Some(limit) = self.unpaused.take() {
                self.limit = self.limit.min(limit.max(most * 1.5));
            }
            let since = *self.late_since.get_or_insert(self.seen_since);
            if outrun || now.since(since) >= LATE {
                self.take_away(low, fine, most, rate);
            }
        } else {
            (self.late_since, self.rare_since) = (None, None);
            (self.before, self.unpaused) = (None, None);
            if most >= self.limit * 0.8 {
                self.limit *= if outrun { GROWS_OUTRUN } else { GROWS };
            }
        }
        self.limit = self.limit.clamp(LEAST.into(), MOST.into());
        if !pauses {
            self.rate += (rate - self.rate) * 0.3;
        }
        self.is_slow = low > fine;
        if !self.is_slow {
            self.usual_rate = self.rate.max(self.usual_rate * (1.0 - passed / FOLLOWS));
        }
        self.seen.clear();
        self.most = 0;
        self.looked = now;
        self.silence = Duration::from_micros(low as u64 * 2).max(WINDOW.0);
        // When it was made less, long enough to see requests that began under the new bound.
        self.next = now + if self.before.is_some() { self.silence.min(WINDOW.1) } else { WINDOW.0 };
    }

    /// A pause: so many more may wait for its end.
    fn wait_out(&mut self) {
        if self.limit < f64::from(BLIND_MOST) {
            self.unpaused.get_or_insert(self.limit);
            self.limit = (self.limit * 2.0).min(f64::from(BLIND_MOST));
        }
    }

    /// Answers take too long. It is made less, unless that has been of no use: a server that is overloaded answers as
    /// many with fewer requests on it. One that answers fewer then has become slower, whatever it is sent, and that is
    /// what is usual from now on.
    fn take_away(&mut self, low: f64, fine: f64, most: f64, rate: f64) {
        if most < self.limit / 2.0 {
            return; // it is not the number of requests
        }
        let (most_before, rate_before) = *self.before.get_or_insert((most, self.rate));
        if most > self.limit * 1.25 {
            return; // those of before are still there
        }
        let useless = most < most_before * 0.6 && rate < rate_before * RARE;
        self.useless = if useless { self.useless + 1 } else { 0 };
        if useless && self.useless < USELESS {
            return;
        }
        if useless {
            self.useless = 0;
            self.usual.iter_mut().for_each(|usual| usual.0 = usual.0.max(low / 1.5));
            self.limit = most_before;
            self.before = None;
            return;
        }
        // Requests that only wait for each other take as much longer as there are more of them. Those that have been answered began
        // when there were fewer; how many are answered says sooner about how many there may be (Little's law).
        let share = f64::min(fine / low, 1.25 * rate * fine / 1_000_000.0 / most);
        self.limit = self.limit.min(most) * share.max(0.2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server as the simplest theory has it: so many at a time, each for so long; the rest wait. One step is 1 ms.
    struct Server {
        at_a_time: usize,
        work_ms: u64,
        running: Vec<(u64, u64)>,
        waiting: std::collections::VecDeque<u64>,
    }

    struct Seen {
        served: usize,
        shed: usize,
        slowest_ms: u64,
        limit: u32,
    }

    impl Server {
        fn new(at_a_time: usize, work_ms: u64) -> Server {
            Server { at_a_time, work_ms, running: Vec::new(), waiting: Default::default() }
        }

        /// `per_ms` requests (a fraction) for `ms`, from `from` on; who finds no room is shed.
        fn run(&mut self, adaptive: &mut Adaptive, from: u64, ms: u64, per_ms: f64) -> Seen {
            let mut seen = Seen { served: 0, shed: 0, slowest_ms: 0, limit: 0 };
            let (mut spread, mut most, mut due) = (Spread::default(), 0, 0.0);
            for now in from..from + ms {
                due += per_ms;
                while due >= 1.0 {
                    due -= 1.0;
                    let inside = self.running.len() + self.waiting.len();
                    if inside < adaptive.limit() as usize {
                        self.waiting.push_back(now);
                    } else {
                        adaptive.hear_full(Tick(now * 1000));
                        seen.shed += 1;
                    }
                    most = most.max(inside + 1);
                }
                self.running.retain(|&(began, ends)| {
                    if now >= ends {
                        seen.served += 1;
                        let lasted = now - began;
                        if now >= from + ms / 2 {
                            seen.slowest_ms = seen.slowest_ms.max(lasted);
                        }
                        spread.add(Duration::from_millis(lasted));
                    }
                    now < ends
                });
                while self.running.len() < self.at_a_time
                    && let Some(began) = self.waiting.pop_front()
                {
                    self.running.push((began, now + self.work_ms));
                }
                if now % 50 == 0 && !spread.is_empty() {
                    adaptive.hear(
                        &std::mem::take(&mut spread),
                        std::mem::take(&mut most) as u32,
                        false,
                        Tick(now * 1000),
                    );
                }
            }
            seen.limit = adaptive.limit();
            seen
        }
    }

    #[test]
    fn normal_traffic_is_never_shed() {
        let (mut server, mut adaptive) = (Server::new(1000, 20), Adaptive::default());
        for (from, per_ms) in [(0, 1.0), (10_000, 20.0), (20_000, 1.0), (30_000, 40.0)] {
            let seen = server.run(&mut adaptive, from, 10_000, per_ms);
            // What finds no room while the bound follows a sudden rise waits in the line, which is not part of this.
            assert!(seen.shed * 100 <= seen.served, "{} shed at {per_ms} per ms", seen.shed);
        }
    }

    #[test]
    fn three_times_the_capacity_keeps_nearly_all_of_it_and_answers_in_time() {
        // 1000 a second, 10 ms each; base latency 10 ms.
        let (mut server, mut adaptive) = (Server::new(10, 10), Adaptive::default());
        server.run(&mut adaptive, 0, 5_000, 0.5);
        let seen = server.run(&mut adaptive, 5_000, 60_000, 3.0);
        assert!(seen.served >= 57_000, "{} of 60000 served", seen.served);
        assert!(seen.slowest_ms <= 40, "{} ms", seen.slowest_ms);
        let seen = server.run(&mut adaptive, 65_000, 2_000, 0.5);
        assert_eq!(seen.shed, 0);
    }

    #[test]
    fn answers_that_take_long_by_themselves_are_no_overload() {
        // 200 a second, 5 s each: a thousand at a time, and nothing is known before the first one is answered.
        let (mut server, mut adaptive) = (Server::new(100_000, 5_000), Adaptive::default());
        let seen = server.run(&mut adaptive, 0, 30_000, 0.2);
        assert!(seen.shed < 100, "{} of 6000 shed", seen.shed);
        assert!(seen.limit >= 1000);
    }

    #[test]
    fn a_server_that_gets_slower_whatever_is_asked_of_it_is_not_choked() {
        let (mut server, mut adaptive) = (Server::new(100_000, 100), Adaptive::default());
        server.run(&mut adaptive, 0, 10_000, 3.0);
        server.work_ms = 500;
        let first = server.run(&mut adaptive, 10_000, 10_000, 3.0);
        let then = server.run(&mut adaptive, 20_000, 10_000, 3.0);
        assert!(first.shed < 10_000, "{} of 30000 shed at first", first.shed);
        assert!(then.shed < 300, "{} of 30000 shed then", then.shed);
    }

    #[test]
    fn one_window_with_few_answers_does_not_hide_an_overload() {
        let mut adaptive = Adaptive::default();
        let mut hear = |at: u64, count: u32, ms: u64, most: u32| {
            let mut spread = Spread::default();
            (0..count).for_each(|_| spread.add(Duration::from_millis(ms)));
            adaptive.hear(&spread, most, false, Tick(at * 100_000))
        };
        (0..20).for_each(|at| _ = hear(at, 20, 20, 2));
        (20..25).for_each(|at| _ = hear(at, 20, 20, 250)); // the bound rises
        // Three hundred, who ask again as soon as they are answered; in one window by chance only half as many are.
        let count = |at: u64| if matches!(at, 27 | 28) { 8 } else { 20 };
        let limit = (25..80).map(|at| hear(at, count(at), 1_500, 300)).last();
        assert!(limit.is_some_and(|limit| limit < 100), "{limit:?}");
    }

    #[test]
    fn a_pause_sheds_nobody() {
        let (mut server, mut adaptive) = (Server::new(1000, 10), Adaptive::default());
        server.run(&mut adaptive, 0, 5_000, 1.0);
        server.at_a_time = 0;
        let seen = server.run(&mut adaptive, 5_000, 2_000, 1.0);
        assert!(seen.shed < 100, "{} of 2000 shed", seen.shed);
    }

    #[test]
    fn a_server_that_is_busy_with_something_else_for_two_seconds_sheds_nobody() {
        let (mut server, mut adaptive) = (Server::new(20, 10), Adaptive::default());
        server.run(&mut adaptive, 0, 5_000, 1.0);
        server.at_a_time = 3;
        let seen = server.run(&mut adaptive, 5_000, 2_000, 1.0);
        server.at_a_time = 20;
        let after = server.run(&mut adaptive, 7_000, 5_000, 1.0);
        // A line of a thousand, as every pool has it, is not part of this.
        assert!(seen.shed + after.shed < 900, "{} and {} of 7000 shed", seen.shed, after.shed);
    }

    #[test]
    fn a_dead_server_is_not_waited_for_by_everybody() {
        let (mut server, mut adaptive) = (Server::new(0, 10), Adaptive::default());
        let seen = server.run(&mut adaptive, 0, 60_000, 10.0);
        assert_eq!(seen.limit, BLIND_MOST);
    }

    #[test]
    fn a_burst_after_a_quiet_time_is_no_overload() {
        let (mut server, mut adaptive) = (Server::new(1000, 10), Adaptive::default());
        let limit = server.run(&mut adaptive, 0, 5_000, 1.0).limit;
        for at in 0..6u64 {
            let mut spread = Spread::default();
            (0..20).for_each(|_| spread.add(Duration::from_millis(500)));
            let now = Tick((at / 3 + 1) * 600_000_000 + at % 3 * 200_000);
            assert!(adaptive.hear(&spread, limit, false, now) >= limit, "it has not been so for a second");
        }
    }

    #[test]
    fn few_requests_are_never_too_many() {
        let mut adaptive = Adaptive::default();
        for at in 0..1000u64 {
            let mut spread = Spread::default();
            let time = if at < 10 { 1 } else { 3_000 };
            (0..20).for_each(|_| spread.add(Duration::from_millis(time)));
            assert!(adaptive.hear(&spread, 300, false, Tick(at * 100_000)) >= LEAST);
        }
    }
}
