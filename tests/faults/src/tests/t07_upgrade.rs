//! t07_upgrade: another process takes the place of the one that serves, again and again, under load.

use crate::ledger::Class::Get;
use crate::load::{Load, Plan};
use crate::stage::{EVERYBODY, Row, Stage, Test};
use crate::subject::Front;
use std::time::Duration;

pub(super) const TEST: Test =
    Test { name: "T7", about: "binary upgrades", figure: "0 failed, 0 refused", against: EVERYBODY, run };

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let front = Front::of(&origins).with_portunus("grace 10s", "", "");
    let subject = stage.start(&front);
    let load = Load::start(stage.standard(&subject));
    // Beside the kept connections, new ones: nobody may be refused in between.
    let fresh = Plan { keep_alive: false, ..Plan::standard(subject.address(), stage.size(50, 100)) };
    let fresh = Load::start(fresh.only(&[Get]));
    let pause = stage.size(Duration::from_millis(500), Duration::from_secs(25));
    let upgrades = stage.size(4, 10);
    load.go_on(pause);
    for _ in 0..upgrades {
        subject.upgrade(&front);
        load.go_on(pause);
    }
    let fresh = fresh.finish();
    let mut row = Row::of(load.finish_with(&origins).and(fresh));
    row.note("upgrades", upgrades);
    if let Some(proxy) = subject.portunus() {
        let serving = proxy.serving_id();
        row.must(serving != proxy.id(), "the first process still serves");
    }
    row.must_lose_nothing();
    row.must_please(&origins);
    row
}
