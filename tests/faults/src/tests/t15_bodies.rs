//! t15_bodies: answers whose bodies are cut, short, long or reset; the client must be able to see it.

use crate::ledger::Class::{Get, Post};
use crate::ledger::End;
use crate::load::{Load, Plan};
use crate::stage::{EVERYBODY, Row, Stage, Test};
use crate::subject::Front;

pub(super) const TEST: Test = Test {
    name: "T15",
    about: "bodies cut, short, long, reset at any byte",
    figure: "each visibly broken off; never a wrong body; every good request between them right (no cache yet)",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let subject = stage.start(&Front::of(&origins));
    let plan = Plan { query, ..stage.standard(&subject) };
    let load = Load::start(plan.only(&[Get, Get, Post]));
    load.go_on(stage.seconds(5, 60));
    let ledger = load.finish_with(&origins);
    let broken = ledger.outcomes.iter().filter(|outcome| is_bad(outcome.number));
    let hidden: Vec<String> = broken
        .filter(|outcome| match outcome.end {
            End::Truncated | End::Reset | End::Proxy(502) => false,
            // The answer was whole; what came after it is nobody's.
            End::Right => !query(outcome.number).contains("long"),
            _ => true,
        })
        .map(|outcome| format!("{} {}: {:?}", outcome.class.word(), query(outcome.number), outcome.end))
        .collect();
    let count = ledger.count(|outcome| is_bad(outcome.number));
    let good = ledger.count(|outcome| !is_bad(outcome.number) && !outcome.end.is_fine());
    let (stray, doubled) = (ledger.stray, ledger.doubled);
    let mut row = Row::of(ledger);
    row.note("broken bodies", format!("{count}, not visible: {}", hidden.len()));
    row.note("good requests failed", good);
    row.must(hidden.is_empty(), format!("not visible:\n{}", hidden[..hidden.len().min(8)].join("\n")));
    row.must(good == 0, format!("{good} good requests failed\n{}", row.ledger().first_good_failures(is_bad)));
    row.must(stray == 0 && doubled == 0, format!("{stray} stray bytes, {doubled} POSTs twice"));
    row.must_please(&origins);
    row
}

fn is_bad(number: u64) -> bool {
    number % 5 == 4
}

/// The head has about 60 bytes; every cut is after it and before the end.
fn query(number: u64) -> String {
    if !is_bad(number) {
        return String::new();
    }
    let (kind, at) = (number / 5 % 6, 70 + number / 30 * 37 % 150);
    match kind {
        0 => format!("&fault=reset:{at}"),
        1 => format!("&fault=close:{at}"),
        2 => format!("&fault=short:{}", 1 + at % 100),
        3 => format!("&fault=long:{}", 1 + at % 100),
        4 => format!("&fault=chunked-reset:{at}"),
        _ => "&fault=chunked-close".to_owned(),
    }
}
