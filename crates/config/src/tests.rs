//! The language as a whole: what loads, what does not, and what is said about it.

use super::*;
use portunus_relay::entry::{ArgMistake, Entry, Kind, Param, Place};
use portunus_relay::filter::Filter;
use portunus_relay::hosts::{HostId, HostSet, Hosts};
use portunus_relay::pick::{Key, Pick};
use portunus_relay::plan::Args;

struct Nothing;

impl Filter for Nothing {
    fn describe(&self) -> String {
        String::new()
    }
}

impl Pick for Nothing {
    fn pick(&self, _: &Hosts, _: &Key<'_>, _: &HostSet) -> Option<HostId> {
        None
    }
}

const fn word(name: &'static str, kind: Kind) -> Param {
    Param { name, place: Place::Word, kind, manual: "A word." }
}

fn fine(_: &Args) -> Result<Box<dyn Filter>, ArgMistake> {
    Ok(Box::new(Nothing))
}

fn status(args: &Args) -> Result<Box<dyn Filter>, ArgMistake> {
    match args.words.first().and_then(|word| word.value.parse::<u16>().ok()) {
        Some(200..=599) => Ok(Box::new(Nothing)),
        _ => Err(ArgMistake::word(0, "is not a status").hint("write a number from 200 to 599")),
    }
}

/// Filters and policies for tests of what surrounds them.
pub const TEST: Registry = Registry {
    filters: &[
        Entry {
            name: "answer",
            manual: "Answers.",
            example: "answer 200",
            params: &[
                word("status", Kind::Number),
                Param { place: Place::OptionalWord, ..word("body", Kind::Text) },
            ],
            answers: true,
            build: status,
        },
        Entry {
            name: "mark",
            manual: "Marks.",
            example: "mark X-A b",
            params: &[
                word("name", Kind::FieldName),
                word("value", Kind::Template),
                Param { place: Place::Option, ..word("after", Kind::Duration) },
            ],
            answers: false,
            build: fine,
        },
    ],
    policies: &[
        Entry {
            name: "round-robin",
            manual: "In turn.",
            example: "balance round-robin",
            params: &[],
            answers: false,
            build: |_| Ok(Box::new(Nothing)),
        },
        Entry {
            name: "hash",
            manual: "By a key.",
            example: "balance hash ${client.ip}",
            params: &[word("key", Kind::Template)],
            answers: false,
            build: |_| Ok(Box::new(Nothing)),
        },
    ],
};

pub fn load_test(text: &str) -> Result<Loaded, Mistakes> {
    let variable = |name: &str| (name == "TOKEN").then(|| "0123456789".to_owned());
    load_into("test.conf", text, TEST, Outside::new(Environment { variable: &variable }))
}

#[test]
fn the_smallest_configurations_load() {
    for text in [
        "site :8080 { proxy 127.0.0.1:3000 127.0.0.1:3001 }",
        "workers 1\npool origin {\n server 127.0.0.1:9000\n keep-alive idle=512\n}\nsite * { listen 127.0.0.1:1; proxy origin }\nsite * { listen 127.0.0.1:2; proxy 127.0.0.1:9000 keep-alive=off }\nsite * {\n listen 127.0.0.1:3\n route /svc1/* { proxy origin }\n route /svc2/* { proxy origin }\n}",
    ] {
        match load_test(text) {
            Ok(loaded) => assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings),
            Err(mistakes) => panic!("{mistakes}"),
        }
    }
}
