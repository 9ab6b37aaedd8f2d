//! apply: what was asked becomes what runs — load, compile, open, swap — and nothing changes when any of it fails.

use crate::canary::Canaries;
use crate::observe::access_log::{self, AccessLog};
use crate::observe::log;
use crate::observe::metrics::{Facts, HostFacts};
use crate::observe::process::Process;
use crate::source::Source;
use arc_swap::ArcSwap;
use portunus_config::{Loaded, Mistakes};
use portunus_relay::hosts::Host;
use portunus_relay::net::Sockets;
use portunus_relay::plan::{Address, Admin, CompileMistake, Listen, Plan};
use portunus_relay::snapshot::Snapshot;
use portunus_relay::stats::Stats;
use portunus_relay::workers::Workers;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Holds what runs, and exchanges it for what is asked.
pub struct Supervisor {
    source: Source,
    variable: fn(&str) -> Option<String>,
    version: &'static str,
    started: SystemTime,
    worker_count: usize,
    admin_at_start: Admin,
    access_log: AccessLog,
    running: ArcSwap<Running>,
    /// Guards the exchange of what runs: reloads happen one after the other, and none after the stop.
    turn: Mutex<()>,
    /// Guards the way to the workers; none once the program stops. Held to take a share, never for longer.
    workers: Mutex<Option<Arc<Workers>>>,
    reloads: AtomicU64,
    refused: AtomicU64,
    /// Guards what `status` tells of the latest reload.
    latest: Mutex<Option<Latest>>,
    changes: watch::Sender<u64>,
    stop_wanted: watch::Sender<bool>,
    canaries: Canaries,
}

/// What runs now.
pub struct Running {
    /// What the workers run.
    pub snapshot: Arc<Snapshot>,
    /// Where they listen.
    pub sockets: Sockets,
    /// Every file that was read for it.
    pub files: Vec<PathBuf>,
    /// The configuration as JSON, without secrets.
    pub json: String,
    /// A number for `json`, in hexadecimal.
    pub hash: String,
    /// What the operator should look at, one line each.
    pub warnings: Vec<String>,
    /// When its files began to be read.
    pub read_from: SystemTime,
    /// Since when it runs.
    pub since: SystemTime,
}

/// What became of the latest reload.
#[derive(Clone, Debug)]
pub struct Latest {
    /// When.
    pub at: SystemTime,
    /// Why it was refused, one line each; none when it was applied.
    pub refused: Option<Vec<String>>,
}

/// Why a configuration cannot run.
#[derive(Debug)]
pub enum Trouble {
    /// What was written is wrong.
    Config(Mistakes),
    /// It was right, but cannot be compiled.
    Compile(Vec<CompileMistake>),
    /// An address cannot be listened at.
    Listen(Listen, io::Error),
    /// The access log cannot be opened.
    Log(access_log::Refused),
    /// The threads could not be started.
    Workers(io::Error),
    /// Loading it has panicked.
    Bug,
    /// The program is about to end.
    Stopping,
}

