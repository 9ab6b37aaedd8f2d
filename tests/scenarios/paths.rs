//! paths: one normal form, matched, authorised and forwarded (rows F1–F5, F12–F14).

use portunus_tests::{Answer, Origin, Proxy};

fn echo() -> Origin {
    Origin::serve(|request| Answer::text(&request.target))
}

#[test]
fn f1_f2_f3_the_normal_form_is_forwarded() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    for (written, normal) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E/b", "/a/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e./b", "/b"),
        ("//a", "/a"),
        ("/a//b///c", "/a/b/c"),
        ("/a//../b", "/b"),
        ("/%61%62", "/ab"),
        ("/%7e", "/~"),
        ("/%2f", "/%2F"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%2f..%2fb", "/a%2F..%2Fb"),
        ("/a%2f../b", "/a%2F../b"),
        ("/%252e%252e/b", "/%252e%252e/b"),
        ("/%25%32%65/b", "/%252e/b"),
        ("/..;/b", "/..;/b"),
        ("/a/;x/b", "/a/;x/b"),
        ("/a..b/...", "/a..b/..."),
        ("/%c0%ae%c0%ae/b", "/%C0%AE%C0%AE/b"),
        ("/%e9", "/%E9"),
        ("/a?b=../c&d=%2e", "/a?b=../c&d=%2e"),
        ("/a?", "/a?"),
        ("/a?b?c", "/a?b?c"),
        ("http://a//x/../y", "/y"),
    ] {
        assert_eq!(proxy.get(written).expect(200).text(), normal, "{written}");
    }
}

