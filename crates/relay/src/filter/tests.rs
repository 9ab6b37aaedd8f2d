//! What every filter owes, and the stage that the tests of filters stand on.

use super::*;
use crate::args::tests::{args, example};
use crate::context::Bounds;
use portunus_message::{FieldName, FieldValue, Fields, Peer, Proof, RequestId, Tick};
use std::net::IpAddr;

/// A request with everything around it that a filter may see.
pub(super) struct Stage {
    pub(super) request: Request,
    pub(super) bounds: Bounds,
    pub(super) later: Fields,
    pub(super) client_ip: IpAddr,
    pub(super) granted: bool,
    pub(super) proof: Option<Proof>,
}

impl Stage {
    /// A GET of `path` from example.com.
    pub(super) fn get(path: &str) -> Stage {
        let mut request = Request::default();
        request.target.set_authority(b"example.com").unwrap();
        request.target.set_path(path.as_bytes()).unwrap();
        let second = Duration::from_secs(1);
        let bounds = Bounds {
            request: None,
            first_byte: second,
            upstream_idle: second,
            body_bytes: 100,
            conversation: false,
            hurried: false,
        };
        let client_ip = "192.0.2.1".parse().unwrap();
        Stage { request, bounds, later: Fields::new(), client_ip, granted: false, proof: None }
    }

    /// The same with another request field.
    pub(super) fn field(mut self, name: &str, value: &str) -> Stage {
        let value = FieldValue::new(value.as_bytes()).unwrap();
        self.request.fields.add(&FieldName::new(name).unwrap(), value);
        self
    }

    /// Calls `run` with the request and its context.
    pub(super) fn with<T>(&mut self, run: impl FnOnce(&mut Request, &mut Context<'_>) -> T) -> T {
        let mut cx = Context {
            peer: Peer::default(),
            proof: self.proof.as_ref(),
            client_ip: self.client_ip,
            id: RequestId(1),
            now: Tick(0),
            bounds: &mut self.bounds,
            upstream: Some("10.0.0.1:80"),
            later: &mut self.later,
            access_granted: self.granted,
        };
        let result = run(&mut self.request, &mut cx);
        self.granted = cx.access_granted;
        result
    }

    /// Runs `filter` on the way in.
    pub(super) fn run(&mut self, filter: &dyn Filter) -> Flow {
        self.with(|request, cx| filter.request(request, cx))
    }

    /// Runs `filter` on the way back.
    pub(super) fn back(&mut self, filter: &dyn Filter, response: &mut Response) {
        self.with(|request, cx| filter.response(response, request, cx));
    }

    /// The values of a request field, joined by `|`.
    pub(super) fn sees(&self, name: &str) -> String {
        joined(&self.request.fields, name)
    }
}

/// The values of a field, joined by `|`.
pub(super) fn joined(fields: &Fields, name: &str) -> String {
    let name = FieldName::new(name).unwrap();
    let values: Vec<_> =
        fields.get_all(&name).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    values.join("|")
}

/// Builds a filter from its name and words.
pub(super) fn build(name: &str, words: &[&str]) -> Result<Box<dyn Filter>, String> {
    let entry = LIST.iter().find(|entry| entry.name == name).unwrap();
    (entry.build)(&args(words)).map_err(|mistake| mistake.reason)
}

#[test]
fn every_example_builds_and_nothing_unknown_does() {
    for entry in LIST {
        let mut args = example(entry.example);
        let built = (entry.build)(&args);
        let filter = built.unwrap_or_else(|mistake| panic!("{}: {mistake:?}", entry.name));
        assert!(!filter.describe().is_empty());
        args.options.insert("nobody-knows".to_owned(), crate::plan::Text::plain("1"));
        assert!((entry.build)(&args).is_err(), "{}", entry.name);
        assert!(entry.manual.ends_with('.') && entry.example.starts_with(entry.name));
        assert!(entry.params.iter().all(|param| param.manual.ends_with('.')), "{}", entry.name);
    }
    let names: Vec<_> = LIST.iter().map(|entry| entry.name).collect();
    assert!(names.is_sorted(), "the manual's order is the alphabet");
}

#[test]
fn plain_arguments_never_panic() {
    let words = [
        "",
        "set",
        "x",
        "/x",
        "~(",
        "301",
        "all",
        "deny",
        "strip=",
        "~.",
        "$1",
        "${host}",
        "origins=*",
        "5s",
    ];
    for entry in LIST {
        for first in words {
            for second in words {
                for third in ["", "y", "type=text/html", "credentials", "request=1s"] {
                    if let Ok(filter) = (entry.build)(&args(&[first, second, third])) {
                        Stage::get("/x/y?z").run(&*filter);
                        Stage::get("*").run(&*filter);
                    }
                }
            }
        }
    }
}
