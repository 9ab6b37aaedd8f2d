//! Who is believed, and what the upstream is told.

use super::*;
use crate::filter::tests::Stage;
use proptest::prelude::*;

fn peer(ip: &str) -> Peer {
    Peer { client: std::net::SocketAddr::new(ip.parse().unwrap(), 1234), ..Peer::default() }
}

fn trust() -> Trust {
    Trust::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
}

fn run(stage: &mut Stage, from: &str) -> (String, RequestId) {
    let mut id = RequestId(0xfeed);
    let client = apply(&mut stage.request, &peer(from), &trust(), &mut Told::default(), &mut id);
    (client.to_string(), id)
}

const LIES: &[(&str, &str)] = &[
    ("X-Forwarded-For", "1.1.1.1"),
    ("x-forwarded-for", "2.2.2.2"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil"),
    ("X-Forwarded-User", "root"),
    ("Forwarded", "for=1.1.1.1"),
    ("X-Real-IP", "1.1.1.1"),
    ("X-Original-URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
    ("X-Middleware-Subrequest", "x"),
    ("X-Request-Id", "mine"),
    ("Client-Cert", ":x:"),
    ("Proxy", "http://evil"),
];

#[test]
fn f8_a_stranger_says_nothing_of_itself() {
    let mut stage = LIES
        .iter()
        .fold(Stage::get("/").field("Accept", "*/*"), |stage, (name, value)| stage.field(name, value));
    let (client, id) = run(&mut stage, "::ffff:192.0.2.7");
    assert_eq!((client.as_str(), id), ("192.0.2.7", RequestId(0xfeed)));
    let all: Vec<_> = stage
        .request
        .fields
        .iter()
        .map(|(_, n, v)| (n, v))
        .map(|(n, v)| format!("{}: {}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
        .collect();
    assert_eq!(
        all,
        [
            "Accept: */*",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: example.com",
            "Forwarded: for=192.0.2.7;host=example.com;proto=http",
            "X-Request-Id: 0000000000000000000000000000feed",
        ]
    );
}

#[test]
fn f10_a_trusted_peer_is_believed_from_right_to_left() {
    for (chain, client) in [
        ("1.1.1.1, 2.2.2.2", "2.2.2.2"),
        ("1.1.1.1, 2.2.2.2, 10.9.9.9", "2.2.2.2"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("1.1.1.1, unknown, 10.2.2.2", "10.2.2.2"),
        ("1.1.1.1, garbage", "10.0.0.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1,, fd00::1", "2001:db8::1"),
        ("3.3.3.3:5555", "3.3.3.3"),
        ("::ffff:4.4.4.4", "4.4.4.4"),
        ("", "10.0.0.1"),
    ] {
        let mut stage = Stage::get("/").field("X-Forwarded-For", chain);
        assert_eq!(run(&mut stage, "10.0.0.1").0, client, "{chain}");
    }
    let mut lines = Stage::get("/").field("X-Forwarded-For", "1.1.1.1").field("X-Forwarded-For", "10.3.3.3");
    assert_eq!(run(&mut lines, "10.0.0.1").0, "1.1.1.1");
    assert_eq!(lines.sees("X-Forwarded-For"), "1.1.1.1, 10.3.3.3, 10.0.0.1");
    assert_eq!(lines.sees("Forwarded"), "for=1.1.1.1;host=example.com;proto=http");
    let mut both = Stage::get("/").field("X-Forwarded-For", "1.1.1.1").field("Forwarded", "for=2.2.2.2");
    assert_eq!(run(&mut both, "10.0.0.1").0, "1.1.1.1");
}

#[test]
fn f10_what_contradicts_the_chain_is_not_passed_on() {
    let says = |forwarded| {
        let mut stage = Stage::get("/").field("X-Forwarded-For", "1.1.1.1").field("Forwarded", forwarded);
        run(&mut stage, "10.0.0.1");
        ["Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"].map(|name| stage.sees(name))
    };
    let [forwarded, host, proto] = says("for=6.6.6.6;host=evil;proto=https");
    assert_eq!(forwarded, "for=1.1.1.1;host=example.com;proto=http");
    assert_eq!([host.as_str(), proto.as_str()], ["example.com", "http"]);
    // Who knows his own address can say that, but not what else the peer says.
    let mut known = Stage::get("/").field("X-Forwarded-For", "1.1.1.1").field("X-Forwarded-Host", "good");
    known = known.field("Forwarded", "for=1.1.1.1;host=evil;proto=https");
    run(&mut known, "10.0.0.1");
    assert_eq!(known.sees("Forwarded"), "for=1.1.1.1;host=good;proto=http");
    let [forwarded, host, proto] = says("for=6.6.6.6, for=1.1.1.1;host=good;proto=https");
    assert_eq!(
        forwarded,
        "for=6.6.6.6, for=1.1.1.1;host=good;proto=https, for=10.0.0.1;host=good;proto=https"
    );
    assert_eq!([host.as_str(), proto.as_str()], ["good", "https"]);
}

#[test]
fn f10_an_open_quote_swallows_nothing_that_a_peer_appended() {
    let open = [
        r#"for=", for=9.9.9.9"#,
        r#"for="1.2.3.4, for=9.9.9.9"#,
        r#"for="a\"", for=9.9.9.9"#,
        r#"";",;for=9.9.9.9"#,
    ];
    for line in open {
        let mut stage = Stage::get("/").field("Forwarded", line);
        assert_eq!(run(&mut stage, "10.0.0.1").0, "9.9.9.9", "{line}");
        let sees = stage.sees("Forwarded");
        assert!(sees.matches('"').count().is_multiple_of(2) || sees.contains("\\\""), "{line}: {sees}");
    }
    let mut stage = Stage::get("/").field("Forwarded", open[0]);
    run(&mut stage, "10.0.0.1");
    assert_eq!(stage.sees("Forwarded"), "for=9.9.9.9;host=example.com;proto=http", "it is not passed on");
    // A host that a peer has quoted as it came.
    let mut stage = Stage::get("/").field("Forwarded", r#"for=9.9.9.9;host="a\"";proto=https"#);
    assert_eq!(run(&mut stage, "10.0.0.1").0, "9.9.9.9");
}

#[test]
fn f8_a_host_adds_nothing_to_forwarded() {
    for host in ["a;for=6.6.6.6;proto=https", "(x)", "a=b"] {
        let mut stage = Stage::get("/");
        stage.request.target.set_authority(host.as_bytes()).unwrap();
        run(&mut stage, "192.0.2.1");
        assert_eq!(stage.sees("Forwarded"), format!("for=192.0.2.1;host=\"{host}\";proto=http"));
    }
}

#[test]
fn forwarded_is_read_and_continued() {
    let line = r#"for=9.9.9.9, For="[2001:db8::7]:99";Proto=https;host="a.example:8443";by="x,;y""#;
    let mut stage = Stage::get("/").field("Forwarded", line).field("Proxy", "http://evil");
    assert_eq!(run(&mut stage, "fd00::1").0, "2001:db8::7");
    assert_eq!(
        stage.sees("Forwarded"),
        format!("{line}, for=\"[fd00::1]\";host=\"a.example:8443\";proto=https")
    );
    assert_eq!(stage.sees("X-Forwarded-Proto"), "https");
    assert_eq!(stage.sees("X-Forwarded-Host"), "a.example:8443");
    assert_eq!(stage.sees("X-Forwarded-For"), "2001:db8::7, fd00::1");
    assert_eq!(stage.sees("Proxy"), "");
    for hidden in ["for=_secret", "for=unknown", "proto=https", "for=\"", "for", "for=8.8.8.8;for=9.9.9.9"] {
        assert_eq!(
            run(&mut Stage::get("/").field("Forwarded", hidden), "10.0.0.1").0,
            "10.0.0.1",
            "{hidden}"
        );
    }
}

#[test]
fn what_a_trusted_peer_states_is_kept() {
    let mut stage = Stage::get("/")
        .field("X-Forwarded-Proto", "https")
        .field("X-Forwarded-Host", "www.example.com")
        .field("X-Real-IP", "1.1.1.1")
        .field("X-Request-Id", "12345678-1234-5678-1234-567812345678");
    let (_, id) = run(&mut stage, "10.0.0.1");
    assert_eq!(id, RequestId(0x12345678_1234_5678_1234_567812345678));
    assert_eq!(stage.sees("X-Request-Id"), "12345678-1234-5678-1234-567812345678");
    assert_eq!(stage.sees("X-Forwarded-Proto"), "https");
    assert_eq!(stage.sees("X-Forwarded-Host"), "www.example.com");
    assert_eq!(stage.sees("X-Real-IP"), "1.1.1.1");
    let mut odd = Stage::get("/")
        .field("X-Forwarded-Proto", "gopher")
        .field("X-Forwarded-Host", "a\" b")
        .field("X-Request-Id", &"x".repeat(129));
    assert_eq!(run(&mut odd, "10.0.0.1").1, RequestId(0xfeed));
    assert_eq!(odd.sees("X-Request-Id"), "0000000000000000000000000000feed");
    assert_eq!(odd.sees("X-Forwarded-Proto"), "http");
    assert_eq!(odd.sees("X-Forwarded-Host"), "example.com");
}

#[test]
fn hosts_and_addresses_are_quoted_where_they_must() {
    let mut stage = Stage::get("/");
    stage.request.target.set_authority(b"[2001:db8::2]:8080").unwrap();
    run(&mut stage, "2001:db8::1");
    assert_eq!(stage.sees("Forwarded"), "for=\"[2001:db8::1]\";host=\"[2001:db8::2]:8080\";proto=http");
    assert_eq!(stage.sees("X-Forwarded-Host"), "[2001:db8::2]:8080");
    let mut long = Stage::get("/");
    let host = format!("{}.example:65535", "a".repeat(247));
    long.request.target.set_authority(host.as_bytes()).unwrap();
    run(&mut long, "2001:db8:1111:2222:3333:4444:5555:6666");
    assert!(long.sees("Forwarded").ends_with(&format!(";host=\"{host}\";proto=http")));
}

proptest! {
    #[test]
    fn the_walk_agrees_with_walking_backwards(chain in proptest::collection::vec(0usize..5, 0..6)) {
        let words = ["1.1.1.1", "2.2.2.2", "10.0.0.5", "10.0.0.6", "junk"];
        let mut backwards = "10.0.0.1";
        for &word in chain.iter().rev() {
            if word == 4 { break; }
            backwards = words[word];
            if word < 2 { break; }
        }
        let line = chain.iter().map(|&word| words[word]).collect::<Vec<_>>().join(",");
        let mut stage = Stage::get("/").field("X-Forwarded-For", &line);
        prop_assert_eq!(run(&mut stage, "10.0.0.1").0, backwards);
    }

    #[test]
    fn nothing_that_is_said_breaks_anything(line in "[ -~]{0,60}") {
        for name in ["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Request-Id"] {
            run(&mut Stage::get("/").field(name, &line), "10.0.0.1");
            run(&mut Stage::get("/").field(name, &line), "11.0.0.1");
        }
    }
}

#[test]
fn what_was_told_of_one_client_is_not_told_of_another() {
    let mut told = Told::default();
    let mut seen = Vec::new();
    for (client, host, scheme) in [
        ("192.0.2.1", "a", Scheme::Http),
        ("192.0.2.1", "a", Scheme::Http),
        ("192.0.2.2", "a", Scheme::Http),
        ("192.0.2.2", "b", Scheme::Http),
        ("192.0.2.2", "b", Scheme::Https),
    ] {
        let fields = told.of(client.parse().unwrap(), host.as_bytes(), scheme);
        let text = |name: Known| String::from_utf8(fields.get(name).unwrap().to_vec()).unwrap();
        assert_eq!(text(Known::X_FORWARDED_FOR), client);
        assert_eq!(text(Known::X_FORWARDED_HOST), host);
        assert_eq!(text(Known::FORWARDED), format!("for={client};host={host};proto={}", scheme.as_str()));
        seen.push(fields.len());
    }
    assert_eq!(seen, [4; 5]);
}

#[test]
fn a_number_is_written_in_hexadecimal() {
    for number in [0, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, u128::MAX, 0xa09f] {
        assert_eq!(digits(RequestId(number)).to_vec(), format!("{number:032x}").into_bytes());
    }
}
