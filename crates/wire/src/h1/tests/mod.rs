//! tests: the rows of attack, and properties that hold for all bytes.
