//! streams: the same comes of the same bytes however they are cut; what goes out keeps to the windows; who breaks a rule hears which.

mod windows;

use super::*;
use portunus_message::{Fields, Request, Response, Scheme, Status};
use portunus_wire::h2::frame::{END_HEADERS, END_STREAM, HEAD_BYTES, Head as FrameHead, Kind, PADDED};
use portunus_wire::h2::give::Answer;
use portunus_wire::h2::hpack::{Encoder, Pseudo};
use std::task::Poll;

fn streams() -> Streams {
    with(Limits::default())
}

fn with(limits: Limits) -> Streams {
    Streams::new(Rc::new(limits), 100, Tick::default())
}

impl Place for Request {
    fn request(&mut self) -> &mut Request {
        self
    }
}

/// A connection of which the preface and the client's settings have come, and ours are forgotten.
fn begun() -> Streams {
    begun_with(Limits::default())
}

fn begun_with(limits: Limits) -> Streams {
    let streams = with(limits);
    hear(&streams, frame::PREFACE);
    hear(&streams, &made(Kind::Settings, 0, 0, &[]));
    said(&streams);
    streams
}

/// Lets `bytes` come, and gives what came of them.
fn hear(streams: &Streams, mut bytes: &[u8]) -> Vec<Event<Request>> {
    let begin = Begin { take: &Request::default, give: &drop, scheme: Scheme::Http, has_room: true };
    let mut all = Vec::new();
    while !bytes.is_empty() && streams.over().is_none() {
        all.extend(streams.receive(&mut bytes, &begin));
    }
    all
}

/// The one stream that `bytes` begin.
fn begin(streams: &Streams, bytes: &[u8]) -> Rc<Stream> {
    let heads = hear(streams, bytes).into_iter().filter_map(|event| match event {
        Event::Request(head) => Some(head.stream),
        Event::Refused | Event::Malformed => None,
    });
    heads.last().expect("a request")
}

