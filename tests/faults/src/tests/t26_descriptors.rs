//! t26_descriptors: 1,024 descriptors, and far more connections than that.

use crate::crowd::{Crowd, Manner};
use crate::load::{Load, Plan};
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::{Front, Subject};
use std::time::{Duration, Instant};

pub(super) const TEST: Test = Test {
    name: "T26",
    about: "1,024 descriptors, 5,000 connections",
    figure: "connections that were there: 0 failed; processor at most 20 % of one when idle; admin answers; room again within 1 s",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    // nginx takes its limit from its own words.
    let front = Front::of(&origins).with_all_nginx("worker_rlimit_nofile 1024; ", "", "");
    let subject = Subject::start_under(stage.kind, &front, &["prlimit", "--nofile=1024:1024"]);
    let plan = Plan { connections: 20, ..Plan::standard(subject.address(), stage.size(50, 200)) };
    let load = Load::start(plan);
    load.go_on(Duration::from_secs(1));
    let opened = load.opened();
    let mut crowd = Crowd::default();
    let silent = Manner { first: Vec::new(), drip: Vec::new(), take: 1 };
    let mut tries = 0;
    // Where the queue of new connections is full each try takes a second; a few of them show that.
    let mut patience = 5;
    while tries < 5000 && patience > 0 {
        tries += 1;
        patience -= usize::from(!crowd.join(subject.address(), silent.clone()));
    }
    let joined = crowd.count();
    // What the crowd costs while it does nothing, without what the load costs: its rate is small.
    let (begun, spent) = (Instant::now(), subject.processor_seconds());
    load.go_on(stage.seconds(3, 60));
    let share = (subject.processor_seconds() - spent) / begun.elapsed().as_secs_f64();
    let admin = subject.portunus().map(|proxy| proxy.admin("GET", "/live").status);
    let kept = load.opened() - opened;
    drop(crowd);
    let dropped = Instant::now();
    let room = loop {
        let mut probe = Crowd::default();
        let manner = Manner {
            first: b"GET /get?id=x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            drip: Vec::new(),
            take: 0,
        };
        let joined = probe.join(subject.address(), manner);
        if joined && probe.is_answered_within(Duration::from_millis(200)) {
            break dropped.elapsed();
        }
        if dropped.elapsed() > Duration::from_secs(20) {
            break dropped.elapsed();
        }
    };
    let mut row = Row::of(load.finish_with(&origins));
    row.note("connections attempted", format!("{tries}, taken {joined}"));
    row.note("new connections the load needed meanwhile", kept);
    row.note("processor", format!("{:.0} % of one", share * 100.0));
    row.note("room after", millis(room));
    row.must_lose_nothing();
    row.must(
        share <= 0.20 + stage.size(0.2, 0.0),
        format!("the processor was used at {:.0} %", share * 100.0),
    );
    row.must(admin.is_none_or(|status| status == 200), "the admin API did not answer");
    row.must(room <= Duration::from_secs(1) + stage.leeway(), format!("room only after {room:?}"));
    row
}
