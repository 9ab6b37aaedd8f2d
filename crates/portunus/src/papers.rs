//! papers: completions and the manual page, made from the command line's own description.

use crate::args::Args;
use crate::exit::Exit;
use crate::output::say;
use clap::CommandFactory;

/// Prints the completions of `shell`.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Exit> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "portunus", &mut text);
    say(&String::from_utf8_lossy(&text))
}

/// Prints the manual page.
pub fn man() -> Result<(), Exit> {
    let mut text = Vec::new();
    let command = Args::command();
    clap_mangen::Man::new(command.clone())
        .render(&mut text)
        .map_err(|error| Exit::failed(format_args!("cannot print: {error}")))?;
    // The commands have no pages of their own to point to.
    let mut text = String::from_utf8_lossy(&text).into_owned();
    for name in command.get_subcommands().map(clap::Command::get_name).chain(["help"]) {
        text = text.replace(&format!("portunus\\-{name}(1)"), &format!("portunus {name}"));
    }
    say(&text)
}
