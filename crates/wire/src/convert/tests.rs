//! convert: what crosses to upstreams and back.

use super::*;

#[test]
fn an_answer_comes() {
    let head = |status: u16| {
        let head = http::Response::builder().status(status).header("server", "x");
        head.header("x-accel-redirect", "/secret").header("content-length", "7").body(()).unwrap()
    };
    let come = |head: &http::Response<()>| {
        let mut out = Response::default();
        response(head, Method::GET, false, &mut out, &Limits::default()).map(|()| out)
    };
    let out = come(&head(200)).unwrap();
    assert_eq!((out.status, out.body.length, out.fields.len()), (Status::OK, Some(7), 1));
    assert_eq!(come(&head(101)).unwrap_err(), Crime::BadSwitch);
    let mut twice = head(200);
    twice.headers_mut().append("content-length", HeaderValue::from_static("7"));
    assert_eq!(come(&twice).unwrap_err(), Crime::BadResponse);
}

#[test]
fn a_request_goes_as_it_came() {
    let mut came = Request { method: Method::POST, trailers: true, ..Request::default() };
    came.target.scheme = portunus_message::Scheme::Https;
    came.target.set_authority(b"example.com").unwrap();
    came.target.set_path(b"/a?b").unwrap();
    came.fields.add(Known::ACCEPT, FieldValue::from_static("1"));
    let head = request_to(&came, Some(3)).unwrap().0;
    let uri = head.uri().to_string();
    assert_eq!((head.method().as_str(), uri.as_str()), ("POST", "https://example.com/a?b"));
    assert_eq!(head.headers().len(), 3);
}

#[test]
fn a_target_that_http_2_cannot_carry_is_encoded() {
    let sent = |path: &str| {
        let mut came = Request { method: Method::GET, ..Request::default() };
        came.target.set_authority(b"example.com").unwrap();
        came.target.set_path(path.as_bytes()).unwrap();
        request_to(&came, None).map(|head| head.0.uri().path_and_query().unwrap().to_string())
    };
    assert_eq!(sent("/a<b>`c?d=\"<e>\"&f=%3c|g").as_deref(), Some("/a%3Cb%3E%60c?d=%22%3Ce%3E%22&f=%3c%7Cg"));
    assert_eq!(
        sent("/a{b}?d={e}|f").as_deref(),
        Some("/a{b}?d={e}|f"),
        "what can be carried goes as it came"
    );
}

#[test]
fn a34_trailers_frame_and_route_nothing() {
    let mut map = HeaderMap::new();
    map.append("grpc-status", HeaderValue::from_static("0"));
    map.append("content-length", HeaderValue::from_static("0"));
    let fields = trailers(&map, &Limits::default()).unwrap();
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
