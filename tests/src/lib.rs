//! portunus-tests: a client, the real program and an origin, each with a script; scenarios/ holds one topic a file.
//!
//! The program is driven only from outside: a configuration, sockets, signals, its log and its admin socket. Nothing here
//! uses the program's own crates, so that a mistake in its grammar cannot hide itself. Nothing sleeps: everything that
//! waits, waits for an event, with a deadline. Ports are the kernel's choice.

pub mod attack;
pub mod binary;
pub mod blackhole;
pub mod client;
pub mod h2;
pub mod h2_origin;
pub mod h2_rules;
pub mod hpack;
#[cfg(feature = "acme-dns")]
pub mod knot;
pub mod load;
pub mod message;
pub mod nameserver;
pub mod origin;
#[cfg(feature = "tls")]
pub mod pebble;
pub mod place;
pub mod proxy;
#[cfg(feature = "tls")]
pub mod tls;
pub mod wire;

pub use blackhole::Blackhole;
pub use client::Client;
pub use h2::H2;
pub use message::{Fields, Request, Response};
pub use origin::{Answer, Connection, Origin};
pub use place::{Place, Port, eventually};
pub use proxy::{Proxy, Run};
pub use wire::Fault;
