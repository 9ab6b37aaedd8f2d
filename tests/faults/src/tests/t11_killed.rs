//! t11_killed: one of three origins is killed (`kill -9`) again and again, and comes back two seconds later.

use crate::ledger::{Class, End};
use crate::load::Load;
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::Front;
use portunus_tests::Proxy;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T11",
    about: "one of three origins killed again and again",
    figure: "0 GET of 1 KiB failed; POST: only those under way, each a clear 502; 0 arrived twice; left out within 100 ms",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let mut origins = stage.origins();
    let subject = stage.start(&Front::of(&origins));
    let load = Load::start(stage.standard(&subject));
    load.go_on(Duration::from_secs(1));
    let kills = stage.size(4, 60);
    let mut left_out = Duration::ZERO;
    for round in 0..kills {
        let dead = round % 3;
        let killed = load.age();
        origins[dead].kill();
        if let Some(proxy) = subject.portunus() {
            left_out = left_out.max(until_left_out(proxy, origins[dead].address(), &load, killed));
        }
        load.reach(killed + stage.size(Duration::from_millis(700), Duration::from_secs(2)));
        origins[dead].start_again();
        load.go_on(stage.size(Duration::from_millis(500), Duration::from_secs(3)));
    }
    let ledger = load.finish_with(&origins);
    let small = ledger.failed_of(Class::Get);
    let of_posts = |end: End| ledger.count(|outcome| outcome.class == Class::Post && outcome.end == end);
    let (posts, clear) =
        (ledger.failed_of(Class::Post), of_posts(End::Proxy(502)) + of_posts(End::Truncated));
    let large = |end: End| ledger.count(|outcome| outcome.class == Class::Large && outcome.end == end);
    let unclear = ledger.failed_of(Class::Large) - large(End::Truncated);
    let (doubled, first) = (ledger.doubled, ledger.first_failures());
    let mut row = Row::of(ledger);
    row.note("kills", kills);
    if subject.portunus().is_some() {
        row.note("left out after", millis(left_out));
        let within = Duration::from_millis(100) + stage.leeway() / 4;
        row.must(left_out <= within, format!("one was left out only after {left_out:?}"));
    }
    row.must(small == 0, format!("{small} GETs of 1 KiB failed\n{first}"));
    row.must(unclear == 0, format!("{unclear} large GETs failed otherwise than by a visible end\n{first}"));
    row.must(posts == clear, format!("{} POSTs failed otherwise than by 502\n{first}", posts - clear));
    row.must(posts <= 3 * kills, format!("{posts} POSTs failed at {kills} kills"));
    row.must(doubled == 0, format!("{doubled} POSTs arrived twice"));
    row.must_please(&origins);
    row
}

/// How long after `killed` the proxy says that it uses this origin no more.
fn until_left_out(proxy: &Proxy, origin: SocketAddr, load: &Load, killed: Duration) -> Duration {
    let labels = [format!("server_address=\"{origin}\""), "state=\"ejected\"".to_owned()];
    let labels = labels.each_ref().map(String::as_str);
    while proxy.metric("portunus_upstream_state", &labels) == 0.0 && load.age() < killed + PATIENCE {}
    load.age() - killed
}

const PATIENCE: Duration = Duration::from_secs(2);
