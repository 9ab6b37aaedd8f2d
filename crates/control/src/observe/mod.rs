//! Records in, the outside world out.

pub mod access_log;
pub mod log;
pub mod metrics;
pub mod process;
pub mod wall;
