//! ledger: what became of every request that was sent, and what follows from it.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

/// What kind of request it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// GET with an answer of 1 KiB.
    Get,
    /// POST with a body of 4 KiB.
    Post,
    /// GET with an answer of 256 KiB.
    Large,
    /// POST with a body of 1 MiB.
    Upload,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// With the answer that was made for it, whole.
    Right,
    /// With a status other than 200 that an origin had made: passed on, as it should be.
    Passed(u16),
    /// It was not sent: all connections that there may be were busy.
    Unsent,
    /// No connection could be had.
    Refused,
    /// The connection ended before the answer began.
    Reset,
    /// Not within the patience, which is 5 s.
    Timeout,
    /// With a status of 400 or more that the proxy had made.
    Proxy(u16),
    /// The answer ended before it was whole; the client could see that.
    Truncated,
    /// The answer looked whole and was not as it was made.
    Checksum,
    /// The answer was made for somebody else.
    Stranger,
    /// The answer broke the grammar.
    Malformed,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Its number within the load.
    pub number: u64,
    /// What kind it was.
    pub class: Class,
    /// When it was to be sent, counted from the start of the load.
    pub at: Duration,
    /// From when it was to be sent until it ended.
    pub latency: Duration,
    /// How it ended.
    pub end: End,
}

/// All requests of one load.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Them.
    pub outcomes: Vec<Outcome>,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that the proxy closed while nothing was asked on them.
    pub closed: u64,
    /// Bytes that came without having been asked for, as often as that was.
    pub stray: u64,
    /// POSTs that arrived at origins more than once.
    pub doubled: u64,
    /// Requests that arrived at origins, each attempt counted.
    pub attempts: u64,
}

impl Ledger {
    /// How many were sent.
    pub fn sent(&self) -> usize {
        self.outcomes.len()
    }

    /// How many ended like this.
    pub fn count(&self, fits: impl Fn(&Outcome) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| fits(outcome)).count()
    }

    /// How many were answered right, or with what an origin had to say.
    pub fn right(&self) -> usize {
        self.count(|outcome| outcome.end.is_fine())
    }

    /// How many failed, whatever way; a POST that arrived twice failed too.
    pub fn failed(&self) -> usize {
        self.sent() - self.right() + self.doubled as usize + self.stray as usize
    }

    /// How many of one kind failed.
    pub fn failed_of(&self, class: Class) -> usize {
        self.count(|outcome| outcome.class == class && !outcome.end.is_fine())
    }

    /// The latency that a share of the requests stayed below.
    pub fn quantile(&self, share: f64) -> Duration {
        self.quantile_of(share, |_| true)
    }

    /// The same for some of them.
    pub fn quantile_of(&self, share: f64, fits: impl Fn(&Outcome) -> bool) -> Duration {
        let mut times: Vec<Duration> =
            self.outcomes.iter().filter(|outcome| fits(outcome)).map(|outcome| outcome.latency).collect();
        times.sort_unstable();
        let at = ((times.len() as f64 * share).ceil() as usize).saturating_sub(1);
        times.get(at).copied().unwrap_or_default()
    }

    /// Whether a request was to be sent within one of `spans`.
    pub fn within(spans: &[Range<Duration>]) -> impl Fn(&Outcome) -> bool {
        move |outcome| spans.iter().any(|span| span.contains(&outcome.at))
    }

    /// The failures by how they ended, in words.
    pub fn failures(&self) -> String {
        let mut counts: Vec<(String, usize)> = self.kinds().into_iter().collect();
        counts.sort();
        let mut words: Vec<String> =
            counts.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
        if self.doubled > 0 {
            words.push(format!("{} POST twice", self.doubled));
        }
        if self.stray > 0 {
            words.push(format!("{} stray bytes", self.stray));
        }
        words.join(", ")
    }

    /// The first few failures, each with its number, for whoever looks for the reason.
    pub fn first_failures(&self) -> String {
        let failed = self.outcomes.iter().filter(|outcome| !outcome.end.is_fine());
        failed.take(8).map(|outcome| format!("{outcome:?}\n")).collect()
    }

    /// The same of those whose number is not one of a request that was to fail.
    pub fn first_good_failures(&self, is_bad: fn(u64) -> bool) -> String {
        let failed = self.outcomes.iter().filter(|outcome| !outcome.end.is_fine() && !is_bad(outcome.number));
        failed.take(8).map(|outcome| format!("{outcome:?}\n")).collect()
    }

    fn kinds(&self) -> HashMap<String, usize> {
        let mut kinds = HashMap::new();
        for outcome in self.outcomes.iter().filter(|outcome| !outcome.end.is_fine()) {
            *kinds.entry(format!("{} {}", outcome.class.word(), outcome.end.words())).or_default() += 1;
        }
        kinds
    }

    /// The figures, for machines.
    pub fn to_json(&self) -> Value {
        let micros = |share: f64| self.quantile(share).as_micros() as u64;
        json!({
            "sent": self.sent(), "right": self.right(), "failed": self.failed(), "failures": self.kinds(),
            "post_twice": self.doubled, "stray": self.stray, "attempts": self.attempts,
            "connections_opened": self.opened, "connections_closed_idle": self.closed,
            "p50_us": micros(0.5), "p99_us": micros(0.99), "p999_us": micros(0.999), "max_us": micros(1.0),
        })
    }

    /// Takes another load's requests in.
    pub fn and(mut self, other: Ledger) -> Ledger {
        self.outcomes.extend(other.outcomes);
        self.opened += other.opened;
        self.closed += other.closed;
        self.stray += other.stray;
        self.doubled += other.doubled;
        self.attempts += other.attempts;
        self
    }
}

