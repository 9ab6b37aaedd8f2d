//! kept: the file in which an operator's changes of pools are kept for the next start.

use crate::observe::log;
use portunus_relay::members::Wish;
use portunus_relay::plan::Address;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file: wishes by pool and host.
type Kept = BTreeMap<String, BTreeMap<String, Wish>>;

/// What was kept; whatever cannot be read is told, and nothing else comes of it: a start must not fail for that.
pub fn kept(directory: Option<&PathBuf>) -> BTreeMap<String, BTreeMap<Address, Wish>> {
    let Some(directory) = directory else { return BTreeMap::new() };
    let kept = read(directory).unwrap_or_else(|error| {
        log::error(format_args!("what was kept in {} is not heeded: {error}", directory.display()));
        Kept::default()
    });
    let mut wishes: BTreeMap<String, BTreeMap<Address, Wish>> = BTreeMap::new();
    for (pool, hosts) in kept {
        for (host, wish) in hosts {
            match portunus_config::address(&host) {
                Ok(address) => _ = wishes.entry(pool.clone()).or_default().insert(address, wish),
                Err(reason) => {
                    log::warn(format_args!("pool {pool}: {reason}; what was kept of it is not heeded"))
                }
            }
        }
    }
    wishes
}

/// What is kept of one host, if anything is that can be read.
pub fn kept_of(directory: &Path, pool: &str, address: &Address) -> Option<Wish> {
    read(directory).ok()?.get(pool)?.get(&address.to_string()).copied()
}

fn read(directory: &Path) -> io::Result<Kept> {
    match std::fs::read(directory.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(error),
    }
}

/// Writes one wish into the file, which is there whole at every moment.
pub fn keep(directory: &Path, pool: &str, address: &Address, wish: Wish) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut kept = read(directory)?;
    let hosts = kept.entry(pool.to_owned()).or_default();
    match wish.is_empty() {
        true => _ = hosts.remove(&address.to_string()),
        false => _ = hosts.insert(address.to_string(), wish),
    }
    kept.retain(|_, hosts| !hosts.is_empty());
    let new = directory.join(format!("{FILE}.new"));
    let mut file = std::fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&kept)?)?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join(FILE))?;
    std::fs::File::open(directory)?.sync_all()
}

const FILE: &str = "pools.json";

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_relay::members::Membership;

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = std::env::temp_dir().join(format!("portunus-wishes-{}", std::process::id()));
        let address = portunus_config::address("10.0.0.1:80").unwrap();
        let wish = Wish { weight: Some(3), drain: true, member: Some(Membership::Added { backup: true }) };
        keep(&directory, "web", &address, wish).unwrap();
        assert_eq!(kept(Some(&directory)).get("web").and_then(|hosts| hosts.get(&address)), Some(&wish));
        assert_eq!(kept_of(&directory, "web", &address), Some(wish));
        keep(&directory, "web", &address, Wish::default()).unwrap();
        assert_eq!(kept_of(&directory, "web", &address), None);
        assert!(kept(Some(&directory)).is_empty());
        std::fs::write(directory.join(FILE), "broken").unwrap();
        assert!(kept(Some(&directory)).is_empty());
        assert!(keep(&directory, "web", &address, wish).is_err(), "what cannot be read is not written over");
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(kept(None).is_empty());
    }
}
