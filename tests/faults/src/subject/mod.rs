//! subject: the proxy under test, whichever it is — started, reloaded, signalled and measured the same way.

pub mod front;
mod over;
mod rival;

pub use front::Front;
pub use over::Over;

use portunus_tests::binary::portunus;
use portunus_tests::{Place, Port, Proxy};
use rival::Rival;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Portunus,
    /// nginx, as installed.
    Nginx,
    /// HAProxy, as installed.
    Haproxy,
}

/// A running proxy.
pub enum Subject {
    /// Ours, and what stands ahead of it.
    Portunus(Proxy, Option<Proxy>),
    /// Another one.
    Rival(Rival),
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Portunus, Kind::Nginx, Kind::Haproxy];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Portunus => "portunus",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Subject {
    /// Starts it with this configuration.
    pub fn start(kind: Kind, front: &Front) -> Subject {
        Subject::start_under(kind, front, &[])
    }

    /// The same by way of a command that ends in an `exec` of it, `prlimit --nofile=1024` for example; ours is called by a
    /// link `portunus` in its folder, which can be replaced.
    pub fn start_under(kind: Kind, front: &Front, wrapper: &[&str]) -> Subject {
        match kind {
            Kind::Portunus => {
                let proxy = ours(wrapper, &front.portunus());
                let ahead = Over::chosen().map(|over| over.ahead_of(proxy.address()));
                Subject::Portunus(proxy, ahead)
            }
            kind => Subject::Rival(Rival::start(kind, front, wrapper)),
        }
    }

    /// Puts the binary that is on disk in its place; for HAProxy that is its reload.
    pub fn upgrade(&self, front: &Front) {
        match self {
            Subject::Portunus(proxy, _) => drop(proxy.command(&["upgrade"]).expect(0)),
            Subject::Rival(rival) => rival.upgrade(front),
        }
    }

    /// Tells it to finish what is under way and to end.
    pub fn stop(&self) {
        let name = match self {
            Subject::Portunus(..) => "TERM",
            Subject::Rival(rival) => rival.stop_signal(),
        };
        portunus_tests::proxy::signal(self.id(), name);
    }

    /// Waits until it has ended; false when it has not within `patience`.
    pub fn has_ended_within(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let ended = match self {
                Subject::Portunus(proxy, _) => !proxy.is_running(),
                Subject::Rival(rival) => !rival.is_running(),
            };
            if ended {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        false
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        match self {
            Subject::Portunus(_, Some(ahead)) => ahead.address(),
            Subject::Portunus(proxy, None) => proxy.address(),
            Subject::Rival(rival) => rival.address(),
        }
    }

    /// Ours, for what only ours has.
    pub fn portunus(&self) -> Option<&Proxy> {
        match self {
            Subject::Portunus(proxy, _) => Some(proxy),
            Subject::Rival(_) => None,
        }
    }

    /// Puts another configuration into force and waits until it says that it has, where it says so.
    pub fn reload(&self, front: &Front) {
        match self {
            Subject::Portunus(proxy, _) => {
                proxy.write_config(&front.portunus());
                proxy.admin("POST", "/reload").expect(200);
            }
            Subject::Rival(rival) => rival.reload(front),
        }
    }

    /// Its process: the first one, where there are more.
    pub fn id(&self) -> u32 {
        match self {
            Subject::Portunus(proxy, _) => proxy.id(),
            Subject::Rival(rival) => rival.id(),
        }
    }

    /// Resident memory of all its processes, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.processes().iter().map(|id| kilobytes(*id, "VmRSS:") * 1024).sum()
    }

    /// Open descriptors of all its processes.
    pub fn descriptors(&self) -> usize {
        let count = |id: &u32| std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        self.processes().iter().map(count).sum()
    }

    /// Processor time that all its threads have used, in seconds.
    pub fn processor_seconds(&self) -> f64 {
        self.processes().iter().map(|id| ticks(*id) as f64 / 100.0).sum()
    }

    /// Its process and those that it has started.
    pub fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.id()];
        let mut at = 0;
        while let Some(&id) = all.get(at) {
            let path = format!("/proc/{id}/task/{id}/children");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            at += 1;
        }
        all
    }
}

fn ours(wrapper: &[&str], text: &str) -> Proxy {
    let by = |place: &Place, _: &[Port]| {
        let link = place.file(LINK);
        symlink(portunus(), &link).expect("a link");
        let mut words = wrapper.iter().map(OsStr::new).chain([link.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    };
    Proxy::start_by(by, Place::new(), text)
}

/// What ours is called by, in its folder.
pub const LINK: &str = "portunus";

fn kilobytes(id: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// User and system time of a process, in hundredths of a second (proc(5): fields 14 and 15 of `stat`).
fn ticks(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
}
