//! boot: from a configuration to a running program, and from there to its end.

use crate::exit::Exit;
use crate::signals::{Signal, Signals};
use crate::systemd;
use portunus_control::apply::Supervisor;
use portunus_control::observe::log;
use portunus_control::source::Source;
use portunus_control::{admin, discover, rounds, watch};
use portunus_relay::plan::Admin;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    // One thread is enough: it waits, and whatever takes long goes to the blocking threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|error| Exit::failed(format_args!("cannot start: {error}")))?;
    let result = runtime.block_on(begin_to_end(source, started));
    runtime.shutdown_background();
    result
}

async fn begin_to_end(source: Source, started: impl FnOnce(&Arc<Supervisor>)) -> Result<(), Exit> {
    let mut signals = Signals::new().map_err(|error| Exit::failed(format_args!("cannot start: {error}")))?;
    let (supervisor, door) = Supervisor::start(source, environment, env!("CARGO_PKG_VERSION"), open_admin)?;
    started(&supervisor);
    if let Some(door) = door {
        log::info(format_args!("admin API at {}", door.address()));
        tokio::spawn(admin::serve(door, Arc::clone(&supervisor)));
    }
    tokio::spawn(discover::dns::run(Arc::clone(&supervisor)));
    tokio::spawn(watch::watch(Arc::clone(&supervisor)));
    tokio::spawn(rounds::run(Arc::clone(&supervisor)));
    tokio::spawn(systemd::watchdog(Arc::clone(&supervisor)));
    systemd::notify("READY=1");
    until_stop(&supervisor, &mut signals).await;
    systemd::notify("STOPPING=1");
    stop(supervisor, &mut signals).await;
    Ok(())
}

/// The default socket is a convenience, and a program without the right to create it must run all the same; one that was asked for
/// must be there.
fn open_admin(wanted: &Admin) -> Result<Option<admin::Door>, Exit> {
    admin::open(wanted).or_else(|error| {
        if *wanted == Admin::default() {
            log::warn(format_args!(
                "no admin API, so `reload`, `status` and `stop` reach nobody: {}: {error}; write `admin unix:PATH` with a \
                 path that this user may write to, or `admin off`",
                shown(wanted)
            ));
            return Ok(None);
        }
        Err(Exit::listen(format_args!("cannot listen at admin {}: {error}", shown(wanted))))
    })
}

fn shown(admin: &Admin) -> String {
    match admin {
        Admin::Off => "off".into(),
        Admin::Unix(path) => format!("unix:{}", path.display()),
        Admin::Tcp { address, .. } => address.to_string(),
    }
}

/// What is told at the start of `run` and `proxy`.
pub fn introduce(supervisor: &Arc<Supervisor>) {
    let running = supervisor.running();
    let (version, hash) = (supervisor.version(), &running.hash);
    log::info(format_args!("portunus {version}, configuration {} ({hash})", supervisor.source()));
    running.warnings.iter().for_each(log::warn);
    let workers = match supervisor.worker_count() {
        1 => "1 worker".into(),
        count => format!("{count} workers"),
    };
    match running.sockets.addresses().as_slice() {
        [] => log::warn(format_args!("listening nowhere, {workers}")),
        addresses => log::info(format_args!("listening at {}, {workers}", addresses.join(", "))),
    }
}

async fn until_stop(supervisor: &Arc<Supervisor>, signals: &mut Signals) {
    let mut wanted = supervisor.stop_wanted();
    loop {
        let signal = tokio::select! {
            _ = wanted.wait_for(|wanted| *wanted) => return,
            signal = signals.next() => signal,
        };
        match signal {
            Signal::Stop => return,
            Signal::Reload => {
                tokio::spawn(reload(Arc::clone(supervisor)));
            }
            Signal::ReopenLogs => supervisor.reopen_logs(),
            Signal::Upgrade => log::info("upgrade is not available in this version"),
        }
    }
}

async fn reload(supervisor: Arc<Supervisor>) {
    systemd::notify_reloading();
    // How it went is in the log; a signal has nobody else to tell.
    let _ = supervisor.reload_and_report().await;
    systemd::notify("READY=1");
}

/// Lets everything under way come to its end, unless that takes too long, or is cut short by a second signal.
async fn stop(supervisor: Arc<Supervisor>, signals: &mut Signals) {
    let grace = supervisor.running().snapshot.plan().settings.grace;
    supervisor.want_stop();
    log::info(format_args!("stopping; what is under way has {} s", grace.as_secs_f64()));
    let mut ended = tokio::task::spawn_blocking(move || supervisor.stop(grace));
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
                // The log's writer gets a moment for what it has.
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
const LAST_MOMENT: Duration = Duration::from_millis(100);
