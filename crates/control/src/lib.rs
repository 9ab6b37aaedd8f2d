//! The control plane: keeps what runs equal to what was asked.

pub mod admin;
pub mod apply;
pub mod canary;
pub mod discover;
pub mod floor;
pub mod observe;
pub mod rounds;
pub mod source;
pub mod watch;
