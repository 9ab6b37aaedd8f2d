//! watch: notices that a configuration file, or one it includes, has changed.

use crate::apply::Supervisor;
use crate::observe::log;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::watch;

/// Reloads whenever the files change, while the configuration in force has `watch` on.
pub async fn watch(supervisor: Arc<Supervisor>) {
    let mut changes = supervisor.changes();
    loop {
        let running = supervisor.running();
        if running.snapshot.plan().settings.watch && !running.files.is_empty() {
            let read = Read { files: running.files.clone(), patterns: running.patterns.clone() };
            let read_from = running.read_from;
            drop(running);
            if let Err(error) = follow(&supervisor, &read, read_from, &mut changes).await {
                log::warn(format_args!("the configuration cannot be watched: {error}"));
            } else {
                continue;
            }
        } else {
            drop(running);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// What a configuration was read from.
struct Read {
    files: Vec<PathBuf>,
    /// What was looked for in directories: the directory with a pattern for names in it.
    patterns: Vec<PathBuf>,
}

/// Watches what was `read` until something else has changed the configuration in force, or a change of theirs has been applied.
async fn follow(
    supervisor: &Arc<Supervisor>,
    read: &Read,
    read_from: SystemTime,
    changes: &mut watch::Receiver<u64>,
) -> notify::Result<()> {
    let (_watcher, mut events) = watcher(read)?;
    let mut seen = Look::at(read);
    // What was written while it was being read has sent its event to nobody.
    let (from, to) = (read_from.checked_sub(COARSE).unwrap_or(read_from), SystemTime::now());
    let mut missed = seen.changed_between(from, to) || moved_between(read, from, to);
    loop {
        if !missed {
            tokio::select! {
                _ = changes.changed() => return Ok(()),
                event = events.recv() => if event.is_none() { return Ok(()) },
            }
        }
        // Editors write in several steps; what is read must be what they left.
        tokio::time::sleep(SETTLE).await;
        while events.try_recv().is_ok() {}
        let now = Look::at(read);
        if missed || now != seen {
            missed = false;
            seen = now;
            log::info("a configuration file has changed");
            // How it went is in the log; there is nobody else to tell.
            let _ = supervisor.reload_and_report().await;
        }
    }
}

/// Directories are watched, not files: editors and Kubernetes put a new file in the old one's place.
fn watcher(read: &Read) -> notify::Result<(RecommendedWatcher, Receiver<()>)> {
    let (sender, events) = channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let reading = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
        if !reading {
            // A full channel already says what there is to say.
            let _ = sender.try_send(());
        }
    })?;
    // A directory that is not there yet comes into one that is.
    let there = |directory: PathBuf| directory.ancestors().map(named).find(|one| one.is_dir());
    for directory in directories(read).into_iter().filter_map(there).collect::<BTreeSet<_>>() {
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    }
    Ok((watcher, events))
}

fn directories(read: &Read) -> BTreeSet<PathBuf> {
    read.files.iter().chain(&read.patterns).filter_map(|file| file.parent()).map(named).collect()
}

/// A directory with a name: the current one has none where it begins a path.
fn named(directory: &Path) -> PathBuf {
    if directory.as_os_str().is_empty() { ".".into() } else { directory.to_owned() }
}

/// What was read, as it looks from outside. Other files may live in the same directories (a log, say), so an event alone means nothing;
/// names that an `include` with a pattern takes in count, and so do directories in which it looks.
#[derive(PartialEq, Eq)]
struct Look {
    files: Vec<Option<(PathBuf, SystemTime, u64)>>,
    names: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

impl Look {
    fn at(read: &Read) -> Look {
        let look = |file: &PathBuf| {
            let real = file.canonicalize().ok()?;
            let metadata = real.metadata().ok()?;
            Some((real, metadata.modified().ok()?, metadata.len()))
        };
        let mut names = BTreeSet::new();
        for pattern in &read.patterns {
            let (Some(directory), Some(pattern)) = (pattern.parent(), pattern.file_name()) else { continue };
            let (directory, pattern) = (named(directory), pattern.to_string_lossy());
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten().take(NAMES_MAX) {
                if portunus_config::is_meant(&pattern, &entry.file_name().to_string_lossy()) {
                    names.insert(entry.path());
                }
            }
        }
        Look {
            files: read.files.iter().map(look).collect(),
            names,
            directories: directories(read).into_iter().filter(|directory| directory.is_dir()).collect(),
        }
    }

    fn changed_between(&self, from: SystemTime, to: SystemTime) -> bool {
        self.files.iter().flatten().any(|(_, changed, _)| (from..to).contains(changed))
    }
}

/// Whether something came into a directory where a pattern is looked for, or went out of it, in this time.
fn moved_between(read: &Read, from: SystemTime, to: SystemTime) -> bool {
    let directories = read.patterns.iter().filter_map(|pattern| pattern.parent()).map(named);
    let mut changed = directories.filter_map(|directory| directory.metadata().ok()?.modified().ok());
    changed.any(|changed| (from..to).contains(&changed))
}

/// How far the time of a file can lie behind the clock: file systems use the kernel's coarse one.
const COARSE: Duration = Duration::from_millis(20);

/// How long the files must have been left alone.
const SETTLE: Duration = Duration::from_millis(100);

/// How many names of a directory are looked at.
const NAMES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replaced_file_is_noticed_and_a_log_beside_it_is_not() {
        let folder = std::env::temp_dir().join(format!("portunus-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("portunus.conf");
        std::fs::write(&file, "one").unwrap();
        let read = Read { files: vec![file.clone()], patterns: vec![folder.join("sites/*.conf")] };
        let (_watcher, mut events) = watcher(&read).unwrap();
        let before = Look::at(&read);
        std::fs::write(folder.join("access.log"), "line").unwrap();
        events.recv().await.unwrap();
        assert!(Look::at(&read) == before);
        std::fs::write(folder.join("new"), "other").unwrap();
        std::fs::rename(folder.join("new"), &file).unwrap();
        events.recv().await.unwrap();
        assert!(Look::at(&read) != before);
        let before = Look::at(&read);
        std::fs::create_dir(folder.join("sites")).unwrap();
        events.recv().await.unwrap();
        assert!(Look::at(&read) != before, "from now on it is looked there");
        let (_watcher, mut events) = watcher(&read).unwrap();
        let before = Look::at(&read);
        std::fs::write(folder.join("sites/.a.conf.swp"), "").unwrap();
        events.recv().await.unwrap();
        assert!(Look::at(&read) == before);
        std::fs::write(folder.join("sites/a.conf"), "").unwrap();
        events.recv().await.unwrap();
        assert!(Look::at(&read) != before, "the first one");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
