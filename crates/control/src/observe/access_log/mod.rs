//! access_log: one line for each exchange; workers never wait for it, what cannot be written is dropped and counted.
//!
//! ```text
//! worker: Recorder, a block of its own ─┐  64 KiB, or flush
//! worker: Recorder                     ─┼─▶ Queue, at most `log-queue` bytes ─▶ one writer thread ─▶ Output
//! worker: Recorder                     ─┘   (else dropped, counted)
//! ```

mod line;
mod output;
mod queue;

use crate::observe::log;
use crate::observe::wall::Wall;
use output::Output;
use portunus_message::{Exchange, Limits};
use portunus_relay::plan::{self, LogFormat, LogTarget};
use portunus_relay::stats::{Names, Recorder, Unshaken};
use queue::{BLOCK_BYTES, Block, LINE_ROOM, Next, Queue};
use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The access log of the whole program. It stays while its format and its target change.
pub struct AccessLog {
    shared: Arc<Shared>,
    /// Guards what the configuration says now, and the way to the writer. Taken by reloads and the stop only.
    desk: Mutex<Desk>,
}

struct Desk {
    target: Option<LogTarget>,
    orders: SyncSender<Order>,
    ended: Receiver<u64>,
}

/// What workers and writer share.
struct Shared {
    queue: Queue,
    form: AtomicU8,
    value_bytes_max: AtomicUsize,
    clock: fn() -> SystemTime,
}

/// What the writer is told.
enum Order {
    /// Write to this from now on.
    Use(LogTarget, Option<Output>),
    /// Open the file again, under its name.
    Reopen,
}

/// A checked new configuration of the log: its target is open.
pub struct Change {
    form: u8,
    limits: (usize, usize),
    target: Option<(LogTarget, Option<Output>)>,
}

impl AccessLog {
    /// Opens the log that `wanted` describes; none means off, which a later change may end.
    pub fn open(
        wanted: Option<&plan::AccessLog>,
        limits: &Limits,
        clock: fn() -> SystemTime,
    ) -> Result<AccessLog, Refused> {
        let shared = Arc::new(Shared {
            queue: Queue::new(limits.log_queue),
            form: AtomicU8::new(OFF),
            value_bytes_max: AtomicUsize::new(limits.log_field),
            clock,
        });
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let (end, ended) = sync_channel(1);
        let writer = Writer::new(Arc::clone(&shared), inbox);
        let name = String::from("access-log");
        let started = std::thread::Builder::new().name(name).spawn(move || end.send(writer.run()));
        started.map_err(|error| Refused { target: None, error })?;
        let log = AccessLog { shared, desk: Mutex::new(Desk { target: None, orders, ended }) };
        let change = log.prepare(wanted, limits)?;
        log.apply(change);
        Ok(log)
    }

    /// Opens what a new configuration asks for, and changes nothing yet.
    pub fn prepare(&self, wanted: Option<&plan::AccessLog>, limits: &Limits) -> Result<Change, Refused> {
        let limits = (limits.log_queue, limits.log_field);
        let Some(wanted) = wanted else { return Ok(Change { form: OFF, limits, target: None }) };
        let form = match wanted.format {
            LogFormat::Json => JSON,
            LogFormat::Combined => COMBINED,
        };
        let target = if self.desk().target.as_ref() == Some(&wanted.to) {
            None
        } else {
            let output = Output::open(&wanted.to)
                .map_err(|error| Refused { target: Some(wanted.to.clone()), error })?;
            Some((wanted.to.clone(), output))
        };
        Ok(Change { form, limits, target })
    }

    /// Goes over to a prepared configuration.
    pub fn apply(&self, change: Change) {
        self.shared.queue.set_bound(change.limits.0);
        self.shared.value_bytes_max.store(change.limits.1, Relaxed);
        self.shared.form.store(change.form, Relaxed);
        if let Some((target, output)) = change.target {
            let mut desk = self.desk();
            desk.target = Some(target.clone());
            let _ = desk.orders.try_send(Order::Use(target, output));
            self.shared.queue.wake();
        }
    }

    /// Opens the file again, under its name: somebody has moved it away.
    pub fn reopen(&self) {
        let _ = self.desk().orders.try_send(Order::Reopen);
        self.shared.queue.wake();
    }

