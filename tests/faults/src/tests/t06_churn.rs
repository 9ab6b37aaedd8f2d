//! t06_churn: every kind of thing in a configuration is added, changed and removed under load.

use crate::load::{Load, Plan};
use crate::origin::Origin;
use crate::stage::{OURS, Row, Stage, Test};
use crate::subject::Front;
use std::fmt::Write;
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T6",
    about: "pools, servers, sites, routes, filters, listeners, limits come, change and go",
    figure: "0 failed",
    against: OURS,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let subject = stage.start(&front(&origins, 0));
    let load = Load::start(stage.standard(&subject));
    // Beside it, requests on the part that is changed most: a site that is always there, with ever other routes.
    let beside = Load::start(Plan {
        host: "churn.test".to_owned(),
        prefix: "/churn".to_owned(),
        ..Plan::standard(subject.address(), stage.size(50, 200))
    });
    let changes = stage.size(150, 5000);
    for number in 1..=changes {
        subject.reload(&front(&origins, number));
        load.go_on(Duration::from_millis(stage.size(20, 35)));
    }
    let ledger = load.finish();
    let mut row = Row::of(beside.finish_with(&origins).and(ledger));
    row.note("changes", changes);
    row.must_lose_nothing();
    row.must_please(&origins);
    row
}

/// The configuration with this number: the same requests are served by all of them, each time in another way.
fn front(origins: &[Origin], number: u64) -> Front {
    let mut chance = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut one_of = |count: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance >> 33) % count
    };
    let [b, c] = [0, 1].map(|at| &origins[(at + one_of(3) as usize) % 3]);
    let policy =
        ["round-robin", "least-requests", "random-two", "client-ip", "hash ${path}"][one_of(5) as usize];
    let mut top = format!("limits {{ header-count {} }}\ngrace {}s\n", 60 + one_of(40), 20 + one_of(20));
    for pool in 0..one_of(5) {
        let _ = writeln!(
            top,
            "pool other-{pool} {{\n    server {b} weight={}\n    balance {policy}\n}}",
            1 + one_of(9)
        );
        let _ =
            writeln!(top, "site http://other-{pool}.test {{\n    listen @listen\n    proxy other-{pool}\n}}");
    }
    let filters = [
        "response-header set X-One 1",
        "request-header add X-Two ${client.ip}",
        "timeout request=30s",
        "access allow 127.0.0.0/8",
        "body-limit 10MiB",
        "cors origins=https://app.example.com",
    ];
    let mut churn = String::new();
    for filter in filters.iter().filter(|_| one_of(2) == 0) {
        let _ = writeln!(churn, "    {filter}");
    }
    for route in 0..one_of(20) {
        let _ = writeln!(churn, "    route /churn/{route}/* {{ respond 200 {route} }}");
    }
    let listen = if number % 2 == 1 { "    listen @listen2\n" } else { "" };
    let target = if one_of(2) == 0 { format!("{c}") } else { "p".to_owned() };
    let _ =
        writeln!(top, "site http://churn.test {{\n    listen @listen\n{listen}{churn}    proxy {target}\n}}");
    let keep = ["", "    keep-alive idle=8\n", "    connect timeout=1s\n", "    retry tries=3\n"]
        [one_of(4) as usize];
    let pool = format!("    balance {policy}\n{keep}");
    Front::of(&origins[..1 + one_of(3) as usize]).with_portunus(&top, &pool, listen)
}
