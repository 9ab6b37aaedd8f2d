//! operations: starting, stopping, watching and asking the running program.

use portunus_tests::proxy::{fill, site};
use portunus_tests::{Client, Fault, Origin, Place, Port, Proxy, Run, eventually};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

/// Answers when it is told to: a request for /slow waits for `go`.
fn patient() -> (Origin, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::serve(move |request| {
        if request.target == "/slow" {
            let _ = wait.lock().expect("the lock").recv_timeout(Duration::from_secs(20));
        }
        portunus_tests::Answer::text(&request.target)
    });
    (origin, go)
}

#[test]
fn a_graceful_stop_finishes_what_runs_and_refuses_what_is_new() {
    for signal in ["TERM", "INT", "QUIT"] {
        let (origin, go) = patient();
        let mut proxy = Proxy::site(format!("proxy {origin}"));
        let mut idle = proxy.client();
        idle.get("/").expect(200);
        let mut slow = proxy.client();
        slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        origin.wait_for(2);
        proxy.signal(signal);
        idle.expect_close();
        eventually("the end of listening", SOON, || {
            std::net::TcpStream::connect(proxy.address()).is_err().then_some(())
        });
        assert!(proxy.is_running());
        go.send(()).expect("to go on");
        let answer = slow.response().expect(200);
        assert_eq!(answer.text(), "/slow");
        assert_eq!(answer.fields.one("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
        slow.expect_close();
        assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0), "{signal}");
    }
}

#[test]
fn no_counter_goes_back_when_a_worker_has_ended_before_the_others() {
    let (origin, go) = patient();
    let mut proxy = Proxy::start(&format!("workers 4\n{}", site(&format!("proxy {origin}"))));
    (0..40).for_each(|_| _ = proxy.get("/").expect(200));
    let mut slow = proxy.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for(41);
    let counters = || {
        ["requests_total", "connections_total", "upstream_connects_total"]
            .map(|name| proxy.metric(&format!("portunus_{name}"), &[]))
    };
    eventually("that all is counted", SOON, || (counters()[0] == 40.0).then_some(()));
    let before = counters();
    proxy.signal("TERM");
    let workers = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.id())).expect("its threads");
        let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("worker-")).count()
    };
    eventually("the end of the other workers", SOON, || (workers() == 1).then_some(()));
    assert_eq!(counters(), before);
    proxy.expect_metric("portunus_connections", &[], 1.0);
    go.send(()).expect("to go on");
    slow.response().expect(200);
    assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let (origin, _go) = patient();
    let mut proxy = Proxy::site(format!("proxy {origin}"));
    let mut slow = proxy.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for(1);
    proxy.signal("TERM");
    eventually("the end of listening", SOON, || {
        std::net::TcpStream::connect(proxy.address()).is_err().then_some(())
    });
    proxy.signal("TERM");
    proxy.wait_for_exit(SOON); // and not after its grace, half a minute
    assert_eq!(slow.response().status, 503, "it is told");
}

#[test]
fn grace_has_an_end() {
    let (origin, _go) = patient();
    let mut proxy = Proxy::start(&format!("grace 500ms\n{}", site(&format!("proxy {origin}"))));
    let mut slow = proxy.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for(1);
    let begun = Instant::now();
    proxy.signal("TERM");
    proxy.wait_for_exit(SOON);
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[test]
fn stop_and_status_over_the_admin_socket() {
    let origin = Origin::says("ok");
    let mut proxy = Proxy::site(format!("proxy {origin}"));
    proxy.get("/").expect(200);
    let status = proxy.command(&["status"]).expect(0);
    assert!(!status.stdout.is_empty());
    let json = proxy.command(&["status", "--json"]).expect(0);
    let status: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&status["state"], &status["pid"]), (&"running".into(), &proxy.id().into()));
    assert_eq!(status["listen"][0], proxy.address().to_string());
    proxy.command(&["stop"]).expect(0);
    assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0));
    assert_ne!(proxy.command(&["status"]).code, 0);
    assert!(!proxy.admin_socket().exists(), "the socket is removed");
}

