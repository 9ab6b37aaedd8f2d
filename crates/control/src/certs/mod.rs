//! Certificates that run stay those that are asked for.

mod files;

pub use files::watch;
