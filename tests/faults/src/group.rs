//! group: a control group of the kernel, so that a proxy has only so much memory or so much of a processor.

use std::path::{Path, PathBuf};

/// A group in both the first and the second version of the kernel's interface; it goes when this is dropped.
pub struct Group {
    folder: PathBuf,
    /// The file that a process writes itself into.
    members: &'static str,
}

impl Group {
    /// With at most so many bytes of memory; none when groups cannot be made here.
    pub fn of_memory(bytes: u64) -> Option<Group> {
        let group = Group::make("memory")?;
        let name = if group.is_first() { "memory.limit_in_bytes" } else { "memory.max" };
        group.write(name, &bytes.to_string())
    }

    /// With at most this share of one processor, given out in slices of a millisecond; none when groups cannot be made here.
    pub fn of_processor(share: f64) -> Option<Group> {
        let group = Group::make("cpu")?;
        let (quota, period) = (1000.0, (1000.0 / share).clamp(1000.0, 1_000_000.0));
        match group.is_first() {
            true => group
                .write("cpu.cfs_period_us", &format!("{period:.0}"))?
                .write("cpu.cfs_quota_us", &format!("{quota:.0}")),
            false => group.write("cpu.max", &format!("{quota:.0} {period:.0}")),
        }
    }

    /// What has to stand before a command so that it runs in the group.
    pub fn wrapper(&self) -> [String; 4] {
        let file = self.folder.join(self.members);
        let script = format!("echo $$ > {}; exec \"$@\"", file.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned)
    }

    /// How often a process of it was killed for want of memory.
    pub fn kills(&self) -> u64 {
        let names = ["memory.oom_control", "memory.events"];
        let texts = names.iter().filter_map(|name| std::fs::read_to_string(self.folder.join(name)).ok());
        let text: String = texts.collect();
        let lines = text.lines().filter_map(|line| line.strip_prefix("oom_kill "));
        lines.filter_map(|number| number.trim().parse::<u64>().ok()).sum()
    }

    /// The most memory it ever had, where the kernel says so.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        let names = ["memory.max_usage_in_bytes", "memory.peak"];
        let mut texts = names.iter().filter_map(|name| std::fs::read_to_string(self.folder.join(name)).ok());
        texts.next()?.trim().parse().ok()
    }

    fn make(controller: &str) -> Option<Group> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("portunus-faults-{}-{number}", std::process::id());
        let (first, second) = (Path::new(FIRST).join(controller), Path::new(FIRST));
        let second_has = std::fs::read_to_string(second.join("cgroup.subtree_control")).unwrap_or_default();
        let (above, members) = match first.join("tasks").exists() {
            true => (first.as_path(), "tasks"),
            false if second_has.split_whitespace().any(|word| word == controller) => (second, "cgroup.procs"),
            false => return None,
        };
        let folder = above.join(name);
        std::fs::create_dir(&folder).ok()?;
        Some(Group { folder, members })
    }

    fn is_first(&self) -> bool {
        self.members == "tasks"
    }

    fn write(self, name: &str, text: &str) -> Option<Group> {
        std::fs::write(self.folder.join(name), text).ok()?;
        Some(self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
    }
}

const FIRST: &str = "/sys/fs/cgroup";
