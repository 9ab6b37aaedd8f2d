//! A connection becomes exchanges.

mod guard;
pub mod h1;
pub mod h2;
