//! requests: the rows of attack that stand in a request's head.

use super::super::{Framing, Version};
use super::*;

#[test]
fn a_plain_request_is_read() {
    let bytes = b"GET /a/b?c=d HTTP/1.1\r\nHost: Example.COM:8080\r\nUser-Agent: x\r\nX-Empty:\r\nX-Blank:  \t \r\nX-V: \t a b\t\r\n\r\n";
    let (request, head) = read(bytes).unwrap();
    assert_eq!(request.method, Method::GET);
    assert_eq!(request.target.authority(), "example.com:8080");
    assert_eq!(request.target.path_and_query(), "/a/b?c=d");
    assert_eq!(kept(&request.fields), ["User-Agent: x", "X-Empty: ", "X-Blank: ", "X-V: a b"]);
    assert!(request.body.is_empty());
    let expected = RequestHead {
        version: Version::Http11,
        keep_alive: true,
        framing: Framing::None,
        expects_continue: false,
        underscores_dropped: 0,
        length: bytes.len(),
    };
    assert_eq!(head, expected);
}

#[test]
fn one_empty_line_in_front_is_passed_over() {
    let (request, _) = read(b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(request.target.path(), "/x");
    refused(b"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", Crime::MalformedHead);
    refused(b"\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", Crime::MalformedHead);
    refused(b"\rGET /x HTTP/1.1\r\nHost: a\r\n\r\n", Crime::MalformedHead);
}

#[test]
fn connections_persist_as_their_version_says() {
    let keeps = |bytes: &[u8]| read(bytes).unwrap().1.keep_alive;
    assert!(keeps(&with("")));
    assert!(keeps(&with("Connection: keep-alive\r\n")));
    assert!(!keeps(&with("Connection: Close\r\n")));
    assert!(!keeps(&with("Connection: keep-alive\r\nConnection: x,close\r\n")));
    assert!(!keeps(b"GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!keeps(b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
    assert!(!keeps(b"GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n"));
}

#[test]
fn a12_expect_is_exact() {
    let expects = |lines: &str| read(&post(lines)).map(|(_, head)| head.expects_continue);
    assert_eq!(expects("Content-Length: 5\r\nExpect: 100-continue\r\n"), Ok(true));
    assert_eq!(expects("Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\n"), Ok(true));
    assert_eq!(expects("Expect: 100-continue\r\n"), Ok(false), "nothing would follow");
    for bad in ["y 100-continue", "100-continue, x", "100-continue;a", "", "200-ok", "100-continuee"] {
        refused(&post(&format!("Content-Length: 5\r\nExpect: {bad}\r\n")), Crime::BadExpect);
    }
    refused(&post("Content-Length: 5\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n"), Crime::BadExpect);
    refused(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nExpect:\r\n 100-continue\r\n\r\n", Crime::MalformedHead);
    let (request, head) =
        read(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert!(!head.expects_continue && request.fields.is_empty());
}

#[test]
fn a18_a19_line_ends_are_crlf() {
    for bad in [
        &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\rX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n",
    ] {
        refused(bad, Crime::MalformedHead);
    }
}

#[test]
fn a18_a_bare_line_feed_is_refused_before_the_head_is_whole() {
    let bounds = HeadBounds::request(&Limits::default());
    for bad in [
        &b"GET / HTTP/1.1\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"GET / HT\0",
        b"GET / HTTP/1.1\r\nA\rB",
        b"GET /\r\n",
    ] {
        assert_eq!(Scan::new().advance(bad, &bounds), Err(Crime::MalformedHead), "{bad:?}");
    }
}

#[test]
fn a20_a21_lines_are_name_colon_value() {
    for lines in [
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        "X: a\r\n \r\n",
        "X : a\r\n",
        "X\t: a\r\n",
        "X\r\n",
        ": a\r\n",
        ":\r\n",
        " : a\r\n",
        "X Y: a\r\n",
        "\tX: a\r\n",
        "X\u{b}: a\r\n",
    ] {
        refused(&with(lines), Crime::MalformedHead);
    }
    refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Crime::MalformedHead);
    refused(b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", Crime::MalformedHead);
}

#[test]
fn a22_control_bytes() {
    for byte in (0u8..32).chain([127]).filter(|byte| !matches!(byte, b'\t')) {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: a".to_vec();
        bytes.extend([byte, b'b', b'\r', b'\n', b'\r', b'\n']);
        refused(&bytes, Crime::MalformedHead);
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX".to_vec();
        bytes.extend([byte, b'y', b':', b'\r', b'\n', b'\r', b'\n']);
        refused(&bytes, Crime::MalformedHead);
    }
}

#[test]
fn a23_names_are_tokens_and_values_opaque() {
    for byte in b"\"(),/;<=>?@[]{}\\ \x80\x85\xa0\xff" {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX".to_vec();
        bytes.extend([*byte, b'y', b':', b'\r', b'\n', b'\r', b'\n']);
        refused(&bytes, Crime::MalformedHead);
    }
    let (request, _) = read(b"GET / HTTP/1.1\r\nHost: a\r\nX: \x80\xff\r\n\r\n").unwrap();
    assert_eq!(request.fields.iter().next().unwrap().2, b"\x80\xff");
}

#[test]
fn a24_names_and_lines_are_bounded() {
    let name = "n".repeat(256);
    assert!(read(&with(&format!("{name}: v\r\n"))).is_ok());
    refused(&with(&format!("{name}n: v\r\n")), Crime::HeadTooLarge);
    refused(&with(&format!("{}: 1\r\nContent-Length: 5\r\n", "n".repeat(270))), Crime::HeadTooLarge);
    let line = "v".repeat((16 << 10) - 3);
    assert!(read(&with(&format!("X: {line}\r\n"))).is_ok());
    refused_by_scan(&with(&format!("X: {line}v\r\n")), Crime::HeadTooLarge);
    let many = |count| "X: y\r\n".repeat(count);
    assert!(read(&with(&many(99))).is_ok());
    refused(&with(&many(100)), Crime::HeadTooLarge);
    refused(&with(&many(600)), Crime::HeadTooLarge);
    refused(&with(&format!("X: {}\r\n", "v".repeat(16_000)).repeat(3)), Crime::HeadTooLarge);
    // 32 bytes are counted for each field.
    refused(&with(&format!("X: {}\r\n", "v".repeat(310)).repeat(96)), Crime::HeadTooLarge);
    assert!(read(&with(&format!("X: {}\r\n", "v".repeat(300)).repeat(96))).is_ok());
}

fn refused_by_scan(bytes: &[u8], crime: Crime) {
    assert_eq!(read(bytes).err(), Some(crime));
}

#[test]
fn a25_request_lines_have_three_words() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1 x",
        " GET / HTTP/1.1",
        "GET / x HTTP/1.1",
        "GET /",
        "GET",
        "GET / ",
        "GET / HTTP/1.32",
        "GET / HTTP/1.2",
        "GET / HTTP/1.",
        "GET / HTTP/11",
        "GET / http/1.1",
        "GET / HTTP/1.1\t",
        "GET / XTTP/1.1",
        "GET / HTTP/ 1.1",
        "GET / HTTP/1,1",
        "G=\":<>(e) / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "/ HTTP/1.1",
        " / HTTP/1.1",
        "GET HTTP/1.1",
        "GET / HTTP/+1.1",
        "GET / HTTP/x.1",
        "GET / HTTP/2.x",
        "GET / HTTPS/1.1",
        "GET /a\tb HTTP/1.1",
        "GET / HTTP/3",
    ] {
        refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), Crime::MalformedHead);
    }
    for line in ["GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3.0", "BREW / HTTP/9.9"] {
        refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), Crime::BadVersion);
    }
    for line in ["BREW / HTTP/1.1", "get / HTTP/1.1", "GETT / HTTP/1.1", "!#$ / HTTP/1.1"] {
        refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), Crime::UnknownMethod);
    }
    refused(b"GET /\r\n\r\n", Crime::MalformedHead);
}

