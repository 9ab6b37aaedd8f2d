//! t22_storm: every server answers 503, or nothing; trying again must not multiply what they get.

use crate::ledger::Class;
use crate::load::{Load, Plan};
use crate::stage::{EVERYBODY, Row, Stage, Test};
use crate::subject::Front;
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T22",
    about: "all servers answer 503, then nothing at all",
    figure: "attempts at most 1.10 times the requests; 0 POST arrived twice",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let mut origins = stage.origins();
    let front = Front::of(&origins)
        .with_portunus("", "    retry tries=2 per-try=1s on=connect,reset,timeout,502,503,504", "")
        .with_nginx(
            "proxy_read_timeout 1s; proxy_next_upstream error timeout http_502 http_503 http_504;",
            "",
        )
        .with_haproxy("", "  timeout server 1s\n  retry-on all-retryable-errors 502 503 504", "");
    let mut row = Row::default();
    let mut all = crate::ledger::Ledger::default();
    for manner in ["status:503", "silent"] {
        origins.iter_mut().for_each(|origin| origin.behave(manner));
        let subject = stage.start(&front);
        let load =
            Load::start(Plan { rate: stage.size(200, 1000), ..stage.standard(&subject) }.only(&[Class::Get]));
        load.go_on(stage.seconds(4, 60));
        let ledger = load.finish_with(&origins);
        let times = ledger.attempts as f64 / ledger.sent() as f64;
        row.note(manner, format!("{} attempts for {} requests: {times:.3}", ledger.attempts, ledger.sent()));
        // In the short form a floor of three a second is more than the tenth.
        let floor = 3.0 * stage.size(5.0, 61.0) / ledger.sent() as f64;
        let allowed = 1.0 + stage.size(floor.max(0.10), 0.10);
        row.must(times <= allowed, format!("{manner}: {times:.3} attempts for each request"));
        let slow = ledger.quantile(0.99);
        row.must(slow < Duration::from_secs(5), format!("{manner}: p99 is {slow:?}"));
        all = all.and(ledger);
    }
    row.must(all.doubled == 0, format!("{} POSTs arrived twice", all.doubled));
    row.must_please(&origins);
    row.with(all)
}
