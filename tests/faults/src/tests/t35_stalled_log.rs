//! t35_stalled_log: the access log goes where nobody reads; requests do not wait for it.

use crate::load::Load;
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::Front;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

pub(super) const TEST: Test = Test {
    name: "T35",
    about: "an access log that nobody reads",
    figure: "0 failed; p99 at most 1.2 times that without a log",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let pipe = stage.place.file("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()), "mkfifo");
    // Opened for both, so that nobody waits for another end; never read.
    let mut both = std::fs::OpenOptions::new();
    let _unread = both.read(true).write(true).custom_flags(0o4000).open(&pipe).expect("the pipe");
    let socket = stage.place.file("socket");
    let _unheard = UnixDatagram::bind(&socket).expect("a socket");
    let [pipe, socket] = [pipe, socket].map(|path| path.display().to_string());
    let quiet = Front::of(&origins);
    let logged = Front::of(&origins)
        .with_portunus(&format!("log access json {pipe}\nlimits {{ log-queue 64KiB }}"), "", "")
        .with_nginx(&format!("access_log {pipe};"), "")
        .with_haproxy(&format!("  log {socket} local0\n  option httplog"), "", "");
    let subject = stage.start(&quiet);
    let load = Load::start(stage.standard(&subject));
    load.go_on(stage.seconds(2, 20));
    let before = load.finish_with(&origins);
    drop(subject);
    let subject = stage.start(&logged);
    let load = Load::start(stage.standard(&subject));
    load.go_on(stage.seconds(5, 100));
    let mut row = Row::of(load.finish_with(&origins));
    let (quiet, logged) = (before.quantile(0.99), row.ledger().quantile(0.99));
    row.note("p99", format!("{} (without a log: {})", millis(logged), millis(quiet)));
    row.must_lose_nothing();
    let allowed = quiet.mul_f64(1.2) + stage.leeway();
    row.must(logged <= allowed, format!("p99 rose from {} to {}", millis(quiet), millis(logged)));
    if let Some(proxy) = subject.portunus() {
        let dropped = proxy.metric("portunus_log_dropped_lines_total", &[]);
        row.note("lines dropped and counted", dropped);
        row.must(dropped > 0.0, "no line was counted as dropped");
    }
    row
}
