//! routing: to come.
