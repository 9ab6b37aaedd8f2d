//! filters: to come.
