//! upgrade: another binary takes over while requests run, or does not, and nobody notices (T7, T8); socket activation.

use portunus_tests::load::{Load, failed, get, post};
use portunus_tests::proxy::{is_alive, site};
use portunus_tests::{Answer, Client, Origin, Place, Proxy, eventually};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

fn binary() -> &'static Path {
    portunus_tests::binary::portunus()
}

/// A proxy whose binary is a link in its folder, so that it can be replaced.
fn replaceable(text: &str) -> Proxy {
    let place = Place::new();
    symlink(binary(), place.file(BINARY)).expect("a link");
    Proxy::start_by(|place, _| Command::new(place.file(BINARY)), place, text)
}

/// Puts a script in the binary's place, or the real one back.
fn replace(proxy: &Proxy, script: Option<&str>) {
    let (new, path) = (proxy.place().file("new"), proxy.place().file(BINARY));
    match script {
        Some(script) => {
            std::fs::write(&new, script).expect("to write");
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        None => symlink(binary(), &new).expect("a link"),
    }
    std::fs::rename(&new, &path).expect("to rename");
}

const BINARY: &str = "portunus-link";

#[test]
fn t7_ten_upgrades_under_load_lose_nothing() {
    let origin = Origin::serve(|request| Answer::text(&request.target));
    let text = |workers: u32| {
        format!("workers {workers}\ngrace 20s\nlog access off\n{}", site(&format!("proxy {origin}")))
    };
    let proxy = replaceable(&text(2));
    let kept = Load::start(proxy.address(), 3, get);
    let posts = Load::start(proxy.address(), 1, post);
    let fresh = Load::start(proxy.address(), 2, get_once);
    let mut serving = vec![proxy.serving_id()];
    for number in 0..10u32 {
        proxy.write_config(&text([1, 3, 2][number as usize % 3]));
        match number % 4 {
            3 => {
                super_signal(*serving.last().expect("one"));
                let last = *serving.last().expect("one");
                eventually("another process", SOON, || (proxy.serving_id() != last).then_some(()));
            }
            _ => drop(proxy.command(&["upgrade"]).expect(0)),
        }
        serving.push(proxy.serving_id());
        kept.wait_for(50);
        fresh.wait_for(20);
    }
    for outcomes in [kept.finish(), posts.finish(), fresh.finish()] {
        let lost = failed(&outcomes);
        assert!(lost.is_empty(), "{} of {}: {:?}", lost.len(), outcomes.len(), &lost[..lost.len().min(5)]);
        assert!(outcomes.len() > 100);
        println!("t7: {} requests, none failed", outcomes.len());
    }
    assert_eq!(serving.len(), 11);
    let mut different = serving.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 11, "each upgrade is another process: {serving:?}");
    for &id in &serving[..10] {
        eventually("the end of those before", SOON * 2, || (!is_alive(id)).then_some(()));
    }
    assert!(proxy.admin_socket().exists());
    proxy.get("/last").expect(200);
}

fn super_signal(id: u32) {
    portunus_tests::proxy::signal(id, "USR2");
}