impl Supervisor {
    /// Loads the configuration, opens the admin's door, and starts the workers: whoever can reach a site can reach the
    /// admin API too, and one that cannot be opened is known before anybody is served.
    pub fn start<Door, E: From<Trouble>>(
        source: Source,
        variable: fn(&str) -> Option<String>,
        version: &'static str,
        open_door: impl FnOnce(&Admin) -> Result<Door, E>,
    ) -> Result<(Arc<Supervisor>, Door), E> {
        let started = SystemTime::now();
        let (loaded, snapshot) = load(&source, &variable, None)?;
        let settings = loaded.plan.settings.clone();
        log::set_level(settings.log_level);
        let worker_count = settings.workers.unwrap_or_else(cores);
        let door = open_door(&settings.admin)?;
        let sockets = Sockets::open(&listen(&loaded.plan), worker_count, None)
            .map_err(|(listen, error)| Trouble::Listen(listen, error))?;
        let access_log = AccessLog::open(settings.access_log.as_ref(), &settings.limits, SystemTime::now)
            .map_err(Trouble::Log)?;
        let snapshot = Arc::new(snapshot);
        let recorders = (0..worker_count).map(|_| access_log.recorder()).collect();
        let workers = Workers::start(&snapshot, &sockets, recorders).map_err(Trouble::Workers)?;
        let supervisor = Arc::new(Supervisor {
            source,
            variable,
            version,
            started,
            worker_count,
            admin_at_start: settings.admin,
            access_log,
            running: ArcSwap::from_pointee(Running::new((loaded, snapshot, started), sockets, Vec::new())),
            turn: Mutex::new(()),
            workers: Mutex::new(Some(Arc::new(workers))),
            reloads: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            latest: Mutex::new(None),
            changes: watch::Sender::new(0),
            stop_wanted: watch::Sender::new(false),
            canaries: Canaries::default(),
        });
        Ok((supervisor, door))
    }

    /// Loads the configuration anew and lets the workers go over to it. When anything about it is wrong, the old one
    /// goes on as it was. It blocks: call it off the runtime.
    pub fn reload(&self) -> Result<Arc<Running>, Trouble> {
        let turn = lock(&self.turn);
        let result = match self.workers() {
            Some(workers) if !self.is_stopping() => self.exchange(&workers),
            _ => Err(Trouble::Stopping),
        };
        drop(turn);
        let counter = if result.is_ok() { &self.reloads } else { &self.refused };
        counter.fetch_add(1, Relaxed);
        let refused = result.as_ref().err().map(Trouble::lines);
        *lock(&self.latest) = Some(Latest { at: SystemTime::now(), refused });
        result
    }

    /// All or nothing: what can fail comes first, and the swap, which cannot, comes last.
    fn exchange(&self, workers: &Workers) -> Result<Arc<Running>, Trouble> {
        let (old, read_from) = (self.running.load_full(), SystemTime::now());
        let (loaded, snapshot) = load(&self.source, &self.variable, Some(&old.snapshot))?;
        let sockets = Sockets::open(&listen(&loaded.plan), self.worker_count, Some(&old.sockets))
            .map_err(|(listen, error)| Trouble::Listen(listen, error))?;
        let settings = &loaded.plan.settings;
        let change =
            self.access_log.prepare(settings.access_log.as_ref(), &settings.limits).map_err(Trouble::Log)?;
        let unheeded = self.unheeded(&loaded.plan);
        log::set_level(settings.log_level);
        self.access_log.apply(change);
        let snapshot = Arc::new(snapshot);
        welcome(&old.snapshot, &snapshot);
        workers.apply(&snapshot, &sockets);
        self.running.store(Arc::new(Running::new((loaded, snapshot, read_from), sockets, unheeded)));
        self.changes.send_modify(|generation| *generation += 1);
        Ok(self.running())
    }

    /// What a reload cannot change.
    fn unheeded(&self, plan: &Plan) -> Vec<String> {
        let mut unheeded = Vec::new();
        let asked = plan.settings.workers.unwrap_or_else(cores);
        if asked != self.worker_count {
            let now = self.worker_count;
            unheeded.push(format!("workers: {asked} instead of {now} takes effect at the next start"));
        }
        if plan.settings.admin != self.admin_at_start {
            unheeded.push("admin: another address or token takes effect at the next start".into());
        }
        unheeded
    }

