//! heads: requests that are malformed, and those that only look so (RFC 9113 §8.1–§8.3, §8.5; RFC 8441 §4).

use portunus_tests::h2::{block, code::*, flag::*, head, kind::*};
use portunus_tests::h2_rules::{Court, with};

/// The fields of one.
type Request = Vec<(&'static str, &'static str)>;

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "example.com"), (":path", "/bad")];

/// A request with one field more.
fn more(name: &'static str, value: &'static str) -> Request {
    with("GET", "/bad", &[(name, value)])
}

/// Requests without the field of this name, or with other values.
fn but(name: &str, values: &[&'static str]) -> Vec<Request> {
    let at = GET.iter().position(|field| field.0 == name).expect("a field that every request has");
    let mut requests = Vec::new();
    for value in values {
        let mut fields = GET.to_vec();
        fields[at].1 = value;
        requests.push(fields);
    }
    requests
}

fn without(name: &str) -> Request {
    GET.into_iter().filter(|field| field.0 != name).collect()
}

#[test]
fn names_and_values() {
    let court = Court::new();
    court.resets("8.2.1: upper case", &[more("X-A", "b"), more("x-tesT", "b")]);
    court.resets("8.2.1: no name", &[more("", "b")]);
    let names = ["x\0a", "x\ta", "x\na", "x\ra", "x a", "x:a", "x\x7fa", "xé", "x-a:", " x-a", "x-a "];
    court.resets("8.2.1: bytes that no name has", &names.map(|name| more(name, "b")));
    // Those that HTTP/1 would take for something else.
    let names: Vec<_> = "\"(),/;<=>?@[\\]{}".chars().map(|byte| format!("x{byte}a")).collect();
    let requests: Vec<_> = names.iter().map(|name| with("GET", "/bad", &[(name, "b")])).collect();
    court.refuses("RFC 9110 §5.1: names that are no tokens", &requests);
    let values =
        ["b\0c", "b\nc", "b\rc", " b", "\tb", "\0b", "\rb", "\nb", "b ", "b\t", "b\0", "b\r", "b\n", " "];
    court.resets(
        "8.2.1: bytes that no value has, or not at its ends",
        &values.map(|value| more("x-a", value)),
    );
    court.keeps(&[
        ("8.2.1: values that are empty, long, with blanks, or not ASCII", |c| {
            let long = "v".repeat(2000);
            for value in ["", "a b\tc", &long] {
                let stream = c.ask(&with("GET", "/good", &[("x-a", value)]), true);
                c.expect_text(stream, &format!("GET /good 0 x-a={value}"));
            }
            let stream = c.ask(&with("GET", "/good", &[("x-other", "é")]), true);
            c.expect_text(stream, "GET /good 0");
        }),
        ("8.2: every character of a token is one of a name", |c| {
            let stream = c.ask(&with("GET", "/good", &[("!#$%&'*+-.^`|~09az", "b")]), true);
            c.expect_text(stream, "GET /good 0");
        }),
    ]);
}

#[test]
fn fields_of_connections() {
    let court = Court::new();
    let fields = [
        ("connection", "keep-alive"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
    ];
    court.resets("8.2.2", &fields.map(|(name, value)| more(name, value)));
    let values = ["trailers, deflate;q=0.5", "gzip", "trailers, trailers2", "trailers;q=0.5"];
    court.resets("8.2.2: TE with anything but trailers", &values.map(|value| more("te", value)));
    court.keeps(&[("8.2.2: TE: trailers", |c| {
        let stream = c.ask(&with("GET", "/good", &[("te", "trailers")]), true);
        c.expect_text(stream, "GET /good 0");
    })]);
}

#[test]
fn pseudo_fields() {
    let court = Court::new();
    court.resets("8.3: unknown", &[more(":test", "b"), more(":", "b")]);
    court.resets("8.3: of answers", &[more(":status", "200")]);
    let behind = |at: usize| {
        let mut fields = GET.to_vec();
        let moved = fields.remove(at);
        [&fields[..], &[("x-a", "b"), moved]].concat()
    };
    court.resets("8.3: behind another field", &[0, 1, 2, 3].map(behind));
    court.resets("8.3: twice", &GET.map(|field| [&GET[..], &[field]].concat()));
    court.resets("8.3.1: one is missing", &[":method", ":scheme", ":path"].map(without));
    court.resets("8.3.1: all are", &[vec![], vec![("x-a", "b")]]);
    court.resets("8.3.1: an empty :path", &but(":path", &[""]));
    court.keeps(&[("8.3: in any order", |c| {
        let mut fields = head("GET", "/good");
        for _ in 0..4 {
            fields.rotate_left(1);
            let stream = c.ask(&fields, true);
            c.expect_text(stream, "GET /good 0");
        }
    })]);
}

#[test]
fn values_of_pseudo_fields() {
    let court = Court::new();
    let methods = ["", "GE T", "GET\r\n", "G\0T", "GET /bad HTTP/1.1", "(GET)"];
    court.refuses("8.3.1: methods that are none", &but(":method", &methods));
    let paths =
        ["bad", "/b ad", "/b\0ad", "/b\r\nad", "/bad HTTP/1.1\r\nx: y", "http://example.com/bad", "*"];
    court.refuses("8.3.1: paths that are none", &but(":path", &paths));
    court.refuses("8.3.1: schemes that are none", &but(":scheme", &["", "ht tp", "http://x/", "http\r\n"]));
    let hosts = ["", "user@example.com", "a b", "a\r\nb", "a\0b", "a/b", "example.com:x", "a, b"];
    court.refuses("8.3.1: hosts that are none", &but(":authority", &hosts));
    court.refuses("8.3.1: neither :authority nor Host", &[without(":authority")]);
    court.refuses("8.3.1: Host says something else", &[more("host", "other.com")]);
    court.keeps(&[
        ("8.3.1: methods that few know", |c| {
            let stream = c.ask(&head("BREW", "/good"), true);
            let outcome = c.outcome(stream);
            assert!(outcome.complete && matches!(outcome.status, 200 | 405 | 501), "{outcome:?}");
            c.expect_service();
        }),
        ("8.3.1: Host says the same, or stands alone", |c| {
            let stream = c.ask(&with("GET", "/good", &[("host", "example.com")]), true);
            c.expect_text(stream, "GET /good 0");
            let fields =
                [(":method", "GET"), (":scheme", "http"), (":path", "/good"), ("host", "example.com")];
            let stream = c.ask(&fields, true);
            c.expect_text(stream, "GET /good 0");
        }),
        ("8.3.1: OPTIONS *", |c| {
            let stream = c.ask(&head("OPTIONS", "*"), true);
            let outcome = c.outcome(stream);
            assert!(outcome.complete && outcome.status != 0, "{outcome:?}");
            c.expect_service();
        }),
        ("8.2.3: Cookie in crumbs", |c| {
            let crumbs = [("cookie", "a=b"), ("x-a", "x"), ("cookie", "c=d"), ("cookie", "e=f")];
            let stream = c.ask(&with("GET", "/good", &crumbs), true);
            c.expect_text(stream, "GET /good 0 cookie=a=b; c=d; e=f x-a=x");
        }),
    ]);
}

#[test]
fn lengths() {
    let court = Court::new();
    let lengths = ["", "x", "-1", "+1", "0x1", "1,2", "1 ", "18446744073709551616"];
    court.refuses("8.1.1: lengths that are none", &lengths.map(|length| more("content-length", length)));
    let two = [("content-length", "1"), ("content-length", "4")];
    court.refuses("8.1.1: two that differ", &[with("POST", "/bad", &two)]);
    court.keeps(&[
        ("8.1.1: a length that is true", |c| {
            let stream = c.ask(&with("POST", "/good", &[("content-length", "4")]), false);
            c.data(stream, "fo", false);
            c.data(stream, "ur", true);
            c.expect_text(stream, "POST /good 4");
            let stream = c.ask(&with("POST", "/good", &[("content-length", "0")]), true);
            c.expect_text(stream, "POST /good 0");
            let stream = c.ask(&with("POST", "/good", &[("content-length", "0")]), false);
            c.data(stream, "", true);
            c.expect_text(stream, "POST /good 0");
        }),
        ("8.1.1: one frame that is longer", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("content-length", "1")]), false);
            c.data(stream, "four", true);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1.1: one frame that is shorter", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("content-length", "5")]), false);
            c.data(stream, "four", true);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1.1: several that are longer", |c| {
            let stream = c.ask(&with("POST", "/wait", &[("content-length", "7")]), false);
            c.data(stream, "four", false);
            c.data(stream, "four", true);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1.1: several that are longer, before their end", |c| {
            let stream = c.ask(&with("POST", "/wait", &[("content-length", "7")]), false);
            c.data(stream, "four", false);
            c.data(stream, "four", false);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1.1: several that are shorter", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("content-length", "9")]), false);
            c.data(stream, "four", false);
            c.data(stream, "four", true);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1.1: shorter, with an empty frame at the end", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("content-length", "5")]), false);
            c.data(stream, "four", false);
            c.data(stream, "", true);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1.1: shorter, with fields at the end", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("content-length", "5")]), false);
            c.data(stream, "four", false);
            c.trailers(stream, &[("x-sum", "1")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1.1: padding does not fill it", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("content-length", "5")]), false);
            c.frame(DATA, PADDED | END_STREAM, stream, b"\x04four\0\0\0\0");
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1.1: a head alone that promises something", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("content-length", "5")]), true);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
    ]);
}

#[test]
fn fields_behind_a_body() {
    Court::new().keeps(&[
        ("8.1: they end a request", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.data(stream, "four", false);
            c.trailers(stream, &[("x-sum", "1")]);
            c.expect_text(stream, "POST /good 4");
        }),
        ("8.1: without a body, too", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.trailers(stream, &[("x-sum", "1")]);
            c.expect_text(stream, "POST /good 0");
        }),
        ("8.1: none of them", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.data(stream, "four", false);
            c.trailers(stream, &[]);
            c.expect_text(stream, "POST /good 4");
        }),
        ("8.1: pseudo fields", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, "four", false);
            c.trailers(stream, &[(":method", "POST")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1: unknown pseudo fields behind good ones", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, "four", false);
            c.trailers(stream, &[("x-sum", "1"), (":x", "y")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.2.1: upper case", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, "four", false);
            c.trailers(stream, &[("X-Sum", "1")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.2.1: values that are none", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, "four", false);
            c.trailers(stream, &[("x-sum", "1\r\nx: y")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.2.2: fields of connections", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, "four", false);
            c.trailers(stream, &[("transfer-encoding", "chunked")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1: without an end", |c| {
            let stream = c.ask(&head("POST", "/bad"), false);
            c.data(stream, "four", false);
            c.headers(stream, END_HEADERS, &[("x-sum", "1")]);
            c.expect_reset(stream, &[PROTOCOL_ERROR]);
        }),
        ("8.1: a body behind them", |c| {
            let stream = c.ask(&head("POST", "/wait"), false);
            c.trailers(stream, &[("x-sum", "1")]);
            c.data(stream, "four", true);
            c.expect_reset(stream, &[STREAM_CLOSED]);
        }),
    ]);
}

#[test]
fn connect() {
    const CONNECT: (&str, &str) = (":method", "CONNECT");
    const AUTHORITY: (&str, &str) = (":authority", "example.com:80");
    const SCHEME: (&str, &str) = (":scheme", "http");
    const PATH: (&str, &str) = (":path", "/bad");
    const WEBSOCKET: (&str, &str) = (":protocol", "websocket");
    const ALL: [(&str, &str); 5] = [CONNECT, SCHEME, AUTHORITY, PATH, WEBSOCKET];
    let court = Court::new();
    let ordinary = [
        vec![CONNECT, SCHEME, AUTHORITY],
        vec![CONNECT, AUTHORITY, PATH],
        vec![CONNECT, SCHEME, AUTHORITY, PATH],
        vec![CONNECT],
    ];
    court.refuses("8.5: with :scheme or :path, or without :authority", &ordinary);
    let one_less = [1, 2, 3].map(|left| {
        let mut fields = ALL.to_vec();
        fields.remove(left);
        fields
    });
    court.refuses("RFC 8441 §4: without :scheme, :authority or :path", &one_less);
    court.refuses("RFC 8441 §4: :protocol of another method", &[[&GET[..], &[WEBSOCKET]].concat()]);
    court.refuses("RFC 8441 §4: twice", &[[&ALL[..], &[WEBSOCKET]].concat()]);
    court.refuses("RFC 8441 §4: behind another field", &[[&ALL[..4], &[("x-a", "b"), WEBSOCKET]].concat()]);
    let answered = |fields: &[(&str, &str)]| {
        let mut client = court.client(&[]);
        let stream = client.ask(fields, false);
        let status = client.answered(stream).status;
        assert!((400..600).contains(&status), "{fields:?}: {status}");
        client.expect_service();
    };
    answered(&[CONNECT, AUTHORITY]); // no proxy in front of servers does that
    answered(&[CONNECT, SCHEME, AUTHORITY, PATH, (":protocol", "none")]);
}

/// What is malformed leaves no trace where the next request's fields are read (RFC 9113 §4.3).
#[test]
fn the_table_is_kept_whatever_becomes_of_a_request() {
    let court = Court::with("limits { streams 2 }");
    court.keeps(&[
        ("of one that is malformed", |c| {
            c.frame(
                HEADERS,
                WHOLE,
                1,
                [&block(&GET)[..], b"\x40\x03x-a\x01b\x00\x0aconnection\x05close"].concat(),
            );
            assert_eq!(c.outcome(1).reset, Some(PROTOCOL_ERROR));
            c.frame(HEADERS, WHOLE, 3, [&block(&head("GET", "/good"))[..], b"\xbe"].concat());
            c.expect_text(3, "GET /good 0 x-a=b");
        }),
        ("of what was under way on a stream that was reset", |c| {
            let stream = c.ask(&with("POST", "/bad", &[("te", "gzip")]), false);
            c.data(stream, "four", false);
            c.frame(HEADERS, WHOLE, stream, b"\x40\x03x-a\x01b");
            assert_eq!(c.outcome(stream).reset, Some(PROTOCOL_ERROR));
            c.frame(HEADERS, WHOLE, 3, [&block(&head("GET", "/good"))[..], b"\xbe"].concat());
            c.expect_text(3, "GET /good 0 x-a=b");
        }),
        ("of one that is refused", |c| {
            c.begin("/wait");
            c.begin("/wait");
            c.frame(HEADERS, WHOLE, 5, [&block(&GET)[..], b"\x40\x03x-a\x01b"].concat());
            assert_eq!(c.outcome(5).reset, Some(REFUSED_STREAM));
            c.reset(1);
            c.expect_ping_ack();
            loop {
                let stream = c.stream();
                c.frame(HEADERS, WHOLE, stream, [&block(&head("GET", "/good"))[..], b"\xbe"].concat());
                let outcome = c.outcome(stream);
                if outcome.reset == Some(REFUSED_STREAM) {
                    continue; // the work of the one that was taken back has not stopped yet
                }
                assert_eq!(outcome.expect(200).body, b"GET /good 0 x-a=b");
                break;
            }
        }),
        ("of fields behind a body", |c| {
            let stream = c.ask(&head("POST", "/good"), false);
            c.frame(HEADERS, WHOLE, stream, b"\x40\x03x-a\x01b");
            c.expect_text(stream, "POST /good 0");
            c.frame(HEADERS, WHOLE, 3, [&block(&head("GET", "/good"))[..], b"\xbe"].concat());
            c.expect_text(3, "GET /good 0 x-a=b");
        }),
    ]);
}
