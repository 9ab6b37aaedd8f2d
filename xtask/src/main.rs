//! The project's own chores: test, tidy, map.
fn main() {}