/// The frames that wait to be sent; they are taken away.
fn said(streams: &Streams) -> Vec<(FrameHead, Vec<u8>)> {
    let outgoing = &mut streams.inner.borrow_mut().outgoing;
    let out = outgoing.out.clone();
    outgoing.has_taken(out.len());
    let (mut rest, mut all) = (out.as_slice(), Vec::new());
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let head = FrameHead::read(*head);
        let (payload, after) = after.split_at(head.length);
        all.push((head, payload.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty(), "half a frame waits");
    all
}

fn kinds(streams: &Streams) -> Vec<(Kind, u8, u32)> {
    said(streams).iter().map(|(head, _)| (head.kind, head.flags, head.stream)).collect()
}

fn made(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame::head(payload.len(), kind, flags, stream).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// A request; the fields are spelled out every time, so that requests may come in any order.
fn ask(stream: u32, method: &str, length: Option<usize>, flags: u8) -> Vec<u8> {
    let (mut block, mut encoder) = (Vec::new(), Encoder::new());
    encoder.resize(0);
    encoder.begin(&mut block);
    for (pseudo, value) in
        [(Pseudo::Method, method), (Pseudo::Scheme, "http"), (Pseudo::Authority, "a"), (Pseudo::Path, "/")]
    {
        encoder.pseudo(pseudo, value.as_bytes(), &mut block);
    }
    if let Some(length) = length {
        let length = length.to_string();
        encoder.field(
            portunus_message::Known::CONTENT_LENGTH,
            b"content-length",
            length.as_bytes(),
            &mut block,
        );
    }
    made(Kind::Headers, flags | END_HEADERS, stream, &block)
}

fn get(stream: u32) -> Vec<u8> {
    ask(stream, "GET", None, END_STREAM)
}

fn answer(streams: &Streams, stream: &Stream) {
    let mut answer = Answer::default();
    answer.take(&Response::new(Status::OK), None, b"now");
    streams.answer(stream, answer);
}

fn send(streams: &Streams, stream: &Rc<Stream>, bytes: usize) -> Option<usize> {
    let cx = Context::from_waker(Waker::noop());
    match streams.poll_send(&cx, stream, &vec![b'x'; bytes]) {
        Poll::Ready(count) => Some(count),
        Poll::Pending => None,
    }
}

fn code(streams: &Streams) -> Option<u32> {
    said(streams)
        .iter()
        .find(|(head, _)| head.kind == Kind::GoAway)
        .map(|(_, payload)| u32::from_be_bytes(payload[4..8].try_into().expect("a code")))
}

#[test]
fn the_same_comes_however_the_bytes_are_cut() {
    let mut bytes = frame::PREFACE.to_vec();
    bytes.extend(made(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 9]));
    bytes.extend(get(1));
    bytes.extend(ask(3, "POST", Some(7), 0));
    bytes.extend(made(Kind::Data, PADDED, 3, b"\x02abc\0\0"));
    bytes.extend(made(Kind::Ping, 0, 0, b"12345678"));
    let whole = ask(5, "PUT", None, 0);
    bytes.extend(made(Kind::Headers, 0, 5, &whole[HEAD_BYTES..HEAD_BYTES + 3]));
    bytes.extend(made(Kind::Continuation, END_HEADERS, 5, &whole[HEAD_BYTES + 3..]));
    bytes.extend(made(Kind::Data, END_STREAM, 3, b"defg"));
    bytes.extend(made(Kind::Reset, 0, 5, &[0, 0, 0, 8]));
    bytes.extend(made(Kind::Unknown, 7, 9, b"whatever"));
    bytes.extend(made(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 9]));
    let seen = |step: usize| {
        let streams = streams();
        let mut requests = Vec::new();
        for piece in bytes.chunks(step) {
            for event in hear(&streams, piece) {
                let Event::Request(head) = event else { panic!("not a request") };
                requests.push((head.stream, head.place.method, head.taken));
            }
        }
        let state: Vec<_> = requests
            .iter()
            .map(|(stream, method, taken)| {
                let body = stream.inbox.borrow().clone();
                (
                    stream.id,
                    *method,
                    *taken,
                    body,
                    stream.has_ended(),
                    stream.fault(),
                    stream.window_out.get(),
                )
            })
            .collect();
        (state, said(&streams))
    };
    let whole = seen(usize::MAX);
    assert_eq!(whole.0.len(), 3);
    assert_eq!(whole.0[0].6, 18);
    assert_eq!(whole.0[1].3, b"abcdefg");
    assert_eq!(whole.0[2].5, Some(Fault::Reset));
    for step in [1, 2, 3, 5, 8, 13, 50] {
        assert_eq!(seen(step), whole, "{step}");
    }
}

#[test]
fn the_end_leaves_with_what_was_said_last() {
    let streams = begun();
    let stream = begin(&streams, &get(1));
    answer(&streams, &stream);
    streams.finish(&stream, None);
    assert_eq!(kinds(&streams), [(Kind::Headers, END_HEADERS | END_STREAM, 1)]);
    let stream = begin(&streams, &get(3));
    answer(&streams, &stream);
    assert_eq!(send(&streams, &stream, 5), Some(5));
    streams.finish(&stream, None);
    assert_eq!(kinds(&streams), [(Kind::Headers, END_HEADERS, 3), (Kind::Data, END_STREAM, 3)]);
    // What has left cannot be changed.
    let stream = begin(&streams, &get(5));
    answer(&streams, &stream);
    assert_eq!(kinds(&streams), [(Kind::Headers, END_HEADERS, 5)]);
    streams.finish(&stream, None);
    assert_eq!(kinds(&streams), [(Kind::Data, END_STREAM, 5)]);
    // An informational head ends nothing.
    let stream = begin(&streams, &get(7));
    streams.inform(&stream, Status::CONTINUE, &Fields::new());
    streams.finish(&stream, None);
    assert_eq!(kinds(&streams), [(Kind::Headers, END_HEADERS, 7), (Kind::Data, END_STREAM, 7)]);
    assert!(streams.inner.borrow().open.is_empty());
}

