//! portunus-fuzz TARGET [--seconds N] [--seed S] [--input FILE]: mutates inputs until a promise is broken.

use portunus_fuzz::{TARGETS, Target, fuzz};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many runs are made between two looks at the clock.
const RUNS_A_LOOK: u64 = 1_000;

struct Arguments {
    target: &'static Target,
    time: Duration,
    seed: u64,
    input: Option<String>,
}

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Some(arguments) => run(&arguments),
        None => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("usage: portunus-fuzz TARGET [--seconds N] [--seed S] [--input FILE]");
            eprintln!("targets: {}", names.join(" "));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    let target = arguments.target;
    if let Some(file) = &arguments.input {
        let Ok(input) = std::fs::read(file) else {
            eprintln!("cannot read {file}");
            return ExitCode::from(2);
        };
        (target.run)(&input);
        println!("{}: {file} keeps every promise", target.name);
        return ExitCode::SUCCESS;
    }
    println!("{}: seed {}, {} s", target.name, arguments.seed, arguments.time.as_secs());
    let start = Instant::now();
    let in_time = |runs: u64| !runs.is_multiple_of(RUNS_A_LOOK) || start.elapsed() < arguments.time;
    match fuzz(target, arguments.seed, in_time) {
        Ok(runs) => {
            println!("{}: {runs} inputs, no promise broken", target.name);
            ExitCode::SUCCESS
        }
        Err(input) => {
            let file = format!("crash-{}-{:x}", target.name, arguments.seed);
            match std::fs::write(&file, &input) {
                Ok(()) => {
                    eprintln!("{}: broken by the input in {file}; --input {file} runs it again", target.name)
                }
                Err(error) => eprintln!("{}: broken by {input:?}; cannot write it: {error}", target.name),
            }
            ExitCode::from(1)
        }
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let name = words.next()?;
    let target = TARGETS.iter().find(|target| target.name == name)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_micros() as u64);
    let mut arguments = Arguments { target, time: Duration::from_secs(60), seed: now, input: None };
    while let Some(option) = words.next() {
        let value = words.next()?;
        match option.as_str() {
            "--seconds" => arguments.time = Duration::from_secs(value.parse().ok()?),
            "--seed" => arguments.seed = value.parse().ok()?,
            "--input" => arguments.input = Some(value),
            _ => return None,
        }
    }
    Some(arguments)
}
