//! One target for each parser: a function that takes any bytes and panics when a promise is broken.

pub mod mutate;
pub mod targets;

use mutate::Mutator;
use targets::{
    chunks, config_text, frames, hello, hpack, preface, request_head, response_head, split, target,
};

/// A parser under test.
pub struct Target {
    /// How it is called on the command line.
    pub name: &'static str,
    /// Takes any bytes; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: &'static [&'static [u8]],
    /// Pieces that mean something to this parser.
    pub words: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "request-head",
        run: request_head::run,
        seeds: request_head::SEEDS,
        words: request_head::WORDS,
    },
    Target {
        name: "response-head",
        run: response_head::run,
        seeds: response_head::SEEDS,
        words: response_head::WORDS,
    },
    Target { name: "frames", run: frames::run, seeds: frames::SEEDS, words: frames::WORDS },
    Target {
        name: "config-text",
        run: config_text::run,
        seeds: config_text::SEEDS,
        words: config_text::WORDS,
    },
    Target { name: "chunks", run: chunks::run, seeds: chunks::SEEDS, words: chunks::WORDS },
    Target { name: "target", run: target::run, seeds: target::SEEDS, words: target::WORDS },
    Target { name: "hello", run: hello::run, seeds: hello::SEEDS, words: hello::WORDS },
    Target { name: "hpack", run: hpack::run, seeds: hpack::SEEDS, words: hpack::WORDS },
    Target { name: "preface", run: preface::run, seeds: preface::SEEDS, words: preface::WORDS },
    Target { name: "split", run: split::run, seeds: split::SEEDS, words: split::WORDS },
];

/// Runs `target` on `seed`'s inputs while `go_on` says so. The input that broke it is returned.
pub fn fuzz(target: &Target, seed: u64, mut go_on: impl FnMut(u64) -> bool) -> Result<u64, Vec<u8>> {
    let mut mutator = Mutator::new(seed, target.seeds, target.words);
    let mut runs = 0;
    for input in target.seeds {
        attempt(target, input)?;
    }
    while go_on(runs) {
        attempt(target, mutator.next_input())?;
        runs += 1;
    }
    Ok(runs)
}

fn attempt(target: &Target, input: &[u8]) -> Result<(), Vec<u8>> {
    std::panic::catch_unwind(|| (target.run)(input)).map_err(|_| input.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bounded run with a fixed seed, so that a plain `cargo test` looks at each target.
    fn bounded(name: &str) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let outcome = fuzz(target, 1, |runs| runs < 30_000);
        assert_eq!(outcome.map_err(|input| String::from_utf8_lossy(&input).into_owned()), Ok(30_000));
    }

    #[test]
    fn request_heads() {
        bounded("request-head");
    }

    #[test]
    fn response_heads() {
        bounded("response-head");
    }

    #[test]
    fn chunked_bodies() {
        bounded("chunks");
    }

    #[test]
    fn request_targets() {
        bounded("target");
    }

    #[test]
    fn config_texts() {
        bounded("config-text");
    }

    #[test]
    fn hellos() {
        bounded("hello");
    }

    #[test]
    fn field_blocks() {
        bounded("hpack");
    }

    #[test]
    fn prefaces() {
        bounded("preface");
    }

    #[test]
    fn splits() {
        bounded("split");
    }
}
