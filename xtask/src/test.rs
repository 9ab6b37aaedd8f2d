//! test: the one test command; runs everything there is and counts it.

use crate::prepare::is_there;
use crate::{faults, prepare, source, tidy};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const SCENARIOS: &str = "tests/Cargo.toml";
const BUDGETS: &str = "bench/budgets/Cargo.toml";
const FUZZ: &str = "fuzz/Cargo.toml";
/// The program that is tested, in the folder of what is built.
const RELEASE: &str = "release/portunus";
/// What it is built with for tests only.
const WITH_PROVIDERS: &str = "portunus/acme-dns";

/// What to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    only: Option<Part>,
    no_install: bool,
}

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Unit,
    Tidy,
    Fuzz,
    Scenarios,
    Faults,
    Budgets,
}

/// The parts in the order they run: what is quick to fail first.
const PARTS: &[(&str, Part)] = &[
    ("unit", Part::Unit),
    ("tidy", Part::Tidy),
    ("fuzz", Part::Fuzz),
    ("scenarios", Part::Scenarios),
    ("faults", Part::Faults),
    ("budgets", Part::Budgets),
];

impl Options {
    /// Reads the words after `test`.
    pub fn read(words: &[&str]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--no-install" => options.no_install = true,
                "--only" => {
                    let name = words.next().copied().unwrap_or("");
                    let part = PARTS.iter().find(|(known, _)| *known == name);
                    options.only = Some(
                        part.ok_or(format!(
                            "--only takes unit, tidy, fuzz, scenarios, faults or budgets, not `{name}`"
                        ))?
                        .1,
                    );
                }
                _ => return Err(format!("`{word}` is not an option of test")),
            }
        }
        Ok(options)
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// How many tests passed and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

/// Runs the parts that are wanted and closes with their sum.
pub fn run(root: &Path, options: &Options) -> Result<(), String> {
    let uses_the_binary =
        [Part::Scenarios, Part::Faults, Part::Budgets].into_iter().any(|part| options.wants(part));
    if uses_the_binary && !options.no_install {
        prepare::run(root);
    }
    let mut parts = Vec::new();
    if uses_the_binary {
        parts.push(("build", cargo_step(root, &["build", "--release", "--package", "portunus"], true)));
    }
    for &(name, part) in PARTS.iter().filter(|(_, part)| options.wants(*part)) {
        let began = Instant::now();
        println!("\n== {name}");
        let count = run_part(root, part);
        println!("== {name}: {} passed, {} failed, {:.0?}", count.passed, count.failed, began.elapsed());
        parts.push((name, count));
    }
    let sum = |of: fn(&Count) -> u64| parts.iter().map(|(_, count)| of(count)).sum::<u64>();
    let (passed, failed) = (sum(|count| count.passed), sum(|count| count.failed));
    println!();
    for (name, count) in parts.iter().filter(|(_, count)| count.failed > 0) {
        println!("failed: {} in {name}", count.failed);
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { Ok(()) } else { Err("not all tests passed".to_owned()) }
}

fn run_part(root: &Path, part: Part) -> Count {
    let nextest = is_there("cargo-nextest");
    match part {
        Part::Unit => {
            let apart: Vec<String> = [FUZZ, SCENARIOS, BUDGETS]
                .iter()
                .filter_map(|manifest| package_name(&root.join(manifest)))
                .collect();
            let mut words = vec!["--workspace", "--features", WITH_PROVIDERS];
            words.extend(apart.iter().flat_map(|name| ["--exclude", name]));
            let mut count = run_tests(root, nextest, &words, &[]);
            if nextest {
                // nextest leaves out the examples in documentation
                words.insert(0, "test");
                words.push("--doc");
                count = count.and(cargo_step(root, &words, false));
            }
            count
        }
        Part::Tidy => match source::load(root) {
            Ok(files) => {
                let report = tidy::check(&files);
                print!("{}", report.text);
                Count { passed: report.passed as u64, failed: report.failed as u64 }
            }
            Err(reason) => {
                println!("{reason}");
                Count { passed: 0, failed: 1 }
            }
        },
        Part::Fuzz => present(root, FUZZ, |name| run_tests(root, nextest, &["--package", name], &[])),
        Part::Scenarios => present(root, SCENARIOS, |name| {
            let count = run_tests(root, nextest, &["--package", name], &[]);
            count.and(scenarios_with_providers(root, nextest, name))
        }),
        // one after the other, or they would measure each other
        Part::Faults => {
            let built = faults::BUILDS.iter().map(|build| cargo_step(root, build, true));
            let built = built.fold(Count::default(), Count::and);
            if built.failed > 0 { built } else { step(faults::command(root), false) }
        }
        Part::Budgets => present(root, BUDGETS, |name| {
            run_tests(root, nextest, &["--release", "--package", name], &["--nocapture", "--test-threads=1"])
        }),
    }
}

/// The scenarios that need providers of DNS, which the program has only when it is asked to: one built for them alone, unoptimised.
fn scenarios_with_providers(root: &Path, nextest: bool, name: &str) -> Count {
    let build = ["build", "--package", "portunus", "--features", "acme-dns"];
    let count = cargo_step(root, &build, true);
    let words = ["--package", name, "--features", "acme-dns", "--test", "dns_providers"];
    if count.failed > 0 { count } else { run_tests_of(root, "debug/portunus", nextest, &words, &[]) }
}

fn present(root: &Path, manifest: &str, run: impl FnOnce(&str) -> Count) -> Count {
    match package_name(&root.join(manifest)) {
        Some(name) => run(&name),
        None => {
            println!("there is no {manifest}");
            Count { passed: 0, failed: 1 }
        }
    }
}

/// The name of the package that `manifest` describes.
fn package_name(manifest: &Path) -> Option<String> {
    let text = std::fs::read_to_string(manifest).ok()?;
    let line = text.lines().find(|line| line.starts_with("name = "))?;
    Some(line.trim_start_matches("name = ").trim_matches('"').to_owned())
}

/// Runs tests with nextest where it is, with `cargo test` where not; `last` are words for the test programs.
fn run_tests(root: &Path, nextest: bool, words: &[&str], last: &[&str]) -> Count {
    run_tests_of(root, RELEASE, nextest, words, last)
}

/// The same with another program than the release.
fn run_tests_of(root: &Path, program: &str, nextest: bool, words: &[&str], last: &[&str]) -> Count {
    let mut all =
        if nextest { vec!["nextest", "run", "--no-fail-fast"] } else { vec!["test", "--no-fail-fast"] };
    all.extend(words);
    match nextest {
        // for nextest, to show the output is to run one test at a time
        true => all.extend(last.contains(&"--nocapture").then_some("--no-capture")),
        false if !last.is_empty() => {
            all.push("--");
            all.extend(last);
        }
        false => {}
    }
    cargo_step_of(root, program, &all, false)
}

/// Runs cargo, shows what it says and counts the tests it reports; a command that fails counts as one failure at least.
/// A build counts only when it fails.
fn cargo_step(root: &Path, words: &[&str], is_build: bool) -> Count {
    cargo_step_of(root, RELEASE, words, is_build)
}

fn cargo_step_of(root: &Path, program: &str, words: &[&str], is_build: bool) -> Count {
    println!("cargo {}", words.join(" "));
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.args(words).current_dir(root).env("CARGO_TERM_COLOR", "never");
    command.env("PATH", prepare::path());
    command.env("PORTUNUS_BIN", root.join(target_folder()).join(program));
    let count = step(command, words.first() == Some(&"nextest"));
    if is_build { Count { passed: 0, ..count } } else { count }
}

fn step(command: Command, nextest: bool) -> Count {
    let program = command.get_program().to_owned();
    run_and_count(command, nextest).unwrap_or_else(|error| {
        println!("cannot run {}: {error}", program.display());
        Count { passed: 0, failed: 1 }
    })
}

fn target_folder() -> std::ffi::OsString {
    std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into())
}

