//! The control plane: keeps what runs equal to what was asked.

pub mod admin;
pub mod apply;
pub mod automatic;
pub mod boards;
pub mod canary;
pub mod certs;
pub mod described;
pub mod discover;
pub mod floor;
pub mod health;
pub mod kept;
pub mod legacy;
pub mod memory;
pub mod observe;
pub mod resolve;
pub mod rounds;
pub mod source;
pub mod state;
pub mod watch;
pub mod wishes;
