//! apply: what was asked becomes what runs — load, compile, open, swap — and nothing changes when any of it fails.

use crate::automatic::Automatic;
use crate::boards::{Checks, Names, Renewals};
use crate::canary::Canaries;
use crate::described;
use crate::described::fnv1a;
use crate::kept;
use crate::legacy::Legacy;
use crate::observe::access_log::{self, AccessLog};
use crate::observe::log;
use crate::observe::metrics::{Facts, HostFacts, NameFacts};
use crate::observe::process::Process;
use crate::resolve;
use crate::source::Source;
use crate::state::State;
use arc_swap::ArcSwap;
use portunus_config::{Loaded, Mistakes};
use portunus_relay::clock;
use portunus_relay::hosts::Host;
use portunus_relay::members::Members;
use portunus_relay::net::{Given, Sockets};
use portunus_relay::plan::{Address, Admin, CompileMistake, Listen, Plan};
use portunus_relay::pressure::Level;
use portunus_relay::seats;
use portunus_relay::snapshot::{Pool, Snapshot};
use portunus_relay::stats::Stats;
use portunus_relay::tls::Certificates;
use portunus_relay::worker::Farewell;
use portunus_relay::workers::Workers;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};

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
    host_changes: watch::Sender<u64>,
    checks: Arc<Checks>,
    names: Names,
    certificates: Renewals,
    automatic: Automatic,
    stop_wanted: watch::Sender<bool>,
    successor: OnceLock<u32>,
    upgrades: mpsc::Sender<oneshot::Sender<Upgraded>>,
    canaries: Canaries,
}

/// What became of an upgrade: the process that serves now, or why this one still does.
pub type Upgraded = Result<u32, String>;

/// Where somebody who can start programs hears that an upgrade is wanted, and says what became of it.
pub type UpgradesWanted = mpsc::Receiver<oneshot::Sender<Upgraded>>;

/// What runs now.
pub struct Running {
    /// What the workers run.
    pub snapshot: Arc<Snapshot>,
    /// Where they listen.
    pub sockets: Sockets,
    /// Every file that was read for it.
    pub files: Vec<PathBuf>,
    /// What it looked for in directories beside them.
    pub patterns: Vec<PathBuf>,
    /// The configuration as JSON, without secrets.
    pub json: Arc<str>,
    /// A number for `json`, in hexadecimal.
    pub hash: String,
    /// What the operator should look at, one line each.
    pub warnings: Vec<String>,
    /// What the names of the certificates' files are relative to.
    pub directory: PathBuf,
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
    /// Another process has taken its place.
    HandedOver,
}

