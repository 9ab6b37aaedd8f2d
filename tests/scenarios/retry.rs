//! retry: to come.
