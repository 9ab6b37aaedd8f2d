//! real: to come.
