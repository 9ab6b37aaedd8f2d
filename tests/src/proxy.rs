//! proxy: the real program with a configuration, its log, its signals and its admin socket.

use crate::binary::portunus;
use crate::client::Client;
use crate::message::Response;
use crate::place::{Place, Port, eventually};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A running proxy; it is killed when this is dropped, and must not have panicked.
pub struct Proxy {
    child: Child,
    place: Place,
    ports: Vec<Port>,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
    successors: Mutex<Vec<u32>>,
}

impl Proxy {
    /// Runs with this configuration. `@listen`, `@listen2` and `@listen3` stand for free addresses, `@dir` for an empty
    /// folder. What the text leaves out is added: `admin`, `log access json` (to standard output) and `workers 1`.
    #[track_caller]
    pub fn start(text: &str) -> Proxy {
        Proxy::start_in(Place::new(), text)
    }

    /// The same in a folder that holds files already.
    #[track_caller]
    pub fn start_in(place: Place, text: &str) -> Proxy {
        Proxy::start_by(|_, _| Command::new(portunus()), place, text)
    }

    /// The same by a command of the caller's own, which gets the folder and the ports; `run` and its arguments are added.
    #[track_caller]
    pub fn start_by(command: impl FnOnce(&Place, &[Port]) -> Command, place: Place, text: &str) -> Proxy {
        let ports: Vec<Port> = PORT_NAMES.iter().map(|_| Port::free()).collect();
        place.write(CONFIG, fill(text, &place, &ports));
        let mut command = command(&place, &ports);
        command.arg("run").arg("-c").arg(place.file(CONFIG)).current_dir(place.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{}: {error}", portunus().display()));
        let stdout = Lines::follow(child.stdout.take().expect("its output"));
        let stderr = Lines::follow(child.stderr.take().expect("its errors"));
        let mut proxy = Proxy { child, place, ports, stdout, stderr, successors: Mutex::default() };
        proxy.wait_until_ready(!text.lines().any(|line| line.starts_with("admin ")));
        proxy
    }

    /// Ends it as a crash would, and starts it again in its folder.
    #[track_caller]
    pub fn crash_and_start_again(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut command = Command::new(portunus());
        command.arg("run").arg("-c").arg(self.place.file(CONFIG)).current_dir(self.place.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        self.child = child.unwrap_or_else(|error| panic!("{}: {error}", portunus().display()));
        self.stdout = Lines::follow(self.child.stdout.take().expect("its output"));
        self.stderr = Lines::follow(self.child.stderr.take().expect("its errors"));
        self.wait_until_ready(true);
    }

    /// Runs with one site for any host on `@listen`, with `body` inside.
    #[track_caller]
    pub fn site(body: impl AsRef<str>) -> Proxy {
        Proxy::start(&site(body.as_ref()))
    }

    /// The address of `@listen`.
    pub fn address(&self) -> SocketAddr {
        self.ports[0].address()
    }

    /// The address of `@listen2` (1) or `@listen3` (2).
    pub fn further_address(&self, at: usize) -> SocketAddr {
        self.ports[at].address()
    }

    /// A new connection to it.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// A GET on a new connection.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    /// Any bytes on a new connection, and the answer.
    #[track_caller]
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.client().exchange(bytes)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process that answers at its admin socket, which is another one after an upgrade; it ends with the test, too.
    #[track_caller]
    pub fn serving_id(&self) -> u32 {
        let status = self.admin("GET", "/status").expect(200).text();
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let id = status["pid"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("a process");
        let mut known = self.successors.lock().unwrap_or_else(PoisonError::into_inner);
        if id != self.child.id() && !known.contains(&id) {
            known.push(id);
        }
        id
    }

    /// Its folder, `@dir`.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Sends a signal, `HUP` for example.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Writes another configuration; it takes effect with a reload.
    pub fn write_config(&self, text: &str) {
        self.place.write(CONFIG, fill(text, &self.place, &self.ports));
    }

    /// Runs `portunus WORDS -c CONFIG` against it.
    pub fn command(&self, words: &[&str]) -> Run {
        let config = self.place.file(CONFIG);
        let config = config.to_string_lossy();
        Run::of(words.iter().copied().chain(["-c", &config]))
    }

    /// Asks its admin socket.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str) -> Response {
        let mut client = Client::connect_unix(&self.admin_socket());
        client.exchange(format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"))
    }

    /// Where its admin socket is.
    pub fn admin_socket(&self) -> PathBuf {
        self.place.file(ADMIN)
    }

    /// The sum of all samples of metric `name` whose labels hold every one of `labels`, each as `key="value"`.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("GET", "/metrics").expect(200).text();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or("");
            (rest.starts_with('{') || rest.starts_with(' '))
                && labels.iter().all(|label| rest.contains(label))
        });
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until a metric is `value`: who is asked while the machine pauses tells what it knew before.
    #[track_caller]
    pub fn expect_metric(&self, name: &str, labels: &[&str], value: f64) {
        eventually(&format!("{name} {labels:?} to be {value}"), PATIENCE, || {
            (self.metric(name, labels) == value).then_some(())
        });
    }

    /// Waits until a metric is `least` at least.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, labels: &[&str], least: f64) {
        eventually(&format!("{name} {labels:?} to be {least}"), PATIENCE, || {
            (self.metric(name, labels) >= least).then_some(())
        });
    }

    /// How often `reason` has ended an exchange.
    #[track_caller]
    pub fn errors(&self, reason: &str) -> f64 {
        self.metric("portunus_errors_total", &[&format!("reason=\"{reason}\"")])
    }

