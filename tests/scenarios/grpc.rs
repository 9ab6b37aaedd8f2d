//! grpc: calls of every kind, by grpcio on both sides; what the proxy says itself; retries, health checks and gRPC-Web.

use portunus_tests::binary::has;
use portunus_tests::h2::{H2, head, kind};
use portunus_tests::{Origin, Proxy, eventually};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/grpc/peer.py");
/// Where `cargo xtask test` puts what Python needs.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python");

/// A server of gRPC; it ends with the test.
struct Server {
    child: Child,
    port: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(words: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", MODULES).env("GRPC_ENABLE_FORK_SUPPORT", "0").arg(SCRIPT).args(words);
    command
}

/// Starts one; none where grpcio is not installed.
fn serve() -> Option<Server> {
    if !has("python3") || !Path::new(MODULES).join("grpc").exists() {
        return None;
    }
    let mut child = python(&["serve"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python");
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut port).expect("its port");
    Some(Server { child, port: port.trim().to_owned() })
}

/// What came of each call.
#[track_caller]
fn call(proxy: &Proxy, wanted: &[&str]) -> Vec<String> {
    let address = proxy.address().to_string();
    let mut words = vec!["call", address.as_str()];
    words.extend(wanted);
    let output = python(&words).stderr(Stdio::inherit()).output().expect("python");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn through(server: &Server, more: &str) -> Proxy {
    Proxy::start(&format!(
        "pool p {{\nserver h2c://127.0.0.1:{}\n{more}\n}}\nsite * {{ listen @listen; proxy p }}\n",
        server.port
    ))
}

#[test]
fn calls_of_all_kinds_pass() {
    let Some(server) = serve() else { return };
    let proxy = through(&server, "");
    let came = call(
        &proxy,
        &[
            "unary=hello",
            "large=4000000",
            "stream=1000",
            "collect=a b c",
            "talk=one two three",
            "fail",
            "missing",
            "unary=again",
        ],
    );
    let wanted = [
        "unary ('hello', '1', '2', '00ff')",
        "large True",
        "stream 1000",
        "collect a,b,c",
        "talk ONE TWO THREE",
        "fail FAILED_PRECONDITION not today: \u{fc}%",
        "missing UNIMPLEMENTED Method not found!",
        "unary ('again', '1', '2', '00ff')",
    ];
    assert_eq!(came, wanted);
    let line = proxy.log_of("/test.Echo/Talk");
    assert_eq!((line["protocol"].as_str(), line["status"].as_u64()), (Some("HTTP/2"), Some(200)));
    // Behind messages, and in an answer without any.
    assert_eq!(
        (&line["grpc_status"], &proxy.log_of("/test.Echo/Fail")["grpc_status"]),
        (&0.into(), &9.into())
    );
}

#[test]
fn j4_deadlines_are_kept_and_what_is_cancelled_stops() {
    let Some(server) = serve() else { return };
    let proxy = through(&server, "");
    let came = call(&proxy, &["deadline=0.3", "count=nap", "cancel", "count=drip", "unary=x"]);
    assert_eq!(came.len(), 5, "{came:?}");
    assert!(came[0].starts_with("deadline DEADLINE_EXCEEDED"), "{came:?}");
    assert_eq!(came[1..4], ["count 1", "cancel first", "count 1"]);
}

#[test]
fn the_proxy_keeps_a_deadline_by_itself() {
    // A server that hears of no deadline and of nothing else.
    let origin = Origin::http2(&[], |peer| while peer.request().is_some() {});
    let proxy = Proxy::site(format!("proxy h2c://{origin}"));
    let mut client = H2::connect(proxy.address());
    let mut fields = head("POST", "/a.B/C").to_vec();
    fields.extend([("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "300m")]);
    let stream = client.ask(&fields, true);
    client.outcome(stream).expect(200);
    let line = proxy.expect_reason("deadline");
    assert!(line["total"].as_f64().is_some_and(|ms| (300.0..20_000.0).contains(&ms)), "{line}");
}

#[test]
fn a_client_in_a_hurry_takes_no_server_from_the_others() {
    let servers: Vec<Origin> =
        (0..2).map(|_| Origin::http2(&[], |peer| while peer.request().is_some() {})).collect();
    let proxy = Proxy::start(&format!(
        "pool p {{\nserver h2c://{}\nserver h2c://{}\nretry off\neject errors=2\n}}\nsite * {{ listen @listen; proxy p }}\n",
        servers[0], servers[1]
    ));
    let mut client = H2::connect(proxy.address());
    for time in ["1u", "1m", "20m"] {
        for _ in 0..10 {
            let mut fields = head("POST", "/a.B/C").to_vec();
            fields.extend([("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", time)]);
            let stream = client.ask(&fields, true);
            client.outcome(stream).expect(200);
        }
    }
    proxy.wait_for_errors("deadline", 30.0);
    assert_eq!(proxy.metric("portunus_upstream_ejections_total", &[]), 0.0);
}

#[test]
fn a_slow_body_is_no_conversation_because_it_says_so() {
    let origin = Origin::http2(&[], |peer| while peer.frame().is_some() {});
    let limits = "limits { body-idle 500ms }";
    let proxy = Proxy::start(&format!("{limits}\nsite * {{ listen @listen; proxy h2c://{origin} }}\n"));
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 9\r\n\r\nslow",
    );
    proxy.expect_reason("body-timeout");
}

#[test]
fn the_proxys_own_answers_are_answers_to_calls() {
    let Some(server) = serve() else { return };
    let proxy = Proxy::start(&format!(
        "pool gone {{\nserver h2c://127.0.0.1:1\n}}\nsite * {{ listen @listen\n\
         route /test.Echo/Unary {{ proxy gone }}\n\
         route /test.Echo/Fail {{ access deny all; proxy h2c://127.0.0.1:{port} }}\n\
         route /test.Echo/Refuse {{ respond 429 \"\" }}\n\
         route /test.Echo/Talk {{ proxy h2c://127.0.0.1:{port} }} }}\n",
        port = server.port
    ));
    let came = call(&proxy, &["unary=x", "fail", "refuse", "missing", "talk=still here"]);
    let codes: Vec<&str> = came.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(
        codes,
        ["UNAVAILABLE", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "STILL"],
        "{came:?}"
    );
    assert!(came[0].contains("connect-failed"), "{came:?}");
    let line = proxy.log_of("/test.Echo/Unary");
    assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &14.into()));
    // What is no call gets what it always got.
    proxy.get("/test.Echo/Refuse").expect(429);
}

#[test]
fn a_call_that_nobody_took_goes_to_another_server_where_that_is_wanted() {
    let (Some(one), Some(two)) = (serve(), serve()) else { return };
    let text = |retry: &str| {
        format!(
            "pool p {{\nserver h2c://127.0.0.1:{}\nserver h2c://127.0.0.1:{} backup\n{retry}\n}}\nsite * {{ listen @listen; proxy p }}\n",
            one.port, two.port
        )
    };
    let proxy = Proxy::start(&text("retry tries=2 on=connect,reset,grpc-unavailable"));
    assert_eq!(
        call(&proxy, &["arm=1", "refuse=x", "unary=y"]),
        ["arm ", "refuse taken", "unary ('y', '1', '2', '00ff')"]
    );
    proxy.log("two tries", |line| line["path"] == "/test.Echo/Refuse" && line["tries"] == 2);
    let proxy = Proxy::start(&text("retry tries=2"));
    assert_eq!(call(&proxy, &["arm=1", "refuse=x"]), ["arm ", "refuse UNAVAILABLE later"]);
}

#[test]
fn servers_are_asked_whether_they_serve() {
    let Some(server) = serve() else { return };
    let proxy = through(&server, "health grpc service=test.Echo every=100ms fails=1 passes=1\nkeep hosts=0");
    assert_eq!(call(&proxy, &["unary=x"]).len(), 1);
    assert_eq!(call(&proxy, &["ill=2"]), ["ill "]);
    proxy.wait_for_stderr("it says that it does not serve");
    let came = call(&proxy, &["unary=x"]);
    assert!(came[0].starts_with("unary UNAVAILABLE"), "{came:?}");
    let direct = python(&["call", &format!("127.0.0.1:{}", server.port), "ill=1"]).output().expect("python");
    assert!(direct.status.success());
    eventually("its return", SOON, || call(&proxy, &["unary=x"])[0].starts_with("unary ('x'").then_some(()));
}

#[test]
fn pages_call_by_grpc_web() {
    let origin = Origin::http2(&[], |peer| {
        while let Some(asked) = peer.request() {
            let fields = [(":status", "200"), ("content-type", "application/grpc+proto")];
            peer.head(asked.stream, &fields, false);
            peer.data(asked.stream, &asked.body, false);
            peer.head(asked.stream, &[("grpc-status", "0"), ("grpc-message", "fine")], true);
        }
    });
    let proxy = Proxy::site(format!("grpc-web\nproxy h2c://{origin}"));
    let ask = |media: &str, body: &[u8]| {
        let head = format!(
            "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        proxy.exchange([head.as_bytes(), body].concat()).expect(200)
    };
    let answer = ask("application/grpc-web+proto", b"\0\0\0\0\x02hi");
    assert_eq!(answer.fields.one("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(answer.body, b"\0\0\0\0\x02hi\x80\0\0\0\x22grpc-status:0\r\ngrpc-message:fine\r\n");
    let answer = ask("application/grpc-web-text", b"AAAAAAJoaQ==");
    assert_eq!(answer.fields.one("content-type"), Some("application/grpc-web-text"));
    assert!(answer.text().starts_with("AAAAAAJoaQ==gAAAAC"), "{}", answer.text());
    assert_eq!(proxy.log_of("/a.B/C")["grpc_status"], 0);
    // A mistake of ours is one of gRPC-Web, too.
    let broken = Proxy::site("grpc-web\nproxy h2c://127.0.0.1:1");
    let answer = broken.exchange(
        "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\n\r\n",
    );
    let answer = answer.expect(200);
    assert_eq!(answer.fields.one("grpc-status"), Some("14"));
    assert_eq!(answer.fields.one("content-type"), Some("application/grpc-web"));
}

#[test]
fn a_conversation_may_be_silent_for_longer_than_a_body() {
    let origin = Origin::http2(&[], |peer| {
        let Some(asked) = peer.next_of(kind::HEADERS) else { return };
        peer.head(asked.stream, &[(":status", "200"), ("content-type", "application/grpc")], false);
        while let Some(frame) = peer.next_of(kind::DATA) {
            let ended = frame.flags & 1 != 0;
            peer.data(frame.stream, "heard", ended);
        }
    });
    let limits = "limits { body-idle 1s; upstream-idle 1s }";
    let proxy = Proxy::start(&format!("{limits}\nsite * {{ listen @listen; proxy h2c://{origin} }}\n"));
    let mut client = H2::connect(proxy.address());
    let mut fields = head("POST", "/a.B/C").to_vec();
    fields.push(("content-type", "application/grpc"));
    let stream = client.ask(&fields, false);
    assert_eq!(client.answered(stream).status, 200);
    // The time that passes is what is tested: other requests tell of it.
    let before = std::time::Instant::now();
    eventually("three seconds", SOON, || (before.elapsed() > Duration::from_secs(3)).then_some(()));
    client.data(stream, "still here", true);
    let mut heard = portunus_tests::h2::Outcome::default();
    while !heard.complete {
        client.step(stream, &mut heard);
        assert!(heard.reset.is_none() && !heard.closed, "{heard:?}");
    }
}