    /// A recorder for one worker.
    pub fn recorder(&self) -> Box<dyn Recorder + Send> {
        let block = Block { bytes: Vec::with_capacity(BLOCK_BYTES + LINE_ROOM), lines: 0 };
        Box::new(LineRecorder { shared: Arc::clone(&self.shared), block, time: Moment::default() })
    }

    /// How many lines were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.queue.dropped()
    }

    /// Writes what is left, for at most `wait`, and ends. To be called when no worker runs any more. Says how many lines are lost in all.
    pub fn close(&self, wait: Duration) -> u64 {
        self.shared.queue.close();
        match self.desk().ended.recv_timeout(wait) {
            Ok(dropped) => dropped,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.shared.queue.unwritten(),
        }
    }

    fn desk(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a log cannot be opened.
#[derive(Debug)]
pub struct Refused {
    target: Option<LogTarget>,
    error: io::Error,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            Some(target) => write!(f, "cannot open the access log {}: {}", shown(target), self.error),
            None => write!(f, "cannot start the access log: {}", self.error),
        }
    }
}

impl std::error::Error for Refused {}

fn shown(target: &LogTarget) -> String {
    match target {
        LogTarget::Stdout => "on standard output".into(),
        LogTarget::File(path) => path.display().to_string(),
        LogTarget::Syslog(path) => format!("syslog {}", path.display()),
    }
}

/// Formats lines on a worker.
struct LineRecorder {
    shared: Arc<Shared>,
    block: Block,
    time: Moment,
}

/// The wall time of the latest line as text; while its second lasts, only the milliseconds are written anew.
#[derive(Default)]
struct Moment {
    form: u8,
    second: u64,
    text: Vec<u8>,
}

impl Recorder for LineRecorder {
    fn record(&mut self, exchange: &Exchange, names: &Names<'_>) {
        let form = self.shared.form.load(Relaxed);
        if form == OFF {
            return;
        }
        let max = self.shared.value_bytes_max.load(Relaxed);
        let time = self.time.of((self.shared.clock)(), form);
        match form {
            JSON => line::json(exchange, names, time, max, &mut self.block.bytes),
            _ => line::combined(exchange, time, max, &mut self.block.bytes),
        }
        self.end_line();
    }

    fn unshaken(&mut self, unshaken: &Unshaken<'_>) {
        // Apache's format has no place for it.
        if self.shared.form.load(Relaxed) != JSON {
            return;
        }
        let max = self.shared.value_bytes_max.load(Relaxed);
        let time = self.time.of((self.shared.clock)(), JSON);
        line::unshaken(unshaken, time, max, &mut self.block.bytes);
        self.end_line();
    }

    fn flush(&mut self) {
        self.shared.queue.push(&mut self.block);
    }
}

impl LineRecorder {
    fn end_line(&mut self) {
        self.block.lines += 1;
        if self.block.bytes.len() >= BLOCK_BYTES {
            self.shared.queue.push(&mut self.block);
        }
    }
}

impl Drop for LineRecorder {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Moment {
    fn of(&mut self, now: SystemTime, form: u8) -> &[u8] {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if self.text.is_empty() || self.second != since.as_secs() || self.form != form {
            self.text.clear();
            match form {
                JSON => Wall::new(now).rfc3339(&mut self.text),
                _ => Wall::new(now).common(&mut self.text),
            }
            self.second = since.as_secs();
            self.form = form;
        } else if let ([.., a, b, c, b'Z'], JSON) = (self.text.as_mut_slice(), form) {
            let ms = since.subsec_millis();
            let digit = |value: u32| b'0' + u8::try_from(value % 10).unwrap_or(0);
            (*a, *b, *c) = (digit(ms / 100), digit(ms / 10), digit(ms));
        }
        &self.text
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    target: Option<LogTarget>,
    output: Option<Output>,
    /// Whether the latest attempt failed, and that has been said.
    failing: bool,
    /// How many of the dropped lines have been reported.
    reported: u64,
    closed: Option<Instant>,
}

impl Writer {
    fn new(shared: Arc<Shared>, orders: Receiver<Order>) -> Writer {
        Writer { shared, orders, target: None, output: None, failing: false, reported: 0, closed: None }
    }

