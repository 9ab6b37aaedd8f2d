//! `grpc-web`: turns calls of gRPC-Web, as browsers make them, into calls of gRPC, and their answers back.

use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::Entry;
use crate::grpc;
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use portunus_message::{Crime, Error, FieldValue, Fields, Known, Method, Phase, Request, Response, Stage};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "grpc-web",
    manual: "Turns calls of gRPC-Web, as browsers make them, into calls of gRPC, and their answers back: in binary and in base64, over any version of HTTP. \
             Other requests pass as they are. The servers have to be spoken with in HTTP/2 (`h2c://`, `https://` or `protocol http2`). Pages of another origin need `cors` \
             before it, with `headers=content-type,x-grpc-web,x-user-agent,grpc-timeout` and `expose=grpc-status,grpc-message`.",
    example: "grpc-web",
    params: &[],
    answers: false,
    build: |args| {
        Reader::new(&[], args)?;
        Ok(Box::new(GrpcWeb))
    },
};

struct GrpcWeb;

/// What its messages are declared as; `-text` may follow, and `+proto`.
const MEDIA: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"-text";

/// What a call of gRPC-Web is declared as: whether its messages are in base64, and what stands behind that.
fn read_media(value: &[u8]) -> Option<(bool, &[u8])> {
    let (media, rest) = value.split_at_checked(MEDIA.len())?;
    if !media.eq_ignore_ascii_case(MEDIA) {
        return None;
    }
    match rest.split_at_checked(TEXT.len()) {
        Some((text, rest)) if text.eq_ignore_ascii_case(TEXT) => Some((true, rest)),
        _ => Some((false, rest)),
    }
    .filter(|(_, rest)| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

impl Filter for GrpcWeb {
    fn request(&self, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        let media = request.fields.get(Known::CONTENT_TYPE).filter(|_| request.method == Method::POST);
        let Some((is_text, rest)) = media.and_then(read_media) else { return Flow::Next };
        // The answer will be what was asked for; it is remembered where it has to go.
        if let Some(media) = media.and_then(FieldValue::new) {
            cx.later.set(Known::CONTENT_TYPE, media);
        }
        let plain = [grpc::MEDIA, rest].concat();
        if let Some(plain) = FieldValue::new(&plain) {
            request.fields.set(Known::CONTENT_TYPE, plain);
        }
        request.trailers = true;
        if is_text && !request.body.is_empty() {
            request.body.through(Decode::default());
        }
        Flow::Next
    }

    fn response(&self, response: &mut Response, _: &Request, cx: &mut Context<'_>) {
        let wanted = cx.later.get(Known::CONTENT_TYPE).and_then(read_media);
        let Some((is_text, _)) = wanted else { return };
        if !response.fields.get(Known::CONTENT_TYPE).is_some_and(grpc::is_media) {
            cx.later.remove(Known::CONTENT_TYPE); // whoever has answered does not speak gRPC
            return;
        }
        if !response.body.is_empty() {
            response.body.through(Encode { is_text, trailers: None });
        }
    }

    fn describe(&self) -> String {
        "gRPC-Web to gRPC".to_owned()
    }
}

/// Takes base64 off a request's messages. There may be padding after each of them.
#[derive(Default)]
struct Decode {
    /// Less than four characters.
    rest: Vec<u8>,
}

impl Stage for Decode {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let broken = Error::client(Phase::Body, Crime::BadBody);
        let mut groups = [0; 4];
        for &byte in input.iter().filter(|byte| !byte.is_ascii_whitespace()) {
            self.rest.push(byte);
            if let Ok(group) = <[u8; 4]>::try_from(self.rest.as_slice()) {
                let count = LENIENT.decode_slice(group, &mut groups).map_err(|_| broken)?;
                out.extend_from_slice(groups.get(..count).unwrap_or(&[]));
                self.rest.clear();
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let broken = Error::client(Phase::Body, Crime::BadBody);
        let last = LENIENT.decode(&self.rest).map_err(|_| broken)?;
        out.extend_from_slice(&last);
        Ok(())
    }

    fn length(&self, _: u64) -> Option<u64> {
        None
    }
}

/// Puts the trailers of an answer behind its messages, as the last one, and all of it into base64 where that is wanted. Each piece is padded by
/// itself, so that no message waits for the next one.
struct Encode {
    is_text: bool,
    trailers: Option<Box<Fields>>,
}

/// What stands before a message that is made of trailers.
const TRAILERS: u8 = 0x80;

impl Encode {
    fn put(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.is_text {
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        } else {
            out.extend_from_slice(bytes);
        }
    }
}

impl Stage for Encode {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.put(input, out);
        Ok(())
    }

    fn trailers(&mut self, trailers: Option<Box<Fields>>) -> Option<Box<Fields>> {
        self.trailers = trailers;
        None
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut lines = Vec::new();
        for (_, name, value) in self.trailers.iter().flat_map(|trailers| trailers.iter()) {
            lines.extend(name.iter().map(u8::to_ascii_lowercase));
            for part in [b":", value, b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let mut frame = vec![TRAILERS];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&lines);
        self.put(&frame, out);
        Ok(())
    }

    fn length(&self, _: u64) -> Option<u64> {
        None
    }
}

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage as Scene, build, joined};
    use super::*;
    use portunus_message::{Body, Status};

    fn call(media: &'static str) -> Scene {
        let mut scene = Scene::get("/a.B/C");
        scene.request.method = Method::POST;
        scene.request.fields.add(Known::CONTENT_TYPE, FieldValue::from_static(media));
        scene.request.body.will_come(Some(4));
        scene
    }

    fn answer(media: &'static str) -> Response {
        let mut response = Response::new(Status::OK);
        response.fields.add(Known::CONTENT_TYPE, FieldValue::from_static(media));
        response.body.will_come(None);
        response
    }

    fn trailers() -> Option<Box<Fields>> {
        let mut fields = Fields::new();
        fields.push(Known::OTHER, b"Grpc-Status", FieldValue::from_static("0"));
        Some(Box::new(fields))
    }

    fn through(body: &mut Body, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let stage = body.stages.first_mut().unwrap();
        pieces.iter().for_each(|piece| stage.push(piece, &mut out).unwrap());
        assert!(stage.trailers(trailers()).is_none());
        stage.finish(&mut out).unwrap();
        out
    }

    #[test]
    fn a_call_goes_as_one_of_grpc_and_its_answer_comes_as_it_was_asked_for() {
        let filter = build("grpc-web", &[]).unwrap();
        let mut scene = call("application/grpc-web+proto");
        assert!(matches!(scene.run(&*filter), Flow::Next));
        assert_eq!(joined(&scene.request.fields, "content-type"), "application/grpc+proto");
        assert!(scene.request.trailers && scene.request.body.stages.is_empty());
        let mut response = answer("application/grpc+proto");
        scene.back(&*filter, &mut response);
        assert_eq!(joined(&scene.later, "content-type"), "application/grpc-web+proto");
        let out = through(&mut response.body, &[&[0, 0, 0, 0, 1], b"x"]);
        assert_eq!(out, b"\0\0\0\0\x01x\x80\0\0\0\x0fgrpc-status:0\r\n");
    }

    #[test]
    fn text_is_base64_both_ways() {
        let filter = build("grpc-web", &[]).unwrap();
        let mut scene = call("application/grpc-web-text");
        assert!(matches!(scene.run(&*filter), Flow::Next));
        assert_eq!(joined(&scene.request.fields, "content-type"), "application/grpc");
        let stage = scene.request.body.stages.first_mut().unwrap();
        let mut out = Vec::new();
        // Two pieces, each padded, cut anywhere.
        for piece in [&b"AAA"[..], b"AAAF4Y", b"Q==e", b"Q"] {
            stage.push(piece, &mut out).unwrap();
        }
        stage.finish(&mut out).unwrap();
        assert_eq!(out, b"\0\0\0\0\x01xay");
        assert!(stage.push(b"!!!!", &mut out).is_err());
        let mut response = answer("application/grpc");
        scene.back(&*filter, &mut response);
        let out = through(&mut response.body, &[b"x", b"yz"]);
        assert!(out.starts_with(b"eA==eXo=gAAAAA"), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn what_is_no_call_is_left_alone() {
        let filter = build("grpc-web", &[]).unwrap();
        for media in ["application/grpc", "application/grpc-website", "text/plain"] {
            let mut scene = call(media);
            assert!(matches!(scene.run(&*filter), Flow::Next));
            assert_eq!(joined(&scene.request.fields, "content-type"), media);
            let mut response = answer("text/html");
            scene.back(&*filter, &mut response);
            assert!(scene.later.is_empty() && response.body.stages.is_empty());
        }
        let mut scene = call("application/grpc-web");
        assert!(matches!(scene.run(&*filter), Flow::Next));
        let mut page = answer("text/html");
        scene.back(&*filter, &mut page);
        assert!(scene.later.is_empty() && page.body.stages.is_empty());
    }
}
