//! h2: what a request of HTTP/2 may not be, and what crosses.

use super::give::Answer;
use super::hpack::{Decoder, Encoder, Field};
use super::take::{Taking, TakingTrailers, add_key};
use crate::websocket;
use portunus_message::{Crime, FieldValue, Fields, Known, Limits, Method, Request, Response, Scheme, Status};

type Pairs<'a> = Vec<(&'a str, &'a str)>;

fn field<'a>((name, value): (&'a str, &'a str)) -> Field<'a> {
    Field::new(name.as_bytes(), value.as_bytes())
}

fn take(fields: &Pairs<'_>, ended: bool) -> Result<Request, Crime> {
    let (mut out, mut cookies, limits) = (Request::default(), Vec::new(), Limits::default());
    let mut taking = Taking::new(Scheme::Https, &mut out, &mut cookies, &limits);
    for &pair in fields {
        taking.field(&field(pair));
    }
    taking.finish(ended).map(|_| out)
}

fn asks<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Pairs<'a> {
    let mut all =
        vec![(":method", method), (":scheme", "https"), (":authority", "example.com"), (":path", path)];
    all.extend_from_slice(more);
    all
}

fn get<'a>(more: &[(&'a str, &'a str)]) -> Result<Request, Crime> {
    take(&asks("GET", "/", more), true)
}

#[test]
fn a_request_is_taken_over() {
    let more = [("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-own", "1"), ("te", "trailers")];
    let out = take(&asks("GET", "/a/../b?c=d", &more), true).unwrap();
    let target = (out.method, out.target.path_and_query(), out.target.host());
    assert_eq!(target, (Method::GET, "/b?c=d", "example.com"));
    assert_eq!(out.fields.get_all(Known::COOKIE).collect::<Vec<_>>(), [b"a=1; b=2"]);
    assert!(out.trailers && !out.fields.has(Known::TE) && out.body.is_empty());
    assert_eq!(out.fields.len(), 3);
    // Schemes and codings have no case.
    assert!(get(&[("te", "Trailers")]).unwrap().trailers);
    let mut shouted = asks("GET", "/", &[]);
    shouted.iter_mut().filter(|(name, _)| *name == ":scheme").for_each(|(_, value)| *value = "HTTP");
    assert!(take(&shouted, true).is_ok());
}

#[test]
fn b1_a_length_that_cannot_be() {
    let post = |lengths: &[&'static str], ended| {
        let more: Pairs<'_> = lengths.iter().map(|length| ("content-length", *length)).collect();
        take(&asks("POST", "/", &more), ended)
    };
    for (length, ended) in [("+5", false), ("", false), ("5", true), ("05", false), ("5, 5", false)] {
        assert_eq!(post(&[length], ended).unwrap_err(), Crime::BadFraming, "{length}");
    }
    assert_eq!(post(&["5", "5"], false).unwrap_err(), Crime::BadFraming);
    assert_eq!(post(&["5"], false).unwrap().body.length, Some(5));
    assert!(post(&["0"], false).unwrap().body.is_empty());
}

#[test]
fn b2_fields_of_connections() {
    for name in ["transfer-encoding", "connection", "keep-alive", "upgrade", "proxy-connection"] {
        assert_eq!(get(&[(name, "chunked")]).unwrap_err(), Crime::MalformedHead, "{name}");
    }
    assert_eq!(get(&[("te", "gzip")]).unwrap_err(), Crime::MalformedHead);
    assert_eq!(get(&[("transfer_encoding", "a")]).unwrap_err(), Crime::BadFraming);
}

#[test]
fn b3_names_and_values_that_split_lines() {
    for pair in [("x-a\r\nb", "c"), ("x a", "b"), ("X-A", "b"), ("Host", "b"), ("", "b"), ("a:b", "c")] {
        assert_eq!(get(&[pair]).unwrap_err(), Crime::MalformedHead, "{pair:?}");
    }
    for value in ["a\r\nb: c", "a\0", "a\x7f", "a\nb"] {
        assert_eq!(get(&[("x-a", value)]).unwrap_err(), Crime::MalformedHead, "{value:?}");
        assert_eq!(take(&asks(value, "/", &[]), true).unwrap_err(), Crime::MalformedHead);
        assert_eq!(take(&asks("GET", value, &[]), true).unwrap_err(), Crime::MalformedHead);
    }
}

#[test]
fn b4_pseudo_fields_out_of_place() {
    let malformed =
        |fields: &Pairs<'_>| assert_eq!(take(fields, true).unwrap_err(), Crime::MalformedHead, "{fields:?}");
    for twice in [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "example.com")] {
        malformed(&asks("GET", "/", &[twice]));
    }
    malformed(&asks("GET", "/", &[(":status", "200")]));
    malformed(&asks("GET", "/", &[(":unknown", "x")]));
    malformed(&asks("GET", "/", &[(":protocol", "websocket")]));
    for left_out in [0, 1, 3] {
        let mut fields = asks("GET", "/", &[]);
        fields.remove(left_out);
        malformed(&fields);
    }
    let mut late = vec![("accept", "a")];
    late.extend(asks("GET", "/", &[]));
    malformed(&late);
    malformed(&asks("GET", "", &[]));
    malformed(&asks("GET", "b", &[]));
    malformed(&asks("GET", "*", &[]));
    malformed(&asks("CONNECT", "/", &[]));
}

