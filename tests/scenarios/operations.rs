//! operations: to come.
