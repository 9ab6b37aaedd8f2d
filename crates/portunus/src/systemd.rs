//! systemd: tells the service manager how things stand, when there is one (sd_notify(3)).

use portunus_control::apply::Supervisor;
use rustix::time::{ClockId, clock_gettime};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// Sends `state`, for example `READY=1`. Without a service manager, or when it does not listen, nothing happens.
pub fn notify(state: &str) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = place.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&place),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}

/// Sends that a reload has begun; `Type=notify-reload` wants to know when.
pub fn notify_reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
}

/// Sends a sign of life, when one is wanted, for as long as every worker answers.
pub async fn watchdog(supervisor: Arc<Supervisor>) {
    // It may be meant for another process of the service.
    let is_meant = std::env::var("WATCHDOG_PID").map_or(true, |id| id.parse() == Ok(std::process::id()));
    let wanted = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse::<u64>().ok());
    let Some(wanted) = wanted.filter(|_| is_meant) else { return };
    let mut ticks = tokio::time::interval(Duration::from_micros(wanted / 3).max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        let supervisor = Arc::clone(&supervisor);
        // The counters come from the workers' own threads: whoever sends them is alive.
        if tokio::task::spawn_blocking(move || drop(supervisor.stats())).await.is_ok() {
            notify("WATCHDOG=1");
        }
    }
}
