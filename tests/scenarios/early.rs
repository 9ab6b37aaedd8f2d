//! early: to come.
