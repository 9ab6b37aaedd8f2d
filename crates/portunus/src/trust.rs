//! trust: lets this machine believe the internal CA, or shows its certificate.

use crate::boot::environment;
use crate::check::load;
use crate::exit::Exit;
use crate::output::say;
use portunus_control::automatic::{self, Authority, Disk};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// Where systems keep certificates that their operators believe, and what has to be run after a change: Debian and its kin, Fedora and its kin,
/// Arch, SUSE.
const LISTS: &[(&str, &[&str])] = &[
    ("/usr/local/share/ca-certificates", &["update-ca-certificates"]),
    ("/etc/pki/ca-trust/source/anchors", &["update-ca-trust", "extract"]),
    ("/etc/ca-certificates/trust-source/anchors", &["trust", "extract-compat"]),
    ("/usr/share/pki/trust/anchors", &["update-ca-certificates"]),
];
const FILE: &str = "portunus-internal-ca.crt";

/// `trust`: puts the certificate of the internal CA into the system's list, or prints it.
pub fn trust(config: Option<&Path>, print: bool) -> Result<(), Exit> {
    let place = automatic::directory(&load(config)?.plan.settings, &environment);
    let found = Authority::read(&Disk::at(place.clone()), SystemTime::now()).map_err(Exit::failed)?;
    let authority = found.ok_or_else(|| {
        Exit::failed(format_args!(
            "there is no internal CA in {} yet; it is made when Portunus runs with a site that needs it, as the user that runs it",
            place.display()
        ))
    })?;
    if print {
        return say(&authority.certificate);
    }
    let list = LISTS.iter().find(|(folder, _)| Path::new(folder).is_dir());
    let (folder, command) = list.ok_or_else(|| {
        Exit::failed("this system's list of certificates is not known; add what `portunus trust --print` shows by hand")
    })?;
    let file = Path::new(folder).join(FILE);
    std::fs::write(&file, &authority.certificate).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Exit::failed(format_args!("cannot write {}: only root may; use sudo", file.display()))
        }
        _ => Exit::failed(format_args!("cannot write {}: {error}", file.display())),
    })?;
    let (program, words) = command.split_first().unwrap_or((&"true", &[]));
    let run = Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).status();
    match run {
        Ok(status) if status.success() => say(&format!(
            "{} is believed by this machine; browsers with a list of their own (Firefox) need `portunus trust --print`",
            file.display()
        )),
        Ok(status) => Err(Exit::failed(format_args!("`{program}` has failed: {status}"))),
        Err(error) => Err(Exit::failed(format_args!("`{program}` cannot be run: {error}"))),
    }
}
