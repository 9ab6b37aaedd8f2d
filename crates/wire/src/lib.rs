//! x
pub mod websocket;