    /// Waits until the counter of `reason` is at least `count`.
    #[track_caller]
    pub fn wait_for_errors(&self, reason: &str, count: f64) {
        eventually(&format!("{count} × {reason} in the metrics"), PATIENCE, || {
            (self.errors(reason) >= count).then_some(())
        });
    }

    /// Waits for a line of the access log (on standard output) that `fits`.
    #[track_caller]
    pub fn log(&self, what: &str, fits: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let parsed =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).ok().filter(|line| fits(line));
        self.stdout.wait(what, |lines| lines.iter().find_map(|line| parsed(line)))
    }

    /// Waits for the log line of a request for `path` (with query).
    #[track_caller]
    pub fn log_of(&self, path: &str) -> serde_json::Value {
        self.log(path, |line| line["path"] == path)
    }

    /// Waits for a log line whose `error` is `reason`, and for its counter.
    #[track_caller]
    pub fn expect_reason(&self, reason: &str) -> serde_json::Value {
        self.wait_for_errors(reason, 1.0);
        self.log(reason, |line| line["error"] == reason)
    }

    /// Waits for a line on standard error that holds `text`.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str) -> String {
        self.stderr.wait(text, |lines| lines.iter().find(|line| line.contains(text)).cloned())
    }

    /// What stands on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.all().join("\n")
    }

    /// Resident memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_for_exit(&mut self, patience: Duration) -> ExitStatus {
        eventually("the proxy's end", patience, || self.child.try_wait().expect("to wait"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits until it says that it listens, and its admin socket answers; no connection to its listeners is made for that.
    #[track_caller]
    fn wait_until_ready(&mut self, has_admin: bool) {
        let ready = eventually("the proxy's listeners", PATIENCE, || {
            if !self.is_running() {
                return Some(false);
            }
            let listens = self.stderr.all().iter().any(|line| line.contains("listening at"));
            (listens && (!has_admin || UnixStream::connect(self.admin_socket()).is_ok())).then_some(true)
        });
        assert!(ready, "the proxy did not start:\n{}", self.final_stderr());
    }

    fn final_stderr(&self) -> String {
        self.stderr.wait_for_end();
        self.stderr()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let successors = self.successors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for id in successors.into_iter().filter(|&id| is_alive(id)) {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {id}")]).status();
        }
        let stderr = self.final_stderr();
        if thread::panicking() {
            eprintln!("--- the proxy's standard error ---\n{stderr}");
            let lines = self.stdout.all();
            let tail = lines.iter().skip(lines.len().saturating_sub(20));
            eprintln!("--- the end of its standard output ---");
            tail.for_each(|line| eprintln!("{line}"));
        } else {
            let panicked = stderr.contains("panicked") || stderr.contains("panic in thread");
            assert!(!panicked, "the proxy panicked:\n{stderr}");
        }
    }
}

/// One finished run of the program.
pub struct Run {
    /// Its exit code.
    pub code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Run {
    /// Runs the program with `words` to its end.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Run {
        let output = Command::new(portunus()).args(words).stdin(Stdio::null()).output().expect("to run");
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Run {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// A whole configuration with one site for any host on `@listen`.
pub fn site(body: &str) -> String {
    format!("site * {{\n    listen @listen\n    {body}\n}}\n")
}

/// Sends a signal to a process that the test has started.
pub fn signal(id: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {id}");
}

/// Whether a process runs; one that has ended and that nobody has asked about does not.
pub fn is_alive(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The text with its placeholders filled and the usual settings added.
pub fn fill(text: &str, place: &Place, ports: &[Port]) -> String {
    let has = |word: &str| text.lines().any(|line| line.starts_with(word));
    let mut all = String::new();
    if !has("admin ") {
        all.push_str(&format!("admin unix:@dir/{ADMIN}\n"));
    }
    if !has("log access ") {
        all.push_str("log access json\n");
    }
    if !has("workers ") {
        all.push_str("workers 1\n");
    }
    all.push_str(text);
    // Longest names first: `@listen` begins `@listen2`.
    for (name, port) in PORT_NAMES.iter().zip(ports).rev() {
        all = all.replace(name, &port.to_string());
    }
    all.replace("@dir", &Path::new(place.path()).to_string_lossy())
}

/// The lines of a stream that a thread reads.
#[derive(Default)]
struct Lines {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Arc<Lines> {
        let lines = Arc::new(Lines::default());
        let of_thread = lines.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                of_thread.lock().0.push(text);
                of_thread.changed.notify_all();
                line.clear();
            }
            of_thread.lock().1 = true;
            of_thread.changed.notify_all();
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<String>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<String> {
        self.lock().0.clone()
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let mut found = None;
        let unfinished = |state: &mut (Vec<String>, bool)| {
            found = find(&state.0);
            found.is_none()
        };
        let _ = self.changed.wait_timeout_while(self.lock(), PATIENCE, unfinished);
        found.unwrap_or_else(|| panic!("no line for {what:?} in:\n{}", self.all().join("\n")))
    }

    fn wait_for_end(&self) {
        let _ = self.changed.wait_timeout_while(self.lock(), Duration::from_secs(2), |state| !state.1);
    }
}

const CONFIG: &str = "portunus.conf";
const ADMIN: &str = "admin.sock";
const PORT_NAMES: [&str; 3] = ["@listen", "@listen2", "@listen3"];
const PATIENCE: Duration = Duration::from_secs(10);