/// The processes that any of its threads has started.
fn children(id: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = threads.flat_map(|thread| std::fs::read_to_string(thread.path().join("children")));
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A request on a connection of its own.
fn get_once(id: &str) -> String {
    format!("GET /load?id={id} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

#[test]
fn t8_a_binary_that_does_not_serve_changes_nothing() {
    let origin = Origin::serve(|request| Answer::text(&request.target));
    // The time of one that says nothing is shorter by far, and that of the others is none.
    let good = format!("limits {{ upgrade-time 60s }}\n{}", site(&format!("proxy {origin}")));
    let proxy = replaceable(&good);
    let load = Load::start(proxy.address(), 2, get);
    let fresh = Load::start(proxy.address(), 1, get_once);
    let id = proxy.id();
    let cases = [
        ("crash", Some("#!/bin/sh\nexit 7\n"), "exit code 7"),
        ("killed", Some("#!/bin/sh\nkill -SEGV $$\n"), "signal 11"),
        ("hang", Some("#!/bin/sh\nexec sleep 1000\n"), "has not said a word"),
        ("no program", Some("this is not a program"), "cannot be started"),
        ("ready and silent", Some(READY_AND_SILENT), "has not said a word for"),
        ("config", None, "nonsense"),
    ];
    for (what, script, told) in cases {
        replace(&proxy, script);
        proxy.write_config(if script.is_none() { "site nonsense { nonsense 1 }\n" } else { &good });
        let begun = Instant::now();
        let run = proxy.command(&["upgrade", "--admin", &format!("unix:{}", proxy.admin_socket().display())]);
        assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
        assert_eq!(run.code, 1, "{what}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(told), "{what}: {}", run.stderr);
        assert_eq!(proxy.serving_id(), id, "{what}");
        proxy.wait_for_stderr(told);
        load.wait_for(20);
    }
    assert!(!proxy.stderr().contains("stopping"));
    assert_eq!(children(id), [] as [String; 0], "none is left behind");
    replace(&proxy, None);
    proxy.write_config(&good);
    proxy.command(&["upgrade"]).expect(0);
    assert_ne!(proxy.serving_id(), id);
    load.wait_for(20);
    for outcomes in [load.finish(), fresh.finish()] {
        assert!(failed(&outcomes).is_empty(), "{:?}", failed(&outcomes).first());
    }
}

/// Takes over as it should, and freezes.
const READY_AND_SILENT: &str = r#"#!/usr/bin/env python3
import socket, time
predecessor = socket.socket(fileno=0)
predecessor.send(b'{"hello":{"version":"9"}}')
while predecessor.recv(65536) != b'"complete"':
    pass
predecessor.send(b'{"ready":{"listen":[]}}')
time.sleep(1000)
"#;

#[test]
fn t8_when_the_old_process_dies_in_the_middle_the_new_one_serves() {
    let proxy = replaceable(&site("respond 200 here"));
    let id = proxy.id();
    let works = |child: &str| {
        let threads = std::fs::read_dir(format!("/proc/{child}/task")).into_iter().flatten().flatten();
        let mut names = threads.flat_map(|thread| std::fs::read_to_string(thread.path().join("comm")));
        names.any(|name| name.starts_with("worker-"))
    };
    super_signal(id);
    let successor =
        eventually("a successor that works", SOON, || children(id).into_iter().find(|child| works(child)));
    portunus_tests::proxy::signal(id, "KILL");
    eventually("the end of the old one", SOON, || (!is_alive(id)).then_some(()));
    proxy.wait_for_stderr("before it had handed over");
    let serving = eventually("somebody who serves", SOON, || {
        let answer = Client::try_connect(proxy.address()).map(|mut client| client.get("/").status);
        answer.filter(|status| *status == 200).map(|_| proxy.serving_id())
    });
    assert_eq!(serving.to_string(), successor);
}

#[test]
fn an_upgrade_may_bring_other_listeners_and_keeps_unix_sockets() {
    let text = |listen: &str, says: &str| {
        format!(
            "grace 1s\nsite * {{\n listen @listen\n listen unix:@dir/web.sock\n {listen}\n respond 200 {says}\n}}\n"
        )
    };
    let mut proxy = replaceable(&text("listen @listen2", "old"));
    let socket = proxy.place().file("web.sock");
    assert_eq!(Client::connect_unix(&socket).get("/").text(), "old");
    proxy.write_config(&text("listen @listen3", "new"));
    proxy.command(&["upgrade"]).expect(0);
    assert_ne!(proxy.serving_id(), proxy.id());
    assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0));
    assert_eq!(proxy.get("/").text(), "new");
    assert_eq!(Client::connect_unix(&socket).get("/").text(), "new", "the file is still there");
    assert_eq!(Client::connect(proxy.further_address(2)).get("/").text(), "new");
    assert!(std::net::TcpStream::connect(proxy.further_address(1)).is_err(), "that one is closed");
    proxy.command(&["stop"]).expect(0);
    eventually("the end", SOON, || (!socket.exists() && !proxy.admin_socket().exists()).then_some(()));
}

#[test]
fn what_runs_in_the_old_process_is_finished_there() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::serve(move |request| {
        if request.target == "/slow" {
            let _ = wait.lock().expect("the lock").recv_timeout(Duration::from_secs(20));
        }
        Answer::text(&request.target)
    });
    let mut proxy = replaceable(&site(&format!("proxy {origin}")));
    let (mut slow, mut idle) = (proxy.client(), proxy.client());
    idle.get("/").expect(200);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for(2);
    proxy.command(&["upgrade"]).expect(0);
    assert_ne!(proxy.serving_id(), proxy.id());
    let answer = idle.get("/later").expect(200);
    assert_eq!(answer.fields.one("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
    go.send(()).expect("to go on");
    assert_eq!(slow.response().expect(200).text(), "/slow");
    assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0));
    proxy.get("/new").expect(200);
}

/// Starts the program as a service manager would, with these sockets as descriptors 3 and up.
fn activated(sockets: &[socket2::Socket], text: &str) -> Proxy {
    let count = sockets.len();
    // Away first, and then to their places: those may be taken by another of them.
    let (mut away, mut back) = (String::new(), String::new());
    for (at, socket) in sockets.iter().enumerate() {
        socket.set_cloexec(false).expect("to hand it on");
        let (place, aside, own) = (at + 3, at + 63, socket.as_raw_fd());
        away.push_str(&format!(" {aside}<&{own}"));
        back.push_str(&format!(" {place}<&{aside} {aside}<&-"));
    }
    let script = format!(
        "exec {away}; export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES=a:b:c; exec \"$0\" \"$@\" {back}"
    );
    Proxy::start_by(
        |place, _| {
            symlink(binary(), place.file(BINARY)).expect("a link");
            let mut command = Command::new("bash");
            command.arg("-c").arg(script).arg(place.file(BINARY));
            command
        },
        Place::new(),
        text,
    )
}

#[test]
fn sockets_of_the_service_manager_are_used_and_survive() {
    let place = Place::new();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let spare = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let path = place.file("s.sock");
    let unix = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let (address, unused) = (tcp.local_addr().expect("it"), spare.local_addr().expect("it"));
    // Whoever connects before the program runs is answered all the same.
    let mut early = Client::connect(address);
    early.send("GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    let sockets = [tcp.into(), unix.into(), spare.into()];
    let listen = format!("listen {address}\n listen unix:{}", path.display());
    let text =
        format!("workers 2\ngrace 1s\nsite * {{\n listen @listen\n {listen}\n respond 200 served\n}}\n");
    let mut proxy = activated(&sockets, &text);
    assert_eq!(early.response().expect(200).text(), "served");
    assert_eq!(Client::connect(address).get("/").text(), "served");
    assert_eq!(Client::connect_unix(&path).get("/").text(), "served");
    assert_eq!(proxy.get("/").text(), "served");
    proxy.wait_for_stderr(&format!("no site listens at {unused}"));
    // They pass on to a successor, and stay with the service manager in the end.
    proxy.command(&["upgrade"]).expect(0);
    assert_ne!(proxy.serving_id(), proxy.id());
    assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0));
    let mut kept = Client::connect(address);
    assert_eq!(kept.get("/").text(), "served");
    let id = proxy.serving_id();
    proxy.command(&["stop"]).expect(0);
    eventually("the end", SOON, || (!is_alive(id)).then_some(()));
    assert!(path.exists());
    std::net::TcpStream::connect(address).expect("the service manager still listens");
}

