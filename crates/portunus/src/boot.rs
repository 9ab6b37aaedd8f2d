//! boot: from a configuration to a running program, and from there to its end.

use crate::exit::Exit;
use crate::heap;
use crate::legacy::{self, Predecessor};
use crate::signals::{Signal, Signals};
use crate::systemd;
use crate::upgrade::{self, Handed, Program};
use portunus_control::admin::{Door, Service, Spare};
use portunus_control::apply::{Supervisor, Trouble, Upgraded, UpgradesWanted};
use portunus_control::legacy::Legacy;
use portunus_control::observe::log;
use portunus_control::source::Source;
use portunus_control::{admin, certs, described, discover, health, memory, rounds, watch};
use portunus_relay::plan::Admin;
use portunus_relay::worker::{Farewell, TUNNELS_OF_THE_PAST};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, setrlimit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The configuration file: the one that was named, or the first that is there.
pub fn find_config(named: Option<&Path>) -> Result<PathBuf, Exit> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let usual = ["portunus.conf", "/etc/portunus/portunus.conf"].map(PathBuf::from);
    usual.into_iter().find(|path| path.exists()).ok_or_else(|| {
        Exit::config(
            "no configuration: neither ./portunus.conf nor /etc/portunus/portunus.conf is there; name one with -c, \
             or try `portunus demo` or `portunus proxy --to 127.0.0.1:3000`",
        )
    })
}

/// The real environment; only this program reads it.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `run`: serves what the file says.
pub fn run(path: PathBuf) -> Result<(), Exit> {
    live(Source::File(path), introduce)
}

/// Runs until somebody asks for the end. `started` is called once all is there.
pub fn live(source: Source, started: impl FnOnce(&Arc<Supervisor>)) -> Result<(), Exit> {
    raise_descriptor_limit();
    let program = Program::this().map_err(|error| Exit::failed(format_args!("cannot start: {error}")))?;
    let (legacy, predecessor) = legacy::take()?;
    // One thread is enough: it waits, and whatever takes long goes to the blocking threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|error| Exit::failed(format_args!("cannot start: {error}")))?;
    let result = runtime.block_on(begin_to_end(source, started, program, legacy, predecessor.as_ref()));
    runtime.shutdown_background();
    match (predecessor, result) {
        (Some(predecessor), Err(exit)) => {
            predecessor.refuse(exit.text());
            Err(exit.silent()) // the predecessor tells it
        }
        (_, result) => result,
    }
}

async fn begin_to_end(
    source: Source,
    started: impl FnOnce(&Arc<Supervisor>),
    program: Program,
    mut legacy: Legacy,
    predecessor: Option<&Predecessor>,
) -> Result<(), Exit> {
    let mut signals = Signals::new().map_err(|error| Exit::failed(format_args!("cannot start: {error}")))?;
    let open = |wanted: &Admin| open_admin(wanted, predecessor);
    let (supervisor, door, wanted) =
        Supervisor::start(source, environment, env!("CARGO_PKG_VERSION"), &mut legacy, open)?;
    match predecessor {
        None => legacy::report_unused(&legacy),
        Some(predecessor) => predecessor.relieve(&supervisor)?,
    }
    drop(legacy); // the predecessor serves whoever waits in sockets that are not listened at any more
    supervisor.running().sockets.own_files(true, |_| true);
    started(&supervisor);
    let admin = door.map(|door| serve_admin(door, &supervisor));
    tokio::spawn(discover::dns::run(Arc::clone(&supervisor)));
    tokio::spawn(health::run(Arc::clone(&supervisor)));
    tokio::spawn(watch::watch(Arc::clone(&supervisor)));
    tokio::spawn(certs::watch(Arc::clone(&supervisor)));
    let cleanups = Arc::new(certs::Cleanups::default());
    let keeping = tokio::spawn(certs::keep(Arc::clone(&supervisor), Arc::clone(&cleanups)));
    tokio::spawn(memory::watch(Arc::clone(&supervisor)));
    tokio::spawn(heap::tidy(Arc::clone(&supervisor)));
    tokio::spawn(rounds::run(Arc::clone(&supervisor)));
    let watchdog = tokio::spawn(systemd::watchdog(Arc::clone(&supervisor)));
    systemd::notify("READY=1");
    let spare = admin.as_ref().and_then(|(_, spare)| spare.clone());
    let upgrades = Upgrades { program: Arc::new(program), spare, running: None };
    let handed = until_end(&supervisor, &mut signals, upgrades, wanted).await;
    watchdog.abort();
    if handed.is_none() {
        systemd::notify("STOPPING=1");
    } else if let Some((service, _)) = &admin {
        service.close(); // the successor answers there
    }
    stop(supervisor, &mut signals, handed).await;
    // What is being written is written to its end; a disk that hangs is not waited for.
    let until = tokio::time::Instant::now() + CLEANUP_TIME;
    let _ = tokio::time::timeout(KEEPING_TIME, keeping).await;
    cleanups.finish(until).await;
    if let Some((service, _)) = admin
        && !service.finish().await
    {
        log::debug("somebody is still connected to the admin API");
    }
    Ok(())
}

