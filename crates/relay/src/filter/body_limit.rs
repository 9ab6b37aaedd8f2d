//! `body-limit` bounds the body of a request.

use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::{Entry, Kind, Param, Place};
use crate::values::print_size;
use portunus_message::{Crime, Error, Phase, Request};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "body-limit",
    manual: "Bounds the body of a request; a larger one is answered 413. A declared length is judged at once, a body \
             without one as it comes. It replaces the limit `body-bytes`.",
    example: "body-limit 10MiB",
    params: PARAMS,
    answers: false,
    build: |args| Ok(Box::new(BodyLimit { body_bytes_max: Reader::new(PARAMS, args)?.size("size")? })),
};

const PARAMS: &[Param] =
    &[Param { name: "size", place: Place::Word, kind: Kind::Size, manual: "How large a body may be." }];

struct BodyLimit {
    body_bytes_max: u64,
}

impl Filter for BodyLimit {
    fn request(&self, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        cx.bounds.body_bytes = self.body_bytes_max;
        if request.body.length.is_some_and(|length| length > self.body_bytes_max) {
            return Flow::Fail(Error::client(Phase::Filter, Crime::BodyTooLarge));
        }
        Flow::Next
    }

    fn describe(&self) -> String {
        format!("body-limit {}", print_size(self.body_bytes_max))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build};
    use super::*;
    use portunus_message::Body;

    #[test]
    fn a_declared_length_is_judged_at_once() {
        let filter = build("body-limit", &["1KiB"]).unwrap();
        for (length, fits) in [(None, true), (Some(1024), true), (Some(1025), false)] {
            let mut stage = Stage::get("/");
            stage.request.body = Body::incoming(length);
            assert_eq!(matches!(stage.run(&*filter), Flow::Next), fits, "{length:?}");
            assert_eq!(stage.bounds.body_bytes, 1024);
        }
        assert_eq!(filter.describe(), "body-limit 1KiB");
    }
}
