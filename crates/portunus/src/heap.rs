//! heap: the allocator, and what it gives back to the system after a reload. Needs unsafe: the allocator is written in C.

use portunus_control::apply::Supervisor;
use std::ffi::{c_int, c_long};
use std::sync::Arc;
use std::time::Duration;

/// Connections and configurations are many small pieces of memory (docs/decisions/0009).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long connections have to go over to a new configuration, before the memory of the old one is looked for.
const SETTLE: Duration = Duration::from_millis(500);

/// Gives back what the configurations before have left, after each reload. The allocator would keep it for one that comes soon.
pub async fn tidy(supervisor: Arc<Supervisor>) {
    let mut changes = supervisor.changes();
    drop(supervisor);
    while changes.changed().await.is_ok() {
        // What other threads let go of until then is given back at once.
        let usual = set_purge_delay(0);
        tokio::time::sleep(SETTLE).await;
        set_purge_delay(usual); // without a delay, what was to be given back later is not looked for
        // Where configurations are read, so that what that thread has kept for itself is among it.
        let _ = tokio::task::spawn_blocking(collect).await;
    }
}

#[allow(unsafe_code)]
fn collect() {
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: mimalloc's own function, linked with the allocator above; it may be called by any thread at any time and
    // touches memory only that is free.
    unsafe { mi_collect(true) }
}

/// For how many milliseconds memory that has become free is kept; gives what it was before.
#[allow(unsafe_code)]
fn set_purge_delay(milliseconds: c_long) -> c_long {
    /// `mi_option_purge_delay` in mimalloc.h, of its versions 2 and 3.
    const PURGE_DELAY: c_int = 15;
    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
        fn mi_option_set(option: c_int, value: c_long);
    }
    // SAFETY: mimalloc's own functions, linked with the allocator above; an option is a number that any thread may read and
    // write at any time.
    unsafe {
        let before = mi_option_get(PURGE_DELAY);
        mi_option_set(PURGE_DELAY, milliseconds);
        before
    }
}
