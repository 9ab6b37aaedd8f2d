//! knowing: bad hosts are found out and left alone, by what they do and by asking them, and good ones are used again.

use portunus_tests::load::{Load, failed, get, side_by_side};
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Origin, Port, Proxy, Request, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(15);

fn answer(request: &Request) -> Answer {
    Answer::text(request.query("id").unwrap_or("-"))
}

/// A proxy for one pool, `p`, of these servers.
fn pool(servers: &[&dyn std::fmt::Display], more: &str) -> Proxy {
    let servers: String = servers.iter().map(|server| format!(" server {server}\n")).collect();
    Proxy::start(&format!("workers 2\npool p {{\n{servers}{more}\n}}\n{}", site("proxy p")))
}

/// What the status says of a host: its state and the reason.
fn state(proxy: &Proxy, host: &dyn std::fmt::Display) -> (String, String) {
    let status: serde_json::Value =
        serde_json::from_str(&proxy.admin("GET", "/status").expect(200).text()).expect("JSON");
    let pools = status["pools"].as_array().cloned().unwrap_or_default();
    let mut hosts = pools.iter().flat_map(|pool| pool["hosts"].as_array().cloned().unwrap_or_default());
    let found = hosts.find(|known| known["name"] == host.to_string()).expect("the host in the status");
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

/// Waits until the host is in this state.
#[track_caller]
fn wait_for_state(proxy: &Proxy, host: &dyn std::fmt::Display, wanted: &str) {
    eventually(&format!("{host} to be {wanted}"), PATIENCE, || {
        (state(proxy, host).0 == wanted).then_some(())
    });
}

#[test]
fn t11_a_killed_origin_is_ejected_at_once_and_back_soon_after_it_is() {
    let origins = [Origin::serve(answer), Origin::serve(answer), Origin::serve(answer)];
    let proxy = pool(&[&origins[0], &origins[1], &origins[2]], "");
    let load = Load::start(proxy.address(), 3, get);
    load.wait_for(300);
    origins[1].kill();
    wait_for_state(&proxy, &origins[1], "ejected");
    assert_eq!(state(&proxy, &origins[1]).1, "refused");
    load.wait_for(600);
    let failures = proxy.metric("portunus_upstream_connect_failures_total", &[]);
    load.wait_for(600);
    let while_out = proxy.metric("portunus_upstream_connect_failures_total", &[]) - failures;
    let back = Origin::serve_at(origins[1].address(), answer);
    back.wait_for(1);
    wait_for_state(&proxy, &back, "good");
    let lost = failed(&load.finish()).len();
    assert_eq!(lost, 0, "GETs that failed");
    assert!(failures <= 12.0, "{failures} connects to a dead host");
    // None but where the probes that keep it out stood still.
    assert!(while_out <= 4.0, "{while_out} of 200 turns");
    proxy.wait_for_stderr(&format!("{} is ejected for", origins[1]));
    proxy.wait_for_stderr(&format!("{} is back", origins[1]));
    proxy.wait_for_metric("portunus_upstream_ejections_total", &["reason=\"refused\""], 1.0);
}

#[test]
fn t17_a_host_that_was_never_there_costs_no_connect_each_turn() {
    let (dead, good) = (Port::free(), Origin::says("good"));
    let proxy = pool(&[&dead, &good], "");
    let (mut client, began) = (proxy.client(), Instant::now());
    for _ in 0..500 {
        client.get("/").expect(200);
    }
    let failures = proxy.metric("portunus_upstream_connect_failures_total", &[]);
    // One a second at most, where no probe says otherwise.
    let most = 4.0 + began.elapsed().as_secs_f64();
    assert!((1.0..=most).contains(&failures), "{failures} connects to a dead host for 500 requests");
}

#[test]
fn t18_a_pool_that_refuses_is_503_at_once_and_serves_soon_after_it_is_back() {
    let origin = Origin::says("one");
    let proxy = pool(&[&origin], "");
    proxy.get("/").expect(200);
    origin.kill();
    eventually("no host left", PATIENCE, || (proxy.get("/").status == 503).then_some(()));
    let began = Instant::now();
    (0..20).for_each(|_| _ = proxy.get("/").expect(503));
    assert!(began.elapsed() < PATIENCE, "{:?} for 20 answers", began.elapsed());
    let _back = Origin::serve_at(origin.address(), |_| Answer::text("two"));
    eventually("an answer", PATIENCE, || (proxy.get("/").status == 200).then_some(()));
}

/// An origin that gives no answer while it is frozen; its connections stay open.
fn freezable() -> (Origin, Arc<AtomicBool>) {
    let frozen = Arc::new(AtomicBool::new(false));
    let flag = frozen.clone();
    let origin = Origin::serve(move |request| {
        while flag.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        answer(request)
    });
    (origin, frozen)
}

#[test]
fn t12_a_frozen_origin_is_ejected_and_back_soon_after_it_continues() {
    let (frozen, flag) = freezable();
    let (one, two) = (Origin::serve(answer), Origin::serve(answer));
    let servers = format!(" server {frozen}\n server {one}\n server {two}\n");
    let proxy = Proxy::start(&format!(
        "workers 2\nlimits {{ first-byte 500ms }}\npool p {{\n{servers} eject for=60s\n}}\n{}",
        site("proxy p")
    ));
    let load = Load::start(proxy.address(), 6, get);
    load.wait_for(200);
    flag.store(true, SeqCst);
    wait_for_state(&proxy, &frozen, "ejected");
    assert_eq!(state(&proxy, &frozen).1, "timeouts");
    proxy.wait_for_stderr(&format!("{frozen} is ejected for 60.0 s: timeouts"));
    eventually("a probe that got no answer", PATIENCE, || {
        (frozen.requests().iter().filter(|request| request.method == "OPTIONS").count() > 1).then_some(())
    });
    flag.store(false, SeqCst);
    wait_for_state(&proxy, &frozen, "good"); // long before its time is over
    load.finish();
}

#[test]
fn t12_what_a_frozen_origin_has_goes_to_servers_that_had_nothing_to_do() {
    for more in ["eject for=60s", "eject for=60s keep=100%", "health /hz every=100ms timeout=50ms fails=1"] {
        let (frozen, flag) = freezable();
        let spare = Origin::serve(answer);
        let proxy = Proxy::start(&format!(
            "workers 2\npool p {{\nserver {frozen}\nserver {spare} backup\n{more}\n}}\n{}",
            site("proxy p")
        ));
        (0..40).for_each(|_| _ = proxy.get("/").expect(200));
        flag.store(true, SeqCst);
        let waiting = side_by_side(12, |_| proxy.get("/").status);
        assert_eq!(waiting, [200; 12], "{more}");
        assert!(spare.count() >= 12, "{more}");
        flag.store(false, SeqCst);
    }
}

#[test]
fn t12_two_frozen_origins_are_found_beside_an_idle_backup() {
    let ((one, stop_one), (two, stop_two)) = (freezable(), freezable());
    let spare = Origin::serve(answer);
    let proxy = Proxy::start(&format!(
        "workers 2\npool p {{\nserver {one}\nserver {two}\nserver {spare} backup\n}}\n{}",
        site("proxy p")
    ));
    (0..40).for_each(|_| _ = proxy.get("/").expect(200));
    [&stop_one, &stop_two].iter().for_each(|stop| stop.store(true, SeqCst));
    assert_eq!(side_by_side(20, |_| proxy.get("/").status), [200; 20]);
    [&stop_one, &stop_two].iter().for_each(|stop| stop.store(false, SeqCst));
}

#[test]
fn t12_what_waits_for_a_frozen_origin_waits_for_room_elsewhere() {
    let (frozen, flag) = freezable();
    let busy = Origin::serve(|request| {
        std::thread::sleep(Duration::from_millis(100)); // its work
        answer(request)
    });
    let proxy = Proxy::start(&format!(
        "workers 2\npool p {{\nserver {frozen}\nserver {busy} max-in-flight=2\nqueue length=200 wait=20s\n}}\n{}",
        site("proxy p")
    ));
    (0..80).for_each(|_| _ = proxy.get("/").expect(200));
    flag.store(true, SeqCst);
    let statuses: Vec<u16> = side_by_side(20, |_| proxy.get("/").status);
    assert_eq!(statuses, [200; 20]);
    flag.store(false, SeqCst);
}

#[test]
fn t12_two_frozen_origins_of_three_get_nothing_once_they_are_found() {
    let ((one, stop_one), (two, stop_two)) = (freezable(), freezable());
    let good = Origin::serve(answer);
    let proxy = pool(&[&one, &two, &good], "");
    (0..40).for_each(|_| _ = proxy.get("/").expect(200));
    [&stop_one, &stop_two].iter().for_each(|stop| stop.store(true, SeqCst));
    let load = Load::start(proxy.address(), 16, get);
    // Half of the servers are kept in, whatever they do: one of the two is not ejected.
    eventually("one that is silent", PATIENCE, || {
        let states = [&one, &two].map(|host| state(&proxy, host).0);
        (states.contains(&"silent".to_owned()) && states.contains(&"ejected".to_owned())).then_some(())
    });
    load.wait_for(100);
    let frozen = || {
        [&one, &two]
            .iter()
            .map(|host| host.requests().iter().filter(|it| it.method != "OPTIONS").count())
            .sum::<usize>()
    };
    let before = frozen();
    assert!((0..50).all(|number| proxy.client().post(&format!("/?id=post-{number}"), "body").status == 200));
    assert_eq!(frozen(), before);
    proxy.wait_for_stderr("answers nobody");
    [&stop_one, &stop_two].iter().for_each(|stop| stop.store(false, SeqCst));
    [&one, &two].iter().for_each(|host| wait_for_state(&proxy, host, "good"));
    proxy.wait_for_stderr("answers again");
    assert!(failed(&load.finish()).is_empty());
}

#[test]
fn t12_an_ejected_origin_that_is_well_again_is_better_than_a_frozen_one() {
    let ((frozen, stop), (sick, is_sick)) = (freezable(), {
        let is_sick = Arc::new(AtomicBool::new(true));
        let flag = is_sick.clone();
        let sick = Origin::serve(move |request| match flag.load(SeqCst) {
            true => Answer::nothing(),
            false => answer(request),
        });
        (sick, is_sick)
    });
    let proxy = pool(&[&frozen, &sick], "eject for=60s; retry budget=100%");
    (0..40).for_each(|_| _ = proxy.get("/").expect(200));
    assert_eq!(state(&proxy, &sick).0, "ejected");
    is_sick.store(false, SeqCst);
    stop.store(true, SeqCst);
    let statuses: Vec<u16> = side_by_side(20, |_| proxy.get("/").status);
    assert_eq!(statuses, [200; 20]);
    // What the other one fails does not go to the one that answers nobody.
    is_sick.store(true, SeqCst);
    assert_eq!(proxy.get("/").status, 502);
    stop.store(false, SeqCst);
}

#[test]
fn t12_what_waits_for_a_frozen_origin_goes_elsewhere_though_that_one_has_been_removed() {
    let (frozen, flag) = freezable();
    let good = Origin::serve(answer);
    let proxy = pool(&[&frozen, &good], "");
    (0..40).for_each(|_| _ = proxy.get("/").expect(200));
    flag.store(true, SeqCst);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| proxy.get("/").status)).collect();
        eventually("requests that wait", PATIENCE, || (good.count() >= 30).then_some(()));
        proxy.command(&["remove", "p", &frozen.to_string()]).expect(0);
        all.into_iter().map(|one| one.join().expect("a client")).collect()
    });
    assert_eq!(statuses, [200; 20]);
    flag.store(false, SeqCst);
}

