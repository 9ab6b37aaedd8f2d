//! headers: what the origin is told about the client, and what nobody may pretend (rows F8–F11, A46).

use portunus_tests::h2::head;
use portunus_tests::{Answer, Client, H2, Origin, Port, Proxy, Request};

fn told(settings: &str, lines: &str) -> Request {
    let origin = Origin::says("ok");
    let proxy =
        Proxy::start(&format!("{settings}\n{}", portunus_tests::proxy::site(&format!("proxy {origin}"))));
    proxy.exchange(format!("GET /p HTTP/1.1\r\nHost: shop.example:8080\r\n{lines}\r\n")).expect(200);
    origin.last()
}

#[test]
fn f8_the_origin_is_told_who_asks() {
    let request = told("", "");
    assert_eq!(request.fields.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.fields.one("x-forwarded-proto"), Some("http"));
    assert_eq!(request.fields.one("x-forwarded-host"), Some("shop.example:8080"));
    let forwarded = request.fields.one("forwarded").expect("Forwarded");
    for part in ["for=127.0.0.1", "proto=http"] {
        assert!(forwarded.contains(part), "{forwarded}");
    }
    let id = request.fields.one("x-request-id").expect("X-Request-Id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[test]
fn a28_who_names_no_host_asks_for_the_address_that_he_reached() {
    let origin = Origin::says("ok");
    for any in ["127.0.0.1", "0.0.0.0", "[::]"] {
        let port = Port::free();
        let listen = format!("listen {any}:{}", port.address().port());
        let _proxy = Proxy::start(&format!(
            "site 127.0.0.1 {{\n{listen}\nroute /red {{\nredirect https://${{host}}${{path}}\n}}\n\
             route /* {{\nrequest-header set X-Host \"${{host}}\"\nproxy {origin}\n}}\n}}\n\
             site * {{\n{listen}\nrespond 404\n}}\n"
        ));
        let ask = |text: &str| Client::connect(port.address()).exchange(text);
        ask("GET /p HTTP/1.0\r\n\r\n").expect(200);
        let reached = port.to_string();
        let heard = origin.last();
        assert_eq!(heard.fields.one("host"), Some(&*reached), "{any}");
        assert_eq!(heard.fields.one("x-forwarded-host"), Some(&*reached), "{any}");
        assert_eq!(heard.fields.one("x-host"), Some("127.0.0.1"), "{any}");
        let answer = ask("GET /red HTTP/1.0\r\n\r\n");
        assert_eq!(answer.fields.one("location"), Some("https://127.0.0.1/red"), "{any}");
        ask("GET /p HTTP/1.0\r\nHost: a\r\n\r\n").expect(404);
    }
}

#[test]
fn f8_what_a_client_pretends_is_deleted() {
    let request = told(
        "",
        "X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
         X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Server: x\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
         X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-Middleware-Subrequest: middleware\r\nX-Request-Id: mine\r\n\
         Client-Cert: :x:\r\nClient-Cert-Chain: :x:\r\nX-Forwarded-Client-Cert: x\r\nProxy: http://evil\r\n",
    );
    assert_eq!(request.fields.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.fields.one("x-forwarded-proto"), Some("http"));
    assert_eq!(request.fields.one("x-forwarded-host"), Some("shop.example:8080"));
    assert_ne!(request.fields.one("x-request-id"), Some("mine"));
    assert!(!request.fields.one("forwarded").unwrap_or("").contains("1.2.3.4"));
    for name in [
        "x-original-url",
        "x-rewrite-url",
        "x-middleware-subrequest",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "client-cert",
        "client-cert-chain",
        "x-forwarded-client-cert",
        "proxy",
    ] {
        assert!(!request.fields.has(name), "{name}");
    }
    assert_ne!(request.fields.one("x-real-ip"), Some("1.2.3.4"));
}

#[test]
fn f10_a_trusted_proxy_is_believed_from_right_to_left() {
    let trust = "trusted-proxies 127.0.0.0/8 10.0.0.0/8";
    for (chain, client) in [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4"),
        ("10.0.0.9, 10.0.0.7", "10.0.0.9"),
        ("garbage, 1.2.3.4", "1.2.3.4"),
    ] {
        let origin = Origin::says("ok");
        let proxy =
            Proxy::start(&format!("{trust}\n{}", portunus_tests::proxy::site(&format!("proxy {origin}"))));
        proxy
            .exchange(format!(
                "GET /who HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {chain}\r\nX-Forwarded-Proto: https\r\n\r\n"
            ))
            .expect(200);
        let request = origin.last();
        let told = request.fields.one("x-forwarded-for").expect("X-Forwarded-For").to_owned();
        assert!(told.ends_with("127.0.0.1") && told.contains(client), "{chain} → {told}");
        assert_eq!(request.fields.one("x-forwarded-proto"), Some("https"));
        assert_eq!(proxy.log_of("/who")["client"], client, "{chain}");
    }
}

#[test]
fn f10_nobody_is_trusted_by_default_and_access_rules_use_the_believed_address() {
    let rules = "access allow 1.2.3.4\n access deny all\n respond 200 in";
    let ask = |proxy: &Proxy, address: &str| {
        proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n")).status
    };
    let naive = Proxy::site(rules);
    assert_eq!(ask(&naive, "1.2.3.4"), 403);
    let trusting =
        Proxy::start(&format!("trusted-proxies 127.0.0.1/32\n{}", portunus_tests::proxy::site(rules)));
    assert_eq!(ask(&trusting, "1.2.3.4"), 200);
    assert_eq!(ask(&trusting, "1.2.3.4, 9.9.9.9"), 403, "the rightmost that is not trusted");
}

#[test]
fn a_request_id_is_new_each_time_and_in_the_log() {
    let origin = Origin::says("ok");
    let proxy = Proxy::site(format!("proxy {origin}"));
    let mut client = proxy.client();
    let ids: std::collections::HashSet<String> = (0..50)
        .map(|number| {
            client.get(&format!("/{number}")).expect(200);
            origin.last().fields.one("x-request-id").expect("an id").to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 50);
    let line = proxy.log_of("/49");
    assert_eq!(line["id"].as_str(), origin.last().fields.one("x-request-id"));
}

#[test]
fn f9_names_with_underscores_are_dropped_and_counted() {
    let request = told(
        "",
        "X_Auth_User: admin\r\nX-Auth_User: admin\r\n_: x\r\nX.Auth.User: dots pass\r\nX-Fine: y\r\n",
    );
    for name in ["x_auth_user", "x-auth_user", "_"] {
        assert!(!request.fields.has(name), "{name}");
    }
    assert_eq!(request.fields.one("x-fine"), Some("y"));
    assert!(request.fields.has("x.auth.user"), "dots are dropped toward FastCGI only");
}

#[test]
fn f9_names_with_underscores_that_are_listed_pass_by_every_version() {
    let origin = Origin::says("ok");
    let site = portunus_tests::proxy::site(&format!("proxy {origin}"));
    let proxy = Proxy::start(&format!("limits {{ underscores Tenant_ID user_id }}\n{site}"));
    proxy
        .exchange("GET / HTTP/1.1\r\nHost: a\r\ntenant_id: 1\r\nuser_id: 2\r\nuser_ids: 3\r\n\r\n")
        .expect(200);
    let by_h1 = origin.last();
    let mut client = H2::connect(proxy.address());
    let mut fields = head("GET", "/").to_vec();
    fields.extend([("tenant_id", "1"), ("user_id", "2"), ("user_ids", "3")]);
    let stream = client.ask(&fields, true);
    assert_eq!(client.outcome(stream).status, 200);
    for (request, version) in [(by_h1, "HTTP/1.1"), (origin.last(), "HTTP/2")] {
        assert_eq!(request.fields.one("tenant_id"), Some("1"), "{version}");
        assert_eq!(request.fields.one("user_id"), Some("2"), "{version}");
        assert!(!request.fields.has("user_ids"), "{version}");
    }
}

#[test]
fn f8_internal_answers_do_not_leave() {
    let origin = Origin::serve(|_| {
        Answer::fields(
            "X-Accel-Redirect: /secret\r\nX-Accel-Buffering: no\r\nX-Sendfile: /etc/passwd\r\nX-Fine: y\r\n",
            "ok",
        )
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let answer = proxy.get("/").expect(200);
    for name in ["x-accel-redirect", "x-accel-buffering", "x-sendfile"] {
        assert!(!answer.fields.has(name), "{name}");
    }
    assert_eq!(answer.fields.one("x-fine"), Some("y"));
}

#[test]
fn hop_by_hop_fields_of_answers_do_not_leave() {
    let origin = Origin::serve(|_| {
        Answer::fields(
            "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTrailer: x\r\n",
            "ok",
        )
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let answer = proxy.get("/").expect(200);
    for name in ["x-hop", "keep-alive", "proxy-connection", "upgrade", "connection"] {
        assert!(!answer.fields.has(name), "{name}");
    }
}

#[test]
fn i1_the_log_cannot_be_written_by_a_client() {
    let origin = Origin::says("ok");
    let proxy = Proxy::site(format!("proxy {origin}"));
    proxy
        .exchange(b"GET /log?\"},{\"x\":1 HTTP/1.1\r\nHost: a\r\nUser-Agent: \"\\ \x80\xe2\x80\xa8 {\r\nReferer: \t\"\r\n\r\n")
        .expect(200);
    let line =
        proxy.log("the request", |line| line["path"].as_str().is_some_and(|path| path.starts_with("/log?")));
    assert_eq!(line["path"], "/log?\"},{\"x\":1");
    assert_eq!(line["status"], 200);
}

#[test]
fn our_own_answers_are_clean_and_json_when_asked_for() {
    let proxy = Proxy::site("route /here { respond 200 yes }");
    let plain = proxy.get("/nowhere").expect(404);
    assert!(!plain.fields.has("server"), "no banner");
    assert!(plain.fields.has("date") && plain.fields.has("content-type"));
    let json =
        proxy.exchange("GET /nowhere HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n").expect(404);
    assert!(json.fields.one("content-type").is_some_and(|kind| kind.contains("json")));
    serde_json::from_slice::<serde_json::Value>(&json.body).expect("JSON");
    let head = proxy.exchange("HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").expect(404);
    assert!(head.body.is_empty());
}
