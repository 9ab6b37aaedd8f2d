//! memory: how much of what the process may have is used — by its control group, its limits, or the machine — told to the workers in steps.

use crate::apply::Supervisor;
use crate::observe::log;
use crate::observe::process::Process;
use portunus_relay::pressure::Level;
use rustix::process::{Resource, getrlimit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Tells the workers how short memory is, for ever.
pub async fn watch(supervisor: Arc<Supervisor>) {
    let gauge = Gauge::find();
    let Some(most) = gauge.read().and_then(|usages| usages.iter().map(|usage| usage.max).min()) else {
        return;
    };
    supervisor.tell_memory(connections_for(most));
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let Some(usage) = gauge.read().as_deref().and_then(tightest) else { continue };
        let before = supervisor.memory_level();
        let level = step(before, usage.percent());
        if level != before {
            supervisor.set_memory_level(level);
            let (used, max) = (usage.used >> 20, usage.max >> 20);
            let text = format!("memory: {used} of {max} MiB used ({}): {}", usage.of, level.word());
            if level > before { log::warn(text) } else { log::info(text) }
        }
    }
}

/// How much of one bound is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    /// Whose bound it is.
    of: &'static str,
    used: u64,
    max: u64,
}

impl Usage {
    fn percent(&self) -> u64 {
        self.used.saturating_mul(100) / self.max.max(1)
    }
}

fn tightest(usages: &[Usage]) -> Option<Usage> {
    usages.iter().copied().max_by_key(Usage::percent)
}

/// The step for what is used. A step is left only when it is clearly over, so that nothing flickers.
fn step(now: Level, percent: u64) -> Level {
    let reached = |percent: u64| match percent {
        95.. => Level::Ending,
        92.. => Level::Refusing,
        85.. => Level::Tight,
        _ => Level::Calm,
    };
    reached(percent).max(reached(percent + SLACK_PERCENT).min(now))
}

/// Half of all memory may be for connections; the rest is for what passes through them.
fn connections_for(memory_bytes: u64) -> usize {
    usize::try_from(memory_bytes / 2 / CONNECTION_BYTES).unwrap_or(usize::MAX).max(CONNECTIONS_MIN)
}

/// Where the bounds and what is used of them stand.
struct Gauge {
    /// The control group's folder, and whether it is of the second version.
    group: Option<(PathBuf, bool)>,
    /// Address space that was only reserved when the program began: it is never filled, and says nothing.
    reserved: u64,
    /// What the machine has.
    machine: Option<u64>,
}

impl Gauge {
    fn find() -> Gauge {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let candidates = folders(&groups);
        let (space, resident) = Process::memory();
        let reserved = space.saturating_sub(resident);
        let machine = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
        let group = candidates.into_iter().find(|(folder, second)| group_usage(folder, *second).is_some());
        Gauge { group, reserved, machine }
    }

    /// Every bound that there is; none where nothing can be read.
    fn read(&self) -> Option<Vec<Usage>> {
        let (space, resident) = Process::memory();
        let mut usages: Vec<Usage> = Vec::new();
        usages.extend(self.group.as_ref().and_then(|(folder, second)| group_usage(folder, *second)));
        if let Some(max) = getrlimit(Resource::As).current {
            let used = space.saturating_sub(self.reserved);
            usages.push(Usage {
                of: "limit of the address space",
                used,
                max: max.saturating_sub(self.reserved),
            });
        }
        usages.extend(self.machine.map(|max| Usage { of: "machine", used: resident, max }));
        Some(usages).filter(|usages| !usages.is_empty())
    }
}

/// Where the control group of this process may be, the most particular first; in a container its own one looks like the root.
fn folders(groups: &str) -> Vec<(PathBuf, bool)> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
                folders.push((Path::new(root).join(path), true));
            }
            folders.push((PathBuf::from("/sys/fs/cgroup"), true));
        } else if controllers.split(',').any(|name| name == "memory") {
            let root = Path::new("/sys/fs/cgroup/memory");
            folders.push((root.join(path), false));
            folders.push((root.to_owned(), false));
        }
    }
    folders
}

/// What a control group uses of its bound; none when it has no bound.
fn group_usage(folder: &Path, second: bool) -> Option<Usage> {
    let (max, used, files) = match second {
        true => ("memory.max", "memory.current", ["inactive_file ", "active_file "]),
        false => {
            ("memory.limit_in_bytes", "memory.usage_in_bytes", ["total_inactive_file ", "total_active_file "])
        }
    };
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // "max" is no number; the first version says the same by one that no machine has.
    let max = number(max).filter(|&max| max < UNLIMITED)?;
    // The kernel gives files' pages back before it lets anybody go without memory.
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let pages: u64 = files.iter().filter_map(|name| field(&stat, name)).sum();
    Some(Usage { of: "control group", used: number(used)?.saturating_sub(pages), max })
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// What /proc/meminfo says of the machine.
fn total(text: &str) -> Option<u64> {
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(kibibytes.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
}

const LOOK_EVERY: Duration = Duration::from_millis(250);
const SLACK_PERCENT: u64 = 2;
const UNLIMITED: u64 = 1 << 60;
/// What an open connection costs that does nothing, in the program and in the kernel.
const CONNECTION_BYTES: u64 = 8 << 10;
const CONNECTIONS_MIN: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_reached_at_once_and_left_late() {
        let mut level = Level::Calm;
        for (percent, expected) in [
            (84, Level::Calm),
            (85, Level::Tight),
            (84, Level::Tight),
            (82, Level::Calm),
            (96, Level::Ending),
            (94, Level::Ending),
            (92, Level::Refusing),
            (90, Level::Refusing),
            (89, Level::Tight),
            (10, Level::Calm),
        ] {
            level = step(level, percent);
            assert_eq!(level, expected, "{percent}");
        }
    }

    #[test]
    fn the_group_is_found_in_either_version() {
        let second: Vec<_> = folders("0::/system.slice/portunus.service\n");
        assert_eq!(second[0].0, Path::new("/sys/fs/cgroup/system.slice/portunus.service"));
        assert!(second.iter().all(|(_, second)| *second));
        let first = folders("9:name=systemd:/\n4:cpu,memory:/docker/1\n0::/\n");
        assert!(first.contains(&("/sys/fs/cgroup/memory/docker/1".into(), false)));
        assert!(folders("nonsense\n").is_empty());
    }

    #[test]
    fn pages_of_files_do_not_count_and_no_bound_is_none() {
        let folder = std::env::temp_dir().join(format!("portunus-memory-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("memory.max", "max\n");
        write("memory.current", "900\n");
        assert_eq!(group_usage(&folder, true), None);
        write("memory.max", "1000\n");
        write("memory.stat", "anon 500\ninactive_file 100\nactive_file 50\ninactive_anon 7\n");
        let usage = group_usage(&folder, true).unwrap();
        assert_eq!((usage.used, usage.max, usage.percent()), (750, 1000, 75));
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory.usage_in_bytes", "900\n");
        assert_eq!(group_usage(&folder, false), None);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn more_memory_is_more_connections() {
        assert_eq!(connections_for(256 << 20), 16 << 10);
        assert_eq!(connections_for(0), CONNECTIONS_MIN);
    }
}
