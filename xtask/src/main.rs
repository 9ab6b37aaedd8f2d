//! The project's own chores: test, faults, profile, tidy, map, reference.
#![allow(clippy::print_stdout)]

mod faults;
mod map;
mod prepare;
mod profile;
mod reference;
mod source;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask test [--only unit|tidy|fuzz|scenarios|faults|budgets] [--no-install]
                          install what the tests need, build, run every test, count them
       cargo xtask faults [T11 …] [--long] [--against nginx,haproxy] [--over h2c|tls|h2] [--markdown]
                          count every request while things break (docs/reliability.md); without names, all tests
       cargo xtask profile
                          train optimised builds anew with the loads of bench/run (profile/)
       cargo xtask tidy   check the structure: arrows, map, banned calls, limits, golden files, reference
       cargo xtask map    write the map in ARCHITECTURE.md anew from the files' first lines
       cargo xtask reference
                          write docs/manual/reference anew from the lists of directives";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", options @ ..] => {
            test::Options::read(options).and_then(|options| test::run(root(), &options))
        }
        ["faults", words @ ..] => faults::run(root(), words),
        ["profile"] => profile::run(root()),
        ["tidy"] => tidy::run(root()),
        ["map"] => map::write(root()),
        ["reference"] => reference::write(root()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace: the one above this crate's.
fn root() -> &'static Path {
    static ROOT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    ROOT.get_or_init(|| Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned())
}

/// Runs a program to its end; one that fails is an error.
fn succeeds(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if status.success() { Ok(()) } else { Err(format!("{:?} failed", command.get_program())) }
}