#[test]
fn what_comes_for_a_stream_that_we_have_ended_is_swallowed() {
    let streams = begun();
    let stream = begin(&streams, &ask(1, "POST", None, 0));
    answer(&streams, &stream);
    streams.finish(&stream, None);
    streams.leave(&stream, 0, Code::INTERNAL_ERROR);
    let told = kinds(&streams);
    assert_eq!(told.last(), Some(&(Kind::Reset, 0, 1)));
    hear(&streams, &made(Kind::Data, 0, 1, b"late"));
    hear(&streams, &made(Kind::Headers, END_HEADERS | END_STREAM, 1, &[]));
    assert!(streams.over().is_none());
    begin(&streams, &get(3));
}

#[test]
fn one_block_after_another_is_not_one_that_takes_long() {
    let streams = begun();
    let bytes: Vec<u8> = (0..100).flat_map(|number| get(number * 2 + 1)).collect();
    hear(&streams, &bytes[..HEAD_BYTES + 2]);
    // Each piece ends in the middle of a block.
    for piece in bytes[HEAD_BYTES + 2..].chunks_exact(get(1).len()) {
        let before = streams.in_block();
        hear(&streams, piece);
        assert!(streams.in_block().is_some() && streams.in_block() != before);
    }
    let streams = begun();
    hear(&streams, &made(Kind::Headers, 0, 1, &[]));
    let first = streams.in_block();
    hear(&streams, &made(Kind::Continuation, 0, 1, &[]));
    assert_eq!(streams.in_block(), first, "a block is one, however many frames it comes in");
}

