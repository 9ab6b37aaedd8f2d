//! canary: a part of the requests for a new version — kept together, in secret, or growing by itself.

use portunus_tests::{Answer, Origin, Proxy, Response, eventually};
use std::time::Duration;

/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(20);

fn versions() -> (Origin, Origin) {
    (Origin::says("old"), Origin::says("new"))
}

#[test]
fn a_client_stays_with_its_version_by_a_cookie() {
    let (old, new) = versions();
    let proxy =
        Proxy::site(format!("split cookie=version ttl=1h; proxy {old} weight=50; proxy {new} weight=50"));
    let mut seen = Vec::new();
    for _ in 0..20 {
        let first = proxy.get("/").expect(200);
        let set = first.fields.one("set-cookie").expect("a cookie").to_owned();
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"), "{set}");
        let pair = set.split(';').next().unwrap_or("");
        let again = proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {pair}\r\n\r\n"));
        assert_eq!((again.text(), again.fields.one("set-cookie")), (first.text(), None));
        seen.push(first.text());
    }
    assert!(seen.iter().any(|text| text == "old") && seen.iter().any(|text| text == "new"));
}

#[test]
fn a_client_stays_with_its_version_by_a_header() {
    let (old, new) = versions();
    let proxy = Proxy::site(format!("split header=X-User; proxy {old} weight=80; proxy {new} weight=20"));
    let of = |user: u32| -> Response {
        proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: user-{user}\r\n\r\n")).expect(200)
    };
    let first: Vec<String> = (0..60).map(|user| of(user).text()).collect();
    assert!((0..60).all(|user| of(user).text() == first[user as usize]));
    let new_ones = first.iter().filter(|text| *text == "new").count();
    assert!((3..=24).contains(&new_ones), "{new_ones} of 60");
}

#[test]
fn a_mirror_gets_copies_and_nobody_sees_its_answers() {
    let real = Origin::serve(|request| Answer::body(&request.body));
    let shadow = Origin::serve(|_| Answer::status(500, b"broken"));
    let proxy = Proxy::site(format!("mirror {shadow}; proxy {real}"));
    let mut client = proxy.client();
    for number in 0..5 {
        client.get(&format!("/?id=get-{number}")).expect(200);
        assert_eq!(client.post(&format!("/?id=post-{number}"), "a body").expect(200).text(), "a body");
    }
    shadow.wait_for(10);
    assert!(real.ledger().values().all(|count| *count == 1) && real.count() == 10);
    assert!(shadow.ledger().values().all(|count| *count == 1) && shadow.ledger().len() == 10);
    eventually("whole bodies", PATIENCE, || (shadow.complete().len() == 10).then_some(()));
    assert!(shadow.requests().iter().all(|copy| copy.fields.one("x-portunus-mirror") == Some("1")));
    assert!(real.requests().iter().all(|request| request.fields.one("x-portunus-mirror").is_none()));
    let posts = shadow.complete().into_iter().filter(|copy| copy.method == "POST");
    assert!(posts.into_iter().all(|copy| copy.body == b"a body"));
    assert!(shadow.mistakes().is_empty(), "{:?}", shadow.mistakes());
    eventually("ten copies", PATIENCE, || {
        (proxy.metric("portunus_mirrored_total", &[]) == 10.0).then_some(())
    });
}

#[test]
fn a_mirror_that_hangs_slows_nobody_and_is_bounded() {
    let real = Origin::says("real");
    let hanging = Origin::script(|connection| {
        connection.until_closed();
    });
    let proxy = Proxy::site(format!("mirror {hanging}; proxy {real}"));
    let mut client = proxy.client();
    for _ in 0..100 {
        assert_eq!(client.get("/").expect(200).text(), "real");
    }
    assert!(hanging.connections() <= 32, "{}", hanging.connections());
    proxy.wait_for_metric("portunus_mirrors_skipped_total", &[], 68.0);
}

#[test]
fn what_is_too_large_is_not_mirrored() {
    let real = Origin::serve(|request| Answer::text(&request.body.len().to_string()));
    let shadow = Origin::says("x");
    let proxy = Proxy::site(format!("mirror {shadow}; proxy {real}"));
    let (fits, large) = ("x".repeat(64 << 10), "x".repeat((64 << 10) + 1));
    assert_eq!(proxy.client().post("/?id=fits", &fits).expect(200).text(), "65536");
    assert_eq!(proxy.client().post("/?id=large", &large).expect(200).text(), "65537");
    shadow.wait_for(1);
    eventually("one skipped", PATIENCE, || {
        (proxy.metric("portunus_mirrors_skipped_total", &[]) == 1.0).then_some(())
    });
    assert_eq!(shadow.ledger().keys().collect::<Vec<_>>(), ["fits"]);
}

#[test]
fn a_good_canary_gets_more_and_more() {
    let (old, new) = versions();
    let proxy = Proxy::site(format!(
        "canary {new} 20%..60% step=20% every=1s requests=5 abort=\"errors > 1%\"; proxy {old}"
    ));
    eventually("the last share", PATIENCE, || {
        let mut client = proxy.client();
        for _ in 0..50 {
            client.get("/").expect(200);
        }
        proxy.stderr().contains("stays at its last share").then_some(())
    });
    let log = proxy.stderr();
    assert!(
        log.contains("40% of the requests after 20%") && log.contains("60% of the requests after 40%"),
        "{log}"
    );
    let status = proxy.admin("GET", "/status").text();
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(
        (&status["canaries"][0]["share"], &status["canaries"][0]["state"]),
        (&"60%".into(), &"arrived".into())
    );
}

#[test]
fn a_bad_canary_is_taken_back() {
    let (old, bad) = (Origin::says("old"), Origin::serve(|_| Answer::status(500, b"new")));
    let proxy = Proxy::site(format!("canary {bad} 20%..60% step=20% every=1h requests=5; proxy {old}"));
    eventually("the end of it", PATIENCE, || {
        let mut client = proxy.client(); // one for all might come to the end of its requests
        for _ in 0..50 {
            client.get("/");
        }
        proxy.stderr().contains("given up at 20%: errors 100% > 1%").then_some(())
    });
    let before = bad.count();
    let mut client = proxy.client();
    for _ in 0..100 {
        client.get("/").expect(200);
    }
    assert_eq!(bad.count(), before);
    assert!(proxy.admin("GET", "/status").text().contains("given up"));
}
