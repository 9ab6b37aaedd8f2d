//! attacks_framing: to come.