#[test]
fn b4_targets_that_are_none() {
    let asked = |method, path| take(&asks(method, path, &[]), true);
    assert_eq!(asked("GET", "/%00").unwrap_err(), Crime::ForbiddenPath);
    assert_eq!(asked("GET", "/../..").unwrap_err(), Crime::ForbiddenPath);
    assert_eq!(asked("GET", "/a#b").unwrap_err(), Crime::BadTarget);
    assert_eq!(asked("OPTIONS", "/a?b").unwrap().target.path_and_query(), "/a?b");
    assert_eq!(asked("OPTIONS", "*").unwrap().target.path(), "*");
    assert_eq!(asked("TRACE", "/").unwrap_err(), Crime::MethodRefused);
    assert_eq!(asked("BREW", "/").unwrap_err(), Crime::UnknownMethod);
    let mut other = asks("GET", "/", &[]);
    other[1].1 = "ftp";
    assert_eq!(take(&other, true).unwrap_err(), Crime::BadTarget);
    let long = format!("/{}", "a".repeat(9000));
    assert_eq!(asked("GET", &long).unwrap_err(), Crime::UrlTooLong);
}

#[test]
fn b5_host_and_authority_are_one() {
    assert_eq!(get(&[("host", "other.com")]).unwrap_err(), Crime::BadHost);
    assert_eq!(get(&[("host", "a@b")]).unwrap_err(), Crime::BadHost);
    assert!(get(&[("host", "EXAMPLE.com:443")]).is_ok());
    assert_eq!(get(&[("host", "example.com"), ("host", "example.com")]).unwrap_err(), Crime::BadHost);
    let mut only = asks("GET", "/", &[]);
    only.remove(2);
    assert_eq!(take(&only, true).unwrap_err(), Crime::BadHost);
    only.push(("host", "b.com"));
    assert_eq!(take(&only, true).unwrap().target.host(), "b.com");
}

#[test]
fn b6_white_space_around_values() {
    for value in [" a", "a ", "\ta", "a\t", " "] {
        assert_eq!(get(&[("x-a", value)]).unwrap_err(), Crime::MalformedHead);
    }
    assert!(get(&[("x-a", "a b"), ("x-b", "")]).is_ok());
}

#[test]
fn b11_many_fields_and_many_cookies() {
    assert_eq!(get(&[("a", ""); 101]).unwrap_err(), Crime::HeadTooLarge);
    assert_eq!(get(&[("cookie", "a;b"); 51]).unwrap_err(), Crime::HeadTooLarge);
}

#[test]
fn b23_only_websockets_are_connected() {
    let connect = |protocol, version| {
        let more =
            [(":protocol", protocol), ("sec-websocket-version", version), ("sec-websocket-key", "mine")];
        take(&asks("CONNECT", "/chat", &more), false)
    };
    assert_eq!(connect("connect-udp", "13").unwrap_err(), Crime::UnknownProtocol);
    assert_eq!(connect("websocket", "8").unwrap_err(), Crime::BadUpgrade);
    let tunnel = vec![(":method", "CONNECT"), (":authority", "a:80")];
    assert_eq!(take(&tunnel, false).unwrap_err(), Crime::MethodRefused);
    let mut out = connect("websocket", "13").unwrap();
    assert!(out.websocket && out.method == Method::GET && !out.fields.has(Known::SEC_WEBSOCKET_KEY));
    add_key(&mut out, 7);
    assert!(out.fields.get(Known::SEC_WEBSOCKET_KEY).is_some_and(websocket::is_key));
}

#[test]
fn a34_trailers_frame_and_route_nothing() {
    let limits = Limits::default();
    let taken = |pair| {
        let mut taking = TakingTrailers::new((0, 0), &limits);
        taking.field(&field(("grpc-status", "0")));
        taking.field(&field(pair));
        taking.finish().map(|fields: Fields| fields.len())
    };
    assert_eq!(taken(("x-a", "b")), Ok(2));
    assert_eq!(taken(("content-length", "0")), Err(Crime::BadTrailer));
    assert_eq!(taken(("x-a", "b\n")), Err(Crime::BadTrailer));
    assert_eq!(taken((":path", "/")), Err(Crime::MalformedHead));
}

fn given(answer: &mut Answer) -> Vec<(String, String)> {
    let (mut block, mut all) = (Vec::new(), Vec::new());
    answer.give(&mut Encoder::new(), &mut block);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Decoder::new(4096)
        .decode(&block, &mut Vec::new(), 1 << 16, |field| all.push((text(field.name), text(field.value))))
        .unwrap();
    all
}

#[test]
fn an_answer_is_given() {
    let mut response = Response::new(Status::OK);
    response.fields.add(Known::SERVER, FieldValue::from_static("x"));
    response.fields.add(Known::CONNECTION, FieldValue::from_static("close"));
    response.fields.add(Known::X_ACCEL_REDIRECT, FieldValue::from_static("/secret"));
    let mut answer = Answer::default();
    answer.take(&response, Some(1070), b"now");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let usual =
        [pair(":status", "200"), pair("server", "x"), pair("date", "now"), pair("content-length", "1070")];
    assert_eq!(given(&mut answer), usual);
    assert!(answer.is_empty());
    response.status = Status::SWITCHING_PROTOCOLS;
    response.fields.add(Known::SEC_WEBSOCKET_ACCEPT, FieldValue::from_static("y"));
    response.fields.add(Known::DATE, FieldValue::from_static("then"));
    answer.take(&response, Some(3), b"now");
    assert_eq!(given(&mut answer), [pair(":status", "200"), pair("server", "x"), pair("date", "then")]);
    response.status = Status::NO_CONTENT;
    answer.take(&response, Some(0), b"now");
    assert!(!given(&mut answer).iter().any(|(name, _)| name == "content-length"));
}