#[test]
fn a25_long_lines_are_cut_off() {
    let url = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(len - 1)).into_bytes();
    assert!(read(&url(8192)).is_ok());
    refused(&url(8193), Crime::UrlTooLong);
    refused(&url(9000), Crime::UrlTooLong);
    let bounds = HeadBounds::request(&Limits::default());
    let endless = |start: &str, byte: &str| [start, &byte.repeat(10_000)].concat().into_bytes();
    assert_eq!(Scan::new().advance(&endless("GET /", "a"), &bounds), Err(Crime::UrlTooLong));
    assert_eq!(Scan::new().advance(&endless("", "A"), &bounds), Err(Crime::UnknownMethod));
    assert_eq!(Scan::new().advance(&endless("", "/"), &bounds), Err(Crime::MalformedHead));
    let start = "GET / HTTP/1.1\r\n";
    assert_eq!(Scan::new().advance(&endless(start, "aa"), &bounds), Err(Crime::HeadTooLarge));
    assert_eq!(Scan::new().advance(&endless(start, "X: y\r\n"), &bounds), Err(Crime::HeadTooLarge));
}

#[test]
fn a26_targets_have_a_form() {
    for target in [
        "foo",
        "@evil",
        "http:/x",
        "/a#b",
        "*",
        "/%zz",
        "http:",
        "?a",
        "a:80",
        "/\u{e4}",
        "http://",
        "https://a/",
        "ftp://a/",
        "http//a",
        "#",
    ] {
        refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), Crime::BadTarget);
    }
    for target in ["/a\\b", "/%00", "/..", "/%2e%2e/x", "/%0d%0aX:y"] {
        refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), Crime::ForbiddenPath);
    }
    for target in ["/a\0", "/a\u{7f}", "/a\u{1}"] {
        refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), Crime::MalformedHead);
    }
    let (request, _) = read(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(request.target.path(), "*");
}

