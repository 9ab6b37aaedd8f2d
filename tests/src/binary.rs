//! binary: where the program under test is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program: `PORTUNUS_BIN`, or the one beside the test executable, built first so that it is not an old one.
pub fn portunus() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("PORTUNUS_BIN") {
        Some(path) => PathBuf::from(path),
        None => beside_the_test(),
    })
}

/// `target/debug/deps/plain-1234` → `target/debug/portunus`.
fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let folder = test.ancestors().nth(2).expect("target/debug or target/release");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "portunus"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if cfg!(feature = "acme-dns") {
        cargo.args(["--features", "acme-dns"]);
    }
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    if let Some(target) = folder.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    assert!(cargo.status().is_ok_and(|status| status.success()), "portunus does not build");
    folder.join("portunus")
}

/// Whether the program `name` is installed; if not, the scenario that needs it says so and ends.
pub fn has(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {name} >/dev/null")]).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}
