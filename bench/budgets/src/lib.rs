//! What the budgets need: an origin, a client, the program under test, and a heap that counts.

pub mod client;
pub mod heap;
pub mod origin;
pub mod program;

/// Prints what was measured beside what is allowed.
#[allow(clippy::print_stdout)]
pub fn report(what: &str, measured: impl std::fmt::Display, allowed: impl std::fmt::Display) {
    println!("budget: {what}: {measured} (allowed: {allowed})");
}
