//! t08_failed_upgrade: the new binary ends at once, says nothing, or refuses the configuration; the old one goes on.

use crate::load::Load;
use crate::stage::{OURS, Row, Stage, Test, millis};
use crate::subject::{Front, LINK};
use portunus_tests::Proxy;
use portunus_tests::binary::portunus;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

pub(super) const TEST: Test = Test {
    name: "T8",
    about: "upgrades to a binary that crashes, hangs, or refuses the configuration",
    figure: "0 failed; the old process goes on; told within 5 s",
    against: OURS,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let front = Front::of(&origins);
    let subject = stage.start(&front);
    let Some(proxy) = subject.portunus() else { return Row::default() };
    let load = Load::start(stage.standard(&subject));
    load.go_on(Duration::from_millis(500));
    let (before, mut slowest, mut failed) = (proxy.serving_id(), Duration::ZERO, 0);
    let mut wrong = Vec::new();
    let rounds = stage.size(1, 10);
    for _ in 0..rounds {
        for (what, script) in [
            ("crash", Some("#!/bin/sh\nkill -SEGV $$\n")),
            ("exit", Some("#!/bin/sh\nexit 1\n")),
            ("hang", Some("#!/bin/sh\nexec sleep 60\n")),
            ("refuse", None),
        ] {
            replace(proxy, script);
            if script.is_none() {
                proxy.write_config("site nonsense {\n");
            }
            let begun = Instant::now();
            let run = proxy.command(&["upgrade"]);
            slowest = slowest.max(begun.elapsed());
            failed += 1;
            if run.code == 0 || run.stderr.trim().is_empty() || proxy.serving_id() != before {
                wrong.push(format!("{what}: exit code {}, {:?}", run.code, run.stderr));
            }
            proxy.write_config(&front.portunus());
        }
    }
    replace(proxy, None);
    load.go_on(Duration::from_millis(500));
    let mut row = Row::of(load.finish_with(&origins));
    let closed = row.ledger().closed;
    row.note("failed upgrades", failed);
    row.note("the slowest was told after", millis(slowest));
    row.must_lose_nothing();
    row.must(wrong.is_empty(), wrong.join("\n"));
    row.must(slowest < Duration::from_secs(5) + stage.leeway(), format!("told after {slowest:?}"));
    row.must(closed == 0, format!("{closed} client connections closed"));
    row.must_please(&origins);
    row
}

/// Puts a script in the binary's place, or the real one back.
fn replace(proxy: &Proxy, script: Option<&str>) {
    let (new, link) = (proxy.place().file("new"), proxy.place().file(LINK));
    match script {
        Some(script) => {
            std::fs::write(&new, script).expect("to write");
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        None => symlink(portunus(), &new).expect("a link"),
    }
    std::fs::rename(&new, &link).expect("to rename");
}
