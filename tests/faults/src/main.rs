//! portunus-faults: the fault ledger — proxies under an open load while something breaks, and every request accounted for.
//!
//! `portunus-faults [T11 …] [--long] [--against nginx,haproxy] [--over h2c|tls|h2] [--markdown]`; `cargo xtask faults` builds what it needs first.

mod body;
mod crowd;
mod exchange;
mod group;
mod ledger;
mod load;
mod origin;
mod stage;
mod subject;
mod tests;

use portunus_tests::Place;
use stage::{Row, Stage, Test};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;
use subject::{Kind, Over};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "origin") {
        origin::serve::main(&words[1..]);
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("PORTUNUS_BIN").is_none() {
        eprintln!(
            "portunus-faults: PORTUNUS_BIN has to say where the program is; `cargo xtask faults` does that"
        );
        return ExitCode::from(2);
    }
    match Options::read(&words) {
        Ok(options) => run(&options),
        Err(reason) => {
            eprintln!("portunus-faults: {reason}");
            ExitCode::from(2)
        }
    }
}

struct Options {
    tests: Vec<&'static Test>,
    kinds: Vec<Kind>,
    long: bool,
    markdown: bool,
}

impl Options {
    fn read(words: &[String]) -> Result<Options, String> {
        let mut options =
            Options { tests: Vec::new(), kinds: vec![Kind::Portunus], long: false, markdown: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--long" => options.long = true,
                "--markdown" => options.markdown = true,
                "--against" => {
                    for name in words.next().map_or("", String::as_str).split(',') {
                        let kind = Kind::named(name).ok_or(format!("no proxy is called `{name}`"))?;
                        options.kinds.push(kind);
                    }
                }
                "--over" => {
                    let name = words.next().map_or("", String::as_str);
                    Over::named(name).ok_or(format!("clients cannot speak `{name}`"))?.choose();
                }
                "--only" => {
                    let name = words.next().map_or("", String::as_str);
                    options.kinds = vec![Kind::named(name).ok_or(format!("no proxy is called `{name}`"))?];
                }
                name => {
                    let found = tests::LIST.iter().find(|test| test.name.eq_ignore_ascii_case(name));
                    options.tests.push(found.ok_or(format!("there is no test `{name}`"))?);
                }
            }
        }
        if options.tests.is_empty() {
            options.tests = tests::LIST.iter().collect();
        }
        options.kinds.dedup();
        Ok(options)
    }
}

/// Runs one after the other: two at a time would measure each other.
fn run(options: &Options) -> ExitCode {
    crowd::make_room();
    let (mut passed, mut failed) = (0, 0);
    let mut table = String::new();
    for test in &options.tests {
        println!("{:4} {} ({})", test.name, test.about, test.figure);
        let mut cells = Vec::new();
        for &kind in &options.kinds {
            let Some(row) = run_one(test, kind, options.long) else {
                cells.push("–".to_owned());
                continue;
            };
            let ok = row.is_passed();
            cells.push(format!("{}{}", row.counts(), join(&row.notes())));
            if kind == Kind::Portunus {
                passed += u32::from(ok);
                failed += u32::from(!ok);
            }
        }
        table.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            test.name,
            test.about,
            test.figure,
            cells.join(" | ")
        ));
    }
    if options.markdown {
        println!("\n{table}");
    }
    println!("test result: {}. {passed} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    ExitCode::from(u8::from(failed > 0))
}

fn join(notes: &str) -> String {
    if notes.is_empty() { String::new() } else { format!("<br>{notes}") }
}

fn run_one(test: &Test, kind: Kind, long: bool) -> Option<Row> {
    if !test.against.contains(&kind) || (kind != Kind::Portunus && !portunus_tests::binary::has(kind.name()))
    {
        return None;
    }
    let begun = Instant::now();
    let stage = Stage { kind, long, place: Place::new() };
    let row = catch_unwind(AssertUnwindSafe(|| (test.run)(&stage))).unwrap_or_else(|reason| {
        let mut row = Row::default();
        let text = reason.downcast_ref::<String>().map_or("a panic", String::as_str);
        row.must(false, format!("the test broke off: {text}"));
        row
    });
    let verdict = match (row.is_passed(), kind) {
        (true, _) => "ok",
        (false, Kind::Portunus) => "MISSED",
        (false, _) => "missed",
    };
    println!("     {:9} {verdict:6} {} [{:.1?}]", kind.name(), row.counts(), begun.elapsed());
    if !row.notes().is_empty() {
        println!("                      {}", row.notes());
    }
    for what in row.missed() {
        println!("       {}", what.trim_end().replace('\n', "\n       "));
    }
    write(test, &stage, &row);
    Some(row)
}

/// `target/faults/T11-portunus.json`.
fn write(test: &Test, stage: &Stage, row: &Row) {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    let folder = std::path::Path::new(&target).join("faults");
    let path = folder.join(format!("{}-{}.json", test.name, stage.kind.name()));
    let text = format!("{:#}\n", row.to_json(test, stage));
    if let Err(error) = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text)) {
        eprintln!("{}: {error}", path.display());
    }
}
