//! h2: HTTP/2 (RFC 9113), as bytes that are handed over and bytes that are to be sent.

pub mod hpack;
