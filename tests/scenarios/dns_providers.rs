//! dns_providers: `dns-01` with a provider of DNS that the program speaks with itself: a real name server, and one that is not there.

use portunus_tests::knot::{KEY, Knot, SECRET, ZONE};
use portunus_tests::pebble::{Pebble, Temper};
use portunus_tests::tls::Trusting;
use portunus_tests::{Place, Proxy, eventually};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);

fn proxy(pebble: &Pebble, dns: &str) -> Proxy {
    let acme = format!("acme {{ {}; challenge dns-01; dns {dns} wait=0s }}", pebble.ca());
    let site = "site *.b.test { listen @listen tls; tls auto; respond 200 wild }";
    Proxy::start_in(Place::new(), &format!("state @dir/state\n{acme}\n{site}\n"))
}

fn start(pebble: &mut Pebble, proxy: &Proxy, names: &Knot) {
    let temper = Temper::looking_at(proxy.address(), proxy.address());
    pebble.start(&Temper { names: Some(names.address()), ..temper });
}

#[test]
fn a_name_server_is_changed_and_changed_back() {
    let (mut pebble, names) = (Pebble::new(), Knot::start());
    // The zone is not written: `b.test` is found to be it.
    let proxy = proxy(&pebble, &format!("rfc2136 server={} key={KEY} secret={SECRET}", names.address()));
    start(&mut pebble, &proxy, &names);
    let trusting = Trusting::believing(&pebble.root());
    let mut client =
        eventually("a certificate", PATIENCE, || trusting.connect(proxy.address(), "x.b.test").ok());
    let answer = client.client.exchange("GET / HTTP/1.1\r\nHost: x.b.test\r\n\r\n").expect(200);
    assert_eq!(answer.text(), "wild");
    let record = format!("_acme-challenge.{ZONE}");
    eventually("the record to be taken away", PATIENCE, || (names.texts(&record) == Some(0)).then_some(()));
}

#[test]
fn what_the_name_server_says_against_a_change_is_told_without_the_key() {
    let (mut pebble, names) = (Pebble::new(), Knot::start());
    let wrong = "bm90IHRoZSBrZXkgdGhhdCBpcyBrbm93biB0aGVyZSAuLi4uLi4=";
    let proxy =
        proxy(&pebble, &format!("rfc2136 server={} key={KEY} secret={wrong} zone={ZONE}", names.address()));
    start(&mut pebble, &proxy, &names);
    let line = proxy.wait_for_stderr("`rfc2136` does not change");
    assert!(line.contains("_acme-challenge.b.test") && line.contains("in the zone `b.test`"), "{line}");
    assert!(!line.contains(wrong) && !proxy.admin("GET", "/status").expect(200).text().contains(wrong));
}

#[test]
fn a_provider_that_is_not_there_is_told_and_nothing_else_stops() {
    let (mut pebble, names) = (Pebble::new(), Knot::start());
    let nobody = portunus_tests::Port::free();
    let proxy = proxy(&pebble, &format!("powerdns server=http://{} key=k", nobody.address()));
    start(&mut pebble, &proxy, &names);
    proxy.wait_for_stderr("`powerdns` does not change `_acme-challenge.b.test`");
    proxy.admin("GET", "/live").expect(200);
}
