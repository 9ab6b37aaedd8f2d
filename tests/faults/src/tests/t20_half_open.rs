//! t20_half_open: the network between the proxy and one of three origins, and some clients, loses every packet, both ways; a try may
//! take one second.

use super::t12_frozen::outage;
use crate::crowd::{Crowd, Manner};
use crate::load::{Load, Plan};
use crate::origin::Origin;
use crate::stage::{OURS, Row, Stage, Test};
use crate::subject::{Front, Subject};
use std::process::Command;
use std::time::{Duration, Instant};

pub(super) const TEST: Test = Test {
    name: "T20",
    about: "every packet to and from one of three origins is lost, 1 s for each try; the same with clients",
    figure: "as T12: 0 GET failed; POST under way: a clear 504; p99.9 at most 1.5 s; clients found within 45 s, others unaffected",
    against: OURS,
    run,
};

/// Set where the network is one of our own.
const INSIDE: &str = "PORTUNUS_FAULTS_INSIDE";
const ADDRESS: &str = "10.77.0.1";
const CLIENTS: &str = "10.77.0.2";
/// When the last of the clients must have been found.
const FOUND: Duration = Duration::from_secs(45);

fn run(stage: &Stage) -> Row {
    if std::env::var_os(INSIDE).is_none() {
        return run_inside(stage);
    }
    let [a, b] = ["a", "b"].map(|name| Origin::start(&stage.place, name));
    let away = format!("{ADDRESS}:{}", a.address().port());
    let origins = [Origin::start_at(&stage.place, "c", away.parse().expect("an address")), a, b];
    // Without the address, what goes to it leaves by a device that drops everything, and so does what came from there.
    let cut = |_: usize| ip(&["addr", "del", &format!("{ADDRESS}/32"), "dev", "lo"]);
    let heal = |_: usize| ip(&["addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
    let lost = Lost::begin(stage, &origins);
    std::thread::scope(|scope| {
        let found = scope.spawn(|| lost.found(stage));
        let mut row = outage(stage, &origins, &cut, &heal);
        found.join().expect("the lost clients").tell(&mut row);
        row
    })
}

/// Clients that the network has lost, and good ones beside them.
struct Lost {
    subject: Subject,
    crowd: Crowd,
    load: Load,
    cut: Instant,
}

impl Lost {
    /// They join, each in one of the states in which a connection can wait, and are cut off.
    fn begin(stage: &Stage, origins: &[Origin; 3]) -> Lost {
        let subject = stage.start(&Front::of(&origins[1..]));
        let mut crowd = Crowd::default();
        let manners = manners();
        let from = CLIENTS.parse().expect("an address");
        let count = stage.size(60, 500);
        for number in 0..count {
            let manner = manners[number % manners.len()].clone();
            assert!(crowd.join_from(Some(from), subject.address(), manner), "client {number}");
        }
        let load = Load::start(Plan { connections_max: OTHERS, ..Plan::standard(subject.address(), 20) });
        load.go_on(Duration::from_secs(2));
        assert!(open(&subject) >= count, "{} of {count} are there", open(&subject));
        ip(&["addr", "del", &format!("{CLIENTS}/32"), "dev", "lo"]);
        Lost { subject, crowd, load, cut: Instant::now() }
    }

    /// Waits until the proxy has found that they are gone.
    fn found(self, stage: &Stage) -> Found {
        let latest = FOUND + stage.leeway() + Duration::from_secs(1);
        while open(&self.subject) > OTHERS && self.cut.elapsed() < latest {
            self.load.go_on(Duration::from_millis(200));
        }
        let (left, after) = (open(&self.subject).saturating_sub(OTHERS), self.cut.elapsed());
        Found { clients: self.crowd.count(), left, after, others_failed: self.load.finish().failed() }
    }
}

/// What has become of the lost clients, and of those beside them.
struct Found {
    clients: usize,
    left: usize,
    after: Duration,
    others_failed: usize,
}

impl Found {
    fn tell(&self, row: &mut Row) {
        let (left, after) = (self.left, self.after);
        row.note("clients found after", format!("{:.1} s of {}", after.as_secs_f64(), self.clients));
        row.must(left == 0, format!("{left} clients were not found within {after:?}"));
        row.must(self.others_failed == 0, format!("{} of the others failed", self.others_failed));
    }
}

/// Connections of those who are not lost.
const OTHERS: usize = 8;

/// Quiet after an answer; waiting for an answer that does not come; in the middle of one; in the middle of a body.
fn manners() -> Vec<Manner> {
    let manner = |first: &str| Manner { first: first.into(), drip: Vec::new(), take: 1 };
    vec![
        manner("GET /get?id=lost&bytes=10 HTTP/1.1\r\nHost: faults.test\r\n\r\n"),
        manner("GET /get?id=lost&bytes=10&fault=silent HTTP/1.1\r\nHost: faults.test\r\n\r\n"),
        manner("GET /large?id=lost&bytes=2000000 HTTP/1.1\r\nHost: faults.test\r\n\r\n"),
    ]
}

/// How many client connections it has.
fn open(subject: &Subject) -> usize {
    let proxy = subject.portunus().expect("ours");
    proxy.metric("portunus_connections", &[]) as usize
}

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().is_ok_and(|status| status.success()), "ip {words:?}");
}

/// Runs this test in a network of its own, and gives what came out.
fn run_inside(stage: &Stage) -> Row {
    let script = format!(
        "ip link set lo up && ip link add hole type ifb && ip link set hole up && ip addr add {ADDRESS}/32 dev lo && \
         ip addr add {CLIENTS}/32 dev lo && ip route add {ADDRESS}/32 dev hole && ip route add {CLIENTS}/32 dev hole && exec \"$@\""
    );
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", &script, "sh"]).arg(program).arg(TEST.name);
    command.args(stage.long.then_some("--long")).env(INSIDE, "1");
    let output = command.output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut row = Row::default();
    if !text.contains("test result:") {
        eprintln!(
            "SKIPPED: T20 needs a network namespace (unshare --map-root-user --net) with a device of type ifb"
        );
        return row;
    }
    // Its own lines say more than could be told again here.
    let lines: Vec<&str> =
        text.lines().skip(1).take_while(|line| !line.starts_with("test result:")).collect();
    row.note("in a network of its own", lines.join("\n").trim());
    row.must(text.contains("test result: ok"), "the figure was missed");
    row
}