#[test]
fn t12_a_frozen_origin_is_found_by_clients_that_come_one_by_one_and_give_up() {
    let (frozen, flag) = freezable();
    let good = Origin::serve(answer);
    let proxy = pool(&[&frozen, &good], "");
    flag.store(true, SeqCst);
    let ask = || {
        let mut client = proxy.client().patience(Duration::from_millis(300));
        let _ = client.send(get("alone")).try_response("GET");
        client.reset(); // at once, and not after half of it has been closed for a while
    };
    eventually("an ejection", PATIENCE * 3, || {
        ask();
        (state(&proxy, &frozen).0 == "ejected").then_some(())
    });
    assert_eq!(state(&proxy, &frozen).1, "timeouts");
    flag.store(false, SeqCst);
}

#[test]
fn statuses_of_a_gateway_count_for_the_rate_and_500_does_not() {
    let bad = Origin::serve(|request| match request.target.as_str() {
        "/500" => Answer::status(500, b""),
        _ => Answer::status(503, b""),
    });
    let good = Origin::says("good");
    let proxy = pool(&[&bad, &good], "");
    (0..60).for_each(|_| _ = proxy.get("/500"));
    assert_eq!(state(&proxy, &bad).0, "good");
    (0..60).for_each(|_| _ = proxy.get("/"));
    assert_eq!(state(&proxy, &bad), ("ejected".into(), "rate".into()));
    assert_eq!(state(&proxy, &good).0, "good");
}