impl Supervisor {
    /// Loads the configuration, opens the admin's door, and starts the workers: whoever can reach a site can reach the
    /// admin API too, and one that cannot be opened is known before anybody is served.
    pub fn start<Door, E: From<Trouble>>(
        source: Source,
        variable: fn(&str) -> Option<String>,
        version: &'static str,
        legacy: &mut Legacy,
        open_door: impl FnOnce(&Admin) -> Result<Door, E>,
    ) -> Result<(Arc<Supervisor>, Door, UpgradesWanted), E> {
        let started = SystemTime::now();
        let automatic = Automatic::new(variable);
        let (loaded, snapshot) = load(&source, &variable, &automatic, None, legacy.members.take())?;
        let settings = loaded.plan.settings.clone();
        log::set_level(settings.log_level);
        let worker_count = settings.workers.unwrap_or_else(cores);
        let door = open_door(&settings.admin)?;
        // The sockets come last of what can fail: whatever the kernel puts into one that is given up again is lost.
        let access_log = AccessLog::open(settings.access_log.as_ref(), &settings.limits, SystemTime::now)
            .map_err(Trouble::Log)?;
        let sockets = Sockets::open(&listen(&loaded.plan), worker_count, None, &mut legacy.sockets)
            .map_err(|(listen, error)| Trouble::Listen(listen, error))?;
        let canaries = Canaries::default();
        legacy.tell(&snapshot, &canaries);
        let snapshot = Arc::new(snapshot);
        let recorders = (0..worker_count).map(|_| access_log.recorder()).collect();
        let workers = Workers::start(&snapshot, &sockets, recorders).map_err(Trouble::Workers)?;
        let (upgrades, upgrades_wanted) = mpsc::channel(1);
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
            host_changes: watch::Sender::new(0),
            checks: Arc::default(),
            names: Names::default(),
            certificates: Renewals::default(),
            automatic,
            stop_wanted: watch::Sender::new(false),
            successor: OnceLock::new(),
            upgrades,
            canaries,
        });
        Ok((supervisor, door, upgrades_wanted))
    }

    /// Loads the configuration anew and lets the workers go over to it. When anything about it is wrong, the old one
    /// goes on as it was. It blocks: call it off the runtime.
    pub fn reload(&self) -> Result<Arc<Running>, Trouble> {
        let turn = lock(&self.turn);
        let result = match self.workers() {
            Some(workers) if !self.is_stopping() => self.exchange(&workers),
            _ => Err(self.gone()),
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
        let (loaded, snapshot) =
            load(&self.source, &self.variable, &self.automatic, Some(&old.snapshot), None)?;
        let sockets = Sockets::open(
            &listen(&loaded.plan),
            self.worker_count,
            Some(&old.sockets),
            &mut Given::default(),
        )
        .map_err(|(listen, error)| Trouble::Listen(listen, error))?;
        let settings = &loaded.plan.settings;
        let change =
            self.access_log.prepare(settings.access_log.as_ref(), &settings.limits).map_err(Trouble::Log)?;
        let unheeded = self.unheeded(&loaded.plan);
        log::set_level(settings.log_level);
        self.access_log.apply(change);
        let snapshot = Arc::new(snapshot);
        welcome(&snapshot, &old.snapshot);
        workers.apply(&snapshot, &sockets);
        self.running.store(Arc::new(Running::new((loaded, snapshot, read_from), sockets, unheeded)));
        self.changes.send_modify(|generation| *generation += 1);
        self.host_changes.send_modify(|generation| *generation += 1);
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
                described::by_hand(running.snapshot.plan(), running.snapshot.members())
                    .iter()
                    .for_each(log::info);
            }
            Err(trouble) => {
                log::error("the new configuration is refused, the old one goes on");
                trouble.report();
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

    /// Tells whenever there may be other hosts in the pools.
    pub fn host_changes(&self) -> watch::Receiver<u64> {
        self.host_changes.subscribe()
    }

    /// Lets the workers go over to other members of the pools; nothing else changes. It blocks: call it off the runtime.
    pub fn change_members<T, E: From<Trouble>>(
        &self,
        change: impl FnOnce(&Running, &mut Members) -> Result<T, E>,
    ) -> Result<T, E> {
        let _turn = lock(&self.turn);
        let old = self.running();
        let Some(workers) = self.workers().filter(|_| !self.is_stopping()) else {
            return Err(self.gone().into());
        };
        let mut members = Members::clone(old.snapshot.members());
        let said = change(&old, &mut members)?;
        if members == **old.snapshot.members() {
            return Ok(said);
        }
        let snapshot = Arc::new(old.snapshot.with_members(Arc::new(members)).map_err(Trouble::Compile)?);
        welcome(&snapshot, &old.snapshot);
        workers.apply(&snapshot, &old.sockets);
        self.running.store(Arc::new(old.with_snapshot(snapshot)));
        self.host_changes.send_modify(|generation| *generation += 1);
        Ok(said)
    }

    /// Lets the workers go over to other certificates; nothing else changes. It blocks: call it off the runtime.
    pub fn change_certificates(&self, change: impl FnOnce(&mut Certificates)) -> Result<(), Trouble> {
        let _turn = lock(&self.turn);
        let old = self.running();
        let Some(workers) = self.workers().filter(|_| !self.is_stopping()) else {
            return Err(self.gone());
        };
        let mut certificates = Certificates::clone(old.snapshot.certificates());
        change(&mut certificates);
        let snapshot = old.snapshot.with_certificates(Arc::new(certificates)).map_err(Trouble::Compile)?;
        let snapshot = Arc::new(snapshot);
        workers.apply(&snapshot, &old.sockets);
        self.running.store(Arc::new(old.with_snapshot(snapshot)));
        Ok(())
    }

    /// What has become of changed certificates.
    pub fn certificates(&self) -> &Renewals {
        &self.certificates
    }

    /// What is known of the certificates that nobody wrote down.
    pub fn automatic(&self) -> &Automatic {
        &self.automatic
    }

    /// What is known of the names of hosts.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What the health checks have found.
    pub fn checks(&self) -> &Arc<Checks> {
        &self.checks
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
            up: host.is_usable(clock::read()),
            state: State::of(host, clock::read()),
            ejections: host.live.conduct.ejections().map(|(reason, count)| (reason.word(), count)).collect(),
            checks: self.checks.of(pool, &host.name),
            weight: host.share(),
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
            memory_level: self.memory_level(),
            names: self.name_facts(&running.snapshot),
            canaries: self.canaries.facts(running.snapshot.canaries()),
            certificates: certificate_facts(&running.snapshot),
            certificate_changes: self.certificates.counts(),
            certificates_failing: self.certificates.failing().len(),
            certificate_tries: self.automatic.counts(),
            certificates_wanting: self.automatic.wanting(),
            process: Process::now(),
        }
    }

    fn name_facts(&self, snapshot: &Snapshot) -> Vec<NameFacts> {
        let facts = |(name, failing): (Address, Option<String>)| {
            let found = snapshot.members().found.get(&name);
            let addresses = found.into_iter().flatten().map(|found| found.address.to_string()).collect();
            NameFacts { name: name.to_string(), addresses, failing }
        };
        self.names.all().into_iter().map(facts).collect()
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

    /// Asks whoever can start programs for an upgrade, and waits until it is done or has failed.
    pub async fn upgrade(&self) -> Upgraded {
        let (answer, result) = oneshot::channel();
        if self.upgrades.try_send(answer).is_err() {
            return Err("another upgrade is under way".into());
        }
        result.await.unwrap_or_else(|_| Err("the program is stopping".into()))
    }

    /// How short memory is, as the workers have been told.
    pub fn memory_level(&self) -> Level {
        self.workers().map(|workers| workers.pressure().level()).unwrap_or_default()
    }

    /// Tells the workers how short memory is.
    pub fn set_memory_level(&self, level: Level) {
        if let Some(workers) = self.workers() {
            workers.pressure().set_level(level);
        }
    }

    /// Tells the workers how many connections there is memory for.
    pub fn tell_memory(&self, connections: usize) {
        if let Some(workers) = self.workers() {
            workers.tell_memory(connections, &self.running().snapshot.plan().settings.limits);
        }
    }

    /// Keeps reloads out until the guard is dropped; waits for one that is under way.
    pub fn hold_still(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// This process has taken the place of this program, which has to end.
    pub fn hand_over_to(&self, process: u32) {
        let _ = self.successor.set(process);
        self.want_stop();
    }

    /// The process that has taken its place.
    pub fn successor(&self) -> Option<u32> {
        self.successor.get().copied()
    }

    /// Why nothing can be changed any more.
    fn gone(&self) -> Trouble {
        self.successor().map_or(Trouble::Stopping, |_| Trouble::HandedOver)
    }

    /// Whether every worker serves.
    pub fn is_serving(&self) -> bool {
        self.workers().is_some_and(|workers| workers.all_answer(ANSWER_TIME))
    }

    /// Whether the workers finish what they have and take nothing new.
    pub fn is_stopping(&self) -> bool {
        *self.stop_wanted.borrow()
    }

    /// Lets the workers end what they have at once, while the stop waits for them.
    pub fn hurry(&self) {
        if let Some(workers) = self.workers() {
            workers.drain(&Farewell { at_once: true, ..Farewell::default() });
        }
    }

    /// Lets the workers finish what they have, within the bounds of `farewell`, and writes what is left of the log. Says whether all
    /// exchanges came to their end. It blocks: call it off the runtime.
    pub fn stop(&self, farewell: &Farewell) -> bool {
        self.want_stop();
        // Whoever reloads at this moment comes to an end first; after that nobody begins to.
        drop(lock(&self.turn));
        let Some(workers) = self.workers() else { return true };
        self.running.store(Arc::new(self.running().without_sockets()));
        workers.drain(farewell);
        let drains = self.running().snapshot.pools().iter().filter_map(|pool| pool.drain).max();
        let longest = farewell.grace.max(farewell.tunnels).max(drains.unwrap_or_default());
        let mut left = TimeLeft::new(longest + CUT_TIME);
        while !workers.is_finished() && left.is_some_at(Instant::now()) {
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
    automatic: &Automatic,
    previous: Option<&Snapshot>,
    legacy: Option<Members>,
) -> Result<(Loaded, Snapshot), Trouble> {
    let attempt = || {
        let read = if previous.is_some() { Source::load_again } else { Source::load };
        let mut loaded = read(source, variable).map_err(Trouble::Config)?;
        let mut certificates = std::mem::take(&mut loaded.certificates);
        if let Some(previous) = previous {
            certificates.keep(previous.certificates());
        }
        let earlier = previous.map(|previous| &**previous.certificates());
        automatic.ready(&loaded.plan, &mut certificates, earlier);
        let known = match (previous, legacy) {
            (Some(previous), _) => Arc::clone(previous.members()),
            (None, Some(members)) => Arc::new(members),
            (None, None) => {
                let wishes = kept::kept(loaded.plan.settings.state.as_ref());
                Arc::new(Members { wishes, ..Members::default() })
            }
        };
        let members = Arc::new(resolve::first(&loaded.plan, &known));
        let snapshot =
            Snapshot::compile_with(Arc::clone(&loaded.plan), members, Arc::new(certificates), previous)
                .map_err(Trouble::Compile)?;
        Ok((loaded, snapshot))
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(Err(Trouble::Bug))
}

/// Every certificate and when it ends, in seconds since 1970.
fn certificate_facts(snapshot: &Snapshot) -> Vec<(String, i64)> {
    let certificates = snapshot.certificates();
    let files = certificates.pairs.iter();
    let files = files.map(|(files, one)| (files.certificate.display().to_string(), one.not_after));
    let automatic = certificates.automatic.iter().map(|(wanted, one)| (wanted.name.clone(), one.not_after));
    let mut facts: Vec<_> = files.chain(automatic).collect();
    facts.sort();
    facts.dedup_by(|one, other| one.0 == other.0);
    facts
}

/// Hosts that come to others are new in service from now on; those that come with their pool are not.
fn welcome(new: &Snapshot, old: &Snapshot) {
    let before: HashMap<&str, &Arc<Pool>> = old.pools().iter().map(|pool| (&*pool.name, pool)).collect();
    for pool in new.pools() {
        let Some(known) = before.get(&*pool.name).filter(|known| !Arc::ptr_eq(known, pool)) else { continue };
        if known.hosts.is_empty() {
            continue;
        }
        let lives: HashSet<_> = known.hosts.iter().map(|(_, host)| Arc::as_ptr(&host.live)).collect();
        let strangers = pool.hosts.iter().filter(|(_, host)| !lives.contains(&Arc::as_ptr(&host.live)));
        strangers.for_each(|(_, host)| host.live.standing.came_back(clock::read()));
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

/// The plan as it may be shown, but for what came from outside: a token may have been written out (attack I2).
fn redacted(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    if let Admin::Tcp { token, .. } = &mut plan.settings.admin {
        token.written.get_or_insert_with(|| "…".into());
    }
    plan
}

/// What is to be said when more connections are wanted than the process may have.
fn too_many_connections(plan: &Plan) -> Option<String> {
    let (wanted, allowed) = (plan.settings.limits.connections, seats::descriptors_allow());
    (wanted > allowed).then(|| {
        let descriptors = wanted.saturating_mul(2).saturating_mul(10).div_ceil(9); // two for each exchange
        format!(
            "limits {{ connections {wanted} }}: the descriptors of the process allow {allowed}, and there will be no more; {descriptors} would do (LimitNOFILE, ulimit -n)"
        )
    })
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
        warnings.extend(too_many_connections(&loaded.plan));
        let hash = format!("{:016x}", fnv1a(json.as_bytes())); // another path from outside is another configuration
        let json = loaded.redaction.of_json(json);
        Running {
            snapshot,
            sockets,
            files: loaded.files,
            patterns: loaded.patterns,
            directory: loaded.directory,
            json: json.into(),
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
        Running { sockets: Sockets::default(), ..self.with_snapshot(Arc::clone(&self.snapshot)) }
    }

    /// The same configuration with other members of its pools.
    fn with_snapshot(&self, snapshot: Arc<Snapshot>) -> Running {
        Running {
            snapshot,
            sockets: self.sockets.clone(),
            files: self.files.clone(),
            patterns: self.patterns.clone(),
            directory: self.directory.clone(),
            json: Arc::clone(&self.json),
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
            Trouble::HandedOver => vec!["another process has taken over meanwhile; ask that one".into()],
        }
    }

    /// Says it in the log, each line by its weight: beside what is wrong stands what could have stayed.
    fn report(&self) {
        match self {
            Trouble::Config(mistakes) => {
                for mistake in &mistakes.0 {
                    if mistake.warning {
                        log::warn(mistake.one_line())
                    } else {
                        log::error(mistake.one_line())
                    }
                }
            }
            other => other.lines().iter().for_each(log::error),
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the workers need to end what has had all its time, and to tell so.
const CUT_TIME: Duration = Duration::from_millis(500);

/// Time that is left. A pause of the whole process counts as one look at it: what is owed to the peers is told after it.
struct TimeLeft {
    left: Duration,
    looked: Instant,
}

impl TimeLeft {
    fn new(left: Duration) -> TimeLeft {
        TimeLeft { left, looked: Instant::now() }
    }

    fn is_some_at(&mut self, now: Instant) -> bool {
        self.left = self.left.saturating_sub(now.saturating_duration_since(self.looked).min(CUT_TIME / 2));
        self.looked = now;
        !self.left.is_zero()
    }
}

/// How long a worker that serves needs to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How long the stop waits before it looks again.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// How long a log that cannot be written may hold up the end of the program.
const LOG_CLOSE_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_the_process_counts_as_one_look() {
        let mut left = TimeLeft::new(Duration::from_secs(1));
        let begun = left.looked;
        let mut is_some_after = |ms| left.is_some_at(begun + Duration::from_millis(ms));
        assert!(is_some_after(100));
        assert!(is_some_after(60_000), "of which it slept for nearly all");
        assert!(is_some_after(60_200) && is_some_after(60_400));
        assert!(!is_some_after(60_650));
    }
}
