//! t04_refused_reload: sixty kinds of broken configurations under load; each is refused with its reason, and nothing changes.

use crate::load::Load;
use crate::stage::{OURS, Row, Stage, Test, millis};
use crate::subject::Front;
use portunus_tests::Proxy;
use std::time::{Duration, Instant};

pub(super) const TEST: Test = Test {
    name: "T4",
    about: "60 kinds of broken configurations",
    figure: "60 of 60 refused within 2 s with file, line and reason; what runs is unchanged; 0 failed",
    against: OURS,
    run,
};

fn run(stage: &Stage) -> Row {
    let origins = stage.origins();
    let front = Front::of(&origins);
    let subject = stage.start(&front);
    let Some(proxy) = subject.portunus() else { return Row::default() };
    let load = Load::start(stage.standard(&subject));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = format!("    listen {}", taken.local_addr().expect("its address"));
    proxy.place().write("loop.inc", "include loop.inc\n");
    proxy.place().write("huge.inc", vec![b'x'; stage.size(20, 200) << 20]);
    proxy.place().write("bytes.inc", b"# \xff\xfe\nworkers 1\n");
    let before = hash(proxy);
    let (mut refused, mut slowest, mut wrong) = (0, Duration::ZERO, Vec::new());
    let total = LINES.len() + 1;
    for (place, line) in LINES.iter().copied().chain([(Place::Site, busy.as_str())]) {
        let [top, pool, site] = match place {
            Place::Top => [line, "", ""],
            Place::Pool => ["", line, ""],
            Place::Site => ["", "", line],
        };
        proxy.write_config(&front.clone().with_portunus(top, pool, site).portunus());
        let begun = Instant::now();
        let run = proxy.command(&["reload"]);
        slowest = slowest.max(begun.elapsed());
        let says_where = run.stderr.contains("portunus.conf:") || run.stderr.contains(".inc:");
        let is_busy = line == busy;
        let code = if is_busy { 4 } else { 3 };
        if run.code == code && (says_where || is_busy) && hash(proxy) == before {
            refused += 1;
        } else {
            wrong.push(format!("{line:?}: exit code {}, {}", run.code, run.stderr.trim()));
        }
    }
    proxy.write_config(&front.portunus());
    load.go_on(stage.seconds(1, 30));
    let mut row = Row::of(load.finish_with(&origins));
    row.note("refused", format!("{refused} of {total}, the slowest in {}", millis(slowest)));
    row.must_lose_nothing();
    row.must(wrong.is_empty(), wrong.join("\n"));
    row.must(slowest < Duration::from_secs(2) + stage.leeway(), format!("it took {slowest:?}"));
    row
}

/// What says which configuration runs.
fn hash(proxy: &Proxy) -> String {
    let status = proxy.admin("GET", "/status").expect(200).text();
    let status: serde_json::Value = serde_json::from_str(&status).expect("the status");
    status["config"]["hash"].to_string()
}

#[derive(Clone, Copy)]
enum Place {
    Top,
    Pool,
    Site,
}

use Place::{Pool, Site, Top};

const LINES: &[(Place, &str)] = &[
    (Top, "wrokers 2"),
    (Top, "grace 30"),
    (Top, "grace -1s"),
    (Top, "grace 30s\ngrace 40s"),
    (Top, "trusted-proxies 10.0.0.0/33"),
    (Top, "log level loud"),
    (Top, "log sideways"),
    (Top, "include missing.conf"),
    (Top, "include loop.inc"),
    (Top, "include huge.inc"),
    (Top, "include bytes.inc"),
    (Top, "limits { header-bytes lots }"),
    (Top, "limits { no-such-limit 1 }"),
    (Top, "limits { header-time 10 }"),
    (Top, "limits { url-bytes 0 }"),
    (Top, "limits {"),
    (Top, "}"),
    (Top, "\"no end"),
    (Top, "pool p { server 127.0.0.1:1 }"),
    (Top, "pool empty { }"),
    (Top, "pool \"a b\" { server 127.0.0.1:1 }"),
    (Top, "pool q { server 127.0.0.1:99999 }"),
    (Top, "pool q { server 300.1.1.1:80 }"),
    (Top, "pool q { server ftp://127.0.0.1 }"),
    (Top, "pool q { server ${env.NO_SUCH_VARIABLE_HERE} }"),
    (Top, "pool q { server ${file./no/such/file} }"),
    (Top, "site :0x { proxy p }"),
    (Top, "site ftp://example.com { proxy p }"),
    (Top, "site http://a..b { proxy p }"),
    (Top, "site http://example.com { proxy nowhere }"),
    (Top, "site http://example.com { }"),
    (Top, "respond 200 ok"),
    (Pool, "    balance fastest"),
    (Pool, "    balance"),
    (Pool, "    balance hash ${nonsense}"),
    (Pool, "    retry tries=none"),
    (Pool, "    retry tires=2"),
    (Pool, "    connect timeout=0s"),
    (Pool, "    connect timeout=soon"),
    (Pool, "    keep-alive idle=-1"),
    (Pool, "    server 127.0.0.1:1 weight=heavy"),
    (Pool, "    server 127.0.0.1:1 bakcup"),
    (Pool, "    respond 200 ok"),
    (Site, "    route /a*b/ { proxy p }"),
    (Site, "    route ~^/( { proxy p }"),
    (Site, "    route /%zz { proxy p }"),
    (Site, "    route /x { proxy p nowhere }"),
    (Site, "    route /x method=BREW { proxy p }"),
    (Site, "    route /x header.a=~( { proxy p }"),
    (Site, "    route /x { respond 99 }"),
    (Site, "    route /x { redirect 200 / }"),
    (Site, "    route /x { rewrite ~^/( /$1; proxy p }"),
    (Site, "    route /x { proxy p }\n    route /x { proxy p }"),
    (Site, "    request-header set \"X Stamp\" 1"),
    (Site, "    request-header set X-A ${cleint.ip}"),
    (Site, "    access allow 10.0.0.0/40"),
    (Site, "    basic-auth file=no-such-file"),
    (Site, "    body-limit 1XB"),
    (Site, "    listen 127.0.0.1"),
];