fn run_and_count(mut command: Command, nextest: bool) -> std::io::Result<Count> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let count = std::thread::scope(|scope| {
        let err = scope.spawn(move || show_and_count(err, nextest));
        let out = show_and_count(out, nextest);
        out.and(err.join().unwrap_or_default())
    });
    let succeeded = child.wait()?.success();
    Ok(if succeeded || count.failed > 0 { count } else { Count { failed: 1, ..count } })
}

fn show_and_count(stream: Option<impl Read>, nextest: bool) -> Count {
    let Some(stream) = stream else { return Count::default() };
    let lines = BufReader::new(stream).split(b'\n').map_while(Result::ok);
    lines.fold(Count::default(), |count, line| {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.and(counted(&line, nextest))
    })
}

/// What a line of `cargo test` (`test result: ok. 3 passed; 1 failed; …`) or of nextest (`Summary [ 0.1s] 4 tests run:
/// 3 passed, 1 failed, 2 skipped`) says. nextest shows what tests print, also lines of the first kind: not counted again.
fn counted(line: &str, nextest: bool) -> Count {
    let is_summary = match nextest {
        true => line.trim_start().starts_with("Summary [") && line.contains("run:"),
        false => line.starts_with("test result:"),
    };
    if !is_summary {
        return Count::default();
    }
    let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_end_matches([',', ';'])).collect();
    let number_before = |what: &str| {
        let pairs = words.windows(2).filter(|pair| pair[1] == what);
        pairs.filter_map(|pair| pair[0].parse::<u64>().ok()).sum::<u64>()
    };
    let timed_out = line
        .split("timed out")
        .next()
        .filter(|before| *before != line)
        .and_then(|before| before.split_whitespace().last());
    let timed_out = timed_out.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    Count { passed: number_before("passed"), failed: number_before("failed") + timed_out }
}

impl Count {
    fn and(self, other: Count) -> Count {
        Count { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_summary_are_counted() {
        let count = |passed, failed| Count { passed, failed };
        let of_cargo = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(counted(of_cargo, false), count(12, 0));
        assert_eq!(counted(of_cargo, true), count(0, 0));
        let of_nextest =
            "     Summary [   1.5s] 10 tests run: 7 passed (1 flaky), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(counted(of_nextest, true), count(7, 3));
        assert_eq!(counted("     Summary [   0.0s] 1 test run: 1 passed, 0 skipped", true), count(1, 0));
        assert_eq!(counted("3 passed", false), count(0, 0));
    }

    #[test]
    fn options_are_read_and_wrong_ones_refused() {
        assert_eq!(Options::read(&["--only", "fuzz"]).unwrap().only, Some(Part::Fuzz));
        assert!(Options::read(&["--no-install"]).unwrap().no_install);
        assert!(Options::read(&["--only", "all"]).is_err());
        assert!(Options::read(&["--fast"]).is_err());
    }

    #[test]
    fn a_command_that_fails_without_a_test_counts_once() {
        assert_eq!(run_and_count(Command::new("false"), false).unwrap(), Count { passed: 0, failed: 1 });
    }
}
