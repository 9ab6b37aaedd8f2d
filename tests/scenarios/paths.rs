//! paths: to come.
