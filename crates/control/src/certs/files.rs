//! files: notices that a certificate or its key has changed on disk, and lets handshakes go over to the new pair without a reload.

use crate::apply::{Running, Supervisor, Trouble};
use crate::boards::Renewals;
use crate::observe::log;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use portunus_config::{CERTIFICATE_BYTES_MAX, open, untimely};
use portunus_relay::plan::CertificateFiles;
use portunus_relay::tls::{Certificate, Part};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::watch;

/// Looks after the files of all certificates, whatever configuration is in force.
pub async fn watch(supervisor: Arc<Supervisor>) {
    let mut changes = supervisor.changes();
    loop {
        let running = supervisor.running();
        supervisor.certificates().keep(|file| has(&running, file));
        let pairs: Vec<CertificateFiles> = running.snapshot.certificates().pairs.keys().cloned().collect();
        let (directory, read_from) = (running.directory.clone(), running.read_from);
        drop(running); // its sockets are to close when the program stops
        if !pairs.is_empty() {
            follow(&supervisor, pairs, directory, read_from, &mut changes).await;
            continue;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn has(running: &Running, certificate: &Path) -> bool {
    running.snapshot.certificates().pairs.keys().any(|files| files.certificate == certificate)
}

/// Looks after the files of one configuration, until another one is in force.
async fn follow(
    supervisor: &Arc<Supervisor>,
    pairs: Vec<CertificateFiles>,
    directory: PathBuf,
    read_from: SystemTime,
    changes: &mut watch::Receiver<u64>,
) {
    // Events only make it quicker: where none come, as from some network file systems, looking is enough.
    let watched = watcher(pairs.iter().flat_map(|files| [&files.certificate, &files.key]), &directory);
    let (_watcher, mut events) = match watched {
        Ok((watcher, events)) => (Some(watcher), Some(events)),
        Err(_) => (None, None),
    };
    let mut watched = Watched::new(pairs, directory, read_from);
    loop {
        let now = Arc::clone(supervisor);
        let looked = tokio::task::spawn_blocking(move || {
            watched.look(&now);
            watched
        });
        let Ok(after) = looked.await else { return };
        watched = after;
        tokio::select! {
            _ = changes.changed() => return,
            () = tokio::time::sleep(watched.pause()) => {}
            Some(()) = next(&mut events) => tokio::time::sleep(SETTLE).await,
        }
    }
}

async fn next(events: &mut Option<Receiver<()>>) -> Option<()> {
    match events {
        Some(events) => events.recv().await,
        None => None,
    }
}

/// Directories are watched, not files: whoever renews a certificate puts a new file in the old one's place.
fn watcher<'a>(
    files: impl Iterator<Item = &'a PathBuf>,
    base: &Path,
) -> notify::Result<(RecommendedWatcher, Receiver<()>)> {
    let (sender, events) = channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_))) {
            let _ = sender.try_send(()); // a full channel already says what there is to say
        }
    })?;
    let directories: BTreeSet<PathBuf> =
        files.filter_map(|file| base.join(file).parent().map(Path::to_owned)).collect();
    for directory in directories {
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        watcher.watch(here, RecursiveMode::NonRecursive)?;
    }
    Ok((watcher, events))
}

/// The files of one configuration, as they were when they were last looked at.
struct Watched {
    pairs: Vec<(CertificateFiles, Look)>,
    directory: PathBuf,
    /// Pairs that do not fit, and since when: who writes two files does not write them at once.
    doubtful: HashMap<usize, Doubt>,
    /// How long the latest look took.
    took: Duration,
}

struct Doubt {
    since: Instant,
    told: bool,
}

/// What a pair looks like from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look([Option<(u64, i64, i64, u64)>; 2]);

impl Look {
    fn at(files: &CertificateFiles, directory: &Path) -> Look {
        Look([&files.certificate, &files.key].map(|file| {
            let metadata = directory.join(file).metadata().ok()?;
            Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
        }))
    }

    /// Whether one of the files may have changed after `moment`.
    fn is_after(&self, moment: SystemTime) -> bool {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.0.iter().flatten().any(|(_, seconds, ..)| u64::try_from(*seconds).is_ok_and(|at| at >= since))
    }
}

impl Watched {
    fn new(pairs: Vec<CertificateFiles>, directory: PathBuf, read_from: SystemTime) -> Watched {
        let look = |files: CertificateFiles| {
            let look = Look::at(&files, &directory);
            // What changed while it was being read is looked at again.
            let seen = if look.is_after(read_from) { Look([None; 2]) } else { look };
            (files, seen)
        };
        let pairs = pairs.into_iter().map(look).collect();
        Watched { pairs, directory, doubtful: HashMap::new(), took: Duration::ZERO }
    }

