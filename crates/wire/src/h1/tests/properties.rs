//! properties: what holds for all bytes and all ways they can be cut.

use super::super::emit::{self, Connection};
use super::super::{Chunks, Framing, Piece, Version};
use super::bodies::decode;
use super::*;
use portunus_message::fields::Place;
use portunus_message::{FieldName, FieldValue, Status};
use proptest::prelude::*;

/// Bytes made of pieces that mean something to a parser, and of any others.
fn pieces(tokens: &'static [&'static [u8]], most: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => proptest::sample::select(tokens).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..most).prop_map(|all| all.concat())
}

const HEAD: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /a?b HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, x\r\n",
    b"X: y\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b":",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"\0",
];

const BODY: &[&[u8]] = &[
    b"5\r\nhello\r\n",
    b"0\r\n",
    b"\r\n",
    b"1;a=b\r\nx\r\n",
    b"a\r\n0123456789",
    b"X: y\r\n",
    b"Host: a\r\n",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"\r",
    b"\n",
    b"f",
    b"0",
    b" ",
];

/// What a scan says when its buffer grows to each of `ends` in turn.
fn scan(
    bytes: &[u8],
    ends: impl IntoIterator<Item = usize>,
    bounds: &HeadBounds,
) -> Result<Option<usize>, Crime> {
    let mut scan = Scan::new();
    for end in ends {
        match scan.advance(&bytes[..end], bounds) {
            Ok(None) => {}
            other => return other,
        }
    }
    Ok(None)
}

