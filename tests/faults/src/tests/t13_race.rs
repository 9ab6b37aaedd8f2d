//! t13_race: an origin closes idle connections after 40 to 60 ms, and requests come in bursts about that far apart.

use crate::ledger::Class::{Get, Post};
use crate::load::{Load, Plan};
use crate::origin::Origin;
use crate::stage::{EVERYBODY, Row, Stage, Test};
use crate::subject::Front;

pub(super) const TEST: Test = Test {
    name: "T13",
    about: "an origin closes idle connections at random, 40–60 ms",
    figure: "0 GET failed, 0 POST failed, 0 arrived twice",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origin = Origin::start_as(&stage.place, "a", "idle:40-60");
    let subject = stage.start(&Front::of([&origin]));
    // 25 at once, 50 ms apart: each finds a connection that has been idle for nearly that long.
    let plan = Plan { burst: stage.size(25, 50), ..Plan::standard(subject.address(), stage.size(500, 1000)) };
    let load = Load::start(plan.only(&[Get, Post]));
    load.go_on(stage.seconds(6, 300));
    let mut row = Row::of(load.finish_with([&origin]));
    let attempts = row.ledger().attempts;
    row.note("attempts", format!("{attempts} for {}", row.ledger().sent()));
    row.must_lose_nothing();
    row.must_please([&origin]);
    row
}
