//! t17_refused: one of three servers refuses every connection, all the time.

use crate::load::Load;
use crate::origin::Origin;
use crate::stage::{EVERYBODY, Row, Stage, Test};
use crate::subject::Front;

pub(super) const TEST: Test =
    Test { name: "T17", about: "one of three servers refuses", figure: "0 failed", against: EVERYBODY, run };

fn run(stage: &Stage) -> Row {
    let [a, b] = ["a", "b"].map(|name| Origin::start(&stage.place, name));
    let gone = Origin::absent(&stage.place, "gone");
    let subject = stage.start(&Front::of([&a, &gone, &b]));
    let load = Load::start(stage.standard(&subject));
    load.go_on(stage.seconds(5, 300));
    let mut row = Row::of(load.finish_with([&a, &b]));
    row.must_lose_nothing();
    row.must_please([&a, &b]);
    row
}
