//! acme: certificates that nobody wrote down — from a real CA, and from our own — issued, kept, renewed; and what happens when the CA does not want to.

use portunus_tests::binary::{has, portunus};
use portunus_tests::pebble::{EAB, Pebble, Temper};
use portunus_tests::tls::{Secured, Trusting};
use portunus_tests::{Answer, Client, Origin, Place, Proxy, eventually};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(40);

/// A proxy that wants a certificate for a.test: TLS at `@listen`, plain HTTP at `@listen2`.
fn proxy(pebble: &Pebble, acme: &str, sites: &str) -> Proxy {
    proxy_in(Place::new(), pebble, acme, sites)
}

fn proxy_in(place: Place, pebble: &Pebble, acme: &str, sites: &str) -> Proxy {
    let ca = pebble.ca();
    Proxy::start_in(place, &format!("state @dir/state\nacme {{ {ca}\n{acme}\n}}\n{SITE}{sites}"))
}

const SITE: &str = "site a.test { listen @listen tls; listen @listen2; tls auto; respond 200 hello }\n";

fn temper(proxy: &Proxy) -> Temper {
    Temper::looking_at(proxy.further_address(1), proxy.address())
}

/// Shakes hands as soon as there is a certificate that the CA's root proves.
fn secured(pebble: &Pebble, address: SocketAddr, name: &str) -> Secured {
    let trusting = Trusting::believing(&pebble.root());
    eventually(&format!("a certificate for {name}"), PATIENCE, || trusting.connect(address, name).ok())
}

