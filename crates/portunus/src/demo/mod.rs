//! demo: see it work in one command — three small servers behind a proxy, and what to try.

mod live;
mod server;
mod websocket;

use crate::boot;
use crate::exit::Exit;
use crate::output::say;
use portunus_control::apply::Supervisor;
use portunus_control::source::Source;
use server::{Server, start};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

/// Runs the demo on 127.0.0.1, at `port`, until somebody ends it.
pub fn demo(port: u16) -> Result<(), Exit> {
    refuse_taken(port)?;
    let servers =
        start(&NAMES).map_err(|error| Exit::failed(format_args!("cannot start the servers: {error}")))?;
    let source = Source::Text { name: "the demo's configuration".into(), text: config(port, &servers) };
    boot::live(source, move |supervisor| {
        let address = supervisor.running().sockets.addresses().join(", ");
        // Whoever does not want to read it can still use it.
        let _ = say(&story(&address, &servers));
        show(supervisor, servers);
    })
}

fn show(supervisor: &Arc<Supervisor>, servers: Vec<Server>) {
    tokio::spawn(live::line(Arc::clone(supervisor), servers));
}

fn refuse_taken(port: u16) -> Result<(), Exit> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let other = port.checked_add(1).unwrap_or(8080);
            Err(Exit::listen(format_args!(
                "port {port} is taken by another program; try `portunus demo --port {other}`"
            )))
        }
        Err(error) => Err(Exit::listen(format_args!("cannot listen at 127.0.0.1:{port}: {error}"))),
    }
}

/// The demo's configuration: nothing in it is special.
fn config(port: u16, servers: &[Server]) -> String {
    let list: String = servers.iter().map(|server| format!("    server {}\n", server.address)).collect();
    let echo = servers.first().map(|server| server.address.to_string()).unwrap_or_default();
    format!(
        "admin off\n\
         log level warn\n\
         grace 1s\n\
         pool origins {{\n{list}    balance round-robin\n}}\n\
         site * {{\n    listen 127.0.0.1:{port}\n    route /echo {{ proxy {echo} }}\n    proxy origins\n}}\n"
    )
}

fn story(address: &str, servers: &[Server]) -> String {
    let list: Vec<_> = servers.iter().map(|server| format!("{} ({})", server.name, server.address)).collect();
    let failing = NAMES.last().copied().unwrap_or_default();
    format!(
        "Portunus listens at http://{address} and shares the requests among three small servers:\n  {}\n\n\
         Try, in another terminal:\n\n\
         1. requests are balanced\n   for i in 1 2 3 4 5 6; do curl -s http://{address}/; done\n\n\
         2. a WebSocket passes: the server says the text after the `?`, then echoes what it is sent\n   \
         curl -sN --max-time 1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
         -H 'Sec-WebSocket-Key: cG9ydHVudXMtZGVtby0wMQ==' 'http://{address}/echo?hello'; echo\n\n\
         3. {failing} breaks every connection that asks for /flaky, and nobody notices: the request is tried again elsewhere\n   \
         for i in 1 2 3 4 5 6; do curl -s -w '%{{http_code}}\\n' http://{address}/flaky; done\n\n\
         Ctrl-C ends it.\n",
        list.join(", ")
    )
}

/// The servers; the last one is the one that fails.
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_with_the_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let exit = refuse_taken(taken.local_addr().unwrap().port()).unwrap_err();
        assert!(format!("{exit:?}").contains("--port"));
    }
}
