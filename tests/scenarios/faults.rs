//! faults: to come.
