//! reload: to come.
