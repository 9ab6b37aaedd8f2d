//! h1: HTTP/1.0 and HTTP/1.1, strictly (RFC 9112); heads are found by `scan`, read by `parse`, written by `emit`.

pub mod chunks;
mod control;
pub mod emit;
pub mod framing;
pub mod parse;
pub mod scan;
#[cfg(test)]
mod tests;

pub use chunks::{Chunks, Piece};
pub use framing::Framing;
pub use parse::{RequestHead, ResponseHead};
pub use scan::{HeadBounds, Scan};

/// The versions of HTTP that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945): one exchange to a connection unless both sides say otherwise; no chunks.
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}
