//! routing: which route a request takes, and which host of a pool has it.

use portunus_tests::proxy::site;
use portunus_tests::{Answer, Origin, Proxy, eventually, load};
use std::collections::HashMap;
use std::time::Duration;

#[test]
fn routes_go_by_precedence_not_by_order() {
    let proxy = Proxy::site(
        "route ~^/v[0-9]+/ { respond 200 pattern }
        route /* { respond 200 all }
        route /users/* { respond 200 users }
        route /users/* method=DELETE { respond 200 users-delete }
        route /users/* header.x-a=1 { respond 200 users-header }
        route /users/* header.x-a=1 header.x-b=~2.* { respond 200 users-headers }
        route /users/* query.v=2 { respond 200 users-query }
        route /users/* cookie.srv=x { respond 200 users-cookie }
        route /users/special { respond 200 exact }
        route /users/special/* { respond 200 longer }
        route /low { respond 200 low }
        route /* header.x-c=* priority=5 { respond 200 first }",
    );
    let ask = |method: &str, target: &str, lines: &str| {
        proxy.exchange(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).expect(200).text()
    };
    for (method, target, lines, expected) in [
        ("GET", "/", "", "all"),
        ("GET", "/users", "", "users"),
        ("GET", "/users/", "", "users"),
        ("GET", "/users/7", "", "users"),
        ("GET", "/usersx", "", "all"),
        ("GET", "/users/special", "", "exact"),
        ("GET", "/users/special/x", "", "longer"),
        ("GET", "/users/specialx", "", "users"),
        ("GET", "/users/./special", "", "exact"),
        ("DELETE", "/users/7", "", "users-delete"),
        ("DELETE", "/users/7", "X-A: 1\r\n", "users-delete"),
        ("GET", "/users/7", "X-A: 1\r\n", "users-header"),
        ("GET", "/users/7", "x-a: 1\r\nX-B: 22\r\n", "users-headers"),
        ("GET", "/users/7", "X-A: 11\r\n", "users"),
        ("GET", "/users/7?v=2", "", "users-query"),
        ("GET", "/users/7?v=22", "", "users"),
        ("GET", "/users/7?w=1&v=2", "", "users-query"),
        ("GET", "/users/7", "Cookie: a=b; srv=x\r\n", "users-cookie"),
        ("GET", "/users/7", "Cookie: srv=y\r\n", "users"),
        ("GET", "/v1/x", "", "all"),
        ("GET", "/low", "X-C: any\r\n", "first"),
        ("GET", "/low", "", "low"),
    ] {
        assert_eq!(ask(method, target, lines), expected, "{method} {target} {lines:?}");
    }
}

#[test]
fn a_pattern_goes_after_prefixes_and_before_the_site_itself() {
    let proxy = Proxy::site(
        "route ~^/v[0-9]+/ { respond 200 pattern }\n route /v1/x/* { respond 200 prefix }\n respond 200 own",
    );
    assert_eq!(proxy.get("/v1/x/y").text(), "prefix");
    assert_eq!(proxy.get("/v1/y").text(), "pattern");
    assert_eq!(proxy.get("/x/v1/").text(), "own");
}

#[test]
fn sites_go_by_host_exact_before_wildcard_before_any() {
    let proxy = Proxy::start(
        "site http://a.example { listen @listen\n respond 200 exact }
        site http://*.example { listen @listen\n respond 200 under-example }
        site http://*.b.example { listen @listen\n respond 200 under-b }
        site * { listen @listen\n listen @listen2\n respond 200 any }\n",
    );
    let ask =
        |host: &str| proxy.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect(200).text();
    for (host, expected) in [
        ("a.example", "exact"),
        ("x.example", "under-example"),
        ("x.y.example", "under-example"),
        ("x.b.example", "under-b"),
        ("b.example", "under-example"),
        ("example", "any"),
        ("other", "any"),
    ] {
        assert_eq!(ask(host), expected, "{host}");
    }
    let mut second = portunus_tests::Client::connect(proxy.further_address(1));
    let answer = second.exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").expect(200);
    assert_eq!(answer.text(), "any", "the other sites do not listen there");
}

#[test]
fn routes_go_by_the_clients_address() {
    let proxy = Proxy::site(
        "route /* client=10.0.0.0/8 { respond 200 ten }\n route /* client=127.0.0.0/8,::1 { respond 200 home }\n respond 200 other",
    );
    assert_eq!(proxy.get("/").text(), "home");
}

#[test]
fn ten_thousand_routes_are_found() {
    let mut text = String::new();
    for number in 0..10_000 {
        text.push_str(&format!("route /r{number}/* {{ respond 200 {number} }}\n"));
    }
    let proxy = Proxy::site(text);
    for number in [0, 1, 4_999, 9_999] {
        assert_eq!(proxy.get(&format!("/r{number}/x")).expect(200).text(), number.to_string());
    }
    proxy.get("/r10000/x").expect(404);
}

#[test]
fn explain_says_what_happens() {
    let text = "route /users/* { respond 200 users }\n route /users/7 method=GET { respond 200 seven }";
    let proxy = Proxy::site(text);
    let url = format!("http://{}/users/7", proxy.address());
    assert_eq!(proxy.get("/users/7").text(), "seven");
    let run = proxy.command(&["explain", "GET", &url]).expect(0);
    assert!(run.stdout.contains("/users/7") && run.stdout.contains("/users/*"), "{}", run.stdout);
}

#[test]
fn explain_says_what_the_filters_make_of_it() {
    let proxy = Proxy::site(
        "route /no { access allow 10.0.0.0/8; access deny all; proxy :1 }\n \
         route /old { redirect 308 /new; proxy :1 }\n \
         route ~^/v1/ { rewrite ~^/v1/(.*) /$1; proxy :1 }",
    );
    let explain = |path: &str, client: &str| {
        let url = format!("http://{}{path}", proxy.address());
        proxy.command(&["explain", "GET", &url, "--client", client]).expect(0).stdout
    };
    let refused = explain("/no", "192.0.2.1");
    assert!(refused.contains(": answers 403, refused\n"), "{refused}");
    assert!(!refused.contains("\npool "), "{refused}");
    let let_in = explain("/no", "10.1.2.3");
    assert!(!let_in.contains("answers") && let_in.contains("\npool "), "{let_in}");
    let old = explain("/old", "192.0.2.1");
    assert!(old.contains(": answers 308, ") && old.contains("/new") && !old.contains("\npool "), "{old}");
    let v1 = explain("/v1/a?b", "192.0.2.1");
    assert!(v1.contains(": goes on as /a?b\n") && v1.contains("\npool "), "{v1}");
}

#[test]
fn explain_believes_whom_the_proxy_believes() {
    let proxy = Proxy::start(&format!(
        "trusted-proxies 127.0.0.9\n{}",
        site(
            "route /own client=10.0.0.0/8 { respond 200 }\n route /plain header.x-forwarded-proto=http { respond 301 }\n proxy :1"
        )
    ));
    let explain = |path: &str, client: &str, field: &str| {
        let url = format!("http://{}{path}", proxy.address());
        proxy.command(&["explain", "GET", &url, "--client", client, "-H", field]).expect(0).stdout
    };
    let own = "X-Forwarded-For: 10.1.1.1";
    assert!(
        explain("/own", "127.0.0.9", own).contains("answers 200"),
        "{}",
        explain("/own", "127.0.0.9", own)
    );
    assert!(!explain("/own", "127.0.0.8", own).contains("answers 200"));
    let lie = "X-Forwarded-Proto: https";
    assert!(explain("/plain", "127.0.0.8", lie).contains("answers 301"));
    assert!(!explain("/plain", "127.0.0.9", lie).contains("answers 301"));
    let run = proxy.command(&["explain", "TRACE", &format!("http://{}/", proxy.address())]).expect(1);
    assert!(run.stderr.contains("405"), "{}", run.stderr);
}

#[test]
fn explain_heeds_port_and_scheme() {
    let proxy = Proxy::site("respond 200 ok");
    let address = proxy.address();
    for url in ["http://a.test:1/".to_owned(), format!("https://{address}/"), "https://a.test/".to_owned()] {
        let run = proxy.command(&["explain", "GET", &url]).expect(1);
        assert!(run.stderr.contains(&format!("there is http at {address}")), "{url}: {}", run.stderr);
    }
    for url in [format!("http://{address}/"), format!("{address}/"), "http://a.test/".to_owned()] {
        proxy.command(&["explain", "GET", &url]).expect(0);
    }
}

#[test]
fn explain_finds_the_listener_with_a_site_of_the_host() {
    let proxy = Proxy::start(
        "site * { listen @listen; respond 200 any }\nsite shop.test { listen @listen2; respond 200 shop }",
    );
    let (any, own) = (proxy.address(), proxy.further_address(1));
    for (url, address) in [("shop.test/", own), ("http://shop.test/", own), ("http://b.test/", any)] {
        let run = proxy.command(&["explain", "GET", url]).expect(0);
        assert!(run.stdout.contains(&format!(" at {address}\n")), "{url}: {}", run.stdout);
    }
}

/// How many requests of `count` each origin gets.
fn shares(proxy: &Proxy, count: usize, lines: impl Fn(usize) -> String) -> HashMap<String, usize> {
    let mut client = proxy.client();
    let mut shares = HashMap::new();
    for number in 0..count {
        let answer =
            client.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(number))).expect(200);
        *shares.entry(answer.text()).or_default() += 1;
    }
    shares
}

fn of(shares: &HashMap<String, usize>, name: &str) -> usize {
    shares.get(name).copied().unwrap_or(0)
}

#[test]
fn a_route_shares_its_requests_by_weight() {
    let (a, b) = (Origin::says("a"), Origin::says("b"));
    let proxy = Proxy::site(format!("route / {{\n proxy {a} weight=90\n proxy {b} weight=10\n }}"));
    let shares = shares(&proxy, 1000, |_| String::new());
    assert!((50..=160).contains(&of(&shares, "b")), "{shares:?}");
    assert_eq!(of(&shares, "a") + of(&shares, "b"), 1000);
}

#[test]
fn round_robin_is_smooth_and_by_weight() {
    let (a, b, c) = (Origin::says("a"), Origin::says("b"), Origin::says("c"));
    let proxy = Proxy::start(&format!(
        "pool p {{\n server {a} weight=3\n server {b}\n server {c} weight=0\n}}\n{}",
        site("proxy p")
    ));
    let shares = shares(&proxy, 400, |_| String::new());
    assert_eq!((of(&shares, "a"), of(&shares, "b"), of(&shares, "c")), (300, 100, 0));
}

#[test]
fn every_policy_uses_every_host() {
    for policy in ["round-robin", "least-requests", "random-two"] {
        let (a, b, c) = (Origin::says("a"), Origin::says("b"), Origin::says("c"));
        let text = format!(
            "pool p {{\n server {a}\n server {b}\n server {c}\n balance {policy}\n}}\n{}",
            site("proxy p")
        );
        let proxy = Proxy::start(&text);
        let answers = load::side_by_side(6, |_| shares(&proxy, 50, |_| String::new()));
        for name in ["a", "b", "c"] {
            let count: usize = answers.iter().map(|shares| of(shares, name)).sum();
            assert!(count > 30, "{policy}: {name} got {count} of 300");
        }
    }
}

#[test]
fn round_robin_does_not_wait_for_a_slow_host() {
    let slow = Origin::script(|connection| {
        while connection.request().is_some() {
            connection.until_closed();
        }
    });
    let (a, b) = (Origin::says("a"), Origin::says("b"));
    // All of its room would be taken by those who wait for the slow one.
    let proxy = Proxy::start(&format!(
        "pool p {{\n server {slow}\n server {a}\n server {b}\n max-in-flight 50\n retry off\n}}\n{}",
        site("proxy p")
    ));
    let mut stuck: Vec<_> = (0..180).map(|_| proxy.client()).collect();
    for client in &mut stuck {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("each at a host", Duration::from_secs(30), || {
        (slow.count() + a.count() + b.count() == 180).then_some(())
    });
    // Its part of what may be under way and a quarter more: 21; two workers may choose at one time.
    assert!((16..=24).contains(&slow.count()), "{}", slow.count());
    let shares = shares(&proxy, 40, |_| String::new());
    assert_eq!((of(&shares, "a"), of(&shares, "b")), (20, 20));
}

#[test]
fn least_requests_avoids_the_busy_host() {
    let slow = Origin::script(|connection| {
        while connection.request().is_some() {
            connection.until_closed();
        }
    });
    let fast = Origin::says("fast");
    let text = format!(
        "pool p {{\n server {slow}\n server {fast}\n balance least-requests\n}}\n{}",
        site("proxy p")
    );
    let proxy = Proxy::start(&text);
    let mut stuck = Vec::new();
    while slow.count() == 0 {
        let mut client = proxy.client();
        client.send("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
        stuck.push(client);
        eventually("an arrival", Duration::from_secs(5), || {
            (slow.count() + fast.count() >= stuck.len()).then_some(())
        });
    }
    assert_eq!(of(&shares(&proxy, 50, |_| String::new()), "fast"), 50);
}

#[test]
fn a_hash_is_sticky_and_moves_little_when_a_host_goes() {
    let origins = [Origin::says("a"), Origin::says("b"), Origin::says("c")];
    let proxy = Proxy::start(&format!(
        "pool p {{\n server {}\n server {}\n server {}\n balance hash ${{header.x-user}}\n retry tries=3\n}}\n{}",
        origins[0],
        origins[1],
        origins[2],
        site("proxy p")
    ));
    let home = |user: usize| {
        proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: user-{user}\r\n\r\n")).expect(200).text()
    };
    let before: Vec<String> = (0..60).map(home).collect();
    assert_eq!(before, (0..60).map(home).collect::<Vec<_>>(), "the same user, the same host");
    for name in ["a", "b", "c"] {
        assert!(before.iter().filter(|home| *home == name).count() >= 5, "{before:?}");
    }
    origins[1].kill();
    for (user, before) in before.iter().enumerate() {
        let after = home(user);
        assert!(
            if before == "b" { after != "b" } else { after == *before },
            "user {user}: {before} → {after}"
        );
    }
}

#[test]
fn client_ip_keeps_a_client_at_its_host() {
    let (a, b) = (Origin::says("a"), Origin::says("b"));
    let proxy = Proxy::start(&format!(
        "pool p {{\n server {a}\n server {b}\n balance client-ip\n}}\n{}",
        site("proxy p")
    ));
    assert_eq!(shares(&proxy, 30, |_| String::new()).len(), 1);
}

#[test]
fn a_backup_is_used_when_no_other_is_left() {
    let (main, spare) = (Origin::says("main"), Origin::says("spare"));
    let proxy =
        Proxy::start(&format!("pool p {{\n server {main}\n server {spare} backup\n}}\n{}", site("proxy p")));
    assert_eq!(of(&shares(&proxy, 20, |_| String::new()), "main"), 20);
    main.kill();
    assert_eq!(proxy.get("/").expect(200).text(), "spare");
}

#[test]
fn a_name_is_resolved() {
    let origin = Origin::serve(|request| Answer::text(request.fields.one("host").unwrap_or("")));
    let proxy = Proxy::site(format!("proxy localhost:{}", origin.address().port()));
    let answer = portunus_tests::eventually("the name", std::time::Duration::from_secs(10), || {
        Some(proxy.get("/")).filter(|answer| answer.status == 200)
    });
    assert_eq!(answer.text(), "a", "Host stays the client's");
}