#[test]
fn the_service_manager_hears_what_happens() {
    let place = Place::new();
    let manager = std::os::unix::net::UnixDatagram::bind(place.file("notify")).expect("a socket");
    manager.set_read_timeout(Some(SOON)).expect("a timeout");
    let hear = || {
        let mut text = [0; 4096];
        let count = manager.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    let mut proxy = Proxy::start_by(
        |inner, _| {
            symlink(binary(), inner.file(BINARY)).expect("a link");
            let mut command = Command::new(inner.file(BINARY));
            command.env("NOTIFY_SOCKET", place.file("notify"));
            command
        },
        Place::new(),
        &format!("grace 1s\n{}", site("respond 200 ok")),
    );
    assert_eq!(hear(), "READY=1");
    proxy.signal("HUP");
    let reloading = hear();
    let (first, since) = reloading.split_once('\n').expect("two lines");
    assert_eq!(first, "RELOADING=1");
    assert!(since.strip_prefix("MONOTONIC_USEC=").is_some_and(|time| time.parse::<u64>().is_ok()), "{since}");
    assert_eq!(hear(), "READY=1");
    proxy.command(&["upgrade"]).expect(0);
    let id = proxy.serving_id();
    assert_eq!(hear(), format!("MAINPID={id}"));
    assert_eq!(hear(), "READY=1");
    assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0));
    proxy.command(&["stop"]).expect(0);
    assert_eq!(hear(), "STOPPING=1", "the predecessor's end is no end of the service");
}

