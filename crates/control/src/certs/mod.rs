//! Certificates that run stay those that are asked for.

mod acme;
mod authority;
pub mod automatic;
mod files;
mod keeper;
mod note;
mod schedule;
mod store;

pub use authority::Authority;
pub use files::watch;
pub use keeper::keep;
pub use store::{Disk, Held, Store};
