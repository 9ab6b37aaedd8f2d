//! Clock: a worker's idea of now, read from the system once per wake-up.

use portunus_message::Tick;
use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

static START: OnceLock<u64> = OnceLock::new();

/// The moment, read from the system.
pub fn read() -> Tick {
    let now = micros();
    Tick(now.saturating_sub(*START.get_or_init(|| now)))
}

/// What the system's monotonic clock shows; without the checks of `Instant`, which cost as much as the reading.
fn micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Invariant: it shows no time before the machine began, and nanoseconds are fewer than a second's.
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// A worker's idea of now.
#[derive(Debug, Default)]
pub struct Clock {
    now: Cell<Tick>,
    date_of: Cell<u64>,
    date: RefCell<String>,
}

impl Clock {
    /// A clock that has been read once.
    pub fn new() -> Clock {
        let clock = Clock::default();
        clock.refresh();
        clock
    }

    /// The moment of the last [`Clock::refresh`].
    pub fn now(&self) -> Tick {
        self.now.get()
    }

    /// Reads the system's clock.
    pub fn refresh(&self) -> Tick {
        let now = read();
        self.now.set(now);
        now
    }

    /// How long the worker's thread has had a processor: less than what has passed, where others have it or a control group bounds it.
    pub fn worked(&self) -> Duration {
        clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
    }

    /// How long it is until a date as HTTP writes it (RFC 9110 §5.6.7); nothing when it is past.
    pub fn until(&self, date: &[u8]) -> Option<Duration> {
        let date = httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// The value of a `Date` field (RFC 9110 §6.6.1), written anew when a second of [`Clock::now`] has passed.
    pub fn with_date<R>(&self, use_it: impl FnOnce(&[u8]) -> R) -> R {
        let second = self.now.get().0 / 1_000_000 + 1;
        if self.date_of.replace(second) != second {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            *self.date.borrow_mut() = httpdate::fmt_http_date(UNIX_EPOCH + since_epoch);
        }
        use_it(self.date.borrow().as_bytes())
    }
}
