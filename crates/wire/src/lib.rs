//! The grammars: bytes ⇄ messages. Fed by the caller; no sockets, no clock, no async; fuzzed.

pub mod convert;
pub mod h1;
pub mod h2;
pub mod hello;
pub mod hop;
pub mod preface;
pub mod websocket;