    /// How long to wait for the next look: a hundredth of the time is enough for it.
    fn pause(&self) -> Duration {
        if self.doubtful.values().any(|doubt| !doubt.told) {
            DOUBT_PAUSE
        } else {
            (self.took * 100).clamp(PAUSE_MIN, PAUSE_MAX)
        }
    }

    /// Takes what has changed.
    fn look(&mut self, supervisor: &Supervisor) {
        let began = Instant::now();
        let mut taken = Vec::new();
        for at in 0..self.pairs.len() {
            let Some((files, seen)) = self.pairs.get_mut(at) else { break };
            let look = Look::at(files, &self.directory);
            let changed = look != *seen;
            if !changed && self.doubtful.get(&at).is_none_or(|doubt| doubt.told) {
                continue;
            }
            *seen = look;
            match read(files, &self.directory) {
                Ok(certificate) => {
                    self.doubtful.remove(&at);
                    taken.push((files.clone(), Arc::new(certificate)));
                }
                Err(reason) => {
                    let doubt = self.doubtful.entry(at).or_insert(Doubt { since: began, told: false });
                    doubt.told &= !changed;
                    if !doubt.told && doubt.since.elapsed() >= DOUBT_TIME {
                        doubt.told = true;
                        refuse(supervisor.certificates(), files, reason);
                    }
                }
            }
        }
        self.took = began.elapsed();
        if !taken.is_empty() {
            take(supervisor, taken);
        }
    }
}

fn refuse(changes: &Renewals, files: &CertificateFiles, reason: String) {
    log::error(format_args!("a changed certificate is refused, the old one goes on: {reason}"));
    changes.refuse(&files.certificate, reason);
}

/// Lets handshakes go over to these.
fn take(supervisor: &Supervisor, mut taken: Vec<(CertificateFiles, Arc<Certificate>)>) {
    let running = supervisor.running();
    let known = running.snapshot.certificates();
    taken.retain(|(files, new)| {
        supervisor.certificates().keep(|failing| *failing != files.certificate);
        known.pairs.get(files).is_some_and(|old| !old.is_same(new))
    });
    if taken.is_empty() {
        return;
    }
    let result = supervisor.change_certificates(|certificates| {
        for (files, new) in &taken {
            // What a reload has taken away meanwhile stays away.
            if let Some(old) = certificates.pairs.get_mut(files) {
                *old = Arc::clone(new);
            }
        }
    });
    for (files, new) in &taken {
        let shown = files.certificate.display();
        match &result {
            Ok(()) => {
                supervisor.certificates().took(&files.certificate);
                let until = &new.dates[1];
                log::info(format_args!(
                    "the certificate `{shown}` has changed and is in use, valid until {until}"
                ));
                if let Some(reason) = untimely(new, SystemTime::now()) {
                    log::warn(format_args!("the certificate `{shown}` {reason}"));
                }
            }
            Err(Trouble::Stopping) => {}
            Err(trouble) => refuse(supervisor.certificates(), files, trouble.lines().join("; ")),
        }
    }
}

fn read(files: &CertificateFiles, directory: &Path) -> Result<Certificate, String> {
    let bytes = |file: &Path| {
        let mut bytes = Vec::new();
        let read = open(&directory.join(file))
            .and_then(|opened| opened.take(CERTIFICATE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(count) if count <= CERTIFICATE_BYTES_MAX => Ok(bytes),
            Ok(_) => Err(format!("`{}` is longer than {} MiB", file.display(), CERTIFICATE_BYTES_MAX >> 20)),
            Err(error) => Err(format!("cannot read `{}`: {error}", file.display())),
        }
    };
    let (chain, key) = (bytes(&files.certificate)?, bytes(&files.key)?);
    Certificate::read(&chain, &key).map_err(|flaw| {
        let (kind, file) = match flaw.part {
            Part::Certificate => ("certificate", &files.certificate),
            Part::Key => ("key", &files.key),
        };
        format!("the {kind} `{}` {}", file.display(), flaw.reason)
    })
}

/// How long files must have been left alone after an event.
const SETTLE: Duration = Duration::from_millis(50);
/// How soon a pair that does not fit is looked at again, and for how long before it is told.
const DOUBT_PAUSE: Duration = Duration::from_millis(100);
const DOUBT_TIME: Duration = Duration::from_millis(500);
/// How often files are looked at.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