    /// Reloads off the runtime, and says in the log how it went.
    pub async fn reload_and_report(self: &Arc<Self>) -> Result<Arc<Running>, Trouble> {
        let own = Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || own.reload()).await.unwrap_or(Err(Trouble::Bug));
        match &result {
            Ok(running) => {
                log::info(format_args!("configuration {} is in force", running.hash));
                running.warnings.iter().for_each(log::warn);
            }
            Err(trouble) => {
                log::error("the new configuration is refused, the old one goes on");
                trouble.lines().iter().for_each(log::error);
            }
        }
        result
    }

    /// What runs now.
    pub fn running(&self) -> Arc<Running> {
        self.running.load_full()
    }

    /// How far every canary has come.
    pub fn canaries(&self) -> &Canaries {
        &self.canaries
    }

    /// Tells of every configuration that comes into force.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What the workers have counted; none when they do not run any more. It blocks until each has answered.
    pub fn stats(&self) -> Option<Stats> {
        Some(self.workers()?.stats())
    }

    fn workers(&self) -> Option<Arc<Workers>> {
        lock(&self.workers).clone()
    }

    /// What the control plane knows beside that.
    pub fn facts(&self) -> Facts {
        let running = self.running();
        let host = |(pool, host): (&str, &Arc<Host>)| HostFacts {
            pool: pool.to_owned(),
            name: host.name.to_string(),
            up: host.is_usable(portunus_relay::clock::read()),
            weight: host.share(),
            addresses: host.live.addresses.load().len(),
        };
        Facts {
            version: self.version,
            workers: self.worker_count,
            config_hash: running.hash.clone(),
            config_seconds: running.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            reloads: self.reloads.load(Relaxed),
            reloads_refused: self.refused.load(Relaxed),
            reload_ok: self.latest().is_none_or(|latest| latest.refused.is_none()),
            log_dropped: self.access_log.dropped(),
            hosts: running.snapshot.hosts().map(host).collect(),
            process: Process::now(),
        }
    }

    /// What became of the latest reload.
    pub fn latest(&self) -> Option<Latest> {
        lock(&self.latest).clone()
    }

    /// Where the configuration comes from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The program's version.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// When the program started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// How many threads serve.
    pub fn worker_count(&self) -> usize {
        self.worker_count
    }

    /// Opens the log files again, under their names.
    pub fn reopen_logs(&self) {
        self.access_log.reopen();
    }

    /// Asks whoever runs the program to end it.
    pub fn want_stop(&self) {
        self.stop_wanted.send_replace(true);
    }

    /// Tells when somebody has asked for the end.
    pub fn stop_wanted(&self) -> watch::Receiver<bool> {
        self.stop_wanted.subscribe()
    }

    /// Whether the workers finish what they have and take nothing new.
    pub fn is_stopping(&self) -> bool {
        *self.stop_wanted.borrow()
    }

    /// Lets the workers finish what they have, for at most `grace`, and writes what is left of the log. Says whether all exchanges came to
    /// their end. It blocks: call it off the runtime.
    pub fn stop(&self, grace: Duration) -> bool {
        self.want_stop();
        // Whoever reloads at this moment comes to an end first; after that nobody begins to.
        drop(lock(&self.turn));
        let Some(workers) = self.workers() else { return true };
        self.running.store(Arc::new(self.running().without_sockets()));
        workers.drain(grace);
        let until = Instant::now() + grace;
        while !workers.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK_PAUSE);
        }
        let complete = workers.is_finished();
        drop(workers);
        if let Some(workers) = lock(&self.workers).take() {
            end(workers);
        }
        let lost = self.access_log.close(LOG_CLOSE_TIME);
        if lost > 0 {
            log::warn(format_args!("{lost} lines of the access log are lost"));
        }
        complete
    }
}

