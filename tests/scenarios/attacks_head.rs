//! attacks_head: to come.