impl End {
    /// Whether nothing went wrong.
    pub fn is_fine(self) -> bool {
        matches!(self, End::Right | End::Passed(_))
    }

    fn words(self) -> String {
        match self {
            End::Right => "right".to_owned(),
            End::Passed(status) => format!("{status} of the origin"),
            End::Unsent => "unsent".to_owned(),
            End::Refused => "refused".to_owned(),
            End::Reset => "reset".to_owned(),
            End::Timeout => "timeout".to_owned(),
            End::Proxy(status) => status.to_string(),
            End::Truncated => "truncated".to_owned(),
            End::Checksum => "wrong checksum".to_owned(),
            End::Stranger => "somebody else's answer".to_owned(),
            End::Malformed => "malformed".to_owned(),
        }
    }
}

impl Class {
    /// Its name in tables and paths.
    pub fn word(self) -> &'static str {
        match self {
            Class::Get => "get",
            Class::Post => "post",
            Class::Large => "large",
            Class::Upload => "upload",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(ends: &[End]) -> Ledger {
        let outcomes = ends.iter().enumerate().map(|(number, &end)| Outcome {
            number: number as u64,
            class: if number % 2 == 0 { Class::Get } else { Class::Post },
            at: Duration::from_millis(number as u64),
            latency: Duration::from_millis(10 * (1 + number as u64)),
            end,
        });
        Ledger { outcomes: outcomes.collect(), ..Ledger::default() }
    }

    #[test]
    fn what_is_not_right_has_failed() {
        let mut ledger = ledger(&[End::Right, End::Reset, End::Passed(503), End::Right, End::Proxy(502)]);
        assert_eq!((ledger.sent(), ledger.right(), ledger.failed()), (5, 3, 2));
        assert_eq!((ledger.failed_of(Class::Get), ledger.failed_of(Class::Post)), (1, 1));
        ledger.doubled = 1;
        assert_eq!(ledger.failed(), 3);
        assert_eq!(ledger.failures(), "1 get 502, 1 post reset, 1 POST twice");
    }

    #[test]
    fn quantiles_are_of_the_requests_asked_for() {
        let ledger = ledger(&[End::Right; 10]);
        assert_eq!(ledger.quantile(0.5), Duration::from_millis(50));
        assert_eq!(ledger.quantile(0.99), Duration::from_millis(100));
        let early = [Duration::ZERO..Duration::from_millis(2)];
        let early = Ledger::within(&early);
        assert_eq!(ledger.quantile_of(1.0, early), Duration::from_millis(20));
        assert_eq!(Ledger::default().quantile(0.5), Duration::ZERO);
    }
}
