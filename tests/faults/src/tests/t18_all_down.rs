//! t18_all_down: every server is gone for a while; whoever asks is told at once, and served again when they are back.

use crate::ledger::End;
use crate::load::Load;
use crate::stage::{EVERYBODY, Row, Stage, Test, mebibytes, millis};
use crate::subject::Front;
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T18",
    about: "all servers down",
    figure: "all told by 503 within 50 ms (p99); memory flat; served again within 1 s",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let mut origins = stage.origins();
    let subject = stage.start(&Front::of(&origins));
    let load = Load::start(stage.standard(&subject));
    load.go_on(stage.seconds(1, 10));
    origins.iter_mut().for_each(|origin| origin.kill());
    // Half a second for those that were under way.
    load.go_on(Duration::from_millis(500));
    let (down, memory) = (load.age(), subject.memory_bytes());
    load.go_on(stage.seconds(4, 60));
    let (up, memory_after) = (load.age(), subject.memory_bytes());
    origins.iter_mut().for_each(|origin| origin.start_again());
    load.go_on(stage.seconds(4, 10));
    let ledger = load.finish_with(&origins);
    let while_down = |end: fn(End) -> bool| {
        ledger.count(move |outcome| (down..up).contains(&outcome.at) && end(outcome.end))
    };
    let (all, told) = (while_down(|_| true), while_down(|end| end == End::Proxy(503)));
    let p99 = ledger.quantile_of(0.99, |outcome| (down..up).contains(&outcome.at));
    let last = ledger.outcomes.iter().filter(|outcome| outcome.at > up && !outcome.end.is_fine());
    let back = last.map(|outcome| outcome.at - up).max().unwrap_or_default();
    let doubled = ledger.doubled;
    let mut row = Row::of(ledger);
    row.note("told by 503", format!("{told} of {all}, p99 {}", millis(p99)));
    row.note("memory", format!("{} → {}", mebibytes(memory), mebibytes(memory_after)));
    row.note("last failure after they were back", millis(back));
    row.must(told == all, format!("{} of {all} were told otherwise than by 503", all - told));
    row.must(p99 <= Duration::from_millis(50) + stage.leeway(), format!("p99 is {}", millis(p99)));
    row.must(memory_after <= memory + (4 << 20), format!("memory grew from {memory} to {memory_after}"));
    row.must(
        back <= Duration::from_secs(1) + stage.leeway(),
        format!("the last failure was {back:?} after they were back"),
    );
    row.must(doubled == 0, format!("{doubled} POSTs arrived twice"));
    row.must_please(&origins);
    row
}
