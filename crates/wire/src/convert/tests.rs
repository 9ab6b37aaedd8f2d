//! convert: what a request of HTTP/2 may not be, and what crosses.

use super::*;

fn taken(head: http::request::Builder, ended: bool) -> Result<Request, Crime> {
    let mut out = Request::default();
    let head = head.body(()).unwrap();
    request(&head, None, ended, Scheme::Https, &mut out, &Limits::default()).map(|_| out)
}

fn get(path: &str) -> http::request::Builder {
    http::Request::builder().uri(format!("https://example.com{path}"))
}

#[test]
fn a_request_is_taken_over() {
    let head = get("/a/../b?c=d").header("Accept", "*/*").header("cookie", "a=1").header("cookie", "b=2");
    let out = taken(head.header("x-own", "1").header("te", "trailers"), true).unwrap();
    assert_eq!(
        (out.method, out.target.path_and_query(), out.target.host()),
        (Method::GET, "/b?c=d", "example.com")
    );
    assert_eq!(out.fields.get_all(Known::COOKIE).collect::<Vec<_>>(), [b"a=1; b=2"]);
    assert!(out.trailers && !out.fields.has(Known::TE) && out.body.is_empty());
    assert_eq!(out.fields.len(), 3);
}

#[test]
fn b1_a_length_that_cannot_be() {
    for (length, ended) in [("+5", false), ("", false), ("5", true), ("05", false), ("5, 5", false)] {
        let done = taken(get("/").method("POST").header("content-length", length), ended);
        assert_eq!(done.unwrap_err(), Crime::BadFraming, "{length}");
    }
    let twice = get("/").method("POST").header("content-length", "5").header("content-length", "5");
    assert_eq!(taken(twice, false).unwrap_err(), Crime::BadFraming);
    let body = taken(get("/").method("POST").header("content-length", "5"), false).unwrap().body;
    assert_eq!(body.length, Some(5));
}

#[test]
fn b2_fields_of_connections() {
    for name in ["transfer-encoding", "connection", "keep-alive", "upgrade", "proxy-connection"] {
        let done = taken(get("/").header(name, "chunked"), true);
        assert_eq!(done.unwrap_err(), Crime::MalformedHead, "{name}");
    }
    assert_eq!(taken(get("/").header("te", "gzip"), true).unwrap_err(), Crime::MalformedHead);
    assert_eq!(taken(get("/").header("transfer_encoding", "a"), true).unwrap_err(), Crime::BadFraming);
}

#[test]
fn b4_targets_that_are_none() {
    let uri = |text: &'static str| http::Request::builder().uri(text).header("host", "a");
    assert_eq!(taken(uri("*"), true).unwrap_err(), Crime::MalformedHead);
    assert_eq!(taken(uri("/%00"), true).unwrap_err(), Crime::ForbiddenPath);
    assert_eq!(taken(uri("/../.."), true).unwrap_err(), Crime::ForbiddenPath);
    assert_eq!(taken(uri("/a?b").method("OPTIONS"), true).unwrap().target.path_and_query(), "/a?b");
    assert_eq!(taken(uri("*").method("OPTIONS"), true).unwrap().target.path(), "*");
    assert_eq!(taken(uri("ftp://a/"), true).unwrap_err(), Crime::BadTarget);
    assert_eq!(taken(uri("/").method("TRACE"), true).unwrap_err(), Crime::MethodRefused);
    assert_eq!(taken(uri("/").method("BREW"), true).unwrap_err(), Crime::UnknownMethod);
}

#[test]
fn b5_host_and_authority_are_one() {
    assert_eq!(taken(get("/").header("host", "other.com"), true).unwrap_err(), Crime::BadHost);
    assert_eq!(taken(get("/").header("host", "a@b"), true).unwrap_err(), Crime::BadHost);
    assert!(taken(get("/").header("host", "EXAMPLE.com:443"), true).is_ok());
    let twice = get("/").header("host", "example.com").header("host", "example.com");
    assert_eq!(taken(twice, true).unwrap_err(), Crime::BadHost);
    assert_eq!(taken(http::Request::builder().uri("/"), true).unwrap_err(), Crime::BadHost);
}

#[test]
fn b6_white_space_around_values() {
    for value in [" a", "a ", "\ta", "a\t", " "] {
        assert_eq!(taken(get("/").header("x-a", value), true).unwrap_err(), Crime::MalformedHead);
    }
    assert!(taken(get("/").header("x-a", "a b").header("x-b", ""), true).is_ok());
}

