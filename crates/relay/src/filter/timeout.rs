//! `timeout` bounds how long an exchange may take.

use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::{ArgMistake, Entry, Kind, Param, Place};
use crate::values::print_duration;
use portunus_message::Request;
use std::time::Duration;

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "timeout",
    manual: "Bounds how long an exchange may take; when a bound is reached before the answer has begun, the client gets \
             504. What is not named keeps the bound of the limits.",
    example: "timeout request=30s first-byte=10s idle=60s",
    params: PARAMS,
    answers: false,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let bound = |key: &str| match reader.duration(key)? {
            Some(Duration::ZERO) => Err(ArgMistake::option(key, "must be longer than nothing")),
            bound => Ok(bound),
        };
        let timeout =
            Timeout { request: bound("request")?, first_byte: bound("first-byte")?, idle: bound("idle")? };
        if timeout.request.or(timeout.first_byte).or(timeout.idle).is_none() {
            return Err(ArgMistake::whole("needs `request=`, `first-byte=` or `idle=`"));
        }
        Ok(Box::new(timeout))
    },
};

const PARAMS: &[Param] = &[
    Param {
        name: "request",
        place: Place::Option,
        kind: Kind::Duration,
        manual: "The whole exchange, attempts and all.",
    },
    Param {
        name: "first-byte",
        place: Place::Option,
        kind: Kind::Duration,
        manual: "From the end of the request to the head of the answer.",
    },
    Param {
        name: "idle",
        place: Place::Option,
        kind: Kind::Duration,
        manual: "Between two pieces of the answer's body.",
    },
];

struct Timeout {
    request: Option<Duration>,
    first_byte: Option<Duration>,
    idle: Option<Duration>,
}

impl Filter for Timeout {
    fn request(&self, _: &mut Request, cx: &mut Context<'_>) -> Flow {
        cx.bounds.request = self.request.or(cx.bounds.request);
        cx.bounds.first_byte = self.first_byte.unwrap_or(cx.bounds.first_byte);
        cx.bounds.upstream_idle = self.idle.unwrap_or(cx.bounds.upstream_idle);
        Flow::Next
    }

    fn describe(&self) -> String {
        let mut text = String::from("timeout");
        for (key, bound) in [("request", self.request), ("first-byte", self.first_byte), ("idle", self.idle)]
        {
            if let Some(bound) = bound {
                text.push_str(&format!(" {key}={}", print_duration(bound)));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build};
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        let mut stage = Stage::get("/");
        let before = stage.bounds;
        let filter = build("timeout", &["first-byte=5s", "request=1m"]).unwrap();
        stage.run(&*filter);
        assert_eq!(stage.bounds.first_byte, Duration::from_secs(5));
        assert_eq!(stage.bounds.request, Some(Duration::from_secs(60)));
        assert_eq!(stage.bounds.upstream_idle, before.upstream_idle);
        assert_eq!(filter.describe(), "timeout request=1m first-byte=5s");
        assert!(build("timeout", &[]).is_err() && build("timeout", &["idle=0"]).is_err());
    }
}
