//! program: the release binary, started for a test and ended with it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

const START_MAX: Duration = Duration::from_secs(10);

/// A running proxy in front of one origin, with one worker.
pub struct Program {
    child: Child,
    pid: u32,
    folder: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Program {
    /// Starts it, and waits until it accepts.
    pub fn start(origin: SocketAddr) -> io::Result<Program> {
        Program::start_under(origin, |_| Vec::new())
    }

    /// Starts it under a tracer: `tracer` gives the words before the program's own, and may name files in the folder.
    pub fn start_under(origin: SocketAddr, tracer: impl FnOnce(&Path) -> Vec<String>) -> io::Result<Program> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let folder = std::env::temp_dir().join(format!("portunus-budget-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let address = free_address()?;
        let config = folder.join("portunus.conf");
        std::fs::write(&config, configuration(origin, address))?;
        // as many descriptors as there may be, for the tests with many connections
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $(ulimit -H -n); exec \"$@\"", "sh"]).args(tracer(&folder));
        command.arg(binary()).arg("run").arg("-c").arg(&config);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut program = Program { pid: child.id(), child, folder, address };
        program.wait_until_it_accepts()?;
        program.pid = child_of(program.pid).unwrap_or(program.pid);
        Ok(program)
    }

    /// The process that runs the program itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The folder that it and its tracer write into.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Memory of its own, in bytes: pages that belong to no file.
    pub fn anonymous_bytes(&self) -> io::Result<u64> {
        kilobytes(&format!("/proc/{}/smaps_rollup", self.pid), "Anonymous:")
    }

    /// The most memory it ever had resident, in bytes.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        kilobytes(&format!("/proc/{}/status", self.pid), "VmHWM:")
    }

    /// Asks it to end, and waits until it, and its tracer, have.
    pub fn stop(&mut self) -> io::Result<()> {
        Command::new("kill").args(["-TERM", &self.pid.to_string()]).status()?;
        self.pid = self.child.id();
        self.child.wait().map(drop)
    }

    fn wait_until_it_accepts(&mut self) -> io::Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the program ended at once: {status}")));
            }
            if began.elapsed() > START_MAX {
                return Err(io::Error::other("the program does not accept"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.pid != self.child.id() {
            _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).stderr(Stdio::null()).status();
        }
        _ = self.child.kill();
        _ = self.child.wait();
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The release binary: `PORTUNUS_BIN`, else the workspace's.
pub fn binary() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/portunus");
    let path = std::env::var_os("PORTUNUS_BIN").map_or(target, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no {}; build it: cargo build --release --package portunus",
        path.display()
    );
    path
}

fn configuration(origin: SocketAddr, address: SocketAddr) -> String {
    format!(
        "workers 1\nadmin off\nlimits {{ connections 15000; keep-alive 10m }}\n\
         pool origin {{\n    server {origin}\n    keep-alive idle=256\n}}\n\
         site * {{\n    listen {address}\n    proxy origin\n}}\n"
    )
}

/// An address that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// The process that `parent` has started, when it has.
fn child_of(parent: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.find(|number| {
        let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.strip_prefix("PPid:").is_some_and(|rest| rest.trim() == parent.to_string()))
    })
}

fn kilobytes(path: &str, name: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    number.map(|number| number * 1024).ok_or_else(|| io::Error::other(format!("{path} has no {name}")))
}
