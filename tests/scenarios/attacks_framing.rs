//! attacks_framing: attacks on where a request's body ends (rows A1–A17, A34–A36, A44), end to end.

use portunus_tests::attack::{Ground, Payload, payload};

/// What a victim's connection would read as the next request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// A POST with these field lines and this body.
fn post(name: &str, lines: &str, body: &str, outcome: &'static str) -> Payload {
    payload(name, format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}"), outcome)
}

/// The same with bytes that are no text.
fn post_bytes(name: &str, lines: &[u8], body: &str, outcome: &'static str) -> Payload {
    let bytes = [b"POST / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n", body.as_bytes()].concat();
    payload(name, bytes, outcome)
}

/// A chunked POST with this body.
fn chunked(name: &str, body: impl AsRef<[u8]>, outcome: &'static str) -> Payload {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    payload(name, [head.as_slice(), body.as_ref()].concat(), outcome)
}

#[test]
fn a1_a2_both_framings() {
    let both = format!("0\r\n\r\n{SMUGGLED}");
    Ground::new().stands(vec![
        payload(
            "A1 as in the row",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
            "400",
        ),
        payload(
            "A2 as in the row",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX",
            "400",
        ),
        post("CL.TE with a whole request", "Content-Length: 40\r\nTransfer-Encoding: chunked\r\n", &both, "400"),
        post("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "1c\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n0\r\n\r\n", "400"),
        post("CL 0 and TE", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", &both, "400"),
        post("CL that fits the chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", "400"),
        post("small letters", "content-length: 5\r\ntransfer-encoding: chunked\r\n", &both, "400"),
        post("CHUNKED", "Content-Length: 5\r\nTransfer-Encoding: CHUNKED\r\n", &both, "400"),
        post("CL and identity", "Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello", "400 / 501"),
        post("CL and empty TE", "Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello", "400 / 501"),
        post("CL between two TE", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n", &both, "400 / 501"),
        payload("with GET", format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n{both}"), "400"),
        payload("with HEAD", format!("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n{both}"), "400"),
    ]);
}

#[test]
fn a3_disguises_of_chunked() {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let mut payloads = vec![
        post("chunked", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", "200"),
        post("CHUNKED", "Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n", "200"),
        post("cHuNkEd", "transfer-ENCODING: cHuNkEd\r\n", "0\r\n\r\n", "200"),
        post("tab before the value", "Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n", "200 / 400"),
        post("tab after the value", "Transfer-Encoding: chunked\t\r\n", "0\r\n\r\n", "200 / 400"),
        post("spaces around the value", "Transfer-Encoding:   chunked  \r\n", "0\r\n\r\n", "200 / 400"),
        post("no space", "Transfer-Encoding:chunked\r\n", "0\r\n\r\n", "200"),
        post(
            "underscore is another name",
            "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n",
            "hello",
            "400 / 200",
        ),
        post("underscore without length", "Transfer_Encoding: chunked\r\n", "0\r\n\r\n", "400 / 200 400"),
    ];
    for value in ["xchunked", "chunkedx", "identity", "gzip", "cow", "deflate", "chunk", "trailers"] {
        payloads.push(post(value, &format!("Transfer-Encoding: {value}\r\n"), &body, "501 / 400"));
    }
    for value in [
        ",chunked",
        "chunked,",
        "chunked, chunked",
        "chunked,chunked",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked;a=1",
        "chunked ;a=1",
        "\"chunked\"",
        "'chunked'",
        "chunked chunked",
        "chunked\u{b}x",
        "",
        " ",
        ",",
        "chunked, ",
        " ,chunked",
        "chunked\\",
        "=chunked",
        "{chunked}",
        "chu nked",
        "chunked: chunked",
        "chunked/1",
    ] {
        payloads.push(post(
            &format!("TE {value:?}"),
            &format!("Transfer-Encoding: {value}\r\n"),
            &body,
            "400 / 501",
        ));
    }
    for (name, lines) in [
        ("space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("space before the name", " Transfer-Encoding: chunked\r\n"),
        ("folded value", "Transfer-Encoding:\r\n chunked\r\n"),
        ("folded with a tab", "Transfer-Encoding:\r\n\tchunked\r\n"),
        ("folded after a comma", "Transfer-Encoding: identity,\r\n chunked\r\n"),
        ("folded into another", "X: y\r\n Transfer-Encoding: chunked\r\n"),
        ("two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("two lines, one unknown", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"),
        ("two lines, identity first", "Transfer-Encoding: identity\r\nTransfer-encoding: chunked\r\n"),
        ("two lines, empty first", "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n"),
        ("LF before it", "X: y\nTransfer-Encoding: chunked\r\n"),
        ("CR before it", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("no colon", "Transfer-Encoding chunked\r\n"),
        ("= for the colon", "Transfer-Encoding= chunked\r\n"),
        ("two colons", "Transfer-Encoding:: chunked\r\n"),
        ("quote in the name", "'Transfer-Encoding': chunked\r\n Transfer-Encoding: chunked\r\n"),
    ] {
        payloads.push(post(name, lines, &body, "400 / 501"));
    }
    for (name, lines) in [
        ("VT before", b"Transfer-Encoding: \x0bchunked\r\n".as_slice()),
        ("VT after", b"Transfer-Encoding: chunked\x0b\r\n"),
        ("FF before", b"Transfer-Encoding: \x0cchunked\r\n"),
        ("FF after", b"Transfer-Encoding: chunked\x0c\r\n"),
        ("NUL before", b"Transfer-Encoding: \0chunked\r\n"),
        ("NUL after", b"Transfer-Encoding: chunked\0\r\n"),
        ("NUL in the name", b"Transfer-Encoding\0: chunked\r\n"),
        ("DEL after", b"Transfer-Encoding: chunked\x7f\r\n"),
        ("non-breaking space", b"Transfer-Encoding: \xa0chunked\r\n"),
        ("non-breaking space after", b"Transfer-Encoding: chunked\xa0\r\n"),
        ("Kelvin sign", b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n"),
        ("byte in the name", b"Transfer\xadEncoding: chunked\r\n"),
        ("byte 0xff before the name", b"\xffTransfer-Encoding: chunked\r\n"),
        ("backspace", b"Transfer-Encoding: \x08chunked\r\n"),
    ] {
        payloads.push(post_bytes(name, lines, &body, "400 / 501"));
    }
    let mut ground = Ground::new();
    ground.stands(payloads);
    let twins =
        ground.origin.requests().iter().filter(|request| request.fields.has("transfer_encoding")).count();
    assert_eq!(twins, 0, "a name with an underscore must not pass");
}

#[test]
fn a4_a5_http_10() {
    Ground::new().stands(vec![
        payload("A4 TE", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        payload("A4 TE, keep-alive", format!("POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"), "400"),
        payload("A4 TE and CL", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"),
        payload("A4 TE identity", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\nhello", "400 / 501"),
        payload("A5 body without length", "POST / HTTP/1.0\r\nHost: a\r\n\r\nhello", "400 / 200 400 / 200"),
        payload("A5 a request as body", format!("POST / HTTP/1.0\r\nHost: a\r\n\r\n{SMUGGLED}"), "400 / 200 400 / 200"),
        payload("CL on 1.0", "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200"),
        payload("CL on 1.0, keep-alive", "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n", "200 200"),
    ]);
}

#[test]
fn a6_a7_content_length() {
    let mut payloads = vec![
        post("5", "Content-Length: 5\r\n", "hello", "200"),
        post("0", "Content-Length: 0\r\n", "", "200"),
        post("spaces around", "Content-Length:  5  \r\n", "hello", "200"),
    ];
    for (name, lines) in [
        ("A6 two equal", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        ("A6 two different", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("A6 letters differ", "Content-Length: 5\r\ncontent-length: 0\r\n"),
        ("A6 far apart", "Content-Length: 5\r\nA: b\r\nC: d\r\nContent-Length: 5\r\n"),
        ("A6 empty first", "Content-Length: \r\nContent-Length: 59\r\n"),
        ("A6 empty last", "Content-Length: 5\r\nContent-Length:\r\n"),
        ("A6 three", "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5\r\n"),
    ] {
        payloads.push(post(name, lines, "hello", "400"));
    }
    for value in [
        "5, 5",
        "5,5",
        "5, 6",
        "5,",
        ",5",
        "5 5",
        "",
        " ",
        "+5",
        "-1",
        "-48",
        "-0",
        "+0",
        "0x5",
        "0x10",
        "5h",
        "5.0",
        "5e0",
        "1_0",
        "010",
        "05",
        "00",
        "5;",
        "\"5\"",
        "'5'",
        "5\t5",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999",
        "00000000000000000005",
        "5 bytes",
        "five",
        "NaN",
        "inf",
        "\u{666}",
        "０",
        "5\\",
        "5%",
        "(5)",
        "5#",
    ] {
        payloads.push(post(
            &format!("A7 {value:?}"),
            &format!("Content-Length: {value}\r\n"),
            "hello",
            "400",
        ));
    }
    for value in [b"5\0".as_slice(), b"\x005", b"5\x0b", b"\x0c5", b"5\x7f", b"5\xa0", b"\xb2"] {
        let lines = [b"Content-Length: ", value, b"\r\n"].concat();
        payloads.push(post_bytes(&format!("A7 {value:?}"), &lines, "hello", "400"));
    }
    for (name, lines) in [
        ("A9 space before the colon", "Content-Length : 5\r\n"),
        ("A9 tab before the colon", "Content-Length\t: 5\r\n"),
        ("A9 space before the name", " Content-Length: 5\r\n"),
        ("A9 folded value", "Content-Length:\r\n 5\r\n"),
        ("A9 folded into another", "X: y\r\n Content-Length: 5\r\n"),
        ("A9 LF before", "X: y\nContent-Length: 5\r\n"),
        ("A9 CR before", "X: y\rContent-Length: 5\r\n"),
        ("A9 no colon", "Content-Length 5\r\n"),
    ] {
        payloads.push(post(name, lines, "hello", "400"));
    }
    payloads.push(post("too much for the limit", "Content-Length: 9223372036854775807\r\n", "hello", "413"));
    payloads.push(post("A9 underscore", "Content_Length: 5\r\n", "hello", "400 / 200 400"));
    Ground::new().stands(payloads);
}

#[test]
fn a9_a10_a44_bodies_on_any_method() {
    let mut ground = Ground::new();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH"] {
        let length = format!(
            "{method} /sized HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        );
        let chunks = format!(
            "{method} /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
            SMUGGLED.len()
        );
        ground.stands(vec![
            payload(format!("A44 {method} with a length"), length, "200"),
            payload(format!("A10 {method} with chunks"), chunks, "200"),
        ]);
    }
    let bodies = ground.origin.complete();
    let bodies = bodies.iter().filter(|request| request.target == "/sized" || request.target == "/chunks");
    assert!(bodies.clone().all(|request| request.body == SMUGGLED.as_bytes()));
    assert_eq!(bodies.count(), 12);
}

#[test]
fn a12_expect() {
    let expecting = |name: &str, value: &str, outcome| {
        post(name, &format!("Expect: {value}\r\nContent-Length: 5\r\n"), "hello", outcome)
    };
    Ground::new().stands(vec![
        expecting("body already sent", "100-continue", "200"),
        expecting("letters", "100-Continue", "200 / 417"),
        expecting("y 100-continue", "y 100-continue", "417"),
        expecting("list", "100-continue, x", "417"),
        expecting("twice in a list", "100-continue, 100-continue", "417"),
        expecting("unknown", "200-ok", "417"),
        expecting("empty", "", "417"),
        expecting("more", "100-continue-x", "417"),
        expecting("parameter", "100-continue;a=b", "417"),
        post("two lines", "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5\r\n", "hello", "417 / 400"),
        payload(
            "OPTIONS and a folded line (CVE-2025-32094)",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nExpect:\r\n 100-continue\r\nContent-Length: 5\r\n\r\nhello",
            "400",
        ),
        payload("no body", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", "200"),
        payload(
            "length 0",
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
            "200",
        ),
        payload(
            "on 1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
            "200 / 417",
        ),
    ]);
}

#[test]
fn a13_a14_chunk_sizes() {
    let mut payloads = vec![
        chunked("5", "5\r\nhello\r\n0\r\n\r\n", "200"),
        chunked("leading zeros", "005\r\nhello\r\n000\r\n\r\n", "200 / 400"),
        chunked("16 digits", "0000000000000005\r\nhello\r\n0\r\n\r\n", "200 / 400"),
        chunked("letters of both cases", format!("aA\r\n{}\r\n0\r\n\r\n", "x".repeat(0xaa)), "200"),
        chunked("above the body limit", "7FFFFFFFFFFFFFFF\r\nhello", "413 / 400 / 408"),
        chunked("4 GiB and 5", "100000005\r\nhello\r\n0\r\n\r\n", "413 / 400 / 408"),
    ];
    for size in [
        "00000000000000005",
        "10000000000000000",
        "10000000000000005",
        "FFFFFFFFFFFFFFFF",
        "8000000000000000",
        "FFFFFFFFFFFFFFFFFFFFFFFF",
        "0x5",
        "0X5",
        "x5",
        "+5",
        "-5",
        "-0",
        "5_0",
        "_5",
        " 5",
        "5 ",
        "\t5",
        "5\t",
        "ZZ",
        "5h",
        "g",
        "5,",
        "5.",
        ".5",
        "5,5",
        "5 5",
        "\"5\"",
        "5=",
        "\u{665}",
        "５",
    ] {
        payloads.push(chunked(
            &format!("A13/A14 {size:?}"),
            format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
            "400",
        ));
    }
    for size in [b"\x005".as_slice(), b"5\0", b"\x0b5", b"5\x0c", b"\xa05", b"5\x7f", b"5\x01"] {
        let body = [size, b"\r\nhello\r\n0\r\n\r\n"].concat();
        payloads.push(chunked(&format!("A14 {size:?}"), body, "400"));
    }
    payloads.push(chunked("A14 empty line first", "\r\n5\r\nhello\r\n0\r\n\r\n", "400"));
    payloads.push(chunked("A14 only an empty line", format!("\r\n{SMUGGLED}"), "400"));
    payloads.push(chunked("A14 empty line between", "5\r\nhello\r\n\r\n0\r\n\r\n", "400"));
    payloads.push(chunked("A14 no size but an extension", ";a=b\r\nhello\r\n0\r\n\r\n", "400"));
    Ground::new().stands(payloads);
}

#[test]
fn a15_chunk_extensions() {
    let mut ground = Ground::new();
    let long = "a".repeat(300);
    let many = "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=b\r\nx\r\n".repeat(60);
    ground.stands(vec![
        chunked("plain", "5;a=b\r\nhello\r\n0\r\n\r\n", "200"),
        chunked("name only", "5;a\r\nhello\r\n0;b\r\n\r\n", "200"),
        chunked("quoted", "5;a=\"b; c\"\r\nhello\r\n0\r\n\r\n", "200 / 400"),
        chunked("two", "5;a=b;c=d\r\nhello\r\n0\r\n\r\n", "200"),
        chunked("empty", "5;\r\nhello\r\n0\r\n\r\n", "400 / 200"),
        chunked("space before", "5 ;a=b\r\nhello\r\n0\r\n\r\n", "400"),
        chunked("over 256 bytes", format!("5;{long}\r\nhello\r\n0\r\n\r\n"), "400"),
        chunked("over 256 bytes at the end", format!("5\r\nhello\r\n0;{long}\r\n\r\n"), "400"),
        chunked("endless", format!("5;{}", "a".repeat(100_000)), "400"),
        chunked("over 4 KiB in all", format!("{many}0\r\n\r\n"), "400"),
        chunked("NUL", "5;a\0b\r\nhello\r\n0\r\n\r\n", "400"),
        chunked("control byte", "5;a\u{1}b\r\nhello\r\n0\r\n\r\n", "400"),
        chunked("DEL", "5;a\u{7f}\r\nhello\r\n0\r\n\r\n", "400"),
        chunked("bare LF (TERM.EXT)", format!("5;a\nhello\r\n0\r\n\r\n{SMUGGLED}"), "400"),
        chunked("bare LF, then CRLF", "5;a\nb\r\nhello\r\n0\r\n\r\n", "400"),
        chunked("bare LF on the last", format!("5\r\nhello\r\n0;a\n\r\n\r\n{SMUGGLED}"), "400"),
        chunked("bare CR", "5;a\rb\r\nhello\r\n0\r\n\r\n", "400"),
        chunked("CR before ;", "5\r;a\r\nhello\r\n0\r\n\r\n", "400"),
        chunked("CR before CRLF", "5;a\r\r\nhello\r\n0\r\n\r\n", "400"),
        chunked("CRLF in quotes", "5;a=\"\r\nhello\r\n0\r\n\r\n\"\r\n", "400"),
        chunked("quote left open", "5;a=\"b\r\nhello\r\n0\r\n\r\n", "400"),
    ]);
    assert!(
        ground
            .origin
            .complete()
            .iter()
            .filter(|request| request.method == "POST")
            .all(|request| request.body == b"hello")
    );
}

#[test]
fn a16_a17_chunk_data_and_line_ends() {
    let mut payloads = Vec::new();
    for (name, body) in [
        ("A16 spill", "5\r\nhello!!\r\n0\r\n\r\n"),
        ("A16 one byte more", "5\r\nhellox\r\n0\r\n\r\n"),
        ("A16 shorter", "5\r\nhel\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        ("A16 no CRLF", "5\r\nhello0\r\n\r\n"),
        ("A16 zero with data", "0\r\nhello\r\n\r\n"),
        ("A17 LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("A17 LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("A17 LF after the last size", "5\r\nhello\r\n0\n\r\n"),
        ("A17 as in the row", "0\n\r\n"),
        ("A17 only LF", "5\nhello\n0\n\n"),
        ("A17 LF at the very end", "5\r\nhello\r\n0\r\n\n"),
        ("A17 CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("A17 CR after the data", "5\r\nhello\r0\r\n\r\n"),
        ("A17 CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"),
        ("A17 CR x after the size", "5\rXhello\r\n0\r\n\r\n"),
        ("A17 CR x after the data", "5\r\nhello\rX0\r\n\r\n"),
        ("A17 CR x at the end", "5\r\nhello\r\n0\r\n\rX"),
        ("A17 LF CR", "5\n\rhello\r\n0\r\n\r\n"),
    ] {
        payloads.push(chunked(name, body, "400"));
        payloads.push(chunked(&format!("{name}, then a request"), format!("{body}{SMUGGLED}"), "400"));
    }
    Ground::new().stands(payloads);
}

#[test]
fn a16_a_cut_body_is_never_whole_upstream() {
    let mut ground = Ground::new();
    ground.stands(vec![
        chunked("no last chunk", "5\r\nhello\r\n", "408 / 400"),
        chunked("half a chunk", "5\r\nhel", "408 / 400"),
        chunked("no end of trailers", "5\r\nhello\r\n0\r\n", "408 / 400"),
        post("short length", "Content-Length: 10\r\n", "hello", "408 / 400"),
    ]);
    assert!(ground.origin.complete().iter().all(|request| request.method == "GET"), "only the fences");
}

#[test]
fn a34_a35_trailers() {
    let trailers =
        |name: &str, lines: &str, outcome| chunked(name, format!("5\r\nhello\r\n0\r\n{lines}\r\n"), outcome);
    let mut payloads = vec![
        trailers("harmless", "X-Checksum: y\r\n", "200"),
        trailers("two", "X: y\r\nZ: a\r\n", "200"),
        trailers("A35 200 of them", &"X: y\r\n".repeat(200), "400 / 431"),
        trailers("A35 64 KiB", &format!("X: {}\r\n", "y".repeat(64 << 10)), "400 / 431"),
        trailers("A35 a long name", &format!("{}: y\r\n", "x".repeat(300)), "400 / 431"),
        trailers("folded", "X: y\r\n z\r\n", "400"),
        trailers("bare LF", "X: y\nZ: a\r\n", "400"),
        trailers("bare CR", "X: y\rZ: a\r\n", "400"),
        trailers("space before the colon", "X : y\r\n", "400"),
        trailers("no colon", "X\r\n", "400"),
        trailers("empty name", ": y\r\n", "400"),
        trailers("NUL", "X: \0\r\n", "400"),
        trailers("a request line", "GET /smuggled HTTP/1.1\r\nHost: a\r\n", "400"),
        chunked("A35 endless", format!("0\r\n{}", "X: y\r\n".repeat(20_000)), "400 / 431"),
    ];
    for name in [
        "Host",
        "Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "transfer-encoding",
        "Trailer",
        "Connection",
        "Cookie",
        "Content-Encoding",
    ] {
        payloads.push(trailers(&format!("A34 {name}"), &format!("{name}: 5\r\n"), "400"));
    }
    // Head and trailers have one bound.
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked\r\n\r\n", "A: b\r\n".repeat(90));
    for (count, outcome) in [(5, "200"), (20, "400 / 431")] {
        let end = format!("{head}0\r\n{}\r\n", "X: y\r\n".repeat(count));
        payloads.push(payload("A35 behind ninety fields", end, outcome));
    }
    let mut ground = Ground::new();
    ground.stands(payloads);
    for request in ground.origin.complete() {
        assert!(!request.fields.has("x-checksum") && !request.fields.has("authorization"), "merged");
    }
}

#[test]
fn a36_nothing_is_parsed_after_an_error() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    Ground::new().stands(vec![
        payload("bad, good", format!("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n{SMUGGLED}"), "400"),
        payload("good, bad, good", format!("{good}GET  / HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}"), "200 400"),
        payload("good, garbage", format!("{good}\u{1}\u{2}\u{3}{SMUGGLED}"), "200 400"),
        payload("good, no host, good", format!("{good}GET / HTTP/1.1\r\n\r\n{SMUGGLED}"), "200 400"),
        payload(
            "chunk error, good",
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nX\r\n{SMUGGLED}"),
            "400",
        ),
        payload("two good", format!("{good}{good}"), "200 200"),
        payload("one empty line between", format!("{good}\r\n{good}"), "200 200 / 200 400"),
    ]);
}
