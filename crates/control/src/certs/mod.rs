//! Certificates that run stay those that are asked for.

mod acme;
mod due;
mod files;
mod job;
mod keeper;
mod note;
mod permission;
mod schedule;

pub use acme::{Cleanups, HAS_PROVIDERS};
pub use files::watch;
pub use keeper::keep;
