//! trust: lets this machine believe the internal CA, or shows its certificate.

use crate::boot::environment;
use crate::check::load;
use crate::exit::Exit;
use crate::output::say;
use crate::remote;
use portunus_control::automatic::{self, Authority, Disk};
use portunus_relay::plan::Settings;
use std::io;
use std::path::{Path, PathBuf};
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
/// Where users are listed, with their homes.
const PASSWD: &str = "/etc/passwd";
const FILE: &str = "portunus-internal-ca.crt";

/// `trust`: puts the certificate of the internal CA into the system's list, or prints it.
pub fn trust(config: Option<&Path>, print: bool) -> Result<(), Exit> {
    let settings = load(config)?.plan.settings.clone();
    let places = match remote::state_directory(config) {
        Some(place) => vec![place],
        None => places(&settings, &environment, PASSWD),
    };
    let mut found = None;
    for place in &places {
        let disk = Disk::at(place.clone());
        found = Authority::find(&disk)
            .map_err(Exit::failed)?
            .map(|authority| (authority, Authority::place(&disk)));
        if found.is_some() {
            break;
        }
    }
    let (authority, file) = found.ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Exit::failed(format_args!(
            "there is no internal CA in {} yet; it is made when Portunus runs with a site that needs it",
            places.join(" or ")
        ))
    })?;
    let (until, date) = &authority.until;
    if *until < SystemTime::now() {
        return Err(Exit::failed(format_args!(
            "{file} has ended on {date}; the next start of Portunus makes another one"
        )));
    }
    if print {
        return say(&authority.certificate);
    }
    install(&authority)?;
    let then = if authority.ends_soon(SystemTime::now()) {
        ", and the next start of Portunus makes another one"
    } else {
        ""
    };
    say(&format!(
        "{} from {file} is believed by this machine until {date}{then}; browsers with a list of their own (Firefox) need `portunus trust --print`",
        authority.name
    ))
}

/// Where it may be when nobody runs who could be asked: where this user's programs keep what they need, or those of the user who has
/// become root for this.
fn places(settings: &Settings, variable: &dyn Fn(&str) -> Option<String>, passwd: &str) -> Vec<PathBuf> {
    let mut places = vec![automatic::directory(settings, variable)];
    let id = variable("SUDO_UID").filter(|_| settings.state.is_none());
    let users = std::fs::read_to_string(passwd).unwrap_or_default();
    let home = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, user, _, _, home, ..] = fields[..] else { return None };
        (Some(user) == id.as_deref()).then(|| home.to_owned())
    });
    places.extend(home.map(|home| Path::new(&home).join(".local/share/portunus")));
    places
}

/// Puts it into the system's list.
fn install(authority: &Authority) -> Result<(), Exit> {
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
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Exit::failed(format_args!("`{program}` has failed: {status}"))),
        Err(error) => Err(Exit::failed(format_args!("`{program}` cannot be run: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_for_where_the_user_who_became_root_keeps_things() {
        let file = std::env::temp_dir().join(format!("portunus-passwd-{}", std::process::id()));
        std::fs::write(&file, "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n")
            .unwrap();
        let passwd = file.to_str().unwrap();
        let variable = |name: &str| match name {
            "SUDO_UID" => Some("1000".to_owned()),
            "STATE_DIRECTORY" => Some("/var/lib/here".to_owned()),
            _ => None,
        };
        let mut settings = Settings::default();
        let found = places(&settings, &variable, passwd);
        assert_eq!(found, ["/var/lib/here", "/home/ann/.local/share/portunus"].map(PathBuf::from));
        assert_eq!(places(&settings, &|_| None, passwd).len(), 1);
        settings.state = Some("/srv/state".into());
        assert_eq!(places(&settings, &variable, passwd), ["/srv/state"].map(PathBuf::from));
        std::fs::remove_file(file).unwrap();
    }
}