fn small_bounds(side: portunus_message::Side) -> HeadBounds {
    HeadBounds { url_bytes: 40, line_bytes: 60, head_bytes: 150, side }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_scans_the_same(bytes in pieces(HEAD, 12), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        for side in [portunus_message::Side::Client, portunus_message::Side::Upstream] {
            let bounds = small_bounds(side);
            let whole = scan(&bytes, [bytes.len()], &bounds);
            prop_assert_eq!(scan(&bytes, 0..=bytes.len(), &bounds), whole);
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.sort_unstable();
            ends.push(bytes.len());
            prop_assert_eq!(scan(&bytes, ends, &bounds), whole);
        }
    }

    #[test]
    fn any_split_decodes_the_same(bytes in pieces(BODY, 12), step in 1usize..9) {
        let limits = Limits::default();
        let whole = decode(Chunks::new(&limits), &bytes);
        let mut chunks = Chunks::new(&limits);
        let mut data = Vec::new();
        let mut ended = Ok(None);
        let (mut at, mut end) = (0, 0);
        while ended == Ok(None) && end < bytes.len() {
            end = (end + step).min(bytes.len());
            while at < end && ended == Ok(None) {
                match chunks.next(&bytes[at..end]) {
                    Ok(Piece::More { used }) => at += used,
                    Ok(Piece::Data { skip, len }) => {
                        data.extend_from_slice(&bytes[at + skip..at + skip + len]);
                        at += skip + len;
                    }
                    Ok(Piece::End { used }) => ended = Ok(Some(at + used)),
                    Err(crime) => ended = Err(crime),
                }
            }
        }
        prop_assert_eq!(ended.map(|end| (data, end)), whole);
    }

    #[test]
    fn no_head_panics(bytes in pieces(HEAD, 12)) {
        let _ = parse::request(&bytes, &mut Request::default(), Scheme::Https, &Limits::default());
        let _ = parse::response(&bytes, &mut Response::default(), Method::GET, true, &Limits::default());
    }

    #[test]
    fn what_is_accepted_another_parser_reads_the_same(bytes in pieces(HEAD, 12)) {
        let mut request = Request::default();
        if let Ok(head) = parse::request(&bytes, &mut request, Scheme::Http, &Limits::default()) {
            let mut slots = [httparse::EMPTY_HEADER; 200];
            let mut other = httparse::Request::new(&mut slots);
            prop_assert_eq!(other.parse(&bytes), Ok(httparse::Status::Complete(head.length)));
            prop_assert_eq!(other.method, Some(request.method.as_str()));
            for (_, name, value) in request.fields.iter() {
                prop_assert!(other.headers.iter().any(|h| h.name.as_bytes() == name && h.value == value));
            }
        }
    }

    #[test]
    fn what_is_written_reads_the_same(
        path in "(/[a-zA-Z0-9._~!$&'()*+,;=:@-]{0,6}){1,4}(\\?[a-z0-9=&?/]{0,10})?",
        host in "[a-z][a-z0-9-]{0,8}(:[1-9][0-9]{1,3})?",
        lines in proptest::collection::vec(("X-[a-zA-Z0-9-]{1,8}", "[ -~\\t\u{80}-\u{ff}]{0,20}"), 0..10),
        length in proptest::option::of(0u64..=i64::MAX as u64),
        method in proptest::sample::select(Method::all().filter(|m| !matches!(*m, Method::CONNECT | Method::TRACE)).collect::<Vec<_>>()),
    ) {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
        for (name, value) in &lines {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        let Ok((request, _)) = read(&bytes) else { return Ok(()) }; // A path may climb above the root.
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        let mut out = Vec::new();
        emit::request_head(&request, framing, false, &mut out);
        let (again, head) = read(&out).unwrap();
        prop_assert_eq!(head.framing, framing);
        prop_assert_eq!(again.method, request.method);
        prop_assert_eq!(again.target.path_and_query(), request.target.path_and_query());
        prop_assert_eq!(again.target.authority(), request.target.authority());
        prop_assert_eq!(kept(&again.fields), kept(&request.fields));
        let mut twice = Vec::new();
        emit::request_head(&again, framing, false, &mut twice);
        prop_assert_eq!(out, twice);
    }

    #[test]
    fn a42_nothing_that_is_written_splits(name in proptest::collection::vec(any::<u8>(), 1..6), value in pieces(HEAD, 4), plain in any::<bool>()) {
        // Not by any way a filter has, but by the one that only a parser should use.
        let mut fields = Fields::new();
        let place = Place { at: 0, name_len: name.len(), gap: 2, value_len: value.len(), plain };
        fields.index(Known::find(&name), &place);
        fields.load(&[&name[..], b": ", &value[..], b"\r\n"].concat());
        fields.add(Known::DATE, FieldValue::from_static("today"));
        let mut request = Request::default();
        let mut response = Response::new(Status::OK);
        request.fields = fields.clone();
        response.fields = fields.clone();
        let mut outs = [b"before".to_vec(), b"before".to_vec(), b"before".to_vec()];
        emit::request_head(&request, Framing::Length(7), true, &mut outs[0]);
        emit::response_head(&response, Framing::Chunked, Connection::Close, Version::Http11, None, &mut outs[1]);
        emit::informational(Status::EARLY_HINTS, &fields, &mut outs[2]);
        for out in outs {
            prop_assert!(out.starts_with(b"before"));
            prop_assert!(out.ends_with(b"Date: today\r\n\r\n") || out.ends_with(b"\r\nConnection: close\r\n\r\n"));
            let ends = out.windows(4).filter(|four| four == b"\r\n\r\n").count();
            prop_assert_eq!(ends, 1);
            let text = out.split(|&b| b == b'\n').all(|line| line.iter().rposition(|&b| b == b'\r').is_none_or(|at| at + 1 == line.len()));
            prop_assert!(text);
        }
    }
}

fn answer(response: &Response, framing: Framing, connection: Connection, version: Version) -> String {
    let mut out = Vec::new();
    emit::response_head(response, framing, connection, version, Some(b"now"), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn answers_are_framed_by_us() {
    let mut response = Response::new(Status::OK);
    response.fields.add(Known::SERVER, FieldValue::from_static("x"));
    let start = "HTTP/1.1 200 OK\r\nServer: x\r\nDate: now\r\n";
    let check = |framing, connection, version, rest: &str| {
        assert_eq!(answer(&response, framing, connection, version), [start, rest, "\r\n"].concat());
    };
    use {Connection::*, Version::*};
    check(Framing::Length(0), KeepAlive, Http11, "Content-Length: 0\r\n");
    check(
        Framing::Length(1234567890123),
        KeepAlive,
        Http10,
        "Content-Length: 1234567890123\r\nConnection: keep-alive\r\n",
    );
    check(Framing::Chunked, KeepAlive, Http11, "Transfer-Encoding: chunked\r\n");
    check(Framing::Chunked, Close, Http10, "Connection: close\r\n");
    check(Framing::UntilClose, Close, Http11, "Connection: close\r\n");
    check(Framing::None, Upgrade, Http11, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
    let empty = Response::new(Status::NO_CONTENT);
    assert_eq!(
        answer(&empty, Framing::Length(5), KeepAlive, Http11),
        "HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n"
    );
    let odd = Response::new(Status::new(299).unwrap());
    assert_eq!(answer(&odd, Framing::None, KeepAlive, Http11), "HTTP/1.1 299 \r\nDate: now\r\n\r\n");
}

#[test]
fn requests_are_framed_by_us() {
    let (mut request, _) =
        read(b"GET http://A:80/x/../y?z HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n").unwrap();
    // A filter cannot add framing of its own.
    for name in ["Content-Length", "transfer-encoding", "Connection", "Host", "Upgrade", "TE"] {
        request.fields.add(&FieldName::new(name).unwrap(), FieldValue::from_static("evil"));
    }
    let written = |request: &Request, framing, close| {
        let mut out = Vec::new();
        emit::request_head(request, framing, close, &mut out);
        String::from_utf8(out).unwrap()
    };
    let start = "GET /y?z HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n";
    assert_eq!(written(&request, Framing::None, false), [start, "\r\n"].concat());
    assert_eq!(
        written(&request, Framing::Length(0), true),
        [start, "Content-Length: 0\r\nConnection: close\r\n\r\n"].concat()
    );
    request.websocket = true;
    assert_eq!(
        written(&request, Framing::None, false),
        [start, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"].concat()
    );
}

#[test]
fn chunk_sizes_are_hexadecimal() {
    for (len, text) in
        [(0, ""), (1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65536, "10000\r\n"), (0xabcdef, "abcdef\r\n")]
    {
        let mut out = Vec::new();
        emit::chunk_size(len, &mut out);
        assert_eq!(out, text.as_bytes());
    }
}
