//! t12_frozen: one of three origins is frozen (SIGSTOP) and let go again; a try may take one second.

use crate::ledger::{Class, End, Ledger};
use crate::load::Load;
use crate::origin::Origin;
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::Front;
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T12",
    about: "one of three origins frozen; 1 s for each try",
    figure: "0 GET failed; POST under way: a clear 504; p99.9 at most 1.5 s; left out within 3 s, back within 10 s",
    against: EVERYBODY,
    run,
};

pub(super) const UNBOUND: Test = Test {
    name: "T12b",
    about: "one of three origins frozen; nothing is set, clients wait for 5 s",
    figure: "0 GET failed; POST: only those sent to it within 5 s of its freezing; 0 arrived twice",
    against: EVERYBODY,
    run: run_unbound,
};

fn run_unbound(stage: &Stage) -> Row {
    let origins = stage.origins();
    let subject = stage.start(&Front::of(&origins));
    let load = Load::start(stage.standard(&subject));
    load.go_on(Duration::from_secs(6));
    let frozen = load.age();
    origins[0].freeze();
    load.reach(frozen + stage.seconds(12, 30));
    origins[0].thaw();
    load.go_on(Duration::from_secs(2));
    let ledger = load.finish_with(&origins);
    let gets = ledger.failed_of(Class::Get) + ledger.failed_of(Class::Large);
    let found = frozen + Duration::from_secs(5) + stage.leeway();
    let late = ledger
        .count(move |outcome| outcome.class == Class::Post && !outcome.end.is_fine() && outcome.at > found);
    let (posts, doubled) = (ledger.failed_of(Class::Post), ledger.doubled);
    let mut row = Row::of(ledger);
    row.note("POSTs that were with it", posts);
    row.must(gets == 0, format!("{gets} GETs failed\n{}", row.ledger().first_failures()));
    row.must(late == 0, format!("{late} POSTs were sent to it later than 5 s after"));
    row.must(doubled == 0, format!("{doubled} POSTs arrived twice"));
    row.must_please(&origins);
    row
}

const TRY: Duration = Duration::from_secs(1);

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    outage(stage, &origins, &|round| origins[round % 3].freeze(), &|round| origins[round % 3].thaw())
}

/// One of three origins falls silent, by `begin`, and speaks again, by `end`, each called with the number of the round; in
/// round 0 it is the first one.
pub(super) fn outage(
    stage: &Stage,
    origins: &[Origin; 3],
    begin: &dyn Fn(usize),
    end: &dyn Fn(usize),
) -> Row {
    let front = Front::of(origins)
        .with_portunus("", "    retry tries=2 per-try=1s", "")
        .with_nginx("proxy_read_timeout 1s; proxy_send_timeout 1s;", "")
        .with_haproxy("", "  timeout server 1s", "");
    let subject = stage.start(&front);
    let load = Load::start(stage.standard(&subject));
    // Further attempts may be a tenth of the requests of the last ten seconds: there have to be some.
    load.go_on(Duration::from_secs(6));
    let frozen_for = stage.seconds(5, 30);
    let (mut after, mut back) = (Vec::new(), Vec::new());
    for round in 0..stage.size(1, 5) {
        let origin = &origins[round % 3];
        let begun = load.age();
        begin(round);
        load.reach(begun + frozen_for);
        after.push(begun + Duration::from_secs(3)..load.age());
        let seen = origin.count();
        end(round);
        let thawed = load.age();
        // What stood in its sockets comes first; it is back when it has been given something new since.
        load.go_on(Duration::from_millis(200));
        let waiting = origin.count().max(seen);
        while origin.count() < waiting + 10 && load.age() < thawed + Duration::from_secs(20) {
            load.go_on(Duration::from_millis(100));
        }
        back.push(load.age() - thawed);
        load.go_on(stage.seconds(1, 5));
    }
    let ledger = load.finish_with(origins);
    let gets = ledger.failed_of(Class::Get) + ledger.failed_of(Class::Large);
    let posts = ledger.failed_of(Class::Post);
    let clear = ledger.count(|outcome| outcome.class == Class::Post && outcome.end == End::Proxy(504));
    let slowest = ledger.quantile(0.999);
    let late = ledger.count({
        let within = Ledger::within(&after);
        move |outcome| within(outcome) && outcome.latency > TRY
    });
    let back = back.into_iter().max().unwrap_or_default();
    let doubled = ledger.doubled;
    let mut row = Row::of(ledger);
    row.note("requests that met it later than 3 s", late);
    row.note("back after", format!("{:.1} s", back.as_secs_f64()));
    row.must(gets == 0, format!("{gets} GETs failed\n{}", row.ledger().first_failures()));
    row.must(posts == clear, format!("{} POSTs failed otherwise than by 504", posts - clear));
    row.must(doubled == 0, format!("{doubled} POSTs arrived twice"));
    row.must(
        slowest <= TRY + Duration::from_millis(500) + stage.leeway(),
        format!("p99.9 is {}", millis(slowest)),
    );
    // A host that was left out is tried again now and then; that may cost one request its second.
    row.must(late <= 5 * stage.size(1, 5), format!("{late} requests met it later than 3 s"));
    row.must(back <= Duration::from_secs(10), format!("it was used again after {back:?}"));
    row.must_please(origins);
    row
}