    /// Writes until the queue is closed; says how many lines were lost.
    fn run(mut self) -> u64 {
        loop {
            let next = self.shared.queue.pop(PATIENCE);
            self.obey();
            match next {
                Next::Block(block) => {
                    self.write(&block);
                    self.shared.queue.done(block);
                    self.report();
                }
                Next::Nothing => {}
                Next::Closed => return self.shared.queue.dropped(),
            }
        }
    }

    /// Does what it was told; whether that was anything.
    fn obey(&mut self) -> bool {
        let mut any = false;
        loop {
            match self.orders.try_recv() {
                Ok(Order::Use(target, output)) => (self.target, self.output) = (Some(target), output),
                Ok(Order::Reopen) if matches!(self.target, Some(LogTarget::Stdout)) => {}
                Ok(Order::Reopen) => self.reopen(),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return any,
            }
            any = true;
        }
    }

    fn reopen(&mut self) {
        let Some(target) = &self.target else { return };
        self.output = Output::open(target).unwrap_or_else(|error| {
            log::warn(format_args!("the access log {} cannot be opened again: {error}", shown(target)));
            None
        });
    }

    /// Writes a block, and stays with it until it is written: lines are dropped at the queue, not here. Only after
    /// the close it gives up.
    fn write(&mut self, block: &Block) {
        let mut at = 0;
        while let Some(rest) = block.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.attempt(rest) {
                Ok(written) => {
                    at += written.bytes;
                    self.shared.queue.drop_lines(written.lines_refused);
                    self.failing = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fail(&error);
                    if self.gives_up() {
                        let lost = rest.iter().filter(|&&byte| byte == b'\n').count();
                        self.shared.queue.give_up(lost as u64);
                        return;
                    }
                    if self.obey() {
                        at = line_start(&block.bytes, at);
                    }
                }
            }
        }
    }

    fn attempt(&mut self, lines: &[u8]) -> io::Result<output::Written> {
        if self.output.is_none()
            && let Some(target) = &self.target
        {
            self.output = Output::open(target)?;
        }
        match &mut self.output {
            Some(output) => output.write(lines, (self.shared.clock)()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Says it once, waits a little, and opens the target again where that may help.
    fn fail(&mut self, error: &io::Error) {
        let absent = error.kind() == io::ErrorKind::NotConnected;
        let stalled = absent || error.kind() == io::ErrorKind::WouldBlock;
        if let Some(target) = self.target.as_ref().filter(|_| !self.failing && (absent || !stalled)) {
            let target = shown(target);
            if absent {
                log::warn(format_args!(
                    "nobody takes the access log {target}; lines wait, as far as `log-queue` goes"
                ));
            } else {
                log::warn(format_args!("the access log {target} cannot be written: {error}"));
            }
        }
        self.failing = true;
        match &self.output {
            Some(output) if error.kind() == io::ErrorKind::WouldBlock => output.wait(PATIENCE),
            _ => std::thread::sleep(PATIENCE),
        }
        if matches!(self.output, Some(Output::Syslog(_))) && !stalled {
            self.output = None;
        }
    }

    fn gives_up(&mut self) -> bool {
        if !self.shared.queue.is_closed() {
            return false;
        }
        self.closed.get_or_insert_with(Instant::now).elapsed() > CLOSE_PATIENCE
    }

    /// Once all that waited is written, says how many lines were dropped meanwhile.
    fn report(&mut self) {
        let dropped = self.shared.queue.dropped();
        if !self.failing
            && dropped > self.reported
            && self.shared.queue.waiting() == 0
            && let Some(target) = &self.target
        {
            let lines = dropped - self.reported;
            log::warn(format_args!(
                "the access log {} works again; {lines} lines were dropped",
                shown(target)
            ));
            self.reported = dropped;
        }
    }
}

/// Where the line begins that the byte at `at` belongs to.
fn line_start(bytes: &[u8], at: usize) -> usize {
    let before = bytes.get(..at).unwrap_or(&[]);
    before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

const OFF: u8 = 0;
const JSON: u8 = 1;
const COMBINED: u8 = 2;

/// How long the writer waits before it looks or tries again.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long the writer goes on trying after the close.
const CLOSE_PATIENCE: Duration = Duration::from_millis(700);

const ORDERS_MAX: usize = 16;

#[cfg(test)]
mod tests;
