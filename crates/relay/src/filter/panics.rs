//! `panics` panics when a request says so, for the tests that prove what a panic costs.

use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::Entry;
use portunus_message::{Request, Response};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "panics",
    manual: "Panics on the way in for `/panic/in`, on the way back for `/panic/back`.",
    example: "panics",
    params: &[],
    answers: false,
    build: |args| Reader::new(&[], args).map(|_| Box::new(Panics) as Box<dyn Filter>),
};

struct Panics;

impl Filter for Panics {
    fn request(&self, request: &mut Request, _: &mut Context<'_>) -> Flow {
        assert_ne!(request.target.path_and_query(), "/panic/in");
        Flow::Next
    }

    fn response(&self, _: &mut Response, request: &Request, _: &mut Context<'_>) {
        assert_ne!(request.target.path_and_query(), "/panic/back");
    }

    fn describe(&self) -> String {
        "panics".to_owned()
    }
}
