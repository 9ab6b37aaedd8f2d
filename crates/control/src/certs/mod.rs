//! Certificates that run stay those that are asked for.

mod acme;
mod files;
mod keeper;
mod note;
mod schedule;

pub use files::watch;
pub use keeper::keep;
