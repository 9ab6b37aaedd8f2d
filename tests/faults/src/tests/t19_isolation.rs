//! t19_isolation: the servers of one route take five seconds for everything; another route does not notice.

use crate::ledger::Class::Get;
use crate::load::{Load, Plan};
use crate::origin::Origin;
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::Front;
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T19",
    about: "one route's servers take 5 s",
    figure: "the other route: 0 failed, p99 at most 1.2 times that before",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let slow = Origin::start_as(&stage.place, "slow", "slow:5000");
    let front = Front::of(&origins)
        .with_portunus(&format!("pool slow {{ server {slow} }}"), "", "    route /slow/* { proxy slow }")
        .with_nginx(
            &format!("upstream slow {{ server {slow}; keepalive 64; }}"),
            "  location /slow/ { proxy_pass http://slow; }",
        )
        .with_haproxy(
            "  use_backend slow if { path_beg /slow/ }",
            "",
            &format!("backend slow\n  server s {slow}"),
        );
    let subject = stage.start(&front);
    let load = Load::start(stage.standard(&subject));
    load.go_on(stage.seconds(2, 20));
    let before = load.age();
    let patience = Duration::from_secs(20);
    let plan = Plan {
        prefix: "/slow".to_owned(),
        patience,
        ..Plan::standard(subject.address(), stage.size(100, 200))
    };
    let slow_load = Load::start(plan.only(&[Get]));
    load.go_on(stage.seconds(5, 200));
    let ledger = load.finish_with(&origins);
    let slow_ledger = slow_load.finish();
    let of = |from: Duration, to: Duration| {
        ledger.quantile_of(0.99, move |outcome| outcome.class == Get && (from..to).contains(&outcome.at))
    };
    let (quiet, beside) = (of(Duration::ZERO, before), of(before, Duration::MAX));
    let mut row = Row::of(ledger);
    row.note("p99 of small GETs", format!("{} (before: {})", millis(beside), millis(quiet)));
    row.note("on the slow route", format!("{} of {} failed", slow_ledger.failed(), slow_ledger.sent()));
    row.must_lose_nothing();
    let allowed = quiet.mul_f64(1.2) + stage.leeway();
    row.must(beside <= allowed, format!("p99 rose from {} to {}", millis(quiet), millis(beside)));
    row.must_please(&origins);
    row
}
