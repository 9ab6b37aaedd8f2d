//! output: text on standard output; whoever stops reading it does no harm.

use crate::exit::Exit;
use std::io::{ErrorKind, Write};

/// Prints `text` with one line end.
pub fn say(text: &str) -> Result<(), Exit> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Exit::failed(format_args!("cannot write: {error}")))
        }
        _ => Ok(()),
    }
}