#[test]
fn who_breaks_a_rule_hears_which() {
    let after = |bytes: &[u8]| {
        let streams = begun();
        begin(&streams, &ask(1, "POST", None, 0));
        hear(&streams, bytes);
        code(&streams)
    };
    for (bytes, expected) in [
        (made(Kind::Data, 0, 0, b"x"), Code::PROTOCOL_ERROR),
        (made(Kind::Data, 0, 3, b"x"), Code::PROTOCOL_ERROR),
        (made(Kind::Data, PADDED, 1, b"\x05ab"), Code::PROTOCOL_ERROR),
        (made(Kind::Headers, END_HEADERS, 2, &[]), Code::PROTOCOL_ERROR),
        (made(Kind::Headers, END_HEADERS, 3, &[0xff]), Code::COMPRESSION_ERROR),
        (made(Kind::Continuation, END_HEADERS, 1, &[]), Code::PROTOCOL_ERROR),
        (made(Kind::Settings, 0, 0, &[0; 5]), Code::FRAME_SIZE_ERROR),
        (made(Kind::Settings, 0, 0, &[0, 4, 0x80, 0, 0, 0]), Code::FLOW_CONTROL_ERROR),
        (made(Kind::Ping, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
        (made(Kind::PushPromise, END_HEADERS, 1, &[0; 4]), Code::PROTOCOL_ERROR),
        (made(Kind::WindowUpdate, 0, 0, &[0; 4]), Code::PROTOCOL_ERROR),
        (made(Kind::WindowUpdate, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), Code::FLOW_CONTROL_ERROR),
        (made(Kind::Reset, 0, 9, &[0; 4]), Code::PROTOCOL_ERROR),
        (frame::head(16_385, Kind::Data, 0, 1).to_vec(), Code::FRAME_SIZE_ERROR),
    ] {
        assert_eq!(after(&bytes), Some(expected.0), "{bytes:x?}");
    }
    let streams = streams();
    hear(&streams, b"GET / HTTP/1.1\r\n");
    assert_eq!(code(&streams), Some(Code::PROTOCOL_ERROR.0));
}

#[test]
fn b9_a_block_without_end_is_not_waited_for() {
    let block = get(1)[HEAD_BYTES..].to_vec();
    for piece in [&block[..1], &[0; 16 << 10][..]] {
        let streams = begun();
        hear(&streams, &made(Kind::Headers, END_STREAM, 1, &block));
        assert!(streams.in_block().is_some());
        for _ in 0..40 {
            hear(&streams, &made(Kind::Continuation, 0, 1, piece));
        }
        assert_eq!(code(&streams), Some(Code::ENHANCE_YOUR_CALM.0));
    }
}

#[test]
fn b21_what_was_begun_before_the_good_bye_was_heard_is_served() {
    let streams = begun();
    let one = begin(&streams, &get(1));
    streams.say_goodbye();
    assert_eq!(kinds(&streams), [(Kind::GoAway, 0, 0), (Kind::Ping, 0, 0)]);
    let three = begin(&streams, &get(3));
    hear(&streams, &made(Kind::Ping, frame::ACK, 0, &GOODBYE));
    let told = said(&streams);
    assert_eq!(told[0].1, [0, 0, 0, 3, 0, 0, 0, 0]);
    assert!(hear(&streams, &get(5)).is_empty() && said(&streams).is_empty());
    // Nor is anything else that belongs to such a request.
    let whole = streams.inner.borrow().incoming.window_now();
    for late in [
        ask(7, "POST", None, 0),
        made(Kind::Data, 0, 7, b"late"),
        made(Kind::WindowUpdate, 0, 7, &[0, 0, 0, 1]),
        made(Kind::Data, END_STREAM, 7, b"late"),
        made(Kind::Reset, 0, 5, &[0; 4]),
    ] {
        assert!(hear(&streams, &late).is_empty() && said(&streams).is_empty());
    }
    assert_eq!(streams.inner.borrow().incoming.window_now(), whole);
    for stream in [one, three] {
        assert!(!streams.is_done());
        answer(&streams, &stream);
        streams.finish(&stream, None);
    }
    said(&streams);
    assert!(streams.is_done());
}

#[test]
fn b20_who_does_not_answer_the_good_bye_is_told_the_last_of_his_streams_all_the_same() {
    let streams = begun();
    let one = begin(&streams, &get(1));
    streams.say_goodbye();
    said(&streams);
    assert!(streams.say_last() && !streams.say_last());
    assert_eq!(said(&streams)[0].1, [0, 0, 0, 1, 0, 0, 0, 0]);
    assert!(hear(&streams, &get(3)).is_empty());
    hear(&streams, &made(Kind::Ping, frame::ACK, 0, &GOODBYE));
    assert!(said(&streams).is_empty(), "once is enough");
    answer(&streams, &one);
    streams.finish(&one, None);
    said(&streams);
    assert!(streams.is_done());
}

#[test]
fn b14_answers_that_nobody_takes_are_bounded() {
    let streams = begun();
    let pings = made(Kind::Ping, 0, 0, &[0; 8]).repeat(900);
    let mut heard = 0;
    while !streams.is_full() && heard < 1000 {
        hear(&streams, &pings);
        heard += 1;
    }
    assert!(streams.is_full(), "the client is listened to for ever");
    assert!(streams.inner.borrow().outgoing.out.len() < 160 << 10);
}

#[test]
fn any_bytes_at_all_do_no_harm() {
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for _ in 0..3000 {
        let streams = begun();
        let mut known = Vec::new();
        for _ in 0..next(30) {
            let stream = (next(6) * 2 + 1) as u32;
            let bytes = match next(8) {
                0 => get(stream),
                1 => ask(stream, "POST", Some(next(9) as usize), 0),
                2 => made(Kind::Data, next(16) as u8, stream, &vec![next(4) as u8; next(40) as usize]),
                3 => made(Kind::WindowUpdate, 0, stream, &[0, 0, 0, next(3) as u8]),
                4 => made(Kind::Reset, 0, stream, &[0; 4]),
                _ => {
                    let payload: Vec<u8> = (0..next(12)).map(|_| next(256) as u8).collect();
                    made(Kind::of(next(11) as u8), next(256) as u8, next(4) as u32, &payload)
                }
            };
            let cut = next(bytes.len() as u64 + 1) as usize;
            for piece in [&bytes[..cut], &bytes[cut..]] {
                for event in hear(&streams, piece) {
                    if let Event::Request(head) = event {
                        known.push(head.stream);
                    }
                }
            }
            if let Some(stream) = known.get(next(4) as usize) {
                match next(4) {
                    0 => answer(&streams, stream),
                    1 => drop(send(&streams, stream, next(100) as usize)),
                    2 => streams.finish(stream, None),
                    _ => streams.leave(stream, 0, Code::INTERNAL_ERROR),
                }
            }
        }
        let (left, open) = {
            let inner = streams.inner.borrow();
            (inner.incoming.window_now(), inner.open.len())
        };
        assert!(left <= streams.limits.connection_window as i64 && open <= known.len());
        said(&streams);
        streams.abandon();
    }
}
