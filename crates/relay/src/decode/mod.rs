//! A connection becomes exchanges.

pub mod h1;
