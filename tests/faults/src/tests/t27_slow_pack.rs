//! t27_slow_pack: clients that send slowly, read slowly or say nothing, beside good ones.

use crate::crowd::{Crowd, Manner, connect};
use crate::load::{Load, Plan};
use crate::stage::{EVERYBODY, Row, Stage, Test, millis};
use crate::subject::Front;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(super) const TEST: Test = Test {
    name: "T27",
    about: "5,000 slow clients of six kinds beside the load",
    figure: "0 failed; p99 at most 1.5 times that before; each slow client gone by its deadline; a slow healthy download is not cut (no TLS yet)",
    against: EVERYBODY,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let seconds = stage.size(3, 10);
    let limits = format!(
        "limits {{ header-time {seconds}s; body-idle {seconds}s; body-rate-after {seconds}s; response-idle {seconds}s; \
         response-rate-after {seconds}s }}"
    );
    let front = Front::of(&origins)
        .with_portunus(&limits, "", "")
        .with_nginx(
            &format!(
                "client_header_timeout {seconds}s; client_body_timeout {seconds}s; send_timeout {seconds}s; \
                 reset_timedout_connection on;"
            ),
            "",
        )
        .with_haproxy(
            &format!(
                "  timeout http-request {seconds}s\n  timeout client {seconds}s\n  option http-buffer-request"
            ),
            "",
            "",
        );
    let subject = stage.start(&front);
    // Before the load: to make such a body takes the origin a moment.
    let download = Download::start(subject.address(), stage.size(4, 100) << 20);
    let load = Load::start(stage.standard(&subject));
    load.go_on(stage.seconds(2, 20));
    let before = load.age();
    let healthy = Load::start(Plan { connections: 1, rate: 1, ..Plan::standard(subject.address(), 1) });
    let mut crowd = Crowd::default();
    let manners = manners();
    for number in 0..stage.size(600, 5000) {
        let _ = crowd.join(subject.address(), manners[number % manners.len()].clone());
    }
    let joined = (crowd.count(), load.age());
    // One byte each half second; the deadline counts from the first.
    let mut next = load.age();
    while crowd.count() > 0 && load.age() < joined.1 + Duration::from_secs(60) {
        crowd.drip();
        next += Duration::from_millis(500);
        load.reach(next);
    }
    let gone = load.age() - joined.1;
    load.reach(joined.1 + stage.seconds(4, 280)); // the standard load of 300,000 requests
    let ledger = load.finish_with(&origins);
    let (bytes, time, cut) = download.stop();
    let of = |from: Duration, to: Duration| {
        ledger.quantile_of(0.99, move |outcome| (from..to).contains(&outcome.at))
    };
    let (quiet, beside) = (of(Duration::ZERO, before), of(before, Duration::MAX));
    let mut row = Row::of(ledger.and(healthy.finish()));
    row.note(
        "slow clients",
        format!("{}, {} left, the last gone after {:.1} s", joined.0, crowd.count(), gone.as_secs_f64()),
    );
    let kib = bytes as f64 / 1024.0;
    row.note("slow healthy download", format!("{kib:.0} KiB in {:.0} s", time.as_secs_f64()));
    let rate = kib / time.as_secs_f64();
    row.must(!cut && rate >= 40.0, format!("the download had {rate:.1} KiB/s; cut: {cut}"));
    row.note("p99", format!("{} (before: {})", millis(beside), millis(quiet)));
    row.must_lose_nothing();
    // To open all these connections at once takes the machine a moment, which is not the proxy's.
    let allowed = quiet.mul_f64(1.5) + 4 * stage.leeway();
    row.must(beside <= allowed, format!("p99 rose from {} to {}", millis(quiet), millis(beside)));
    // A whole body deadline may follow a whole head deadline, and each is looked at ten times a second.
    let deadline = Duration::from_secs(2 * seconds + 3) + 5 * stage.leeway();
    row.must(
        crowd.count() == 0 && gone <= deadline,
        format!("{} slow clients left after {gone:?}", crowd.count()),
    );
    row
}

/// A client that takes 50 KiB a second of a large answer, steadily.
struct Download {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Duration, bool)>,
}

impl Download {
    fn start(address: SocketAddr, size: u32) -> Download {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut stream = connect(None, address).expect("a connection");
            stream.set_nonblocking(false).expect("to wait");
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            let request = format!("GET /large?id=healthy&bytes={size} HTTP/1.1\r\nHost: faults.test\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("to ask");
            stream.peek(&mut [0]).expect("an answer");
            let _ = ready.send(());
            let (begun, mut bytes, mut piece) = (Instant::now(), 0u64, [0; 5 << 10]);
            while !told.load(Relaxed) {
                if stream.read_exact(&mut piece).is_err() {
                    return (bytes, begun.elapsed(), true);
                }
                bytes += piece.len() as u64;
                let due = Duration::from_millis(bytes / 5120 * 100);
                std::thread::park_timeout(due.saturating_sub(begun.elapsed()));
            }
            (bytes, begun.elapsed(), false)
        });
        let _ = is_ready.recv();
        Download { stop, thread }
    }

    /// How many bytes it took, in which time, and whether it was cut off.
    fn stop(self) -> (u64, Duration, bool) {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the download")
    }
}

fn manners() -> Vec<Manner> {
    let manner = |first: &str, drip: &str, take| Manner {
        first: first.into(),
        drip: drip.as_bytes().repeat(200),
        take,
    };
    vec![
        manner("", "", 1),
        manner("G", "ET / HTTP/1.1\r\nHost: a\r\nX-Slow: slow", 1),
        manner("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", "x", 1),
        manner("POST /post?id=x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", "b", 1),
        manner("POST /post?id=x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nc\r\n", 1),
        manner("GET /large?id=x&bytes=2000000 HTTP/1.1\r\nHost: a\r\n\r\n", "x", 0),
    ]
}
