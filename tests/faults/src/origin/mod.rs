//! origin: an origin in a process of its own, which can be killed, frozen and started again on the same port.

pub mod fault;
pub mod heads;
pub mod serve;

use portunus_tests::proxy::signal;
use portunus_tests::{Place, Port};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// An origin; it ends when this is dropped.
pub struct Origin {
    name: String,
    address: SocketAddr,
    /// Keeps the port while nobody listens.
    _port: Option<Port>,
    record: PathBuf,
    manner: String,
    process: Option<Process>,
}

struct Process {
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Origin {
    /// Starts one that answers as it should.
    pub fn start(place: &Place, name: &str) -> Origin {
        Origin::start_as(place, name, "well")
    }

    /// Starts one with these manners (`serve::Manner`).
    pub fn start_as(place: &Place, name: &str, manner: &str) -> Origin {
        let mut origin = Origin::absent(place, name);
        origin.manner = manner.to_owned();
        origin.start_again();
        origin
    }

    /// One whose port refuses until `start_again`.
    pub fn absent(place: &Place, name: &str) -> Origin {
        let port = Port::free();
        Origin::new(place, name, port.address(), Some(port))
    }

    /// Starts one at this address.
    pub fn start_at(place: &Place, name: &str, address: SocketAddr) -> Origin {
        let mut origin = Origin::new(place, name, address, None);
        origin.start_again();
        origin
    }

    fn new(place: &Place, name: &str, address: SocketAddr, port: Option<Port>) -> Origin {
        Origin {
            name: name.to_owned(),
            address,
            _port: port,
            record: place.file(&format!("seen-{name}")),
            manner: "well".to_owned(),
            process: None,
        }
    }

    /// Three that answer as they should.
    pub fn three(place: &Place) -> [Origin; 3] {
        ["a", "b", "c"].map(|name| Origin::start(place, name))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it as `kill -9` does: its connections are reset, its port refuses.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// Starts it where it was.
    pub fn start_again(&mut self) {
        self.kill();
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command.args(["origin", &self.name, &self.address().to_string(), &self.manner]).arg(&self.record);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("an origin");
        let orders = child.stdin.take().expect("its input");
        let replies = BufReader::new(child.stdout.take().expect("its output"));
        let mut process = Process { child, orders, replies };
        process.heard();
        self.process = Some(process);
    }

    /// Stops its process for a while (SIGSTOP): connections stand, nothing moves.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// From now on it has these manners.
    pub fn behave(&mut self, manner: &str) {
        self.manner = manner.to_owned();
        if let Some(process) = &mut self.process {
            writeln!(process.orders, "{manner}").expect("to tell the origin");
            process.heard();
        }
    }

    /// What it has seen: `G` or `P` (a POST) and the id, for each request whose head arrived, over all its lives.
    pub fn seen(&self) -> Vec<(char, String)> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        let words = text.lines().filter_map(|line| line.split_once(' '));
        words
            .filter(|(kind, _)| matches!(*kind, "G" | "P"))
            .map(|(kind, id)| (letter(kind), id.to_owned()))
            .collect()
    }

    /// How many requests arrived.
    pub fn count(&self) -> usize {
        self.seen().len()
    }

    /// What arrived and was no request, or not the one it said it was; a proxy must never cause any.
    pub fn complaints(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("! ")).map(str::to_owned).collect()
    }

    fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            signal(process.child.id(), name);
        }
    }
}

fn letter(kind: &str) -> char {
    kind.chars().next().unwrap_or('?')
}

impl Process {
    fn heard(&mut self) {
        let mut line = String::new();
        let _ = self.replies.read_line(&mut line);
        assert_eq!(line.trim(), "ok", "the origin did not obey");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address().fmt(f)
    }
}
