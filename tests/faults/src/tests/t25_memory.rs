//! t25_memory: 256 MiB, and idle connections, clients that do not read and unfinished uploads that would take more.

use crate::crowd::{Crowd, Manner};
use crate::group::Group;
use crate::load::{Load, Plan};
use crate::stage::{EVERYBODY, Row, Stage, Test, mebibytes};
use crate::subject::{Front, Subject};
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T25",
    about: "256 MiB; 10,000 idle connections, 500 clients that do not read 10 MiB, 200 unfinished uploads",
    figure: "not killed, at most 256 MiB, 0 good requests failed",
    against: EVERYBODY,
    run,
};

const MEMORY_BYTES: u64 = 256 << 20;

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let front = Front::of(&origins);
    let group = Group::of_memory(MEMORY_BYTES);
    let wrapper = group.as_ref().map_or_else(Vec::new, |group| group.wrapper().to_vec());
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let subject = Subject::start_under(stage.kind, &front, &wrapper);
    let load = Load::start(Plan { connections: 50, ..Plan::standard(subject.address(), 200) });
    load.go_on(Duration::from_secs(1));
    let manner = |first: &str, take| Manner { first: first.into(), drip: Vec::new(), take };
    let idle = manner("", 1);
    let reader = manner("GET /large?id=x&bytes=10485760 HTTP/1.1\r\nHost: a\r\n\r\n", 0);
    let upload = manner("POST /post?id=x HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n", 1);
    let mut crowd = Crowd::default();
    for (manner, count) in
        [(idle, stage.size(2000, 10_000)), (reader, stage.size(100, 500)), (upload, stage.size(40, 200))]
    {
        for _ in 0..count {
            let _ = crowd.join(subject.address(), manner.clone());
        }
        crowd.push(256 << 10);
    }
    let joined = crowd.count();
    let mut most = 0;
    let until = load.age() + stage.seconds(4, 300);
    while load.age() < until {
        most = most.max(subject.memory_bytes());
        crowd.push(256 << 10);
        load.go_on(Duration::from_millis(100));
    }
    let alive = subject.descriptors() > 0;
    drop(crowd);
    let mut row = Row::of(load.finish_with(&origins));
    row.note("bad clients", joined);
    let of_group =
        group.as_ref().and_then(Group::memory_peak_bytes).map_or("no group here".to_owned(), mebibytes);
    row.note("memory at most", format!("{} resident, {of_group} counted by the group", mebibytes(most)));
    row.must_lose_nothing();
    row.must(alive && group.as_ref().is_none_or(|group| group.kills() == 0), "it was killed");
    row.must(most <= MEMORY_BYTES, format!("{most} bytes resident"));
    row.must_please(&origins);
    row
}
