//! stage: what a test is given — the proxy it is about, how long it may take, a folder — and what it gives back.

use crate::ledger::Ledger;
use crate::load::Plan;
use crate::origin::Origin;
use crate::subject::{Front, Kind, Subject};
use portunus_tests::Place;
use serde_json::{Value, json};
use std::time::Duration;

/// One test of the fault ledger.
pub struct Test {
    /// Its row in the table of figures, `T11`.
    pub name: &'static str,
    /// What breaks.
    pub about: &'static str,
    /// What has to hold.
    pub figure: &'static str,
    /// Which proxies it can be run against.
    pub against: &'static [Kind],
    /// Runs it.
    pub run: fn(&Stage) -> Row,
}

/// Every proxy has what this test needs.
pub const EVERYBODY: &[Kind] = &Kind::ALL;
/// Only ours can be asked this way.
pub const OURS: &[Kind] = &[Kind::Portunus];

/// What a test is given.
pub struct Stage {
    /// The proxy it is about.
    pub kind: Kind,
    /// Whether it is the long form, with the sizes of the table of figures.
    pub long: bool,
    /// An empty folder.
    pub place: Place,
}

impl Stage {
    /// One of two sizes, by the form.
    pub fn size<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }

    /// So many seconds, by the form.
    pub fn seconds(&self, short: u64, long: u64) -> Duration {
        Duration::from_secs(self.size(short, long))
    }

    /// What a bound on a time may be missed by: the short form runs on machines that do other things, too.
    pub fn leeway(&self) -> Duration {
        self.size(Duration::from_secs(1), Duration::from_millis(5))
    }

    /// Starts the proxy.
    pub fn start(&self, front: &Front) -> Subject {
        Subject::start(self.kind, front)
    }

    /// Three origins.
    pub fn origins(&self) -> [Origin; 3] {
        Origin::three(&self.place)
    }

    /// The standard load on `subject`: a quarter of the rate of the table in the short form.
    pub fn standard(&self, subject: &Subject) -> Plan {
        Plan::standard(subject.address(), self.size(250, 1000))
    }
}

/// What came out of one test.
#[derive(Default)]
pub struct Row {
    ledger: Ledger,
    figures: Vec<(String, String)>,
    missed: Vec<String>,
}

impl Row {
    /// From the ledger of its load.
    pub fn of(ledger: Ledger) -> Row {
        Row { ledger, ..Row::default() }
    }

    /// With the ledger of its load, where that comes last.
    pub fn with(self, ledger: Ledger) -> Row {
        Row { ledger, ..self }
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Adds a figure.
    pub fn note(&mut self, name: &str, value: impl std::fmt::Display) {
        self.figures.push((name.to_owned(), value.to_string()));
    }

    /// What has to hold; when it does not, `what` says so.
    pub fn must(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.missed.push(what.into());
        }
    }

    /// No request failed.
    pub fn must_lose_nothing(&mut self) {
        let failed = self.ledger.failed();
        let (failures, first) = (self.ledger.failures(), self.ledger.first_failures());
        self.must(failed == 0, format!("{failed} of {} failed: {failures}\n{first}", self.ledger.sent()));
    }

    /// No origin was sent something that is no request, or a body that is not the one sent.
    pub fn must_please<'a>(&mut self, origins: impl IntoIterator<Item = &'a Origin>) {
        for complaint in origins.into_iter().flat_map(Origin::complaints).take(5) {
            self.must(false, format!("an origin complains: {complaint}"));
        }
    }

    /// Whether every figure was reached.
    pub fn is_passed(&self) -> bool {
        self.missed.is_empty()
    }

    /// What was missed.
    pub fn missed(&self) -> &[String] {
        &self.missed
    }

    /// The counts and the latencies, in a line.
    pub fn counts(&self) -> String {
        if self.ledger.sent() == 0 {
            return String::new();
        }
        let failures = self.ledger.failures();
        let failures = if failures.is_empty() { String::new() } else { format!(" ({failures})") };
        let millis = |share: f64| format!("{:.1}", self.ledger.quantile(share).as_secs_f64() * 1e3);
        format!(
            "{} of {} failed{failures}; p50 {} p99 {} p99.9 {} ms",
            self.ledger.failed(),
            self.ledger.sent(),
            millis(0.5),
            millis(0.99),
            millis(0.999)
        )
    }

    /// The figures beside them, in a line.
    pub fn notes(&self) -> String {
        let notes: Vec<String> = self.figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        notes.join("; ")
    }

    /// All of it, for machines.
    pub fn to_json(&self, test: &Test, stage: &Stage) -> Value {
        let figures: serde_json::Map<String, Value> =
            self.figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "test": test.name, "about": test.about, "figure": test.figure, "proxy": stage.kind.name(),
            "form": if stage.long { "long" } else { "short" }, "ledger": self.ledger.to_json(), "figures": figures,
            "passed": self.is_passed(), "missed": self.missed,
        })
    }
}

/// A time in milliseconds, for tables.
pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// A size in MiB, for tables.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