#[test]
fn eject_off_leaves_every_host_in() {
    let (dead, good) = (Port::free(), Origin::says("good"));
    let proxy = pool(&[&dead, &good], " eject off");
    (0..20).for_each(|_| _ = proxy.get("/").expect(200));
    assert_eq!(state(&proxy, &dead).0, "good");
    proxy.wait_for_metric("portunus_upstream_connect_failures_total", &[], 5.0);
}

#[test]
fn a_health_check_takes_a_host_out_and_in_again() {
    let well = Arc::new(AtomicBool::new(true));
    let flag = well.clone();
    let checked = Origin::serve(move |request| match request.target.as_str() {
        "/healthz" if !flag.load(SeqCst) => Answer::status(200, b"ill"),
        "/healthz" => Answer::status(200, b"I am well"),
        _ => Answer::text("checked"),
    });
    let other = Origin::serve(|request| match request.target.as_str() {
        "/healthz" => Answer::status(200, b"well, too"),
        _ => Answer::text("other"),
    });
    let proxy = pool(&[&checked, &other], " health /healthz every=200ms fails=2 passes=2 body=well");
    eventually("the first checks", PATIENCE, || (checked.count() > 0 && other.count() > 0).then_some(()));
    wait_for_state(&proxy, &checked, "good");
    well.store(false, SeqCst);
    wait_for_state(&proxy, &checked, "failing");
    eventually("the reason", PATIENCE, || {
        (state(&proxy, &checked).1 == "the body has another text").then_some(())
    });
    eventually("requests for the other one only", PATIENCE, || {
        (0..10).all(|_| proxy.get("/").expect(200).text() == "other").then_some(())
    });
    proxy.wait_for_stderr(&format!("{checked} fails its health check"));
    let state_of = |state: &str| {
        let labels = [format!("server_address=\"{checked}\""), format!("state=\"{state}\"")];
        proxy.metric("portunus_upstream_state", &[&labels[0], &labels[1]])
    };
    eventually("its state in the metrics", PATIENCE, || {
        ((state_of("failing"), state_of("good")) == (1.0, 0.0)).then_some(())
    });
    proxy.wait_for_metric("portunus_health_checks_total", &["result=\"failed\""], 2.0);
    well.store(true, SeqCst);
    wait_for_state(&proxy, &checked, "good");
    proxy.wait_for_stderr("passes its health check again");
    eventually("requests for it", PATIENCE, || {
        (0..4).any(|_| proxy.get("/").expect(200).text() == "checked").then_some(())
    });
}