/// Ends the threads. Somebody may still be asking for the counters, which takes a second at most.
fn end(mut workers: Arc<Workers>) {
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        match Arc::try_unwrap(workers) {
            Ok(workers) => {
                workers.join(Duration::ZERO);
                return;
            }
            Err(shared) => workers = shared,
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// Reads and compiles. A panic in there is a bug of ours, but no reason to end what runs.
fn load(
    source: &Source,
    variable: &dyn Fn(&str) -> Option<String>,
    previous: Option<&Snapshot>,
) -> Result<(Loaded, Snapshot), Trouble> {
    let attempt = || {
        let loaded = source.load(variable).map_err(Trouble::Config)?;
        let snapshot = Snapshot::compile(&loaded.plan, previous).map_err(Trouble::Compile)?;
        Ok((loaded, snapshot))
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(Err(Trouble::Bug))
}

/// Tells the hosts that are new in a pool which ran before that they came now: their slow start begins.
fn welcome(old: &Snapshot, new: &Snapshot) {
    let known: HashSet<(&str, &Address)> = old.hosts().map(|(pool, host)| (pool, &host.address)).collect();
    let pools: HashSet<&str> = old.pools().iter().map(|pool| &*pool.name).collect();
    for (pool, host) in new.hosts() {
        if pools.contains(pool) && !known.contains(&(pool, &host.address)) {
            host.live.standing.came_back(portunus_relay::clock::read());
        }
    }
}

/// Every address that a plan wants to listen at.
pub fn listen(plan: &Plan) -> BTreeSet<Listen> {
    plan.sites.iter().flat_map(|site| site.listen.iter().cloned()).collect()
}

/// How many threads serve unless the configuration says otherwise: one for each core the process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The plan as it may be shown: `adapt` prints texts as they were written, but a token may have been written out (attack I2).
fn redacted(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    if let Admin::Tcp { token, .. } = &mut plan.settings.admin {
        token.written.get_or_insert_with(|| "…".into());
    }
    plan
}

impl Running {
    fn new(
        (loaded, snapshot, read_from): (Loaded, Arc<Snapshot>, SystemTime),
        sockets: Sockets,
        unheeded: Vec<String>,
    ) -> Running {
        let json = portunus_config::adapt(&redacted(&loaded.plan));
        let mut warnings: Vec<_> = loaded.warnings.iter().map(|warning| warning.one_line()).collect();
        warnings.extend(unheeded);
        let hash = format!("{:016x}", fnv1a(json.as_bytes()));
        Running {
            snapshot,
            sockets,
            files: loaded.files,
            json,
            hash,
            warnings,
            read_from,
            since: SystemTime::now(),
        }
    }
}

impl Running {
    /// The same, once the program stops: the listeners close with the last who holds them.
    fn without_sockets(&self) -> Running {
        Running {
            snapshot: Arc::clone(&self.snapshot),
            sockets: Sockets::default(),
            files: self.files.clone(),
            json: self.json.clone(),
            hash: self.hash.clone(),
            warnings: self.warnings.clone(),
            ..*self
        }
    }
}

impl Trouble {
    /// The same as lines of text.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Trouble::Config(mistakes) => mistakes.0.iter().map(|mistake| mistake.one_line()).collect(),
            Trouble::Compile(mistakes) => {
                mistakes.iter().map(|mistake| format!("{}: {}", mistake.place, mistake.reason)).collect()
            }
            Trouble::Listen(listen, error) => vec![format!("cannot listen at {listen}: {error}")],
            Trouble::Log(refused) => vec![refused.to_string()],
            Trouble::Workers(error) => vec![format!("cannot start the workers: {error}")],
            Trouble::Bug => vec!["loading the configuration has panicked; this is a bug of Portunus".into()],
            Trouble::Stopping => vec!["the program is stopping".into()],
        }
    }

    /// The same for programs: a list of mistakes, each with at least a `reason`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Trouble::Config(mistakes) => mistakes.to_json(),
            other => other.lines().into_iter().map(|line| serde_json::json!({ "reason": line })).collect(),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Config(mistakes) => mistakes.fmt(f),
            other => f.write_str(&other.lines().join("\n")),
        }
    }
}

impl std::error::Error for Trouble {}

/// FNV-1a, 64 bits: the same for the same bytes on every machine and in every release; it guards nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the stop waits before it looks again.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// How long a log that cannot be written may hold up the end of the program.
const LOG_CLOSE_TIME: Duration = Duration::from_secs(1);