fn get(host: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// What `/status` says of the certificate for `name`.
fn status(proxy: &Proxy, name: &str) -> serde_json::Value {
    let status: serde_json::Value =
        serde_json::from_str(&proxy.admin("GET", "/status").expect(200).text()).expect("JSON");
    let all = status["certificates"].as_array().expect("certificates").clone();
    all.into_iter().find(|one| one["name"] == name).unwrap_or_default()
}

#[track_caller]
fn expect_from(proxy: &Proxy, directory: &str) {
    eventually("the status", PATIENCE, || {
        let known = status(proxy, "a.test");
        (known["error"].is_null() && known["from"] == directory).then_some(())
    });
}

#[track_caller]
fn wait_for_error(proxy: &Proxy, words: &str) {
    eventually(words, PATIENCE, || {
        let told = status(proxy, "a.test")["error"].as_str().unwrap_or("").to_owned();
        told.contains(words).then_some(())
    });
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("a file").permissions().mode() & 0o777
}

#[test]
fn a_start_waits_for_no_ca_and_an_outage_is_visible_and_loses_nothing() {
    let mut pebble = Pebble::new();
    let began = Instant::now();
    let mut proxy = proxy(&pebble, "email ops@example.com", "");
    assert!(began.elapsed() < Duration::from_secs(10));
    Client::connect(proxy.further_address(1)).exchange(get("a.test")).expect(200);
    proxy.wait_for_stderr("a.test gets no certificate: localhost");
    wait_for_error(&proxy, "no connection");
    proxy.wait_for_metric("portunus_certificate_tries_total", &["result=\"failed\""], 1.0);
    let refused = Trusting::believing(&include_root(&pebble)).connect(proxy.address(), "a.test");
    assert!(refused.map(|_| ()).unwrap_err().contains("InternalError"));
    proxy.expect_metric("portunus_tls_handshakes_total", &["result=\"no-certificate\""], 1.0);

    pebble.start(&temper(&proxy));
    let mut client = secured(&pebble, proxy.address(), "a.test").client;
    assert_eq!(client.exchange(get("a.test")).expect(200).text(), "hello");
    expect_from(&proxy, &pebble.directory());
    assert!(proxy.metric("portunus_certificate_not_after_seconds", &["certificate=\"a.test\""]) > 1e9);
    let state = proxy.place().file("state");
    for file in ["acme/certificates/a.test.pem", "acme/certificates/a.test.json"] {
        assert_eq!(mode(&state.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&state.join("acme/accounts")), 0o700);

    // What is there is there, whoever is not: after a crash, without the CA.
    let root = pebble.root();
    pebble.stop();
    proxy.crash_and_start_again();
    Trusting::believing(&root).must_connect(proxy.address(), "a.test");
}

/// A root that is of no use, because nothing is shown.
fn include_root(pebble: &Pebble) -> String {
    std::fs::read_to_string(pebble.trust()).expect("a certificate")
}

#[test]
fn tls_alpn_01_is_answered_in_the_handshake() {
    let mut pebble = Pebble::new();
    let proxy = proxy(&pebble, "challenge tls-alpn-01", "");
    pebble.start(&temper(&proxy));
    secured(&pebble, proxy.address(), "a.test").client.exchange(get("a.test")).expect(200);
    proxy.wait_for_metric("portunus_tls_handshakes_total", &["result=\"challenge\""], 1.0);
}

#[test]
fn dns_01_by_a_program_gets_a_wildcard() {
    let mut pebble = Pebble::new();
    let place = Place::new();
    let (set, log) = (pebble.set_record(), place.file("hook.log"));
    let text = format!("echo \"$1\" >> {}\n[ $1 = cleanup ] && exit 0\nshift\n{set}\n", log.display());
    let hook = place.write("hook", text);
    let proxy = proxy_in(
        place,
        &pebble,
        &format!("challenge dns-01; dns exec /bin/sh {} wait=0s", hook.display()),
        "site *.b.test { listen @listen tls; tls auto; respond 200 wild }\n",
    );
    pebble.start(&temper(&proxy));
    let mut client = secured(&pebble, proxy.address(), "x.b.test").client;
    assert_eq!(client.exchange(get("x.b.test")).expect(200).text(), "wild");
    eventually("the record to be taken away", PATIENCE, || {
        std::fs::read_to_string(&log).ok().filter(|log| log.contains("cleanup"))
    });
}

#[test]
fn a_stop_ends_a_program_that_changes_the_dns_and_is_no_failure() {
    let mut pebble = Pebble::new();
    let place = Place::new();
    let id = place.file("hook.id");
    let text = format!(
        "[ $1 = cleanup ] && exit 0\nsleep 1000 &\necho $! > {0}.new; mv {0}.new {0}; wait\n",
        id.display()
    );
    let hook = place.write("hook", text);
    let mut proxy = proxy_in(
        place,
        &pebble,
        &format!("challenge dns-01; dns exec /bin/sh {} wait=0s", hook.display()),
        "",
    );
    pebble.start(&temper(&proxy));
    let id = eventually("the program to be run", PATIENCE, || std::fs::read_to_string(&id).ok());
    let started = Path::new("/proc").join(id.trim());
    assert!(started.exists());
    proxy.signal("TERM");
    proxy.wait_for_exit(PATIENCE);
    eventually("what the program has started to end", PATIENCE, || {
        let state = std::fs::read_to_string(started.join("stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
    assert!(!proxy.stderr().contains("has failed"), "{}", proxy.stderr());
    let state = proxy.place().file("state");
    let note = std::fs::read_to_string(state.join("acme/certificates/a.test.json")).expect("a note");
    assert!(
        !note.contains("has failed") && !state.join("acme/certificates/.a.test.json.new").exists(),
        "{note}"
    );
}

#[test]
fn a_ca_that_refuses_is_quoted_and_nothing_else_stops() {
    let mut pebble = Pebble::new();
    let proxy = proxy(&pebble, "challenge http-01", "");
    let nobody = portunus_tests::Port::free();
    pebble.start(&Temper::looking_at(nobody.address(), nobody.address()));
    // Its own words, and where it has looked.
    let line = proxy.wait_for_stderr("http://a.test:");
    assert!(line.contains("connection: ") && line.contains("the next try is in"), "{line}");
    wait_for_error(&proxy, "http://a.test:");
    proxy.expect_metric("portunus_certificates_wanting", &[], 1.0);
    Client::connect(proxy.further_address(1)).exchange(get("a.test")).expect(200);
}

#[test]
fn what_is_no_directory_is_told_and_the_next_ca_is_asked() {
    let mut pebble = Pebble::new();
    let (other, trust) = (pebble.directory().replace("/dir", "/nonsense"), pebble.trust());
    let ca = pebble.ca();
    let proxy = Proxy::start(&format!("state @dir/state\nacme {{ ca {other} trust={trust}; {ca} }}\n{SITE}"));
    pebble.start(&temper(&proxy));
    secured(&pebble, proxy.address(), "a.test");
    expect_from(&proxy, &pebble.directory());
    proxy.write_config(&format!("state @dir/state\nacme {{ ca {other} trust={trust} }}\n{SITE}"));
    proxy.command(&["reload"]).expect(0);
    proxy.wait_for_stderr("/nonsense answers with 404");
    secured(&pebble, proxy.address(), "a.test");
}

#[test]
fn an_outage_of_the_first_ca_is_visible_and_further_names_do_not_wait_for_it() {
    let mut pebble = Pebble::new();
    let (nobody, trust, ca) = (portunus_tests::Port::free(), pebble.trust(), pebble.ca());
    let first = format!("https://localhost:{}/dir", nobody.address().port());
    let text = format!("state @dir/state\nacme {{ ca {first} trust={trust}; {ca} }}\n{SITE}");
    let proxy = Proxy::start(&text);
    pebble.start(&temper(&proxy));
    secured(&pebble, proxy.address(), "a.test");
    let line = proxy.wait_for_stderr("a.test gets its certificate from");
    assert!(line.contains("warning") && line.contains("no connection"), "{line}");
    let failed = || proxy.metric("portunus_certificate_tries_total", &["result=\"failed\""]);
    let before = failed();
    assert!(before >= 1.0);
    let passed_over = |name: &str| status(&proxy, name)["passed_over"].as_str().unwrap_or("").to_owned();
    eventually("the status", PATIENCE, || passed_over("a.test").contains("no connection").then_some(()));
    assert!(proxy.command(&["status"]).expect(0).stdout.contains("passed over: localhost"));
    proxy.expect_metric("portunus_certificates_wanting", &[], 0.0);

    proxy.write_config(&format!(
        "{text}site b.test {{ listen @listen tls; listen @listen2; tls auto; respond 200 }}\n"
    ));
    proxy.command(&["reload"]).expect(0);
    secured(&pebble, proxy.address(), "b.test");
    eventually("the status", PATIENCE, || passed_over("b.test").contains("no connection").then_some(()));
    assert_eq!(failed(), before);
}

#[test]
fn an_account_that_was_made_before_is_shown() {
    let mut pebble = Pebble::new();
    let (ca, [id, key]) = (pebble.ca(), EAB);
    let text = |key: &str| format!("state @dir/state\nacme {{ {ca} eab-id={id} eab-key={key} }}\n{SITE}");
    let proxy = Proxy::start(&text(&key.replace('z', "y")));
    pebble.start(&Temper { eab: true, ..temper(&proxy) });
    wait_for_error(&proxy, "no account");
    // Whoever has corrected what was wrong need not wait for the next try.
    proxy.write_config(&text(key));
    proxy.command(&["reload"]).expect(0);
    secured(&pebble, proxy.address(), "a.test");
    let shown = proxy.command(&["adapt"]).expect(0).stdout;
    assert!(shown.contains(id) && !shown.contains(key), "{shown}");
}

#[test]
fn it_is_renewed_before_it_ends_and_nobody_notices() {
    let mut pebble = Pebble::new();
    let proxy = proxy(&pebble, "", "");
    pebble.start(&Temper { validity: Duration::from_secs(20), ..temper(&proxy) });
    let first = secured(&pebble, proxy.address(), "a.test");
    let failed = || proxy.metric("portunus_certificate_tries_total", &["result=\"failed\""]);
    let (before, trusting) = (failed(), Trusting::believing(&pebble.root()));
    let mut old = first.client;
    old.exchange(get("a.test")).expect(200);
    eventually("another certificate", PATIENCE, || {
        let now = trusting.must_connect(proxy.address(), "a.test");
        (now.shown != first.shown).then_some(())
    });
    old.exchange(get("a.test")).expect(200);
    assert_eq!(failed(), before);
}

#[test]
fn names_on_demand_are_asked_for_and_the_others_get_none() {
    let mut pebble = Pebble::new();
    let origin = Origin::serve(|request| match request.query("domain") {
        Some("good.d.test") => Answer::text("yes"),
        _ => Answer::status(404, b""),
    });
    let proxy = proxy(
        &pebble,
        &format!("ask http://{origin}/may"),
        "site *.d.test { listen @listen tls; tls auto on-demand; respond 200 demanded }\n",
    );
    pebble.start(&temper(&proxy));
    secured(&pebble, proxy.address(), "a.test");
    let trusting = Trusting::believing(&pebble.root());
    let mut good = trusting.must_connect(proxy.address(), "good.d.test");
    assert_eq!(good.client.exchange(get("good.d.test")).expect(200).text(), "demanded");
    assert!(trusting.connect(proxy.address(), "bad.d.test").is_err());
    let asked = origin.count();
    assert!(trusting.connect(proxy.address(), "bad.d.test").is_err());
    assert_eq!(origin.count(), asked, "nobody is asked again so soon");
    trusting.must_connect(proxy.address(), "good.d.test");
    assert_eq!(origin.count(), 2);
}

#[test]
fn what_cannot_be_kept_is_not_asked_for_and_tried_less_and_less() {
    let mut pebble = Pebble::new();
    let place = Place::new();
    std::fs::create_dir(place.file("state")).expect("a folder");
    place.write("state/acme", "this is no folder");
    let proxy = proxy_in(place, &pebble, "", "");
    pebble.start(&temper(&proxy));
    let line = proxy.wait_for_stderr("the next try is in 2 s");
    assert!(line.contains("could not be kept") && line.contains("state/acme"), "{line}");
    proxy.wait_for_stderr("the next try is in 5 s");
}

#[test]
fn names_that_nobody_allows_leave_nothing_behind() {
    let pebble = Pebble::new();
    let origin = Origin::serve(|_| Answer::status(403, b""));
    let sites = "site *.d.test { listen @listen tls; tls auto on-demand; respond 200 demanded }\n";
    let proxy = proxy(&pebble, &format!("ask http://{origin}/may"), sites);
    let trusting = Trusting::believing(&include_root(&pebble));
    for at in 0..12 {
        assert!(trusting.connect(proxy.address(), &format!("stranger-{at}.d.test")).is_err());
    }
    assert_eq!(origin.count(), 12);
    let mut folders = vec![proxy.place().file("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            assert!(!path.to_string_lossy().contains("stranger"), "{}", path.display());
            folders.extend(path.is_dir().then_some(path));
        }
    }
    assert!(!proxy.stderr().contains("stranger"), "{}", proxy.stderr());
}

#[test]
fn whoever_is_asked_and_gives_no_answer_is_told_of() {
    let pebble = Pebble::new();
    let silent = Origin::script(|connection| _ = connection.until_closed());
    let sites = "site *.d.test { listen @listen tls; tls auto on-demand; respond 200 demanded }\n";
    let ca = pebble.ca();
    let text = |ask: SocketAddr| {
        format!(
            "state @dir/state\nlimits {{ handshake-time 2s }}\nacme {{ {ca}\nask http://{ask}/may }}\n{SITE}{sites}"
        )
    };
    let proxy = Proxy::start(&text(silent.address()));
    let trusting = Trusting::believing(&include_root(&pebble));
    assert!(trusting.connect(proxy.address(), "a.d.test").is_err());
    let line = proxy.wait_for_stderr("`ask` gives no answer");
    assert!(line.contains("warning") && line.contains("within 2s"), "{line}");
    let nobody = portunus_tests::Port::free();
    proxy.write_config(&text(nobody.address()));
    proxy.command(&["reload"]).expect(0);
    for name in ["b.d.test", "c.d.test"] {
        assert!(trusting.connect(proxy.address(), name).is_err());
    }
    proxy.wait_for_stderr("no connection: ");
    assert_eq!(proxy.stderr().matches("`ask` gives no answer").count(), 2, "{}", proxy.stderr());
}

#[test]
fn whoever_is_asked_is_asked_for_our_own_signature_too() {
    let origin = Origin::serve(|request| match request.query("domain") {
        Some("good.d.test") => Answer::text("yes"),
        _ => Answer::status(404, b""),
    });
    let proxy = Proxy::start(&format!(
        "state @dir/state\nacme {{ ask http://{origin}/may }}\n\
         site *.d.test {{ listen @listen tls; tls internal on-demand; respond 200 own }}\n\
         site localhost {{ listen @listen tls; respond 200 local }}\n"
    ));
    let trusting = Trusting::believing(&proxy.command(&["trust", "--print"]).expect(0).stdout);
    assert!(trusting.connect(proxy.address(), "bad.d.test").is_err());
    trusting.must_connect(proxy.address(), "good.d.test");
    assert_eq!(origin.count(), 2);
}

#[test]
fn whoever_leaves_keeps_no_place_in_the_line_of_names() {
    let origin = Origin::script(|connection| _ = connection.until_closed());
    let proxy = Proxy::start(&format!(
        "state @dir/state\nlimits {{ handshake-time 60s }}\nacme {{ ask http://{origin}/may }}\n\
         site *.d.test {{ listen @listen tls; tls internal on-demand; respond 200 own }}\n\
         site localhost {{ listen @listen tls; respond 200 local }}\n"
    ));
    let trusting = Trusting::believing(&proxy.command(&["trust", "--print"]).expect(0).stdout);
    for name in ["a.d.test", "b.d.test"] {
        TcpStream::connect(proxy.address()).unwrap().write_all(&trusting.hello(name)).unwrap();
    }
    proxy.wait_for_metric("portunus_tls_handshakes_total", &["result=\"client-gone\""], 2.0);
}

/// In a view of the file system of its own, in which the system's list is a copy: `$1` the program, `$2` the configuration, `$3` the URL, `$4` a folder.
const BELIEVES: &str = "set -e
mkdir $4/list $4/added; cp -rL /etc/ssl/certs/. $4/list
mount --bind $4/list /etc/ssl/certs; mount --bind $4/added /usr/local/share/ca-certificates
curl -sS $3 && exit 3
$1 trust -c $2 >&2
curl -sS $3";

#[test]
fn the_system_believes_the_internal_ca_once_it_was_told_to() {
    let proxy = Proxy::start(
        "state @dir/state\nsite localhost { listen @listen tls; tls internal; respond 200 believed }\n",
    );
    let folder = proxy.place().path().display().to_string();
    let (config, url) =
        (format!("{folder}/portunus.conf"), format!("https://localhost:{}/", proxy.address().port()));
    let may = Command::new("unshare").args(["--mount", "--map-root-user", "true"]).status();
    if !has("update-ca-certificates") || !has("curl") || !may.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: there is no view of the file system of one's own here");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", BELIEVES, "sh"]).arg(portunus());
    let output = command.args([&config, &url, &folder]).output().expect("to run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "believed", "{said}");
    assert!(said.contains("is believed by this machine until"), "{said}");
}

#[test]
fn killed_at_any_moment_it_comes_to_its_certificate() {
    let mut pebble = Pebble::new();
    let mut proxy = proxy(&pebble, "", "");
    pebble.start(&temper(&proxy));
    // Each time it dies a little later than the time before.
    for turn in 0..16_u64 {
        let until = Instant::now() + Duration::from_millis(turn * 40);
        let obtained = proxy.place().file("state/acme/certificates/a.test.pem");
        while Instant::now() < until && !obtained.exists() {
            std::thread::yield_now();
        }
        proxy.crash_and_start_again();
    }
    secured(&pebble, proxy.address(), "a.test").client.exchange(get("a.test")).expect(200);
    let accounts = std::fs::read_dir(proxy.place().file("state/acme/accounts")).expect("accounts");
    assert_eq!(
        accounts
            .filter(|one| !one.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b"."))
            .count(),
        1
    );
}

#[test]
fn private_names_are_signed_by_our_own_authority_which_can_be_believed() {
    let proxy = Proxy::start(
        "state @dir/state\nsite localhost x.internal 127.0.0.1 { listen @listen tls; respond 200 own }\n\
         site * { listen @listen2 tls; tls internal; respond 200 any }\n",
    );
    let printed = proxy.command(&["trust", "--print"]).expect(0).stdout;
    assert!(printed.starts_with("-----BEGIN CERTIFICATE-----") && !printed.contains("PRIVATE"), "{printed}");
    let trusting = Trusting::believing(&printed);
    for name in ["localhost", "x.internal", "127.0.0.1"] {
        let mut secured = trusting.must_connect(proxy.address(), name);
        assert_eq!(secured.client.exchange(get(name)).expect(200).text(), "own");
    }
    trusting.must_connect(proxy.further_address(1), "localhost");
    trusting.must_connect(proxy.further_address(1), "127.0.0.1");
    assert_eq!(mode(&proxy.place().file("state/internal/ca.pem")), 0o600);
    assert_eq!(status(&proxy, "localhost")["from"], "internal");
    // A reload keeps what there is, and a further name gets its own at once.
    let before = trusting.must_connect(proxy.address(), "localhost").shown;
    proxy.write_config(
        "state @dir/state\nsite localhost y.internal { listen @listen tls; respond 200 new }\n",
    );
    proxy.command(&["reload"]).expect(0);
    assert!(trusting.must_connect(proxy.address(), "localhost").shown == before);
    trusting.must_connect(proxy.address(), "y.internal");
    assert!(trusting.connect(proxy.address(), "x.internal").is_err());
}

#[test]
fn the_authority_that_is_believed_is_the_one_of_the_program_that_runs() {
    let place = Place::new();
    let text = "site localhost { listen @listen tls; respond 200 own }\n";
    let kept_elsewhere = |place: &Place, _: &[portunus_tests::Port]| {
        let mut command = std::process::Command::new(portunus_tests::binary::portunus());
        command.env("STATE_DIRECTORY", place.file("elsewhere"));
        command
    };
    let proxy = Proxy::start_by(kept_elsewhere, place, text);
    let printed = proxy.command(&["trust", "--print"]).expect(0).stdout;
    Trusting::believing(&printed).must_connect(proxy.address(), "localhost");
}