#[test]
fn the_admin_socket_answers_its_owner_only() {
    let origin = Origin::says("ok");
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mode = std::fs::metadata(proxy.admin_socket()).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    proxy.admin("GET", "/live").expect(200);
    proxy.admin("GET", "/ready").expect(200);
    proxy.admin("GET", "/nothing").expect(404);
    assert!(matches!(proxy.admin("GET", "/stop").status, 404 | 405), "a GET changes nothing");
    let status = proxy.admin("GET", "/status").expect(200);
    assert_eq!(status.fields.one("content-type").map(|kind| kind.contains("json")), Some(true));
    let mut web = Client::connect_unix(&proxy.admin_socket());
    web.send("POST /stop HTTP/1.1\r\nHost: admin\r\nOrigin: http://evil\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(web.response().status, 403, "I3: nothing from a web page");
    for path in ["/live", "/ready", "/status", "/metrics"] {
        assert_eq!(proxy.get(path).text(), "ok", "F17: {path} is nothing special on the public listener");
    }
}

#[test]
fn metrics_count_what_happened() {
    let origin = Origin::serve(|request| {
        portunus_tests::Answer::status(if request.target == "/bad" { 500 } else { 200 }, b"12345")
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    for _ in 0..7 {
        client.get("/").expect(200);
    }
    client.get("/bad").expect(500);
    proxy.exchange("GET / HTTP/1.1\r\n\r\n").expect(400);
    let count = |name: &str, labels: &[&str]| proxy.metric(name, labels);
    for (status, requests) in [(200, 7.0), (500, 1.0)] {
        let label = format!("http_response_status_code=\"{status}\"");
        eventually("the counters", SOON, || {
            (count("portunus_requests_total", &[&label]) == requests).then_some(())
        });
    }
    assert_eq!(count("portunus_upstream_connects_total", &[]), 1.0);
    assert_eq!(
        count("http_server_request_duration_seconds_count", &["http_response_status_code=\"200\""]).min(7.0),
        count("http_server_request_duration_seconds_count", &["http_response_status_code=\"200\""])
    );
    proxy.wait_for_errors("bad-host", 1.0);
    let page = proxy.admin("GET", "/metrics").expect(200).text();
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.rsplit(' ').next().is_some_and(|value| value.parse::<f64>().is_ok()), "{line}");
    }
}

#[test]
fn the_access_log_tells_the_whole_story() {
    let origin = Origin::says("hello");
    let proxy = Proxy::site(format!("route /r/* {{ proxy {origin} }}"));
    proxy.exchange("POST /r/x?y=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test/1\r\nReferer: http://r/\r\nContent-Length: 3\r\n\r\nabc").expect(200);
    let line = proxy.log_of("/r/x?y=1");
    for (key, value) in [
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", "shop.example"),
        ("protocol", "HTTP/1.1"),
        ("user_agent", "test/1"),
        ("referer", "http://r/"),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    for (key, value) in [("status", 200), ("bytes_up", 3), ("bytes_down", 5), ("tries", 1)] {
        assert_eq!(line[key], value, "{key}");
    }
    assert_eq!(line["upstream"], origin.address().to_string());
    for timer in ["queue", "connect", "first_byte", "total"] {
        assert!(
            line[timer].as_f64().is_some_and(|milliseconds| (0.0..5000.0).contains(&milliseconds)),
            "{timer}: {line}"
        );
    }
    assert!(
        line["route"].as_str().is_some_and(|route| route.contains("/r/*")) && line.get("error").is_none()
    );
}

#[test]
fn the_combined_format_and_a_file_that_is_reopened() {
    let origin = Origin::says("hello");
    let proxy =
        Proxy::start(&format!("log access combined @dir/access.log\n{}", site(&format!("proxy {origin}"))));
    let read = |name: &str| std::fs::read_to_string(proxy.place().file(name)).unwrap_or_default();
    proxy.get("/first").expect(200);
    let line = eventually("the line", SOON, || {
        read("access.log").lines().find(|line| line.contains("/first")).map(str::to_owned)
    });
    assert!(
        line.starts_with("127.0.0.1 - - [") && line.contains("\"GET /first HTTP/1.1\" 200 5 \"-\" \"-\""),
        "{line}"
    );
    std::fs::rename(proxy.place().file("access.log"), proxy.place().file("old.log")).expect("to rename");
    proxy.get("/second").expect(200);
    eventually("the line in the renamed file", SOON, || read("old.log").contains("/second").then_some(()));
    proxy.signal("USR1");
    eventually("the new file", SOON, || proxy.place().file("access.log").exists().then_some(()));
    proxy.get("/third").expect(200);
    eventually("the line in the new file", SOON, || read("access.log").contains("/third").then_some(()));
    assert!(!read("old.log").contains("/third"));
}

#[test]
fn a_syslog_that_does_not_run_is_told_of() {
    let origin = Origin::says("hello");
    let text = format!("log access json syslog:@dir/none.sock\n{}", site(&format!("proxy {origin}")));
    let proxy = Proxy::start(&text);
    proxy.get("/").expect(200);
    proxy.wait_for_stderr("nobody takes the access log syslog");
}

#[test]
fn exit_codes_say_what_was_wrong() {
    Run::of(["run", "--nonsense"]).expect(2);
    Run::of(["nonsense"]).expect(2);
    Run::of(["check", "-c", "/nonexistent/portunus.conf"]).expect(3);
    let place = Place::new();
    let good = fill("site :18080 { respond 200 ok }\n", &place, &[]);
    let check = |text: &str| {
        let path = place.write("x.conf", text);
        Run::of(["check", "-c", &path.to_string_lossy()])
    };
    check(&good).expect(0);
    let bad = check("site :18080 {\n    respnd 200 ok\n    proxy\n    respond 200 ok\n}\n").expect(3);
    for part in ["x.conf:2:5", "respnd", "respond", "x.conf:3:5"] {
        assert!(bad.stderr.contains(part), "{part} in {}", bad.stderr);
    }
    for text in [
        "site",
        "site { }",
        "site * { respond 200 ok }",
        "}",
        "{",
        "site :1 {",
        "\"",
        "limits { nonsense 1 }",
        "workers many",
        "include /nonexistent.conf",
        "${env.NOT_THERE}",
        "pool p { }",
    ] {
        assert_eq!(check(text).code, 3, "{text}");
    }
    let path = place.write("bad.conf", "site :18080 {\n    respnd 200 ok\n}\n");
    Run::of(["run", "-c", &path.to_string_lossy()]).expect(3);
    let json = place.write("x.conf", "site :18080 {\n    respnd 200 ok\n}\n");
    let json = Run::of(["check", "--json", "-c", &json.to_string_lossy()]).expect(3);
    serde_json::from_str::<serde_json::Value>(&json.stdout).expect("JSON");
}

#[test]
fn a_taken_port_is_exit_code_4() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let text = format!("site * {{\n listen {address}\n respond 200 ok\n}}\n");
    let path = place.write("x.conf", fill(&text, &place, &[]));
    let run = Run::of(["run", "-c", &path.to_string_lossy()]).expect(4);
    assert!(run.stderr.contains(&address.to_string()), "{}", run.stderr);
    let proxy = Proxy::site("respond 200 old");
    proxy.write_config(&text);
    let run = proxy.command(&["reload"]).expect(4);
    assert!(run.stderr.contains(&format!("cannot listen at {address}")), "{}", run.stderr);
    assert_eq!(proxy.get("/").expect(200).text(), "old");
}

#[test]
fn secrets_are_told_by_nobody() {
    let place = Place::new();
    place.write("token", "Sekret-0123\n");
    let check = |text: &str| {
        let path = place.write("x.conf", text);
        Run::of(["check", &path.to_string_lossy()])
    };
    for statement in ["proxy ${file.token}", "basic-auth file=${file.token}", "basic-auth user=a:Sekret-0123"]
    {
        let run = check(&format!("site :18080 {{\n{statement}\nrespond 200 }}")).expect(3);
        assert!(!run.stderr.to_lowercase().contains("sekret"), "{}", run.stderr);
    }
    let path = place.write("x.conf", "site :18080 {\nredirect 302 /${file.token}\n}");
    let run = Run::of(["explain", "GET", "http://a:18080/", "-c", &path.to_string_lossy()]).expect(0);
    assert!(run.stdout.contains("${file.token}") && !run.stdout.contains("Sekret"), "{}", run.stdout);
    let origin = Origin::says("ok");
    let pool = format!("pool p {{\nserver {origin}\nhealth /live/${{file.token}}\n}}\n");
    let proxy = Proxy::start_in(place, &format!("{pool}{}", site("proxy p")));
    let shown = proxy.admin("GET", "/config").expect(200).text();
    assert!(shown.contains("/live/${file.token}") && !shown.contains("Sekret"), "{shown}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON")["pools"][0]["name"], "p");
}

