//! rival: nginx or HAProxy in the foreground, with a configuration of ours.

use super::{Front, Kind};
use portunus_tests::proxy::signal;
use portunus_tests::{Place, Port, eventually};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// A running rival; it ends when this is dropped.
pub struct Rival {
    kind: Kind,
    child: Child,
    place: Place,
    port: Port,
    /// The process that leads, which an upgrade changes.
    leader: AtomicU32,
}

impl Rival {
    /// Starts it and waits until it listens.
    pub fn start(kind: Kind, front: &Front, wrapper: &[&str]) -> Rival {
        let (place, port) = (Place::new(), Port::free());
        let config = write(kind, front, &place, &port);
        let log = std::fs::File::create(place.file("output")).expect("a log");
        let mut words: Vec<String> = wrapper.iter().map(|&word| word.to_owned()).collect();
        let config = config.to_string_lossy().into_owned();
        words.extend(match kind {
            Kind::Nginx => ["nginx", "-c", &config].map(str::to_owned).to_vec(),
            _ => ["haproxy", "-W", "-db", "-f", &config].map(str::to_owned).to_vec(),
        });
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("PATH", path()).stdin(Stdio::null());
        let errors = log.try_clone().expect("a log");
        let child = command.stdout(log).stderr(errors).spawn().expect("the rival");
        let rival = Rival { kind, leader: AtomicU32::new(child.id()), child, place, port };
        eventually(kind.name(), Duration::from_secs(10), || TcpStream::connect(rival.address()).ok());
        rival
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its first process.
    pub fn id(&self) -> u32 {
        self.leader.load(Relaxed)
    }

    /// Its reload: HUP for nginx, USR2 for HAProxy's master. Neither says when it is done.
    pub fn reload(&self, front: &Front) {
        write(self.kind, front, &self.place, &self.port);
        signal(self.id(), if self.kind == Kind::Nginx { "HUP" } else { "USR2" });
    }

    /// nginx: USR2 starts another one beside it, QUIT ends the old one. HAProxy's reload starts its binary again anyway.
    pub fn upgrade(&self, front: &Front) {
        if self.kind == Kind::Haproxy {
            return self.reload(front);
        }
        let old = self.id();
        signal(old, "USR2");
        let path = self.place.file("nginx.pid");
        let new = eventually("another nginx", Duration::from_secs(10), || {
            std::fs::read_to_string(&path).ok()?.trim().parse::<u32>().ok().filter(|&id| id != old)
        });
        self.leader.store(new, Relaxed);
        signal(old, "QUIT");
    }

    /// What tells it to finish and end.
    pub fn stop_signal(&self) -> &'static str {
        if self.kind == Kind::Nginx { "QUIT" } else { "USR1" }
    }

    /// Whether the process that was started runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // TERM first: the first process ends its workers then, and nobody is left behind. One that has ended is left alone.
        for id in [self.child.id(), self.id()] {
            if self.is_running() || id != self.child.id() {
                let _ = Command::new("sh").args(["-c", &format!("kill -TERM {id} 2>/dev/null")]).status();
            }
        }
        for _ in 0..300 {
            if !self.is_running() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(kind: Kind, front: &Front, place: &Place, port: &Port) -> PathBuf {
    let text = if kind == Kind::Nginx { front.nginx() } else { front.haproxy() };
    let text = text.replace("@listen", &port.to_string());
    place.write("rival.conf", text.replace("@dir", &place.path().to_string_lossy()))
}

/// The path, with the folders where servers are kept.
fn path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    std::env::join_paths(folders).unwrap_or(path.clone())
}
