//! worker: one thread.

use crate::net::Sockets;
use crate::snapshot::Snapshot;
use crate::stats::{Recorder, Stats};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The threads that serve.
pub struct Workers {
    _recorders: std::sync::Mutex<Vec<Box<dyn Recorder + Send>>>,
}

impl Workers {
    /// Starts them.
    pub fn start(
        _: &Arc<Snapshot>,
        _: &Sockets,
        recorders: Vec<Box<dyn Recorder + Send>>,
    ) -> io::Result<Workers> {
        Ok(Workers { _recorders: std::sync::Mutex::new(recorders) })
    }
    /// Swaps.
    pub fn apply(&self, _: &Arc<Snapshot>, _: &Sockets) {}
    /// Sums.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
    /// Stops accepting.
    pub fn drain(&self, _: Duration) {}
    /// Whether.
    pub fn is_finished(&self) -> bool {
        true
    }
    /// Waits.
    pub fn join(self, _: Duration) -> bool {
        true
    }
}