#[test]
fn b11_many_fields_and_many_cookies() {
    let mut head = get("/");
    for _ in 0..101 {
        head = head.header("a", "");
    }
    assert_eq!(taken(head, true).unwrap_err(), Crime::HeadTooLarge);
    let mut head = get("/");
    for _ in 0..51 {
        head = head.header("cookie", "a;b");
    }
    assert_eq!(taken(head, true).unwrap_err(), Crime::HeadTooLarge);
}

#[test]
fn b23_only_websockets_are_connected() {
    let connect = |protocol, version: &'static str| {
        let head = get("/chat").method("CONNECT").header("sec-websocket-version", version);
        let head = head.header("sec-websocket-key", "mine").body(()).unwrap();
        let mut out = Request::default();
        request(&head, protocol, false, Scheme::Https, &mut out, &Limits::default()).map(|_| out)
    };
    assert_eq!(connect(Some("connect-udp"), "13").unwrap_err(), Crime::UnknownProtocol);
    assert_eq!(connect(None, "13").unwrap_err(), Crime::MethodRefused);
    assert_eq!(connect(Some("websocket"), "8").unwrap_err(), Crime::BadUpgrade);
    let mut out = connect(Some("websocket"), "13").unwrap();
    assert!(out.websocket && out.method == Method::GET && !out.fields.has(Known::SEC_WEBSOCKET_KEY));
    add_key(&mut out, 7);
    assert!(out.fields.get(Known::SEC_WEBSOCKET_KEY).is_some_and(websocket::is_key));
}

#[test]
fn an_answer_goes_and_comes() {
    let mut out = Response::new(Status::OK);
    out.fields.add(Known::SERVER, FieldValue::from_static("x"));
    out.fields.add(Known::CONNECTION, FieldValue::from_static("close"));
    out.fields.add(Known::X_ACCEL_REDIRECT, FieldValue::from_static("/secret"));
    let head = response_to(&out, Some(7), Some(b"now")).0;
    assert_eq!(head.headers().len(), 3);
    let mut back = Response::default();
    response(&head, Method::GET, false, &mut back, &Limits::default()).unwrap();
    assert_eq!((back.status, back.body.length, back.fields.len()), (Status::OK, Some(7), 2));
    out.status = Status::SWITCHING_PROTOCOLS;
    out.fields.add(Known::SEC_WEBSOCKET_ACCEPT, FieldValue::from_static("y"));
    let head = response_to(&out, None, None).0;
    assert!(head.status() == 200 && !head.headers().contains_key("sec-websocket-accept"));
}

#[test]
fn a_request_goes_as_it_came() {
    let came = taken(get("/a?b").method("POST").header("x-a", "1").header("te", "trailers"), false).unwrap();
    let head = request_to(&came, Some(3)).unwrap().0;
    assert_eq!(
        (head.method().as_str(), head.uri().to_string()),
        ("POST", "https://example.com/a?b".to_owned())
    );
    assert_eq!(head.headers().len(), 3);
    let again = taken(head.headers().iter().fold(get("/"), |b, (n, v)| b.header(n, v)).method("POST"), false);
    assert_eq!(again.unwrap().body.length, Some(3));
}

#[test]
fn a34_trailers_frame_and_route_nothing() {
    let mut map = HeaderMap::new();
    map.append("grpc-status", HeaderValue::from_static("0"));
    assert_eq!(trailers(&map, true, &Limits::default()).unwrap().len(), 1);
    map.append("content-length", HeaderValue::from_static("0"));
    assert_eq!(trailers(&map, true, &Limits::default()).unwrap_err(), Crime::BadTrailer);
    let fields = trailers(&map, false, &Limits::default()).unwrap();
    assert_eq!((fields.len(), trailers_to(&fields).0.len()), (1, 1));
}

#[test]
fn the_usual_names_are_spelled_as_they_are_found() {
    let mut usual_ones = 0;
    for text in "accept accept-encoding accept-language accept-ranges age authorization cache-control content-encoding \
                 content-length content-type cookie date etag expires forwarded last-modified location origin referer \
                 server set-cookie user-agent vary host x-request-id"
        .split_whitespace()
    {
        let found = usual(Known::find(text.as_bytes()));
        usual_ones += usize::from(found.is_some());
        assert!(found.is_none_or(|name| name == text), "{text}");
    }
    assert_eq!(usual_ones, 23);
}
