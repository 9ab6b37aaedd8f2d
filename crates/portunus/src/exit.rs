//! exit: how it went, as an exit code and a text on standard error.

use portunus_config::Mistakes;
use portunus_control::apply::Trouble;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Why the program ends without having done what it was asked.
#[derive(Debug)]
pub struct Exit {
    code: u8,
    text: String,
}

impl Exit {
    /// All went well.
    pub const FINE: ExitCode = ExitCode::SUCCESS;

    /// It failed.
    pub fn failed(text: impl std::fmt::Display) -> Exit {
        Exit { code: 1, text: text.to_string() }
    }

    /// It was asked wrongly.
    pub fn usage(text: impl std::fmt::Display) -> Exit {
        Exit { code: 2, text: text.to_string() }
    }

    /// The configuration is wrong.
    pub fn config(text: impl std::fmt::Display) -> Exit {
        Exit { code: 3, text: text.to_string() }
    }

    /// An address cannot be listened at.
    pub fn listen(text: impl std::fmt::Display) -> Exit {
        Exit { code: 4, text: text.to_string() }
    }

    /// Why.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same code, told by somebody else.
    pub fn silent(self) -> Exit {
        Exit { text: String::new(), ..self }
    }

    /// Tells why, and gives the code.
    pub fn tell(self) -> ExitCode {
        if !self.text.is_empty() {
            let _ = writeln!(std::io::stderr(), "{}", self.text.trim_end());
        }
        ExitCode::from(self.code)
    }
}

/// A picture for people; a line each for everything else.
pub fn shown(mistakes: &Mistakes) -> String {
    if std::io::stderr().is_terminal() {
        return mistakes.to_string();
    }
    mistakes.0.iter().map(|mistake| mistake.one_line()).collect::<Vec<_>>().join("\n")
}

impl From<Mistakes> for Exit {
    fn from(mistakes: Mistakes) -> Exit {
        Exit::config(shown(&mistakes))
    }
}

impl From<Trouble> for Exit {
    fn from(trouble: Trouble) -> Exit {
        match trouble {
            Trouble::Config(mistakes) => mistakes.into(),
            Trouble::Compile(_) | Trouble::Bug => Exit::config(trouble),
            Trouble::Listen(..) => Exit::listen(trouble),
            Trouble::Log(_) | Trouble::Workers(_) | Trouble::Stopping | Trouble::HandedOver => {
                Exit::failed(trouble)
            }
        }
    }
}
