//! t02_storm: a reload of a thousand routes every 200 ms, and nothing stays behind.

use crate::load::Load;
use crate::stage::{EVERYBODY, Row, Stage, Test, mebibytes};
use crate::subject::{Front, Subject};
use std::fmt::Write;
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T2",
    about: "a reload of 1,000 routes every 200 ms",
    figure: "0 failed; then memory at most 5 % more, descriptors as before",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let fronts = [0, 1].map(|number| front(&origins, number));
    let subject = stage.start(&fronts[0]);
    let load = Load::start(stage.standard(&subject));
    let mut number = 0;
    let mut storm = |reloads: u32| {
        for _ in 0..reloads {
            let next = load.age() + Duration::from_millis(200);
            number += 1;
            subject.reload(&fronts[number % 2]);
            load.reach(next);
        }
    };
    storm(stage.size(5, 20));
    let before = settled(&subject, &load);
    let reloads = stage.size(15, 480);
    storm(reloads);
    let after = settled(&subject, &load);
    let mut row = Row::of(load.finish_with(&origins));
    let [closed, opened] = [row.ledger().closed, row.ledger().opened];
    row.note("reloads", reloads);
    row.note("connections", format!("{opened} opened, {closed} closed"));
    row.note("memory", format!("{} → {}", mebibytes(before.0), mebibytes(after.0)));
    row.note("descriptors", format!("{} → {}", before.1, after.1));
    row.must_lose_nothing();
    row.must_please(&origins);
    // In the short form 2 MiB are more than 5 %: what allocators keep from one time to the next.
    let allowed = before.0 + (before.0 / 20).max(2 << 20);
    row.must(after.0 <= allowed, format!("memory grew from {} to {} bytes", before.0, after.0));
    row.must(after.1 <= before.1 + 10, format!("descriptors grew from {} to {}", before.1, after.1));
    row
}

/// Memory and descriptors, once the old generations have had a moment to go.
fn settled(subject: &Subject, load: &Load) -> (u64, usize) {
    load.go_on(Duration::from_secs(1));
    (subject.memory_bytes(), subject.descriptors())
}

fn front(origins: &[crate::origin::Origin], number: usize) -> Front {
    let mut texts = [String::new(), String::new(), String::new()];
    for route in 0..1000 {
        let path = format!("route-{}", route + number * 500);
        let _ = writeln!(texts[0], "    route /{path}/* {{ proxy p }}");
        let _ = writeln!(texts[1], "  location /{path}/ {{ proxy_pass http://p; }}");
        let _ = writeln!(texts[2], "  use_backend p if {{ path_beg /{path}/ }}");
    }
    Front::of(origins)
        .with_portunus("", "", &texts[0])
        .with_nginx("", &texts[1])
        .with_haproxy(&texts[2], "", "")
}
