//! t16_early: POSTs of 1 MiB that are answered when their head has arrived, on connections that others use too.

use crate::ledger::Class::{Get, Post, Upload};
use crate::load::{Load, Plan};
use crate::stage::{EVERYBODY, Row, Stage, Test};
use crate::subject::Front;

pub(super) const TEST: Test = Test {
    name: "T16",
    about: "1 MiB POSTs answered before their body",
    figure: "every client has its answer; 0 requests out of step",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let subject = stage.start(&Front::of(&origins));
    let plan = Plan { query, ..Plan::standard(subject.address(), stage.size(160, 400)) };
    let load = Load::start(plan.only(&[Upload, Get, Get, Post]));
    load.go_on(stage.seconds(5, 500));
    let mut row = Row::of(load.finish_with(&origins));
    row.note("uploads", row.ledger().count(|outcome| outcome.class == Upload));
    row.must_lose_nothing();
    row.must_please(&origins);
    row
}

/// Of four uploads one is answered at the end; the others when their head is there, of which one origin hangs up then.
fn query(number: u64) -> String {
    match number % 16 {
        0 | 4 => "&fault=early".to_owned(),
        8 => "&fault=early-close".to_owned(),
        _ => String::new(),
    }
}