fn serve_admin(door: Door, supervisor: &Arc<Supervisor>) -> (Service, Option<Arc<Spare>>) {
    log::info(format_args!("admin API at {}", door.address()));
    let spare = door.spare().inspect(|spare| spare.own(true)).map(Arc::new);
    (Service::start(door, Arc::clone(supervisor)), spare.ok())
}

/// The predecessor's socket, if it is at the same place; a new one otherwise. The default socket is a convenience, and a program without
/// the right to create it must run all the same; one that was asked for must be there.
fn open_admin(wanted: &Admin, predecessor: Option<&Predecessor>) -> Result<Option<Door>, Exit> {
    let inherited = predecessor.and_then(|predecessor| predecessor.admin(&admin::shown(wanted)));
    let opened = match inherited {
        Some(socket) => admin::inherit(wanted, socket),
        None => admin::open(wanted),
    };
    opened.or_else(|error| {
        if *wanted == Admin::default() {
            log::warn(format_args!(
                "no admin API, so `reload`, `status` and `stop` reach nobody: {}: {error}; write `admin unix:PATH` with a \
                 path that this user may write to, or `admin off`",
                admin::shown(wanted)
            ));
            return Ok(None);
        }
        Err(Exit::listen(format_args!("cannot listen at admin {}: {error}", admin::shown(wanted))))
    })
}

/// What is told at the start of `run` and `proxy`.
pub fn introduce(supervisor: &Arc<Supervisor>) {
    let running = supervisor.running();
    let (version, hash) = (supervisor.version(), &running.hash);
    log::info(format_args!("portunus {version}, configuration {} ({hash})", supervisor.source()));
    running.warnings.iter().for_each(log::warn);
    described::by_hand(running.snapshot.plan(), running.snapshot.members()).iter().for_each(log::info);
    let workers = match supervisor.worker_count() {
        1 => "1 worker".into(),
        count => format!("{count} workers"),
    };
    match running.sockets.addresses().as_slice() {
        [] => log::warn(format_args!("listening nowhere, {workers}")),
        addresses => log::info(format_args!("listening at {}, {workers}", addresses.join(", "))),
    }
}

/// Upgrades: what they need, and the one that is under way.
struct Upgrades {
    program: Arc<Program>,
    spare: Option<Arc<Spare>>,
    running: Option<UnderWay>,
}

/// An upgrade, and who wants to know what becomes of it.
struct UnderWay {
    task: JoinHandle<Result<Handed, String>>,
    answer: Option<oneshot::Sender<Upgraded>>,
}

impl Upgrades {
    /// Begins one, for whoever waits for `answer`; one at a time.
    fn begin(&mut self, supervisor: &Arc<Supervisor>, answer: Option<oneshot::Sender<Upgraded>>) {
        if self.running.is_some() {
            if let Some(answer) = answer {
                let _ = answer.send(Err("another upgrade is under way".into()));
            }
            return;
        }
        log::info("upgrading: starting the program that is on disk");
        let (program, spare) = (Arc::clone(&self.program), self.spare.clone());
        let supervisor = Arc::clone(supervisor);
        let task =
            tokio::task::spawn_blocking(move || upgrade::upgrade(&program, &supervisor, spare.as_deref()));
        self.running = Some(UnderWay { task, answer });
    }

