//! `response-header` sets, adds or removes a header field of the answer.

use super::Filter;
use super::header::{Edit, PARAMS};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::Entry;
use portunus_message::{Request, Response};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "response-header",
    manual: "Sets, adds or removes a header field of the answer, whether it comes from an upstream or from the proxy \
             itself. Fields that belong to the connection (`Connection`, `Content-Length`, …) are written by the proxy \
             itself and cannot be changed.",
    example: "response-header set X-Content-Type-Options nosniff",
    params: PARAMS,
    answers: false,
    build: |args| Ok(Box::new(ResponseHeader(Edit::read(&Reader::new(PARAMS, args)?)?))),
};

struct ResponseHeader(Edit);

impl Filter for ResponseHeader {
    fn response(&self, response: &mut Response, request: &Request, cx: &mut Context<'_>) {
        match self.0.literal() {
            Some(value) => self.0.apply(&mut response.fields, value),
            None => {
                let value = self.0.render(&cx.scope(request, Some(response)));
                self.0.apply(&mut response.fields, &value);
            }
        }
    }

    fn describe(&self) -> String {
        self.0.describe(ENTRY.name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build, joined};
    use portunus_message::{FieldValue, Known, Response, Status};

    #[test]
    fn fields_are_set_added_and_removed() {
        let mut stage = Stage::get("/").field("X-In", "a");
        let mut response = Response::new(Status::NOT_FOUND);
        response.fields.add(Known::SERVER, FieldValue::from_static("banner"));
        for words in [
            &["remove", "server"][..],
            &["set", "X-Out", "${response.status} ${upstream.address} ${header.x-in}"],
            &["add", "X-Out", "2"],
        ] {
            stage.back(&*build("response-header", words).unwrap(), &mut response);
        }
        assert_eq!(joined(&response.fields, "X-Out"), "404 10.0.0.1:80 a|2");
        assert!(!response.fields.has(Known::SERVER));
        assert!(build("response-header", &["set", "Connection", "close"]).is_err());
    }
}
