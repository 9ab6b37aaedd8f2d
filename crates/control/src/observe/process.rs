//! process: what the kernel says of this process, from /proc.

/// What the kernel says of this process; all zero where there is no /proc.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Processor time in user and kernel mode.
    pub cpu_seconds: f64,
    /// Memory in use.
    pub resident_bytes: u64,
    /// Address space in use.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// How many may be open.
    pub descriptors_max: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, in seconds since 1970.
    pub start_seconds: f64,
}

impl Process {
    /// As it is now.
    pub fn now() -> Process {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let mut process = Process::parse(&stat, &boot);
        let listed = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        // The listing itself is one of them.
        process.descriptors = u64::try_from(listed).unwrap_or(0).saturating_sub(1);
        let bound = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        process.descriptors_max = bound.current.unwrap_or(u64::MAX);
        process
    }

    /// What of it is looked at several times a second: address space, and memory in use, in bytes. Costs little, however many descriptors there are.
    pub fn memory() -> (u64, u64) {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let page = rustix::param::page_size() as u64;
        let mut pages = text.split_whitespace().map(|pages| pages.parse().unwrap_or(0_u64) * page);
        (pages.next().unwrap_or(0), pages.next().unwrap_or(0))
    }

    /// Reads proc(5)'s `/proc/self/stat`, and the `btime` line of `/proc/stat`. The command may hold spaces and brackets, so fields
    /// are counted from the last `)`; the one after it is number 3.
    fn parse(stat: &str, boot: &str) -> Process {
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
            .unwrap_or_default();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        let booted = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Process {
            cpu_seconds: seconds(field(14) + field(15)),
            threads: field(20),
            start_seconds: booted.unwrap_or(0) as f64 + seconds(field(22)),
            virtual_bytes: field(23),
            resident_bytes: field(24) * rustix::param::page_size() as u64,
            ..Process::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_the_same_whoever_is_asked() {
        let ((space, used), process) = (Process::memory(), Process::now());
        assert!(used > 0 && space >= used);
        assert!(process.resident_bytes / 2 < used && used < process.resident_bytes * 2);
    }

    #[test]
    fn fields_are_counted_from_the_last_bracket() {
        let stat = "7 (a b) (c) S 1 7 7 0 -1 4194304 90 0 0 0 150 50 0 0 20 0 3 0 1000 4096 2 184467";
        let process = Process::parse(stat, "cpu 1 2\nbtime 1700000000\n");
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(process.cpu_seconds, 200.0 / ticks);
        assert_eq!(process.threads, 3);
        assert_eq!(process.start_seconds, 1_700_000_000.0 + 1000.0 / ticks);
        assert_eq!(process.virtual_bytes, 4096);
        assert_eq!(process.resident_bytes, 2 * rustix::param::page_size() as u64);
        assert_eq!(Process::parse("", ""), Process::default());
    }
}
