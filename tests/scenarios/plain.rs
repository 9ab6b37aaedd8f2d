//! plain: to come.
