//! t01_reload: twenty reloads under load — routes, fields, the order of servers — and nobody notices.

use crate::ledger::Ledger;
use crate::load::Load;
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::Front;
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T1",
    about: "20 configuration reloads",
    figure: "0 failed, no client connection closed",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let [a, b, c] = stage.origins();
    let one = Front::of([&a, &b, &c]);
    let other = Front::of([&c, &a])
        .with_portunus("", "", "    response-header set X-New 1\n    route /new/* { proxy p }")
        .with_nginx("", "  add_header X-New 1; location /new/ { proxy_pass http://p; }")
        .with_haproxy("  http-response set-header X-New 1", "", "");
    let subject = stage.start(&one);
    let load = Load::start(stage.standard(&subject));
    let pause = stage.size(Duration::from_millis(300), Duration::from_secs(14));
    load.go_on(pause.max(Duration::from_secs(2)));
    let mut spans = Vec::new();
    for number in 0..20 {
        let begun = load.age();
        subject.reload(if number % 2 == 0 { &other } else { &one });
        load.go_on(pause);
        spans.push(begun..load.age().min(begun + Duration::from_secs(1)));
    }
    let ledger = load.finish_with([&a, &b, &c]);
    let near = ledger.quantile_of(0.99, Ledger::within(&spans));
    let quiet = ledger.quantile_of(0.99, Ledger::within(&[Duration::ZERO..spans[0].start]));
    let mut row = Row::of(ledger);
    let closed = row.ledger().closed;
    row.note("reloads", 20);
    row.note("connections closed", closed);
    row.note("p99 in the seconds of reloads", format!("{} (before: {})", millis(near), millis(quiet)));
    row.must_lose_nothing();
    row.must_please([&a, &b, &c]);
    row.must(closed == 0, format!("{closed} client connections closed"));
    row
}
