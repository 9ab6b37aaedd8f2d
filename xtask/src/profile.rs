//! profile: trains the release binary with the loads of bench/run, and keeps what was learnt for every optimised build.

use crate::succeeds;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `profile/rustc` hands to the compiler.
const PROFILE: &str = "profile/portunus.profdata";
/// What it was made of: the compiler and the dependencies. With others few of its functions are known again.
const MADE_OF: &str = "profile/made-of";
/// Where the program that counts is built, and where it leaves its counts.
const WORK: &str = "target/profile";

/// Builds a program that counts what it runs, loads it, and writes the profile.
pub fn run(root: &Path) -> Result<(), String> {
    let merge = merger()?;
    let work = root.join(WORK);
    let counts = work.join("counts");
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut counting = OsString::from("-Cprofile-generate=");
    counting.push(&counts);
    succeeds(
        Command::new(cargo)
            .args(["build", "--release", "--package", "portunus", "--target-dir"])
            .arg(&work)
            .env("RUSTFLAGS", counting)
            .current_dir(root),
    )?;
    // What an earlier program counted, and the build's own scripts.
    match std::fs::remove_dir_all(&counts) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{counts:?}: {error}"));
        }
        _ => {}
    }
    succeeds(
        Command::new(root.join("bench/run"))
            .args(["--proxies", "portunus", "--rounds", "1", "--portunus"])
            .arg(work.join("release/portunus"))
            .current_dir(root),
    )?;
    // Functions that never ran are left out: the compiler treats them as it would without a profile.
    succeeds(Command::new(merge).args(["merge", "--sparse", "-o"]).arg(root.join(PROFILE)).arg(&counts))?;
    std::fs::write(root.join(MADE_OF), made_of(root)?).map_err(|error| format!("{MADE_OF}: {error}"))
}

/// Why the profile may be of little use to the next build, if so.
pub fn stale(root: &Path) -> Option<String> {
    let then = std::fs::read_to_string(root.join(MADE_OF)).ok()?;
    let now = made_of(root).ok()?;
    (then != now).then(|| {
        format!(
            "the profile was made of {}, and this is {}: `cargo xtask profile` makes a new one",
            then.trim_end().replace('\n', ", "),
            now.trim_end().replace('\n', ", ")
        )
    })
}

/// The compiler's version, and a hash of the dependencies' versions.
fn made_of(root: &Path) -> Result<String, String> {
    let lock =
        std::fs::read_to_string(root.join("Cargo.lock")).map_err(|error| format!("Cargo.lock: {error}"))?;
    let mut hash = DefaultHasher::new();
    lock.hash(&mut hash);
    Ok(format!("{}\nCargo.lock {:016x}\n", rustc(&["--version"])?, hash.finish()))
}

/// The tool that makes one profile of many counts: it comes with the compiler, as a component.
fn merger() -> Result<PathBuf, String> {
    let libraries = PathBuf::from(rustc(&["--print", "target-libdir"])?);
    let tool = libraries.with_file_name("bin").join("llvm-profdata");
    if tool.exists() {
        Ok(tool)
    } else {
        Err(format!("there is no {}: rustup component add llvm-tools", tool.display()))
    }
}

fn rustc(words: &[&str]) -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).args(words).output().map_err(|error| format!("rustc: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
