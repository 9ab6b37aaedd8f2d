//! filters: each of them once, from the configuration to what goes over the wire.

use portunus_tests::{Answer, Origin, Place, Proxy};
use std::time::{Duration, Instant};

fn echo() -> Origin {
    Origin::serve(|request| Answer::fields("X-Server: secret\r\nX-Old: 1\r\n", &request.target))
}

#[test]
fn request_header_sets_adds_and_removes() {
    let origin = echo();
    let proxy = Proxy::site(format!(
        "request-header set X-Stamp 1
        request-header add X-List b
        request-header remove X-Secret
        request-header set X-Client ${{client.ip}}
        request-header set X-Full \"${{method}} ${{scheme}}://${{host}}${{path}} ${{query.q}} ${{header.x-in}} ${{cookie.c}}\"
        proxy {origin}"
    ));
    proxy
        .exchange("GET /p?q=1 HTTP/1.1\r\nHost: a\r\nX-Stamp: 0\r\nX-Stamp: 9\r\nX-List: a\r\nX-Secret: s\r\nX-In: in\r\nCookie: c=d\r\n\r\n")
        .expect(200);
    let request = origin.last();
    assert_eq!(request.fields.all("x-stamp"), ["1"]);
    assert_eq!(request.fields.all("x-list"), ["a", "b"]);
    assert!(!request.fields.has("x-secret"));
    assert_eq!(request.fields.one("x-client"), Some("127.0.0.1"));
    assert_eq!(request.fields.one("x-full"), Some("GET http://a/p 1 in d"));
}

#[test]
fn response_header_works_on_the_way_back_and_on_our_own_answers() {
    let origin = echo();
    let proxy = Proxy::site(format!(
        "response-header set X-Frame-Options deny
        response-header remove X-Server
        response-header add X-Old 2
        route /own {{ respond 200 own }}
        proxy {origin}"
    ));
    let answer = proxy.get("/").expect(200);
    assert_eq!(answer.fields.one("x-frame-options"), Some("deny"));
    assert!(!answer.fields.has("x-server"));
    assert_eq!(answer.fields.all("x-old"), ["1", "2"]);
    assert_eq!(proxy.get("/own").fields.one("x-frame-options"), Some("deny"));
}

