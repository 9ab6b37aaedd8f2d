//! tunnel: to come.
