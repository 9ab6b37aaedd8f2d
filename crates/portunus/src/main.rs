//! The program: what is typed becomes what is done, and how it went becomes an exit code.

mod args;
mod boot;
mod check;
mod demo;
mod exit;
mod explain;
mod handover;
mod heap;
mod legacy;
mod output;
mod papers;
mod proxy;
mod remote;
mod rewrite;
mod signals;
mod systemd;
mod trust;
mod upgrade;

use args::{Args, Command, File};
use clap::Parser;
use exit::Exit;
use serde_json::json;
use std::process::ExitCode;

fn main() -> ExitCode {
    boot::hear_panics();
    match perform(Args::parse()) {
        Ok(()) => Exit::FINE,
        Err(exit) => exit.tell(),
    }
}

fn perform(args: Args) -> Result<(), Exit> {
    let config = args.config.as_deref();
    match args.command {
        _ if args.test => check::check(config, false, false),
        None => args::help(),
        Some(Command::Run(File { file })) => boot::run(boot::find_config(file.as_deref().or(config))?),
        Some(Command::Proxy { to, from }) => proxy::proxy(&from, &to),
        Some(Command::Demo { port }) => demo::demo(port),
        Some(Command::Check { json, verbose, file: File { file } }) => {
            check::check(file.as_deref().or(config), json, verbose)
        }
        Some(Command::Adapt(File { file })) => check::adapt(file.as_deref().or(config)),
        Some(Command::Fmt { write, file }) => rewrite::format(config, file.as_deref(), write),
        Some(Command::Explain(question)) => explain::explain(config, &question),
        Some(Command::Schema) => output::say(&portunus_config::schema()),
        Some(Command::Reload(at)) => remote::reload(config, &at),
        Some(Command::Status { at, json }) => remote::status(config, &at, json),
        Some(Command::Upgrade(at)) => remote::upgrade(config, &at),
        Some(Command::Drain(host)) => remote::adjust(config, &host, &json!({ "drain": true })),
        Some(Command::Undrain(host)) => remote::adjust(config, &host, &json!({ "drain": false })),
        Some(Command::Weight { host, weight }) => remote::weight(config, &host, &weight),
        Some(Command::Add { host, weight, backup }) => {
            remote::add(config, &host, &json!({ "weight": weight, "backup": backup }))
        }
        Some(Command::Remove(host)) => remote::remove(config, &host),
        Some(Command::Stop(at)) => remote::stop(config, &at),
        Some(Command::Trust { print }) => trust::trust(config, print),
        Some(Command::Completions { shell }) => papers::completions(shell),
        Some(Command::Man) => papers::man(),
    }
}
