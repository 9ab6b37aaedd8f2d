//! `respond` answers by itself, without an upstream.

use super::{Filter, Flow};
use crate::args::{Reader, request_template};
use crate::context::Context;
use crate::entry::{ArgMistake, At, Entry, Kind, Param, Place};
use crate::template::{Escape, Template};
use portunus_message::fields::is_value_byte;
use portunus_message::{Body, FieldValue, Known, Request, Response, Status};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "respond",
    manual: "Answers by itself, without an upstream. What the body takes from a request is escaped for the type of the \
             body, when that is HTML or JSON.",
    example: "respond 200 \"ok\"",
    params: PARAMS,
    answers: true,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let (at, text) = reader.required_word("status")?;
        let status = text.parse().ok().and_then(Status::new).filter(|status| !status.is_informational());
        let status = status.ok_or_else(|| ArgMistake::word(at, "is not a status from 200 to 599"))?;
        let body = match reader.word("body") {
            // 205 could have frames for one, but must not have one (RFC 9110 §15.3.6).
            Some((at, text)) if (status.is_bodiless() || status.code() == 205) && !text.is_empty() => {
                Err(ArgMistake::word(at, format!("cannot be: an answer with status {status} has no body")))?
            }
            Some((at, text)) => request_template(text, At::Word(at))?,
            None => Template::default(),
        };
        let media = reader.option("type").unwrap_or("text/plain; charset=utf-8");
        // What is escaped hangs on it.
        if !media.contains('/') || !media.bytes().all(is_value_byte) {
            let mistake = ArgMistake::option("type", "is not a media type");
            return Err(mistake.hint("one is written as `text/html` or `application/json`"));
        }
        let escape = escape_for(media);
        Ok(Box::new(Respond { status, body, media: media.into(), escape }))
    },
};

const PARAMS: &[Param] = &[
    Param { name: "status", place: Place::Word, kind: Kind::Number, manual: "The status, from 200 to 599." },
    Param {
        name: "body",
        place: Place::OptionalWord,
        kind: Kind::Template,
        manual: "The body; none when missing.",
    },
    Param {
        name: "type",
        place: Place::Option,
        kind: Kind::Text,
        manual: "The media type of the body; `text/plain; charset=utf-8` when missing.",
    },
];

struct Respond {
    status: Status,
    body: Template,
    media: Box<str>,
    escape: Escape,
}

fn escape_for(media: &str) -> Escape {
    let essence = media.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match essence.as_str() {
        "text/html" | "application/xhtml+xml" | "text/xml" | "application/xml" | "image/svg+xml" => {
            Escape::Html
        }
        json if json.ends_with("/json") || json.ends_with("+json") => Escape::Json,
        _ => Escape::Raw,
    }
}

impl Filter for Respond {
    fn request(&self, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        let mut response = Response::new(self.status);
        let mut body = Vec::new();
        self.body.render_as(self.escape, &cx.scope(request, None), &mut body);
        if let Some(media) = FieldValue::new(self.media.as_bytes()).filter(|_| !body.is_empty()) {
            response.fields.add(Known::CONTENT_TYPE, media);
        }
        response.body = Body::bytes(body);
        Flow::Answer(Box::new(response))
    }

    fn describe(&self) -> String {
        match self.body.as_str() {
            "" => format!("respond {}", self.status),
            body => format!("respond {} {body:?}", self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build, joined};
    use super::*;
    use portunus_message::body::Source;

    fn answer(words: &[&str]) -> (u16, String, String) {
        let mut stage = Stage::get("/?name=<b>\"");
        let Flow::Answer(response) = stage.run(&*build("respond", words).unwrap()) else { panic!() };
        let Source::Bytes(body) = response.body.source else { panic!() };
        (response.status.code(), joined(&response.fields, "Content-Type"), String::from_utf8(body).unwrap())
    }

    fn is(status: u16, media: &str, body: &str) -> (u16, String, String) {
        (status, media.to_owned(), body.to_owned())
    }

    #[test]
    fn it_answers() {
        assert_eq!(answer(&["200", "ok"]), is(200, "text/plain; charset=utf-8", "ok"));
        assert_eq!(answer(&["204"]), is(204, "", ""));
        assert_eq!(
            answer(&["418", "I am ${host}"]),
            is(418, "text/plain; charset=utf-8", "I am example.com")
        );
    }

    #[test]
    fn a42_what_comes_from_a_request_is_escaped_for_the_type() {
        assert_eq!(answer(&["200", "<i>${query.name}", "type=text/html"]).2, "<i>&lt;b&gt;&quot;");
        assert_eq!(
            answer(&["200", "{\"n\":\"${query.name}\"}", "type=application/json"]).2,
            r#"{"n":"\u003cb\u003e\""}"#
        );
        assert_eq!(answer(&["200", "${query.name}"]).2, "<b>\"");
    }

    #[test]
    fn mistakes_are_refused() {
        for wrong in
            [&["99"][..], &["600"], &["100"], &["ok"], &["204", "body"], &["200", "${response.status}"], &[]]
        {
            assert!(build("respond", wrong).is_err(), "{wrong:?}");
        }
        for wrong in [&["200", "x", "type=a/\nb"][..], &["200", "x", "type=html"], &["205", "x"]] {
            assert!(build("respond", wrong).is_err(), "{wrong:?}");
        }
        assert!(build("respond", &["205"]).is_ok());
    }
}
