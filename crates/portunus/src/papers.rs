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
    clap_mangen::Man::new(Args::command())
        .render(&mut text)
        .map_err(|error| Exit::failed(format_args!("cannot print: {error}")))?;
    say(&String::from_utf8_lossy(&text))
}