#[test]
fn a27_an_absolute_target_agrees_with_host() {
    let target = |target: &str, host: &str| {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        read(&bytes).map(|(r, _)| [r.target.authority(), " ", r.target.path_and_query()].concat())
    };
    assert_eq!(target("http://a", "a"), Ok("a /".into()));
    assert_eq!(target("http://a?x", "a"), Ok("a /?x".into()));
    assert_eq!(target("HTTP://A/b/../c", "a"), Ok("a /c".into()));
    assert_eq!(target("http://a:80/", "a"), Ok("a /".into()));
    assert_eq!(target("http://a/", "A.:80"), Ok("a /".into()));
    assert_eq!(target("http://a:81/", "a:81"), Ok("a:81 /".into()));
    for (bad, host) in [
        ("http://a/", "b"),
        ("http://a:81/", "a"),
        ("http://u@a/", "a"),
        ("http://a@b/", "b"),
        ("https://a/", "a"),
        ("http:///x", "a"),
        ("http://a#x", "a"),
        ("http://a\\b/", "a"),
        ("http://?x", "a"),
    ] {
        assert_eq!(target(bad, host), Err(Crime::BadTarget), "{bad} {host}");
    }
    refused(b"GET http://a/ HTTP/1.1\r\n\r\n", Crime::BadHost);
    let (request, _) = read(b"GET http://a/x HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((request.target.authority(), request.target.path()), ("a", "/x"));
    let (request, _) = read(b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(request.target.path(), "*");
}

#[test]
fn a28_exactly_one_good_host() {
    refused(b"GET / HTTP/1.1\r\n\r\n", Crime::BadHost);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Crime::BadHost);
    refused(b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", Crime::BadHost);
    for bad in [
        "", "a, b", "a,b", "u@a", "a/b", "a b", "a:", "a:x", "a:99999", "a:80:80", "a?b", "a#b", "http://a",
        "[::1", "a\\b", "a\u{e4}", "a%41",
    ] {
        refused(format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n").as_bytes(), Crime::BadHost);
    }
    let (request, _) = read(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(request.target.host(), "");
}

#[test]
fn a29_connection_cannot_drop_what_is_protected() {
    for bad in [
        "close, X-Forwarded-For",
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "cookie",
        "AUTHORIZATION",
        "X-Real-IP",
        "forwarded",
        "x-forwarded-x",
    ] {
        refused(&with(&format!("Connection: {bad}\r\n")), Crime::BadConnection);
        refused(&with(&format!("Connection: close\r\nConnection: a,{bad}\r\n")), Crime::BadConnection);
    }
    let lines = "X-Mine: 1\r\nConnection: keep-alive, x-mine, TE, ,Other\r\nKeep-Alive: 5\r\nTE: gzip\r\nOther: 2\r\nX-Kept: 3\r\nTrailer: a\r\nProxy-Connection: x\r\nProxy: y\r\n";
    let (request, _) = read(&with(lines)).unwrap();
    assert_eq!(kept(&request.fields), ["X-Kept: 3"]);
    let names = (0..101).map(|n| format!("n{n},")).collect::<String>();
    refused(&with(&format!("Connection: {names}\r\n")), Crime::HeadTooLarge);
}

const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn a32_a33_only_whole_websocket_upgrades_count() {
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: foo\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Connection: close\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocketx\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    ] {
        let (request, _) = read(&with(lines)).unwrap();
        assert!(!request.websocket && request.fields.is_empty(), "{lines}");
    }
    let lines = format!("Connection: keep-alive, UPGRADE\r\nUpgrade: h2c, WebSocket\r\n{KEY}");
    let (request, _) = read(&with(&lines)).unwrap();
    assert!(request.websocket && !request.fields.has(Known::UPGRADE));
    assert!(value(&request.fields, Known::SEC_WEBSOCKET_KEY).is_some());
    refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Crime::MethodRefused);
    refused(b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n", Crime::MethodRefused);
}

#[test]
fn a43_trace_and_connect() {
    refused(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Crime::MethodRefused);
    refused(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Crime::MethodRefused);
}

#[test]
fn a44_bodies_are_framed_with_every_method() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"] {
        let (request, head) =
            read(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").as_bytes()).unwrap();
        assert_eq!((head.framing, request.body.length), (Framing::Length(5), Some(5)));
        let (request, head) =
            read(format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes())
                .unwrap();
        assert_eq!((head.framing, request.body.length), (Framing::Chunked, None));
    }
}

#[test]
fn a46_httpoxy() {
    assert!(read(&with("Proxy: http://evil/\r\nPROXY: x\r\n")).unwrap().0.fields.is_empty());
}

#[test]
fn f9_names_with_underscores_are_dropped_and_counted() {
    let (request, head) = read(&with("X_Auth_User: a\r\nX-Auth-User: b\r\n_: c\r\nHost_: d\r\n")).unwrap();
    assert_eq!(kept(&request.fields), ["X-Auth-User: b"]);
    assert_eq!(head.underscores_dropped, 3);
    let limits = Limits { underscores: vec!["tenant_id".into(), "Host_".into()], ..Limits::default() };
    let lines = with("Tenant_ID: a\r\nTenant_IDs: b\r\nhost_: c\r\n");
    let (request, head) = read_by(&lines, &limits).unwrap();
    assert_eq!(kept(&request.fields), ["Tenant_ID: a", "host_: c"]);
    assert_eq!(head.underscores_dropped, 1);
}

#[test]
fn f11_fields_that_may_stand_once() {
    for name in [
        "Authorization",
        "Content-Type",
        "Origin",
        "Range",
        "If-Modified-Since",
        "X-HTTP-Method-Override",
        "sec-websocket-key",
    ] {
        refused(&with(&format!("{name}: a\r\nX: y\r\n{}: a\r\n", name.to_uppercase())), Crime::DoubledField);
    }
    assert!(read(&with("Cookie: a=b\r\nCookie: c=d\r\nAccept: a\r\nAccept: b\r\nX: 1\r\nX: 2\r\n")).is_ok());
}

#[test]
fn j1_a_websocket_handshake_is_whole_or_refused() {
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    assert!(read(&with(&format!("{upgrade}{KEY}"))).unwrap().0.websocket);
    assert!(read(&with(&format!("{upgrade}{KEY}Content-Length: 0\r\n"))).unwrap().0.websocket);
    refused(&post(&format!("{upgrade}{KEY}")), Crime::BadUpgrade);
    for lines in [
        "",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Version: 13, 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nTransfer-Encoding: chunked\r\n",
    ] {
        refused(&with(&format!("{upgrade}{lines}")), Crime::BadUpgrade);
    }
    // HTTP/1.0 has no Upgrade (RFC 9110 §7.8).
    let (request, _) = read(format!("GET / HTTP/1.0\r\n{upgrade}{KEY}\r\n").as_bytes()).unwrap();
    assert!(!request.websocket);
}
