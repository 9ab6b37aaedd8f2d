//! limits: to come.
