//! Tick: a moment, as microseconds since the program started; always given, never read here.

use std::time::Duration;

/// A moment on the monotonic clock, in microseconds since the program started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// A moment that never comes.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Tick {
    type Output = Tick;

    fn add(self, by: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}
