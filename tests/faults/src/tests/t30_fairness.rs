//! t30_fairness: one connection sends tiny requests as fast as it can, one after the other without waiting; others go on.

use crate::load::Load;
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::Front;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub(super) const TEST: Test = Test {
    name: "T30",
    about: "one connection pipelines without end",
    figure: "0 failed; p99 of the others at most twice that before",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    // One worker, so that nobody can be on another one.
    let subject = stage.start(&Front::of(&origins).with_one_worker());
    let load = Load::start(stage.standard(&subject));
    load.go_on(stage.seconds(2, 20));
    let before = load.age();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let flooder = scope.spawn(|| flood(subject.address(), &stop, &answered));
        let wanted = stage.size(0, 100_000);
        load.go_on(stage.seconds(4, 20));
        while answered.load(Relaxed) < wanted && !flooder.is_finished() {
            load.go_on(Duration::from_secs(1));
        }
        stop.store(true, Relaxed);
    });
    let ledger = load.finish_with(&origins);
    let of = |from: Duration, to: Duration| {
        ledger.quantile_of(0.99, move |outcome| (from..to).contains(&outcome.at))
    };
    let (quiet, beside) = (of(Duration::ZERO, before), of(before, Duration::MAX));
    let mut row = Row::of(ledger);
    row.note("pipelined requests answered", answered.load(Relaxed));
    row.note("p99 of the others", format!("{} (before: {})", millis(beside), millis(quiet)));
    row.must_lose_nothing();
    row.must(answered.load(Relaxed) > 1000, "the pipelined requests were not answered");
    let allowed = 2 * quiet + stage.leeway();
    row.must(beside <= allowed, format!("p99 rose from {} to {}", millis(quiet), millis(beside)));
    row.must_please(&origins);
    row
}

/// Writes and reads at once until told to stop; counts answers. A connection that ends is made anew.
fn flood(address: SocketAddr, stop: &AtomicBool, answered: &AtomicU64) {
    let request = b"GET /get?id=flood&bytes=10 HTTP/1.1\r\nHost: faults.test\r\n\r\n".repeat(100);
    let request = request.as_slice();
    while !stop.load(Relaxed) {
        let Ok(mut reader) = TcpStream::connect(address) else { return };
        let Ok(mut writer) = reader.try_clone() else { return };
        let _ = reader.set_read_timeout(Some(Duration::from_millis(200)));
        let _ = writer.set_write_timeout(Some(Duration::from_millis(200)));
        std::thread::scope(|scope| {
            scope.spawn(move || while !stop.load(Relaxed) && writer.write_all(request).is_ok() {});
            let mut bytes = vec![0; 64 << 10];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let heads = bytes[..count].windows(12).filter(|window| window == b"HTTP/1.1 200").count();
                answered.fetch_add(heads as u64, Relaxed);
                if stop.load(Relaxed) {
                    break;
                }
            }
            let _ = reader.shutdown(std::net::Shutdown::Both);
        });
    }
}