#[test]
fn f1_what_has_no_normal_form_is_refused() {
    let origin = echo();
    let proxy = Proxy::site(format!("proxy {origin}"));
    for bad in [
        "/..",
        "/../a",
        "/a/../..",
        "/%2e%2e",
        "/%2e%2e/a",
        "/a/%2e%2e/%2e%2e/b",
        "/a\\b",
        "/a\\..\\b",
        "/%5c",
        "/%5C..",
        "/%00",
        "/a%00b",
        "/%0a",
        "/%0d",
        "/%1f",
        "/%7f",
        "/%",
        "/%g0",
        "/a%2",
    ] {
        let mut client = proxy.client();
        let answer = client.get(bad);
        assert_eq!(answer.status, 400, "{bad}");
        client.expect_close();
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn f1_no_spelling_passes_a_guarded_route() {
    let origin = echo();
    let proxy = Proxy::site(format!(
        "route /admin/* {{ respond 403 guarded }}\n route /public/* {{ proxy {origin} }}\n proxy {origin}"
    ));
    for spelling in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/./admin",
        "//admin",
        "/public/../admin",
        "/public/%2e%2e/admin/x",
        "/%61dmin",
        "/adm%69n/x",
        "/public/./.././admin",
        "///admin//x",
        "/x/../admin",
        "/public//../admin",
        "/%2e/admin",
        "http://a/admin",
        "http://a//admin",
    ] {
        assert_eq!(proxy.get(spelling).status, 403, "{spelling}");
    }
    let odd = Proxy::site(format!(
        "route /$meta/* {{ respond 403 guarded }}\n route ~^/@fs/ {{ respond 403 guarded }}\n \
         route /v1/users:delete {{ respond 403 guarded }}\n \
         route /@scope/* {{ rewrite strip=/@scope; proxy {origin} }}\n proxy {origin}"
    ));
    for spelling in ["/$meta/x", "/%24meta/x", "/@fs/x", "/%40fs/x", "/v1/users:delete", "/v1/users%3Adelete"]
    {
        assert_eq!(odd.get(spelling).status, 403, "{spelling}");
    }
    for spelling in ["/@scope/a%24", "/%40scope/a%24"] {
        assert_eq!(odd.get(spelling).expect(200).text(), "/a%24", "what is forwarded stays as it is");
    }
    // These are other paths, and the origin gets them as they were matched.
    for (spelling, seen) in [
        ("/administrator", "/administrator"),
        ("/Admin", "/Admin"),
        ("/admin%2fx", "/admin%2Fx"),
        ("/public%2f..%2fadmin", "/public%2F..%2Fadmin"),
        ("/admin;x/y", "/admin;x/y"),
        ("/%2561dmin", "/%2561dmin"),
        ("/public/..;/admin", "/public/..;/admin"),
    ] {
        assert_eq!(proxy.get(spelling).expect(200).text(), seen, "{spelling}");
    }
}

#[test]
fn f4_prefixes_match_whole_segments_and_rewrites_stay_inside() {
    let origin = echo();
    let proxy = Proxy::site(format!(
        "route /api/* {{ rewrite ~^/api(.*)$ /inner$1\n proxy {origin} }}\n route /strip/* {{ rewrite ~^/strip(.*)$ $1\n proxy {origin} }}\n respond 404 none"
    ));
    assert_eq!(proxy.get("/api/x?q").expect(200).text(), "/inner/x?q");
    proxy.get("/api../x").expect(404);
    proxy.get("/apix").expect(404);
    assert_eq!(proxy.get("/strip/x").expect(200).text(), "/x");
    let odd = proxy.get("/strip/%2e%2e/x");
    assert_eq!(odd.status, 404, "the path is /x before it is matched");
}

#[test]
fn f5_paths_know_letters_and_hosts_do_not() {
    let origin = echo();
    let proxy = Proxy::start(&format!(
        "site http://shop.example {{\n listen @listen\n route /Cart {{ respond 200 cart }}\n proxy {origin}\n}}\n"
    ));
    let get =
        |host: &str, target: &str| proxy.exchange(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in ["shop.example", "SHOP.Example", "shop.example.", "shop.example:80", "Shop.Example.:8080"] {
        assert_eq!(get(host, "/Cart").expect(200).text(), "cart", "{host}");
        assert_eq!(get(host, "/cart").expect(200).text(), "/cart", "{host}");
    }
    assert_eq!(origin.last().fields.one("host"), Some("shop.example:8080"));
}

#[test]
fn f12_an_unknown_host_is_421() {
    let origin = echo();
    let proxy = Proxy::start(&format!(
        "site http://a.example http://*.b.example {{\n listen @listen\n proxy {origin}\n}}\n"
    ));
    let get = |host: &str| proxy.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status;
    for (host, status) in [
        ("a.example", 200),
        ("x.b.example", 200),
        ("x.y.b.example", 200),
        ("b.example", 421),
        ("xb.example", 421),
        ("a.example.evil", 421),
        ("x.a.example", 421),
        ("127.0.0.1", 421),
        ("*.b.example", 200),
    ] {
        let came = get(host);
        assert!(came == status || (host.starts_with('*') && came == 400), "{host}: {came}");
    }
    assert_eq!(proxy.expect_reason("no-site")["status"], 421);
}

#[test]
fn f13_one_form_of_a_host() {
    let proxy = Proxy::start(
        "site http://[::1] http://10.0.0.1 http://xn--bcher-kva.example {\n listen @listen\n respond 200 ${host}\n}\n",
    );
    let get = |host: &str| proxy.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(get("[0:0:0:0:0:0:0:1]").expect(200).text(), "[::1]");
    assert_eq!(get("[::1]:8080").expect(200).text(), "[::1]");
    assert_eq!(get("10.0.0.1").expect(200).text(), "10.0.0.1");
    assert_eq!(get("XN--Bcher-KVA.example.").expect(200).text(), "xn--bcher-kva.example");
    get("[fe80::1%25eth0]").expect(400);
    get("[::1%eth0]").expect(400);
    get("b\u{fc}cher.example").expect(400);
}

#[test]
fn f14_redirects_stay_at_home() {
    let proxy = Proxy::site("redirect 308 ${path}");
    for (target, safe) in
        [("//evil.example", "/evil.example"), ("/%2f/evil", "/%2F/evil"), ("/a", "/a"), ("///evil", "/evil")]
    {
        let answer = proxy.get(target).expect(308);
        assert_eq!(answer.fields.one("location"), Some(safe), "{target}");
    }
    proxy.get("/\\evil").expect(400);
    proxy.get("/%5cevil").expect(400);
}