#[test]
fn rewrite_changes_what_the_origin_gets_and_not_the_log() {
    let origin = echo();
    let proxy = Proxy::site(format!(
        "route ~^/v[0-9]+/ {{ rewrite ~^/v[0-9]+/(.*) /$1\n proxy {origin} }}
        route /fixed {{ rewrite /other\n proxy {origin} }}
        route /strip/* {{ rewrite strip=/strip\n proxy {origin} }}
        proxy {origin}"
    ));
    assert_eq!(proxy.get("/v12/a/b?q=1").expect(200).text(), "/a/b?q=1");
    assert_eq!(proxy.get("/fixed").expect(200).text(), "/other");
    assert_eq!(proxy.get("/strip/x").expect(200).text(), "/x");
    assert_eq!(proxy.get("/strip").expect(200).text(), "/");
    assert_eq!(proxy.log_of("/v12/a/b?q=1")["status"], 200);
}

#[test]
fn redirect_and_respond_answer_by_themselves() {
    let proxy = Proxy::site(
        "route /old { redirect 308 https://www.example.com/new }
        route /moved/* { redirect 302 https://other.example${uri} }
        route /health { respond 200 \"ok\" }
        route /gone { respond 410 }",
    );
    let answer = proxy.get("/old").expect(308);
    assert_eq!(answer.fields.one("location"), Some("https://www.example.com/new"));
    let answer = proxy.get("/moved/x?y=%20z").expect(302);
    assert_eq!(answer.fields.one("location"), Some("https://other.example/moved/x?y=%20z"));
    assert_eq!(proxy.get("/health").expect(200).text(), "ok");
    proxy.get("/gone").expect(410);
    let head = proxy.exchange("HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    assert_eq!(head.fields.one("content-length"), Some("2"));
}

#[test]
fn access_lets_in_whom_it_names() {
    let proxy = Proxy::site(
        "route /closed { access deny all\n respond 200 in }
        route /home { access allow 127.0.0.0/8\n access deny all\n respond 200 in }
        route /abroad { access allow 10.0.0.0/8\n access deny all\n respond 200 in }
        route /blocked { access deny 127.0.0.1\n respond 200 in }",
    );
    proxy.get("/closed").expect(403);
    proxy.get("/home").expect(200);
    proxy.get("/abroad").expect(403);
    proxy.get("/blocked").expect(403);
    assert_eq!(proxy.log_of("/blocked")["error"], "refused");
}

#[test]
fn cors_answers_preflights_and_marks_answers() {
    let origin = echo();
    let proxy = Proxy::site(format!("cors origins=https://app.example\n proxy {origin}"));
    let preflight = proxy.exchange(
        "OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n\r\n",
    );
    assert!(matches!(preflight.status, 200 | 204));
    assert_eq!(preflight.fields.one("access-control-allow-origin"), Some("https://app.example"));
    assert!(preflight.fields.has("access-control-allow-methods"));
    assert_eq!(origin.count(), 0, "the origin is not asked");
    let answer =
        proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\r\n").expect(200);
    assert_eq!(answer.fields.one("access-control-allow-origin"), Some("https://app.example"));
    assert!(answer.fields.all("vary").iter().any(|value| value.to_ascii_lowercase().contains("origin")));
    let other = proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n");
    assert!(!other.fields.has("access-control-allow-origin"));
}

#[test]
fn body_limit_refuses_by_length_and_while_it_counts() {
    let origin = Origin::serve(|request| Answer::text(&request.body.len().to_string()));
    let proxy = Proxy::site(format!("route /small {{ body-limit 1KiB\n proxy {origin} }}\n proxy {origin}"));
    assert_eq!(proxy.client().post("/small", "x".repeat(1024)).expect(200).text(), "1024");
    let mut client = proxy.client();
    client.send("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n");
    client.response().expect(413);
    let mut chunked = proxy.client();
    chunked.send("POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..4 {
        let _ = chunked.try_send(format!("200\r\n{}\r\n", "x".repeat(0x200)));
    }
    chunked.response().expect(413);
    chunked.expect_close();
    assert_eq!(origin.complete().len(), 1, "a body that is too long is never whole upstream");
    assert_eq!(proxy.client().post("/", "x".repeat(5000)).expect(200).text(), "5000");
    proxy.wait_for_errors("body-too-large", 2.0);
}

#[test]
fn timeout_is_504() {
    let origin = Origin::script(|connection| {
        if let Some(request) = connection.request() {
            if request.target == "/begins" {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
            }
            connection.until_closed();
        }
    });
    let proxy = Proxy::site(format!(
        "route /request {{ timeout request=300ms\n proxy {origin} }}
        route /first {{ timeout first-byte=300ms\n proxy {origin} }}
        route /begins {{ timeout idle=300ms\n proxy {origin} }}"
    ));
    for (target, reason) in [("/request", "deadline"), ("/first", "first-byte-timeout")] {
        let begun = Instant::now();
        proxy.get(target).expect(504);
        assert!(begun.elapsed() >= Duration::from_millis(250));
        assert_eq!(proxy.log_of(target)["error"], reason);
    }
    let mut client = proxy.client();
    client.send("GET /begins HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response("GET").is_err(), "what has begun is cut");
    assert_eq!(proxy.log_of("/begins")["error"], "upstream-stalled");
    eventually_ended(&origin, 3);
}

fn eventually_ended(origin: &Origin, count: usize) {
    portunus_tests::eventually("the ends upstream", Duration::from_secs(5), || {
        (origin.ended() >= count).then_some(())
    });
}

#[test]
fn basic_auth_knows_its_users() {
    // "open sesame" with cost 4.
    let place = Place::new();
    place.write("users", format!("ali:{}\n", "$2y$04$QiQs/d0ShYnYYqCD2vSYqe6YOrHAZyi1jCxZZ9t9KZyblx3q6eAGu"));
    let origin = echo();
    let text = format!("basic-auth file=@dir/users\n proxy {origin}");
    let proxy = Proxy::start_in(place, &portunus_tests::proxy::site(&text));
    let with = |credentials: &str| {
        proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {credentials}\r\n\r\n")).status
    };
    let refused = proxy.get("/").expect(401);
    assert!(refused.fields.one("www-authenticate").is_some_and(|value| value.starts_with("Basic")));
    assert_eq!(with("Basic YWxpOm9wZW4gc2VzYW1l"), 200, "ali:open sesame");
    assert_eq!(with("basic YWxpOm9wZW4gc2VzYW1l"), 200, "the scheme knows no letters' case");
    assert_eq!(with("Basic YWxpOndyb25n"), 401, "ali:wrong");
    assert_eq!(with("Basic Ym9iOm9wZW4gc2VzYW1l"), 401, "bob:open sesame");
    assert_eq!(with("Basic YWxpOg=="), 401, "ali: and nothing");
    for broken in ["Basic", "Basic !!!", "Basic YWxp", "Bearer x", "Basic ", "Digest a=b"] {
        assert!(matches!(with(broken), 401 | 400), "{broken}");
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn g1_authentication_is_bound_to_the_route() {
    let place = Place::new();
    place.write("users", "ali:$2y$04$QiQs/d0ShYnYYqCD2vSYqe6YOrHAZyi1jCxZZ9t9KZyblx3q6eAGu\n");
    let origin = echo();
    let text = format!("route /private/* {{ basic-auth file=@dir/users\n proxy {origin} }}\n proxy {origin}");
    let proxy = Proxy::start_in(place, &portunus_tests::proxy::site(&text));
    for target in ["/private", "/private/x", "//private/x", "/x/../private/", "/%70rivate/x", "/./private"] {
        for method in ["GET", "OPTIONS", "POST"] {
            let answer =
                proxy.exchange(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(answer.status, 401, "{method} {target}");
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn outer_filters_run_first_and_all_are_undone_in_reverse() {
    let origin = echo();
    let proxy = Proxy::site(format!(
        "request-header add X-Order outer\n response-header add X-Back outer
        route /* {{ request-header add X-Order inner\n response-header add X-Back inner\n proxy {origin} }}"
    ));
    let answer = proxy.get("/").expect(200);
    assert_eq!(origin.last().fields.all("x-order"), ["outer", "inner"]);
    assert_eq!(answer.fields.all("x-back"), ["inner", "outer"]);
}

#[test]
fn the_body_limit_of_a_route_replaces_that_of_its_site() {
    let origin = Origin::says("took it");
    let proxy = Proxy::site(format!(
        "body-limit 1KiB\n route /up {{ body-limit 10KiB\n proxy {origin} }}\n proxy {origin}"
    ));
    let body = "x".repeat(5000);
    for (path, status) in [("/up", 200), ("/", 413)] {
        proxy.client().post(path, body.as_str()).expect(status);
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n{body}\r\n0\r\n\r\n"
        );
        proxy.exchange(chunked).expect(status);
    }
}

#[test]
fn an_answer_that_takes_the_place_of_a_broken_one_turns_back_as_others_do() {
    let origin = Origin::serve(|_| {
        Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Server: a\r\n\r\nZZ\r\n").close()
    });
    let proxy = Proxy::site(format!("response-header set X-Frame-Options deny\n proxy {origin}"));
    let answer = proxy.get("/").expect(502);
    assert_eq!(answer.fields.one("x-frame-options"), Some("deny"));
    assert!(!answer.fields.has("x-server"));
}
