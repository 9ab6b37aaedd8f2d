//! headers: to come.
