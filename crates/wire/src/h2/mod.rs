//! h2: the bytes of HTTP/2 (RFC 9113) ⇄ messages: frames, blocks of fields, and the heads that stand in them.

pub mod frame;
pub mod give;
pub mod hpack;
pub mod passing;
pub mod take;

#[cfg(test)]
mod tests;
