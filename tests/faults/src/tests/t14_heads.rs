//! t14_heads: sixty kinds of broken answers' heads, and resets at every byte of a head, among good requests.

use crate::ledger::{End, Outcome};
use crate::load::{Load, Plan};
use crate::origin::heads;
use crate::stage::{EVERYBODY, Row, Stage, Test};
use crate::subject::Front;

pub(super) const TEST: Test = Test {
    name: "T14",
    about: "60 kinds of broken heads, resets at each byte",
    figure: "each a 502; every good request between them right",
    against: EVERYBODY,
    run,
};

/// The head of an answer has 52 bytes at least; after it, a reset is one in the body (T15).
const RESETS: u64 = 51;

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let subject = stage.start(&Front::of(&origins));
    let plan = Plan { query, ..stage.standard(&subject) };
    let load = Load::start(plan);
    load.go_on(stage.seconds(5, 120));
    let ledger = load.finish_with(&origins);
    let bad = |outcome: &&Outcome| is_bad(outcome.number);
    let broken = ledger.outcomes.iter().filter(bad);
    // The origin sends the same to whoever asks again, so there is no other good end than 502.
    let otherwise: Vec<String> = broken
        .filter(|outcome| outcome.end != End::Proxy(502))
        .map(|outcome| format!("{} {}: {:?}", outcome.class.word(), query(outcome.number), outcome.end))
        .collect();
    let count = ledger.count(|outcome| is_bad(outcome.number));
    let good = ledger.count(|outcome| !is_bad(outcome.number) && !outcome.end.is_fine());
    let (stray, doubled) = (ledger.stray, ledger.doubled);
    let mut row = Row::of(ledger);
    row.note("broken heads", format!("{count}, answered otherwise than by 502: {}", otherwise.len()));
    row.note("good requests failed", good);
    row.must(otherwise.is_empty(), format!("not 502:\n{}", otherwise[..otherwise.len().min(8)].join("\n")));
    row.must(good == 0, format!("{good} good requests failed\n{}", row.ledger().first_good_failures(is_bad)));
    row.must(stray == 0 && doubled == 0, format!("{stray} stray bytes, {doubled} POSTs twice"));
    row.must_please(&origins);
    row
}

/// Every fifth request meets a broken head, so that most of what runs beside it can be harmed.
fn is_bad(number: u64) -> bool {
    number % 5 == 4
}

fn query(number: u64) -> String {
    let kinds = heads::COUNT as u64;
    match number / 5 % (kinds + RESETS) {
        _ if !is_bad(number) => String::new(),
        kind if kind < kinds => format!("&fault=garbage:{kind}"),
        at => format!("&fault=reset:{}", at - kinds),
    }
}
