//! Pressure: how short memory and descriptors are; words that every worker reads.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};

/// How short memory is, and what is done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// There is enough.
    #[default]
    Calm,
    /// What is only kept for later goes: stocks of buffers, idle connections; and what waits too long for a client.
    Tight,
    /// New work is answered with 503, too.
    Refusing,
    /// What waits for a client at all has to go on soon.
    Ending,
}

impl Level {
    /// All of them, in order.
    pub const ALL: [Level; 4] = [Level::Calm, Level::Tight, Level::Refusing, Level::Ending];

    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::Tight => "tight",
            Level::Refusing => "refusing",
            Level::Ending => "ending",
        }
    }
}

/// What control tells the workers of memory, and they each other of descriptors.
#[derive(Debug, Default)]
pub struct Pressure {
    level: AtomicU8,
    /// Connections that the memory there is in all is enough for; 0 when nobody has said.
    connections: AtomicUsize,
    /// How often somebody wanted a descriptor and there was none.
    wants: AtomicU32,
}

impl Pressure {
    /// Says that there is no descriptor left: every worker gives up what is only kept for later.
    pub fn want_descriptors(&self) {
        self.wants.fetch_add(1, Relaxed);
    }

    /// How often that was said.
    pub fn wants(&self) -> u32 {
        self.wants.load(Relaxed)
    }

    /// How short memory is.
    pub fn level(&self) -> Level {
        Level::ALL.get(usize::from(self.level.load(Relaxed))).copied().unwrap_or_default()
    }

    /// Says how short memory is; gives back what was said before.
    pub fn set_level(&self, level: Level) -> Level {
        let before = self.level();
        self.level.store(level as u8, Relaxed);
        before
    }

    /// Connections that there is memory for.
    pub fn connections(&self) -> Option<usize> {
        Some(self.connections.load(Relaxed)).filter(|&connections| connections > 0)
    }

    /// Says how many connections there is memory for.
    pub fn set_connections(&self, connections: usize) {
        self.connections.store(connections, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_what_was_said_last() {
        let pressure = Pressure::default();
        let mut before = Level::Calm;
        for level in Level::ALL.into_iter().rev() {
            assert_eq!(pressure.set_level(level), before);
            assert_eq!(pressure.level(), level);
            before = level;
        }
        assert!(Level::Ending > Level::Refusing && Level::Tight > Level::Calm);
    }
}