#[test]
fn a_successor_knows_what_was_known_and_wanted() {
    let (good, drained, next) = (Origin::says("good"), Origin::says("drained"), Origin::says("next"));
    let bad = Origin::serve(|_| Answer::nothing());
    let well =
        Origin::serve(|request| Answer::status(if request.target == "/well" { 500 } else { 200 }, b"sick"));
    let canary = "canary next 50%..100% step=50% every=1h abort=\"errors > 1%\" requests=1";
    let text = format!(
        "pool p {{\n server {good}\n server {bad}\n server {drained}\n eject errors=2 for=5m keep=10%\n}}\n\
         pool checked {{\n server {good}\n server {well}\n health /well every=100ms fails=2\n}}\n\
         pool next {{ server {next} }}\npool broken {{ server {bad}; eject off }}\n{}",
        site(&format!(
            "route /checked {{ proxy checked }}\n route /rising {{ {canary}; proxy p }}\n \
             route /failing {{ {}; proxy p }}\n proxy p",
            canary.replace("next", "broken")
        ))
    );
    let proxy = replaceable(&text);
    let page =
        || serde_json::from_slice::<serde_json::Value>(&proxy.admin("GET", "/status").body).expect("JSON");
    let state = |pool: &str, origin: &Origin| {
        let page = page();
        let pools = page["pools"].as_array().expect("pools").clone();
        let pool = pools.into_iter().find(|it| it["name"] == pool).expect("the pool");
        let hosts = pool["hosts"].as_array().expect("hosts").clone();
        let name = origin.address().to_string();
        let host = hosts.into_iter().find(|host| host["name"] == name.as_str()).expect("the host");
        host["state"].as_str().expect("its state").to_owned()
    };
    let canaries = || page()["canaries"].clone();
    proxy.command(&["drain", "p", &drained.address().to_string()]).expect(0);
    eventually("an ejected host", SOON, || {
        proxy.get("/");
        (state("p", &bad) == "ejected").then_some(())
    });
    eventually("a failing host", SOON, || (state("checked", &well) == "failing").then_some(()));
    eventually("a canary that was given up", SOON, || {
        proxy.get("/failing");
        let all = canaries();
        all.as_array().expect("canaries").iter().any(|one| one["state"] == "given up").then_some(())
    });

    let before = proxy.serving_id();
    proxy.command(&["upgrade"]).expect(0);
    assert_ne!(proxy.serving_id(), before);
    assert_eq!(state("p", &bad), "ejected");
    assert_eq!(state("p", &drained), "draining");
    assert_eq!(state("checked", &well), "failing");
    let asked = bad.count();
    (0..20).for_each(|_| assert_eq!(proxy.get("/").expect(200).text(), "good"));
    assert_eq!(bad.count(), asked);
    // Where the machine stands still, checks of the good one fail, too, and then it is no better than the other.
    eventually("requests for the good one only", SOON, || {
        let sick = well.count();
        let texts = (0..20).map(|_| proxy.get("/checked").text());
        let is_good = texts.filter(|text| text == "good").count() == 20;
        (is_good && well.requests().iter().skip(sick).all(|it| it.target == "/well")).then_some(())
    });
    let all = canaries();
    let of = |pool: &str| all.as_array().expect("canaries").iter().find(|one| one["pool"] == pool).cloned();
    let (failing, rising) = (of("broken").expect("one"), of("next").expect("the other"));
    assert_eq!((&failing["state"], &failing["share"]), (&"given up".into(), &"0%".into()));
    assert_eq!((&rising["state"], &rising["share"]), (&"rising".into(), &"50%".into()));
    assert!((0..20).all(|_| proxy.get("/failing").status == 200), "the canary gets nothing");
}
