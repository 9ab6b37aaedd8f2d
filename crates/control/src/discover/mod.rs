//! The changing hosts of a pool.

pub mod dns;
