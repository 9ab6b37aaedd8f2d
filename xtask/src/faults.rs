//! faults: builds the program and the fault ledger, and runs it.

use crate::{prepare, succeeds};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to build for it, as words for cargo.
pub const BUILDS: [&[&str]; 2] = [
    &["build", "--release", "--package", "portunus"],
    &["build", "--profile", "load", "--package", "portunus-faults"],
];

/// Builds, and runs the ledger with `words`.
pub fn run(root: &Path, words: &[&str]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    for build in BUILDS {
        succeeds(Command::new(&cargo).args(build).current_dir(root))?;
    }
    succeeds(command(root).args(words))
}

/// The ledger, as it is called.
pub fn command(root: &Path) -> Command {
    let mut command = Command::new(target(root).join("load/portunus-faults"));
    command.current_dir(root).env("PATH", prepare::path());
    if std::env::var_os("PORTUNUS_BIN").is_none() {
        command.env("PORTUNUS_BIN", target(root).join("release/portunus"));
    }
    command
}

fn target(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or(OsString::from("target")))
}