#[test]
fn a_proxy_without_a_file() {
    let origin = Origin::says("hello");
    let port = Port::free();
    let child = std::process::Command::new(portunus_tests::binary::portunus())
        .args(["proxy", "--from", &port.to_string(), "--to", &origin.to_string()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut child = child.expect("to start");
    let mut client = eventually("the proxy", SOON, || Client::try_connect(port.address()));
    let answer = client.get("/").expect(200);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(answer.text(), "hello");
}

#[test]
fn h1_a_stopping_proxy_answers_every_connection_it_took() {
    let origin = Origin::says("ok");
    let mut proxy = Proxy::site(format!("proxy {origin}"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let address = proxy.address();
    let lost = std::thread::scope(|scope| {
        let stop = &stop;
        let asker = scope.spawn(move || {
            let mut lost = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let Some(mut client) = Client::try_connect(address) else { break };
                let sent = client.try_send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                let answer = client.try_response("GET");
                // A connection that was established is answered; one the kernel refused never was.
                lost += usize::from(sent.is_ok() && !matches!(&answer, Ok(answer) if answer.status == 200));
                if matches!(answer, Err(Fault::Reset | Fault::Closed)) {
                    break;
                }
            }
            lost
        });
        origin.wait_for(50);
        proxy.signal("TERM");
        proxy.wait_for_exit(SOON);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        asker.join().expect("the asker")
    });
    assert!(lost <= 1, "{lost} connections were taken and not answered");
}

#[test]
fn what_is_cut_off_gets_its_answer_and_its_record() {
    for (grace, how) in [("500ms", "alone"), ("30s", "told twice"), ("500ms", "paused")] {
        let (origin, _go) = patient();
        let mut proxy = Proxy::start(&format!("grace {grace}\n{}", site(&format!("proxy {origin}"))));
        let mut slow = proxy.client();
        slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        origin.wait_for(1);
        proxy.signal("TERM");
        proxy.wait_for_stderr("stopping; what is under way");
        match how {
            "told twice" => proxy.signal("TERM"),
            "paused" => {
                proxy.signal("STOP");
                let paused = Instant::now();
                // Until nothing is left of its time, and of what comes after it.
                eventually("its time", SOON, || {
                    (paused.elapsed() > Duration::from_millis(1500)).then_some(())
                });
                proxy.signal("CONT");
            }
            _ => {}
        }
        assert_eq!(slow.response().status, 503, "{how}");
        proxy.wait_for_exit(SOON);
        let line = proxy.log_of("/slow");
        assert_eq!((&line["error"], &line["status"]), (&"stopping".into(), &503.into()), "{how}");
    }
}

#[test]
fn each_pool_has_its_own_time_to_end() {
    // One that ends sooner than others, and one that ends later.
    for (grace, drain, short, long) in [("30s", "300ms", "own", "usual"), ("300ms", "30s", "usual", "own")] {
        let (own, go_own) = patient();
        let (usual, go_usual) = patient();
        let mut proxy = Proxy::start(&format!(
            "grace {grace}\npool own {{\n server {own}\n drain {drain}\n}}\npool usual {{\n server {usual}\n}}\n\
             site own {{\n listen @listen\n proxy own\n}}\nsite * {{\n listen @listen\n proxy usual\n}}\n"
        ));
        let ask = |host: &str| {
            let mut client = proxy.client();
            client.send(format!("GET /slow HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            client
        };
        let (mut short, mut long) = (ask(short), ask(long));
        own.wait_for(1);
        usual.wait_for(1);
        proxy.signal("TERM");
        assert_eq!(short.response().status, 503, "drain {drain}");
        assert!(proxy.is_running());
        let _ = (go_own.send(()), go_usual.send(()));
        assert_eq!(long.response().expect(200).text(), "/slow", "drain {drain}");
        proxy.wait_for_exit(SOON);
    }
}

#[test]
fn t9_every_connection_that_stands_is_answered_at_a_stop() {
    let origin = Origin::says("ok");
    for workers in [1, 2] {
        let mut proxy = Proxy::start(&format!("workers {workers}\n{}", site(&format!("proxy {origin}"))));
        let (address, before) = (proxy.address(), origin.count());
        let (answered, lost) = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(move || {
                        let (mut answered, mut lost) = (0, Vec::new());
                        // Until nobody listens any more: whoever gets a connection before that gets an answer.
                        while let Some(mut client) = Client::try_connect(address) {
                            let sent =
                                client.try_send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                            match sent.and_then(|()| client.try_response("GET")) {
                                Ok(answer) if answer.status == 200 => answered += 1,
                                other => lost.push(other.map(|answer| answer.status)),
                            }
                        }
                        (answered, lost)
                    })
                })
                .collect();
            eventually("some requests", SOON, || (origin.count() > before + 100).then_some(()));
            proxy.signal("TERM");
            let all = askers.into_iter().map(|asker| asker.join().expect("an asker"));
            all.fold((0, Vec::new()), |(sum, mut lost), (answered, more)| {
                lost.extend(more);
                (sum + answered, lost)
            })
        });
        assert_eq!(proxy.wait_for_exit(SOON).code(), Some(0));
        assert!(answered > 50 && lost.is_empty(), "{workers} workers: {answered} answered, lost: {lost:?}");
    }
}
