//! attacks_head: attacks on the lines of a request's head (rows A18–A29, A32, A42, A43), end to end.

use portunus_tests::attack::{Ground, Payload, payload};

/// A GET with these bytes between `Host` and the closing empty line.
fn with(name: impl Into<String>, lines: impl AsRef<[u8]>, outcome: &'static str) -> Payload {
    let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\n", lines.as_ref(), b"\r\n"].concat();
    payload(name, bytes, outcome)
}

/// A request with this request line.
fn line(line: impl AsRef<[u8]>, outcome: &'static str) -> Payload {
    let line = line.as_ref();
    payload(
        format!("line {:?}", String::from_utf8_lossy(line)),
        [line, b"\r\nHost: a\r\n\r\n"].concat(),
        outcome,
    )
}

/// A GET of this target.
fn target(target: impl AsRef<[u8]>, outcome: &'static str) -> Payload {
    line([b"GET ", target.as_ref(), b" HTTP/1.1"].concat(), outcome)
}

#[test]
fn a18_a19_line_ends() {
    Ground::new().stands(vec![
        payload("A18 only LF", "GET / HTTP/1.1\nHost: a\n\n", "400"),
        payload("A18 LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", "400"),
        payload("A18 LF after a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "400"),
        payload("A18 LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", "400"),
        payload("A18 LF LF", "GET / HTTP/1.1\r\nHost: a\n\n", "400"),
        payload("A18 LF before the request", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        payload(
            "A18 LF in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n",
            "400",
        ),
        payload("A19 CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400"),
        payload(
            "A19 CR hides a field",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 5\r\n\r\nhello",
            "400",
        ),
        payload("A19 end on CRLF CR x", "GET / HTTP/1.1\r\nHost: a\r\n\rX", "400"),
        payload("A19 end on CRLF CR CRLF", "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n", "400"),
        payload("A19 CR after the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n", "400"),
        payload("A19 CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "400"),
        payload("A19 CR in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\r: a\r\n\r\n", "400"),
        payload("A19 CR in the target", "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        payload("A19 CR before the request", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        payload("A19 only CR", "GET / HTTP/1.1\rHost: a\r\r", "400"),
        payload("A19 LF CR", "GET / HTTP/1.1\n\rHost: a\n\r\n\r", "400"),
    ]);
}

#[test]
fn a20_folded_lines() {
    Ground::new().stands(vec![
        with("space", "X: a\r\n b\r\n", "400"),
        with("tab", "X: a\r\n\tb\r\n", "400"),
        with("empty value", "X:\r\n a\r\n", "400"),
        with("many spaces", "X: a\r\n      b\r\n", "400"),
        with("only white space", "X: a\r\n \r\n", "400"),
        with("of Host", " b\r\n", "400"),
        with("hides a length", "X: a\r\n Content-Length: 5\r\n", "400"),
        payload("of the request line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400"),
        payload("of the request line, with tab", "GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n", "400"),
        payload("at the end", "GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", "400"),
    ]);
}

#[test]
fn a21_a22_a23_names_and_values() {
    let mut payloads = vec![
        with("A21 space before the colon", "X : y\r\n", "400"),
        with("A21 tab before the colon", "X\t: y\r\n", "400"),
        with("A21 space in the name", "X Y: z\r\n", "400"),
        with("A21 no colon", "Foo\r\n", "400"),
        with("A21 no colon, with space", "Foo bar\r\n", "400"),
        with("A21 empty name", ":\r\n", "400"),
        with("A21 empty name with value", ": y\r\n", "400"),
        with("A21 space as name", " : y\r\n", "400"),
        payload("A21 Host with a space", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
        payload("A21 space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400"),
        with("value of high bytes", b"X: \x80\xff\xc3\xa9\r\n", "200"),
        with("value of every visible byte", "X: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\r\n", "200"),
        with("value with a tab inside", "X: a\tb\r\n", "200"),
        with("empty value", "X:\r\n", "200"),
        with("name of every token byte", "!#$%&'*+-.^`|~09azAZ: y\r\n", "200"),
    ];
    for byte in [0u8, 1, 2, 7, 8, 0x0b, 0x0c, 0x0e, 0x1b, 0x1f, 0x7f] {
        payloads.push(with(
            format!("A22 {byte:#04x} in a value"),
            [b"X: a".as_slice(), &[byte], b"b\r\n"].concat(),
            "400",
        ));
        payloads.push(with(
            format!("A22 {byte:#04x} before a value"),
            [b"X:".as_slice(), &[byte], b"b\r\n"].concat(),
            "400",
        ));
        payloads.push(with(
            format!("A22 {byte:#04x} after a value"),
            [b"X: b".as_slice(), &[byte], b"\r\n"].concat(),
            "400",
        ));
        payloads.push(with(
            format!("A22 {byte:#04x} in a name"),
            [b"X".as_slice(), &[byte], b"Y: b\r\n"].concat(),
            "400",
        ));
    }
    for byte in b"\"(),/;<=>?@[]{}\\\x80\x85\xa0\xff" {
        payloads.push(with(
            format!("A23 {byte:#04x} in a name"),
            [b"X".as_slice(), &[*byte], b"Y: b\r\n"].concat(),
            "400",
        ));
        payloads.push(with(
            format!("A23 {byte:#04x} ends a name"),
            [b"X".as_slice(), &[*byte], b": b\r\n"].concat(),
            "400",
        ));
    }
    Ground::new().stands(payloads);
}

#[test]
fn a24_long_names() {
    let named = |length: usize| format!("Content-Length{}: 5\r\n", "a".repeat(length - 14));
    Ground::new().stands(vec![
        with("256", named(256), "200"),
        with("257", named(257), "431 / 400"),
        with("270", named(270), "431 / 400"),
        with("256 and a wrap of 8 bits", named(256 + 14), "431 / 400"),
        with("65,536 and a wrap of 16 bits", named(65_536 + 14), "431 / 400"),
        with("no colon ever", "x".repeat(100_000), "431 / 400"),
    ]);
}

#[test]
fn a25_request_lines() {
    let mut payloads = vec![
        line("GET / HTTP/1.1", "200"),
        line("GET /%20 HTTP/1.1", "200"),
        line("PROPFIND / HTTP/1.1", "501 / 200"),
        line("FOO / HTTP/1.1", "501"),
        line("get / HTTP/1.1", "501 / 400"),
        line("PRI / HTTP/1.1", "501 / 405 / 400"),
        payload("one empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "200"),
        payload("two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        payload("HTTP/0.9", "GET /\r\n", "400"),
        payload("HTTP/0.9, no line end but a wait", "GET /\r\n\r\n", "400"),
        payload("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400 / close"),
        payload("SSH", b"SSH-2.0-OpenSSH_9.6\r\n", "400"),
        payload("PROXY v1", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        payload("PROXY v2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x02GET / HTTP/1.1\r\n\r\n", "400"),
        payload("only line ends", "\r\n\r\n\r\n\r\n", "400"),
        payload("NULs", b"\0\0\0\0\0\0\0\0\r\n\r\n", "400"),
    ];
    for bad in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET / HTTP/1.1 x",
        "GET / x HTTP/1.1",
        "GET / ",
        "GET /",
        "GET",
        "",
        "GET HTTP/1.1",
        "/ HTTP/1.1",
        " / HTTP/1.1",
        "GET / http/1.1",
        "GET / Http/1.1",
        "GET / HTTP/11",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/.1",
        "GET / HTTP/1,1",
        "GET / HTTP1.1",
        "GET / HTTP /1.1",
        "GET / HTTP/ 1.1",
        "GET / HTTPS/1.1",
        "GET / XHTTP/1.1",
        "GET / HTTP/1.32",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1.01",
        "GET / HTTP/1.1.1",
        "GET / HTTP/1.x",
        "GET / HTTP/-1.1",
        "GET / HTTP/1.1;x",
        "G=\":<>(e) / HTTP/1.1",
        "GE(T / HTTP/1.1",
        "GE\u{e9}T / HTTP/1.1",
        "GET,POST / HTTP/1.1",
        "[GET] / HTTP/1.1",
        "GET\u{b}/ HTTP/1.1",
        "GET\u{a0}/ HTTP/1.1",
        "GET\0 / HTTP/1.1",
        "\u{feff}GET / HTTP/1.1",
        "Host: a",
        "HTTP/1.1 200 OK",
    ] {
        payloads.push(line(bad, "400 / 505"));
    }
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"] {
        payloads.push(line(format!("GET / {version}"), "505 / 400"));
    }
    payloads.push(line("GET / HTTP/1.2", "200 / 400 / 505"));
    Ground::new().stands(payloads);
}

#[test]
fn a26_a27_targets() {
    let mut payloads = vec![
        target("/", "200"),
        target("/a?b=c", "200"),
        target("/a;b=c", "200"),
        target("/a:b@c", "200"),
        target("//b", "200"),
        target("/?", "200"),
        line("OPTIONS * HTTP/1.1", "200"),
        line("GET http://a/ HTTP/1.1", "200"),
        line("GET http://a HTTP/1.1", "200"),
        line("GET http://a?x HTTP/1.1", "200"),
        line("GET HTTP://A:80/x HTTP/1.1", "200"),
        line("GET http://b/ HTTP/1.1", "400"),
        line("GET http://a:81/ HTTP/1.1", "400"),
        line("GET http://a.b/ HTTP/1.1", "400"),
        line("GET https://a/ HTTP/1.1", "400 / 421"),
        line("GET ftp://a/ HTTP/1.1", "400"),
        line("GET file:///etc/passwd HTTP/1.1", "400"),
        line("GET ws://a/ HTTP/1.1", "400"),
        payload("absolute without Host", "GET http://a/ HTTP/1.1\r\n\r\n", "400"),
        payload("absolute on 1.0", "GET http://a/ HTTP/1.0\r\n\r\n", "200"),
    ];
    for bad in [
        "foo",
        "@evil",
        "@evil/",
        ":80",
        "?a",
        "#",
        "/#fragment",
        "/a#b",
        "*",
        "**",
        "/a b",
        "http:/x",
        "http:x",
        "http:///x",
        "http://",
        "http://?x",
        "http:///",
        "http://u@a/",
        "http://u:p@a/",
        "http://a b/",
        "http://a\\@b/",
        "http://a:/",
        "http://a:x/",
        "http://a:99999/",
        "http://a#x",
        "http://[::1/",
        "http://a,b/",
        "://a/",
        "//",
        "a:80",
        "..",
        "../x",
        "./x",
        "/../x",
        "/a/../../x",
        "/%",
        "/%4",
        "/%zz",
        "/%%",
        "/a%0",
        "/\\",
        "/a\\b",
        "\\evil",
        "/\u{7f}",
        "/\u{1}",
        "/a\u{b}b",
        "/\u{e9}",
        "/\u{85}",
        "javascript:alert(1)",
        "%2f",
        "/%00",
        "/%0d%0a",
        "/%5c",
        "/%7f",
    ] {
        if bad == "//" {
            payloads.push(target(bad, "200 / 400"));
        } else {
            payloads.push(target(bad, "400"));
        }
    }
    payloads.push(target(b"/\x00", "400"));
    payloads.push(target(b"/\xff", "400"));
    let mut ground = Ground::new();
    ground.stands(payloads);
    for request in ground.origin.requests() {
        assert!(
            request.target.starts_with('/') || request.target == "*",
            "not in origin-form: {}",
            request.target
        );
        assert_eq!(request.fields.one("host").map(|host| host.trim_end_matches(":80")), Some("a"));
    }
    let empty: Vec<_> =
        ground.origin.requests().into_iter().filter(|request| request.target == "/?x").collect();
    assert_eq!(empty.len(), 1, "an empty path becomes /");
}

#[test]
fn a28_hosts() {
    let host = |value: &str, outcome| {
        payload(format!("Host {value:?}"), format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"), outcome)
    };
    let mut payloads = vec![
        host("a", "200"),
        host("A.Example", "200"),
        host("a:8080", "200"),
        host("a.", "200"),
        host("[::1]", "200"),
        host("[::1]:80", "200"),
        host("127.0.0.1", "200"),
        payload("none", "GET / HTTP/1.1\r\n\r\n", "400"),
        payload("none but others", "GET / HTTP/1.1\r\nX-Host: a\r\nHostx: a\r\n\r\n", "400"),
        payload("two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        payload("two equal", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
        payload("two, other letters", "GET / HTTP/1.1\r\nHost: a\r\nhOsT: b\r\n\r\n", "400"),
        payload("two, one empty", "GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n", "400"),
        payload("on 1.0 none", "GET / HTTP/1.0\r\n\r\n", "200"),
        payload("on 1.0 two", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        payload("on 1.0 a bad one", "GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", "400"),
    ];
    for bad in [
        "",
        " ",
        "a,b",
        "a, b",
        "u@a",
        "u:p@a",
        "a/b",
        "a/",
        "/",
        "a b",
        "a\tb",
        "a:port",
        "a:99999",
        "a:65536",
        "a:-1",
        "a:+80",
        "a: 80",
        "a:80:80",
        "a:",
        ":80",
        ":",
        "a#b",
        "a?b",
        "a\\b",
        "http://a",
        "[::1",
        "::1",
        "::1]",
        "[::1]x",
        "[::1]:x",
        "[]",
        "[x]",
        "[::1%25eth0]",
        "..",
        ".",
        "a..b",
        ".a",
        "a\"b",
        "<a>",
        "a%",
        "a|b",
        "{a}",
        "a^b",
        "a`b",
        "\u{e9}",
        "a;b c",
    ] {
        payloads.push(host(bad, "400"));
    }
    for bad in ["a\0", "a\u{1}", "a\u{7f}"] {
        payloads.push(host(bad, "400"));
    }
    Ground::new().stands(payloads);
}

#[test]
fn a29_connection_names_protected_fields() {
    let mut payloads = vec![
        with("close and an unprotected one", "Connection: close, X-Foo\r\nX-Foo: 1\r\n", "200"),
        with("unknown", "Connection: x\r\n", "200"),
        with("empty members", "Connection: , ,close, ,\r\n", "200"),
        with("empty", "Connection:\r\n", "200"),
        with("not a token", "Connection: a b\r\n", "400 / 200"),
        with("two lines", "Connection: X-Foo\r\nConnection: Cookie\r\nCookie: a=b\r\n", "400"),
    ];
    for name in [
        "X-Forwarded-For",
        "x-fOrWARDED-for",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Real-IP",
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "Cookie",
        "Authorization",
    ] {
        payloads.push(with(format!("names {name}"), format!("Connection: close, {name}\r\n"), "400"));
        payloads.push(with(format!("names only {name}"), format!("Connection: {name}\r\nX: y\r\n"), "400"));
    }
    let mut ground = Ground::new();
    ground.stands(payloads);
    for request in ground.origin.requests() {
        assert!(!request.fields.has("x-foo") && !request.fields.has("connection"), "hop-by-hop");
    }
}

#[test]
fn hop_by_hop_fields_do_not_pass() {
    let mut ground = Ground::new();
    ground.stands(vec![with(
        "all of them",
        "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: x\r\nProxy: http://evil\r\nConnection: TE, Upgrade\r\n",
        "200",
    )]);
    for request in ground.origin.requests() {
        for name in ["keep-alive", "proxy-connection", "upgrade", "proxy"] {
            assert!(!request.fields.has(name), "{name}");
        }
        // What the proxy says of its own connection: it takes trailers where its client does.
        let takes = request.fields.one("te").is_some();
        assert!(request.fields.all("te").iter().all(|te| *te == "trailers"), "TE");
        assert_eq!(request.fields.one("connection"), takes.then_some("TE"));
    }
}

#[test]
fn f11_doubled_single_fields() {
    let mut payloads = vec![with("Accept may stand twice", "Accept: a\r\nAccept: b\r\n", "200")];
    for name in ["Authorization", "Content-Type"] {
        payloads.push(with(
            format!("two of {name}"),
            format!("{name}: a\r\nX: y\r\n{}: b\r\n", name.to_lowercase()),
            "400",
        ));
        payloads.push(with(format!("two equal {name}"), format!("{name}: a\r\n{name}: a\r\n"), "400"));
    }
    Ground::new().stands(payloads);
}

#[test]
fn a32_a43_methods_and_prefaces() {
    Ground::new().stands(vec![
        payload("A32 half of the preface of HTTP/2", "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", "405 / 400 / 505"),
        payload("A32 with a field", b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n", "405 / 400 / 505"),
        line("TRACE / HTTP/1.1", "405*"),
        line("TRACK / HTTP/1.1", "405* / 501*"),
        payload("A43 CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "405*"),
        payload(
            "A43 CONNECT with early data",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            "405",
        ),
        payload("A43 CONNECT to a path", "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", "400* / 405*"),
        payload("A43 CONNECT without port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "400* / 405*"),
    ]);
}

#[test]
fn a42_line_ends_in_escapes_go_nowhere() {
    let mut ground =
        Ground::with("response-header set X-Path ${path}\n response-header set X-Query ${query.q}");
    ground.stands(vec![
        target("/%0d%0aSet-Cookie:%20a=b", "400"),
        target("/a%0ab", "400"),
        target("/a%0db", "400"),
        target("/?q=%0d%0aSet-Cookie:%20a=b", "200"),
        target("/%E5%98%8A%E5%98%8DSet-Cookie:x", "200"),
        target("/?q=a%00", "200"),
    ]);
    let answer = ground.proxy.get("/?q=%0d%0aSet-Cookie:%20a=b").expect(200);
    assert!(!answer.fields.has("set-cookie"));
}