#[test]
fn a_health_check_that_sees_nothing_of_it_does_not_end_an_ejection() {
    let sick = Origin::serve(|request| match request.target.as_str() {
        "/hz" => Answer::text("well"),
        _ => Answer::nothing(),
    });
    let good = Origin::serve(answer);
    let proxy = pool(&[&sick, &good], " health /hz every=100ms passes=1; eject for=60s; retry budget=100%");
    eventually("an ejection", PATIENCE, || {
        proxy.get("/").expect(200);
        (state(&proxy, &sick).0 == "ejected").then_some(())
    });
    let checks = || sick.requests().iter().filter(|request| request.target == "/hz").count();
    let before = checks();
    eventually("more checks", PATIENCE, || (checks() > before + 8).then_some(()));
    assert_eq!(state(&proxy, &sick), ("ejected".into(), "errors".into()));
}

#[test]
fn checks_follow_the_configuration_in_force() {
    let origin = Origin::says("x");
    let config = |health: &str| {
        format!(
            "pool p {{\n server {origin}\n server {} backup\n{health}\n}}\n{}",
            Port::free(),
            site("proxy p")
        )
    };
    let proxy = Proxy::start(&config(" health /one every=100ms"));
    let asked = |path: &str| origin.requests().iter().filter(|request| request.target == path).count();
    eventually("the first check", PATIENCE, || (asked("/one") > 1).then_some(()));
    proxy.write_config(&config(" health /two every=100ms status=204"));
    proxy.command(&["reload"]).expect(0);
    eventually("the other check", PATIENCE, || (asked("/two") > 1).then_some(()));
    wait_for_state(&proxy, &origin, "failing");
    let before = asked("/one");
    proxy.write_config(&config(""));
    proxy.command(&["reload"]).expect(0);
    wait_for_state(&proxy, &origin, "good");
    // Other checks tell the time. One of before may just have been on its way.
    let other = Origin::says("y");
    let others = format!("pool q {{ server {other}; health /three every=100ms }}\n");
    proxy.write_config(&format!(
        "{others}{}",
        config("").replace("site *", "site b.test { listen @listen; proxy q }\nsite *")
    ));
    proxy.command(&["reload"]).expect(0);
    other.wait_for(2);
    let two = asked("/two");
    other.wait_for(5);
    assert_eq!((asked("/one"), asked("/two")), (before, two));
}

#[test]
fn a_reload_keeps_who_is_ejected() {
    let (dead, good) = (Origin::serve(|_| Answer::nothing()), Origin::says("good"));
    let text =
        format!("pool p {{\n server {dead}\n server {good}\n eject errors=2 for=5m\n}}\n{}", site("proxy p"));
    let proxy = Proxy::start(&text);
    (0..4).for_each(|_| _ = proxy.get("/").expect(200));
    assert_eq!(state(&proxy, &dead).0, "ejected");
    proxy.write_config(&format!("{text}\nsite other.test {{\n listen @listen2\n respond 200 x\n}}\n"));
    proxy.command(&["reload"]).expect(0);
    assert_eq!(state(&proxy, &dead).0, "ejected");
}
