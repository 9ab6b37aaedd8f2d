//! finding: names become hosts, their sets change, and DNS fails; traffic goes on (T21).

use portunus_tests::load::{Load, failed, get};
use portunus_tests::nameserver::{Mood, NameServer};
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Origin, Proxy, eventually};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(15);

/// Origins at one port of several addresses, each of which says its own.
fn origins(addresses: &[&str]) -> Vec<Origin> {
    let says = |text: &str| {
        let text = text.to_owned();
        move |_: &portunus_tests::Request| Answer::text(&text)
    };
    'ports: loop {
        let first = Origin::serve_at(
            SocketAddr::new(addresses[0].parse().expect("an address"), 0),
            says(addresses[0]),
        );
        let port = first.address().port();
        let mut all = vec![first];
        for address in &addresses[1..] {
            let at = SocketAddr::new(address.parse().expect("an address"), port);
            if std::net::TcpListener::bind(at).is_err() {
                continue 'ports;
            }
            all.push(Origin::serve_at(at, says(address)));
        }
        return all;
    }
}

fn hosts(proxy: &Proxy) -> Vec<String> {
    let status: serde_json::Value =
        serde_json::from_str(&proxy.admin("GET", "/status").expect(200).text()).expect("JSON");
    let hosts = status["pools"][0]["hosts"].as_array().cloned().unwrap_or_default();
    hosts.iter().map(|host| host["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn proxy(names: &NameServer, server: &str) -> Proxy {
    Proxy::start(&format!(
        "resolver {names}\nworkers 2\npool p {{\n server {server}\n}}\n{}",
        site("proxy p")
    ))
}

#[test]
fn t21_a_set_is_swapped_under_load_and_dns_dies() {
    let names = NameServer::start();
    let origins = origins(&["127.0.0.11", "127.0.0.12", "127.0.0.13"]);
    let port = origins[0].address().port();
    names.set("users.internal", &["127.0.0.11", "127.0.0.12"]);
    let proxy = proxy(&names, &format!("users.internal:{port}"));
    let load = Load::start(proxy.address(), 4, get);
    origins.iter().take(2).for_each(|origin| origin.wait_for(50));
    assert_eq!(hosts(&proxy).len(), 2);
    names.set("users.internal", &["127.0.0.12", "127.0.0.13"]);
    origins[2].wait_for(1);
    assert_eq!(origins[1].ended(), 0, "who stays keeps his connections");
    eventually("the leaving host's last connection", PATIENCE, || {
        (origins[0].ended() == origins[0].connections()).then_some(())
    });
    let left = origins[0].count();
    for mood in [Mood::Failing, Mood::Empty, Mood::Silent] {
        names.feel(mood);
        let asked = names.asked();
        eventually("further questions", PATIENCE * 2, || (names.asked() > asked + 2).then_some(()));
        load.wait_for(100);
        assert_eq!(hosts(&proxy).len(), 2, "{mood:?}");
    }
    let outcomes = load.finish();
    assert!(failed(&outcomes).is_empty(), "{} of {}", failed(&outcomes).len(), outcomes.len());
    assert_eq!(origins[0].count(), left, "who has left gets nothing more");
    proxy.wait_for_stderr("cannot be resolved");
    assert_eq!(proxy.stderr().matches("cannot be resolved").count(), 1, "said once");
    proxy.expect_metric("portunus_name_failing", &[], 1.0);
    names.feel(Mood::Well);
    proxy.wait_for_stderr("is resolved again");
    proxy.expect_metric("portunus_name_failing", &[], 0.0);
}

#[test]
fn t21_it_starts_without_dns_and_serves_when_the_name_is_there() {
    let names = NameServer::start();
    names.feel(Mood::Silent);
    let origin = Origin::says("here");
    let proxy = proxy(&names, &format!("late.internal:{}", origin.address().port()));
    // At once: DNS would be waited for for seconds.
    let began = Instant::now();
    (0..10).for_each(|_| _ = proxy.get("/").expect(503));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    proxy.expect_reason("no-host");
    names.set("late.internal", &["127.0.0.1"]);
    names.feel(Mood::Well);
    eventually("an answer", PATIENCE, || (proxy.get("/").status == 200).then_some(()));
}

#[test]
fn services_bring_ports_weights_and_backups() {
    let names = NameServer::start();
    let origins = [Origin::says("a"), Origin::says("b"), Origin::says("c")];
    let port = |at: usize| origins[at].address().port();
    names.set("one.internal", &["127.0.0.1"]);
    names.set_services(
        "_http._tcp.users.internal",
        &[
            (1, 30, port(0), "one.internal"),
            (1, 10, port(1), "one.internal"),
            (2, 1, port(2), "one.internal"),
        ],
    );
    let proxy = proxy(&names, "srv:_http._tcp.users.internal");
    let mut client = proxy.client();
    (0..40).for_each(|_| _ = client.get("/").expect(200));
    assert_eq!((origins[0].count(), origins[1].count(), origins[2].count()), (30, 10, 0));
    origins[0].kill();
    origins[1].kill();
    eventually("the backup", PATIENCE, || {
        let answer = proxy.get("/");
        (answer.status == 200 && answer.text() == "c").then_some(())
    });
}

#[test]
fn a_target_without_an_address_keeps_its_last_one_and_stops_no_other() {
    let names = NameServer::start();
    let origins = [Origin::says("a"), Origin::says("b"), Origin::says("c")];
    let port = |at: usize| origins[at].address().port();
    names.set("one.internal", &["127.0.0.1"]);
    names.set("two.internal", &["127.0.0.1"]);
    let service = "_http._tcp.users.internal";
    names.set_services(service, &[(1, 1, port(0), "one.internal"), (1, 1, port(1), "two.internal")]);
    let proxy = proxy(&names, &format!("srv:{service}"));
    eventually("both", PATIENCE, || (hosts(&proxy).len() == 2).then_some(()));
    names.set("two.internal", &[]);
    names.set_services(
        service,
        &[(1, 1, port(0), "one.internal"), (1, 1, port(1), "two.internal"), (1, 1, port(2), "one.internal")],
    );
    eventually("the new one beside them", PATIENCE, || (hosts(&proxy).len() == 3).then_some(()));
    proxy.wait_for_stderr("two.internal.: ");
    let mut client = proxy.client();
    (0..6).for_each(|_| _ = client.get("/").expect(200));
    assert_eq!((origins[0].count(), origins[1].count(), origins[2].count()), (2, 2, 2));
}

#[test]
fn an_ejected_host_stays_ejected_when_others_come() {
    let names = NameServer::start();
    let origins = origins(&["127.0.0.21", "127.0.0.22"]);
    let port = origins[0].address().port();
    let mute = Origin::serve_at(SocketAddr::from(([127, 0, 0, 23], port)), |_| Answer::nothing());
    names.set("users.internal", &["127.0.0.21", "127.0.0.23"]);
    let proxy = proxy(&names, &format!("users.internal:{port}\n eject errors=2 for=5m"));
    (0..4).for_each(|_| _ = proxy.get("/").expect(200));
    proxy.wait_for_stderr(&format!("{mute} is ejected"));
    let asked = mute.count();
    names.set("users.internal", &["127.0.0.21", "127.0.0.22", "127.0.0.23"]);
    origins[1].wait_for_hosts(&proxy);
    (0..20).for_each(|_| _ = proxy.get("/").expect(200));
    assert_eq!(mute.count(), asked);
}

trait Arrives {
    fn wait_for_hosts(&self, proxy: &Proxy);
}

impl Arrives for Origin {
    /// Waits until it is a member.
    fn wait_for_hosts(&self, proxy: &Proxy) {
        eventually("the new host", PATIENCE, || {
            hosts(proxy).contains(&self.address().to_string()).then_some(())
        });
    }
}
