//! legacy: what a program finds when it takes another one's place — sockets that listen, the members its pools had.

use portunus_relay::members::Members;
use portunus_relay::net::Given;

/// What was there before this program started.
#[derive(Default)]
pub struct Legacy {
    /// Sockets that listen already.
    pub sockets: Given,
    /// The addresses that names had, and what an operator wanted of hosts; none when there was no predecessor, and
    /// what was kept in a file counts.
    pub members: Option<Members>,
}
