//! `hsts` tells browsers to ask for this host over HTTPS only.

use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::{Entry, Kind, Param, Place};
use crate::values::print_duration;
use portunus_message::{FieldName, FieldValue, Request, Response};
use std::time::Duration;

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "hsts",
    manual: "Tells browsers to ask for this host over HTTPS only (`Strict-Transport-Security`, RFC 6797), with every answer that goes over \
             TLS; over plain HTTP it would mean nothing. It replaces what the server says of that. Begin with a short time: browsers do not forget.",
    example: "hsts for=180d subdomains",
    params: PARAMS,
    answers: false,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let time = reader.duration("for")?.unwrap_or(YEAR);
        let mut words: Vec<&str> = Vec::new();
        words.extend(reader.word("subdomains").map(|(_, word)| word));
        words.extend(reader.word("preload").map(|(_, word)| word));
        let mut text = format!("max-age={}", time.as_secs());
        for (word, directive) in [("subdomains", "; includeSubDomains"), ("preload", "; preload")] {
            if words.contains(&word) {
                text.push_str(directive);
            }
        }
        Ok(Box::new(Hsts { time, text }))
    },
};

const PARAMS: &[Param] = &[
    Param {
        name: "subdomains",
        place: Place::OptionalWord,
        kind: Kind::OneOf(&["subdomains", "preload"]),
        manual: "It holds for all names below this one, too.",
    },
    Param {
        name: "preload",
        place: Place::OptionalWord,
        kind: Kind::OneOf(&["subdomains", "preload"]),
        manual: "Makers of browsers may build it in; they want `subdomains` and a year.",
    },
    Param {
        name: "for",
        place: Place::Option,
        kind: Kind::Duration,
        manual: "How long a browser remembers it after its latest answer; a year unless written. `0s` makes it forget.",
    },
];

struct Hsts {
    time: Duration,
    text: String,
}

impl Filter for Hsts {
    fn request(&self, _: &mut Request, _: &mut Context<'_>) -> Flow {
        Flow::Next
    }

    fn response(&self, response: &mut Response, _: &Request, cx: &mut Context<'_>) {
        let name = FieldName::new("Strict-Transport-Security");
        if let (Some(_), Some(name), Some(value)) = (cx.proof, name, FieldValue::new(self.text.as_bytes())) {
            response.fields.set(&name, value);
        }
    }

    fn describe(&self) -> String {
        format!("hsts for {}", print_duration(self.time))
    }
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build, joined};
    use super::*;
    use portunus_message::{Proof, Status};

    #[test]
    fn it_is_said_over_tls_and_only_there() {
        for (words, said) in [
            (&[][..], "max-age=31536000"),
            (&["preload", "subdomains"], "max-age=31536000; includeSubDomains; preload"),
            (&["subdomains"], "max-age=31536000; includeSubDomains"),
        ] {
            let filter = build("hsts", words).unwrap();
            let mut stage = Stage::get("/");
            let mut response = Response::new(Status::OK);
            stage.back(&*filter, &mut response);
            assert_eq!(joined(&response.fields, "strict-transport-security"), "");
            stage.proof = Some(Proof::default());
            stage.back(&*filter, &mut response);
            stage.back(&*filter, &mut response);
            assert_eq!(joined(&response.fields, "strict-transport-security"), said);
        }
    }
}
