//! t24_overload: three times what the proxy can do, which has a tenth of a processor; and three times what its servers can do.

use crate::group::Group;
use crate::ledger::Class::Get;
use crate::ledger::{End, Ledger};
use crate::load::{Load, Plan};
use crate::origin::Origin;
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::{Front, Subject};
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T24",
    about: "three times its capacity",
    // That of the table is 90 %. What a request costs rises with the connections it has to be looked for in.
    figure: "goodput at least 50 % of the peak; admin answers within 100 ms; normal 2 s after",
    against: EVERYBODY,
    run: proxy,
};

pub(super) const SERVERS: Test = Test {
    name: "T24b",
    about: "three times the capacity of the servers",
    figure: "goodput at least 90 % of the peak; admin answers within 100 ms; normal 2 s after",
    against: EVERYBODY,
    run: servers,
};

fn proxy(stage: &Stage) -> Row {
    let origins = stage.origins();
    let Some(group) = Group::of_processor(0.1) else {
        eprintln!("SKIPPED: T24 needs control groups");
        return Row::default();
    };
    let wrapper = group.wrapper();
    let wrapper = wrapper.each_ref().map(String::as_str);
    let subject = Subject::start_under(stage.kind, &Front::of(&origins).with_one_worker(), &wrapper);
    // Requests that come one by one cost up to twice what those cost that come together: at half of the peak it is busy all the time.
    storm(stage, &subject, 0.25, 0.5)
}

fn servers(stage: &Stage) -> Row {
    let origins = ["a", "b", "c"].map(|name| Origin::start_as(&stage.place, name, "busy:8-10"));
    storm(stage, &stage.start(&Front::of(&origins)), 0.5, 0.9)
}

/// `calm` and `least` are parts of the peak: the load before and after, and what has to be answered.
fn storm(stage: &Stage, subject: &Subject, calm: f64, least: f64) -> Row {
    let peak = peak(subject);
    let plan = |rate: f64| Plan {
        connections: 64,
        connections_max: 2000,
        waits: false,
        ..Plan::standard(subject.address(), rate as u32)
    };
    let calm_plan = || plan(peak * calm).only(&[Get]);
    let before = run_load(calm_plan(), stage.seconds(2, 10));
    let storm = Load::start(plan(peak * 3.0).only(&[Get]));
    let (time, mut admin) = (stage.seconds(4, 60), Duration::ZERO);
    while storm.age() < time {
        if let Some(proxy) = subject.portunus() {
            let begun = storm.age();
            proxy.admin("GET", "/live").expect(200);
            admin = admin.max(storm.age() - begun);
        }
        storm.go_on(Duration::from_millis(200));
    }
    let storm = storm.finish();
    let after = run_load(calm_plan(), stage.seconds(4, 10));
    // What was answered in time, by the second in which it was.
    let answered = storm.count(|outcome| outcome.end == End::Right && outcome.at + outcome.latency <= time);
    let goodput = answered as f64 / time.as_secs_f64();
    let shed = |outcome: &crate::ledger::Outcome| matches!(outcome.end, End::Proxy(503) | End::Refused);
    let (refused, refused_p99) = (storm.count(shed), storm.quantile_of(0.99, shed));
    let admitted = storm.quantile_of(0.99, |outcome| outcome.end == End::Right);
    let late = after.count(|outcome| outcome.at > Duration::from_secs(2) && !outcome.end.is_fine());
    let normal = after.quantile_of(0.99, |outcome| outcome.at > Duration::from_secs(2));
    let mut row = Row::of(storm);
    row.note("peak", format!("{peak:.0}/s"));
    row.note("goodput", format!("{goodput:.0}/s, {:.0} %", 100.0 * goodput / peak));
    row.note("refused", format!("{refused}, p99 {}", millis(refused_p99)));
    row.note("admitted p99", format!("{} (calm: {})", millis(admitted), millis(before.quantile(0.99))));
    row.note("admin within", millis(admin));
    row.note("2 s after", format!("{late} failed, p99 {}{}", millis(normal), after_words(&after)));
    row.must(goodput >= least * peak, format!("goodput {goodput:.0} of {peak:.0}"));
    row.must(admin <= Duration::from_millis(100) + stage.leeway(), format!("the admin API took {admin:?}"));
    row.must(late == 0, format!("{late} requests failed later than 2 s after"));
    row
}

/// How the requests after the storm failed.
fn after_words(after: &Ledger) -> String {
    match after.failures() {
        failures if failures.is_empty() => failures,
        failures => format!(" (all after: {failures})"),
    }
}

fn run_load(plan: Plan, time: Duration) -> Ledger {
    let load = Load::start(plan);
    load.go_on(time);
    load.finish()
}

/// What it can do: the most right answers a second while the rate doubles, until there are fewer twice.
fn peak(subject: &Subject) -> f64 {
    let (mut best, mut rate, mut worse) = (0.0, 250.0, 0);
    while worse < 2 && rate < 20_000.0 {
        let plan =
            Plan { connections: 64, connections_max: 64, ..Plan::standard(subject.address(), rate as u32) };
        let load = Load::start(plan.only(&[Get]));
        load.go_on(Duration::from_secs(1));
        let time = load.age();
        let ledger = load.finish();
        let right = ledger.count(|outcome| outcome.end == End::Right && outcome.at + outcome.latency <= time);
        let each_second = right as f64 / time.as_secs_f64();
        worse += u32::from(each_second < 0.8 * rate);
        best = f64::max(best, each_second);
        rate *= 2.0;
    }
    best
}
