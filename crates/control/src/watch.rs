//! watch: notices that a configuration file, or one it includes, has changed.

use crate::apply::Supervisor;
use crate::observe::log;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::ffi::OsString;
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
            let (files, read_from) = (running.files.clone(), running.read_from);
            drop(running);
            if let Err(error) = follow(&supervisor, &files, read_from, &mut changes).await {
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

/// Watches `files` until something else has changed the configuration in force, or a change of theirs has been applied.
async fn follow(
    supervisor: &Arc<Supervisor>,
    files: &[PathBuf],
    read_from: SystemTime,
    changes: &mut watch::Receiver<u64>,
) -> notify::Result<()> {
    let (_watcher, mut events) = watcher(files)?;
    let mut seen = Look::at(files);
    // What was written while it was being read has sent its event to nobody.
    let mut missed =
        seen.changed_between(read_from.checked_sub(COARSE).unwrap_or(read_from), SystemTime::now());
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
        let now = Look::at(files);
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
fn watcher(files: &[PathBuf]) -> notify::Result<(RecommendedWatcher, Receiver<()>)> {
    let (sender, events) = channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let reading = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
        if !reading {
            // A full channel already says what there is to say.
            let _ = sender.try_send(());
        }
    })?;
    for directory in directories(files) {
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    }
    Ok((watcher, events))
}

fn directories(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    files
        .iter()
        .filter_map(|file| file.parent())
        .map(|directory| if directory.as_os_str().is_empty() { Path::new(".") } else { directory })
        .map(Path::to_owned)
        .collect()
}

/// What the files look like from outside. Other files may live in the same directories (a log, say), so an event alone means nothing;
/// files of the same kind count, because an `include` with a pattern may take them in.
#[derive(PartialEq, Eq)]
struct Look {
    files: Vec<Option<(PathBuf, SystemTime, u64)>>,
    names: BTreeSet<(PathBuf, OsString)>,
}

impl Look {
    fn at(files: &[PathBuf]) -> Look {
        let look = |file: &PathBuf| {
            let real = file.canonicalize().ok()?;
            let metadata = real.metadata().ok()?;
            Some((real, metadata.modified().ok()?, metadata.len()))
        };
        let kinds: BTreeSet<_> = files.iter().filter_map(|file| file.extension()).collect();
        let mut names = BTreeSet::new();
        for directory in directories(files) {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten().take(NAMES_MAX) {
                let name = entry.file_name();
                if Path::new(&name).extension().is_some_and(|kind| kinds.contains(kind)) {
                    names.insert((directory.clone(), name));
                }
            }
        }
        Look { files: files.iter().map(look).collect(), names }
    }

    fn changed_between(&self, from: SystemTime, to: SystemTime) -> bool {
        self.files.iter().flatten().any(|(_, changed, _)| (from..to).contains(changed))
    }
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
        let files = [file.clone()];
        let (_watcher, mut events) = watcher(&files).unwrap();
        let before = Look::at(&files);
        std::fs::write(folder.join("access.log"), "line").unwrap();
        events.recv().await.unwrap();
        assert!(Look::at(&files) == before);
        std::fs::write(folder.join("new"), "other").unwrap();
        std::fs::rename(folder.join("new"), &file).unwrap();
        events.recv().await.unwrap();
        assert!(Look::at(&files) != before);
        let before = Look::at(&files);
        std::fs::write(folder.join("included.conf"), "").unwrap();
        assert!(Look::at(&files) != before);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
