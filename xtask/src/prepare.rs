//! prepare: installs the programs that the tests drive, where they are missing.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program, the Debian package it is in, and what needs it.
const NEEDED: &[(&str, &str, &str)] = &[
    ("curl", "curl", "scenarios: a client"),
    ("pebble", "pebble", "scenarios: a CA"),
    ("knotd", "knot", "scenarios: a name server"),
    ("openssl", "openssl", "scenarios: a client of TLS"),
    ("python3", "python3", "scenarios: an origin"),
    ("pip3", "python3-pip", "scenarios: modules of Python"),
    ("node", "nodejs", "scenarios: an origin"),
    ("nginx", "nginx-light", "scenarios: an origin; faults: a rival"),
    ("haproxy", "haproxy", "scenarios: PROXY headers from it and for it; faults: a rival"),
    ("prlimit", "util-linux", "faults: few descriptors"),
    ("wrk", "wrk", "scenarios: load"),
    ("strace", "strace", "budgets: system calls"),
];

/// What Python needs, and what needs it; put into [`MODULES`] by pip.
const PYTHON: &[(&str, &str)] = &[("grpcio", "scenarios: clients and servers of gRPC")];
/// Where that is, from the root of the project.
const MODULES: &str = "target/python";

/// Installs what is missing; says so. What cannot be installed is left to the tests that need it.
pub fn run(root: &Path) {
    programs();
    modules(root);
}

fn modules(root: &Path) {
    let folder = root.join(MODULES);
    if folder.join("grpc").is_dir() {
        return;
    }
    let names: Vec<&str> = PYTHON.iter().map(|(name, _)| *name).collect();
    println!("installing into {MODULES}: {}", names.join(" "));
    let pip = ["python3", "-m", "pip", "install", "--quiet", "--target"].map(str::to_owned);
    let folder = folder.display().to_string();
    let rest: Vec<&str> = [folder.as_str()].into_iter().chain(names).collect();
    if !call(&pip, &rest) {
        println!("could not install them; the tests that need them are left out");
    }
}

fn programs() {
    let missing: Vec<_> = NEEDED.iter().filter(|(program, ..)| !is_there(program)).collect();
    if missing.is_empty() {
        return;
    }
    for (program, package, why) in &missing {
        println!("missing: {program} (package {package}; {why})");
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package, _)| *package).collect();
    let Some(mut words) = as_root() else {
        println!(
            "cannot install: not root, and no sudo without a password; by hand: apt-get install {}",
            packages.join(" ")
        );
        return;
    };
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"].map(str::to_owned));
    println!("installing: {}", packages.join(" "));
    call(&words, &["update"]);
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    if !call(&words, &install) {
        println!("could not install everything; the tests that need what is missing will fail");
    }
}

/// What has to stand before a command so that it runs as root; `None` when that cannot be had.
fn as_root() -> Option<Vec<String>> {
    if !is_there("apt-get") {
        return None;
    }
    let is_root =
        Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    let sudo = ["sudo", "-n"].map(str::to_owned).to_vec();
    match is_root {
        true => Some(Vec::new()),
        false => (is_there("sudo") && call(&sudo, &["true"])).then_some(sudo),
    }
}

fn call(words: &[String], rest: &[&str]) -> bool {
    let mut words = words.iter().map(String::as_str).chain(rest.iter().copied());
    let mut command = Command::new(words.next().unwrap_or("true"));
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether `program` is in the path.
pub fn is_there(program: &str) -> bool {
    std::env::split_paths(&path()).any(|folder| folder.join(program).is_file())
}

/// The path, with the folders where Debian keeps servers: they are in root's path only.
pub fn path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    std::env::join_paths(folders).unwrap_or(path.clone())
}
