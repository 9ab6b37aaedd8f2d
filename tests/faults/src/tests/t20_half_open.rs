//! t20_half_open: the network between the proxy and one of three origins loses every packet, both ways; a try may take one second.

use super::t12_frozen::outage;
use crate::origin::Origin;
use crate::stage::{OURS, Row, Stage, Test};
use std::process::Command;

pub(super) const TEST: Test = Test {
    name: "T20",
    about: "every packet to and from one of three origins is lost; 1 s for each try",
    figure: "as T12: 0 GET failed; POST under way: a clear 504; p99.9 at most 1.5 s",
    against: OURS,
    run,
};

/// Set where the network is one of our own.
const INSIDE: &str = "PORTUNUS_FAULTS_INSIDE";
const ADDRESS: &str = "10.77.0.1";

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
    outage(stage, &origins, &cut, &heal)
}

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().is_ok_and(|status| status.success()), "ip {words:?}");
}

/// Runs this test in a network of its own, and gives what came out.
fn run_inside(stage: &Stage) -> Row {
    let script = format!(
        "ip link set lo up && ip link add hole type ifb && ip link set hole up && ip addr add {ADDRESS}/32 dev lo && \
         ip route add {ADDRESS}/32 dev hole && exec \"$@\""
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