    /// Resolves when the one under way has come to its end; never while there is none.
    async fn ended(&mut self) -> Option<Handed> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let result = (&mut running.task).await.unwrap_or_else(|_| Err("the upgrade has panicked".into()));
        match &result {
            Ok(handed) => log::info(format_args!("process {} has taken over", handed.id)),
            Err(reason) => log::error(format_args!("the upgrade has failed, this program goes on: {reason}")),
        }
        if let Some(answer) = self.running.take().and_then(|running| running.answer) {
            let _ = answer.send(result.as_ref().map(|handed| handed.id).map_err(Clone::clone));
        }
        result.ok()
    }
}

/// Does what is asked, until the end: that somebody wants, or that begins when a successor serves.
async fn until_end(
    supervisor: &Arc<Supervisor>,
    signals: &mut Signals,
    mut upgrades: Upgrades,
    mut upgrades_wanted: UpgradesWanted,
) -> Option<Handed> {
    let mut stop_wanted = supervisor.stop_wanted();
    loop {
        let idle = upgrades.running.is_none();
        tokio::select! {
            biased;
            handed = upgrades.ended() => match handed {
                Some(handed) => return Some(handed),
                None => continue,
            },
            _ = stop_wanted.wait_for(|wanted| *wanted), if idle => return None,
            Some(answer) = upgrades_wanted.recv() => upgrades.begin(supervisor, Some(answer)),
            signal = signals.next() => match signal {
                // An upgrade that is under way ends on hearing it.
                Signal::Stop => supervisor.want_stop(),
                Signal::Reload => drop(tokio::spawn(reload(Arc::clone(supervisor)))),
                Signal::ReopenLogs => supervisor.reopen_logs(),
                Signal::Upgrade => upgrades.begin(supervisor, None),
            },
        }
    }
}

async fn reload(supervisor: Arc<Supervisor>) {
    systemd::notify_reloading();
    // How it went is in the log; a signal has nobody else to tell, but for the one that serves now.
    if let (Err(Trouble::HandedOver), Some(id)) =
        (supervisor.reload_and_report().await, supervisor.successor())
        && let Some(process) = i32::try_from(id).ok().and_then(Pid::from_raw)
    {
        let _ = kill_process(process, rustix::process::Signal::HUP);
        return;
    }
    systemd::notify("READY=1");
}

/// Lets everything under way come to its end, unless that takes too long, or is cut short by a second signal.
async fn stop(supervisor: Arc<Supervisor>, signals: &mut Signals, handed: Option<Handed>) {
    let grace = supervisor.running().snapshot.plan().settings.grace;
    let farewell = match handed {
        None => Farewell { grace, tunnels: grace, ..Farewell::default() },
        Some(Handed { listen, .. }) => Farewell {
            grace,
            tunnels: grace.max(TUNNELS_OF_THE_PAST),
            handed_over: Arc::new(listen.into_iter().collect()),
            at_once: false,
        },
    };
    supervisor.want_stop();
    log::info(format_args!("stopping; what is under way has {} s", grace.as_secs_f64()));
    let stopping = Arc::clone(&supervisor);
    let mut ended = tokio::task::spawn_blocking(move || stopping.stop(&farewell));
    loop {
        tokio::select! {
            complete = &mut ended => {
                match complete {
                    Ok(true) => log::info("stopped"),
                    Ok(false) => log::warn("stopped; some of what was under way has been cut off"),
                    Err(error) => log::error(format_args!("the stop has failed: {error}")),
                }
                return;
            }
            signal = signals.next() => if signal == Signal::Stop {
                log::warn("stopping now");
                supervisor.hurry();
                // What is under way gets its record, and the log's writer a moment for what it has.
                let _ = tokio::time::timeout(LAST_MOMENT, &mut ended).await;
                return;
            }
        }
    }
}

/// Each connection takes two descriptors; the soft limit is for programs that still use select(2).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// A panic is one line in the log; a worker catches its own and goes on.
pub fn hear_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name").to_owned();
        let what = panic.payload_as_str().unwrap_or("something that is no text");
        match panic.location() {
            Some(place) => log::error(format_args!("panic in thread {name} at {place}: {what}")),
            None => log::error(format_args!("panic in thread {name}: {what}")),
        }
    }));
}

const BLOCKING_THREADS_MAX: usize = 32;
const LAST_MOMENT: Duration = Duration::from_secs(2);
const KEEPING_TIME: Duration = Duration::from_secs(1);
/// How long records in the DNS may take to be taken away when all else is over.
const CLEANUP_TIME: Duration = Duration::from_secs(5);
