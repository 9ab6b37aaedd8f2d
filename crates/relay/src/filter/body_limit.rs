//! `body-limit` bounds the body of a request.

use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::{Entry, Kind, Param, Place};
use crate::values::print_size;
use portunus_message::Request;

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "body-limit",
    manual: "Bounds the body of a request; a larger one is answered 413. A declared length is judged before a server is asked, \
             a body without one as it comes. That of a route replaces its site's, and both the limit `body-bytes`.",
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
    fn request(&self, _: &mut Request, cx: &mut Context<'_>) -> Flow {
        cx.bounds.body_bytes = self.body_bytes_max; // judged when all filters have spoken: that of a route replaces its site's
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

    #[test]
    fn the_last_one_counts() {
        let (site, route) =
            (build("body-limit", &["1KiB"]).unwrap(), build("body-limit", &["1MiB"]).unwrap());
        let mut stage = Stage::get("/");
        assert!(matches!(stage.run(&*site), Flow::Next) && stage.bounds.body_bytes == 1024);
        assert!(matches!(stage.run(&*route), Flow::Next) && stage.bounds.body_bytes == 1 << 20);
        assert_eq!(site.describe(), "body-limit 1KiB");
    }
}
