//! Anything that yields Plans: a file, or a text that the program has made up itself.

use crate::certs;
use portunus_config::{Environment, Loaded, Mistakes};
use std::path::{Path, PathBuf};

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, and those it includes.
    File(PathBuf),
    /// A text of the program's own.
    Text {
        /// What stands in messages in a file's place.
        name: String,
        /// The configuration.
        text: String,
    },
}

impl Source {
    /// Reads it. Only this touches the disk; `variable` is the environment.
    pub fn load(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Mistakes> {
        self.load_by(portunus_config::load, variable)
    }

    /// Reads it for a program that runs it already.
    pub fn load_again(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Mistakes> {
        self.load_by(portunus_config::load_again, variable)
    }

    fn load_by(
        &self,
        load: fn(&Path, &Environment<'_>) -> Result<Loaded, Mistakes>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, Mistakes> {
        let environment = Environment { variable, has_providers: certs::HAS_PROVIDERS };
        match self {
            Source::File(path) => load(path, &environment),
            Source::Text { name, text } => portunus_config::load_text(name, text, &environment),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Text { name, .. } => f.write_str(name),
        }
    }
}
