//! signals: what the operating system tells the program.

use std::io;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// HUP.
    Reload,
    /// TERM, INT, QUIT: finish what runs and end; the second one: end now.
    Stop,
    /// USR1.
    ReopenLogs,
    /// USR2.
    Upgrade,
}

/// All signals that mean something. PIPE is ignored by every Rust program from its start on.
pub struct Signals {
    hangup: Stream,
    terminate: Stream,
    interrupt: Stream,
    quit: Stream,
    user1: Stream,
    user2: Stream,
}

impl Signals {
    /// From now on they do not end the program by themselves.
    pub fn new() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.quit.recv() => Signal::Stop,
            _ = self.user1.recv() => Signal::ReopenLogs,
            _ = self.user2.recv() => Signal::Upgrade,
        }
    }
}
