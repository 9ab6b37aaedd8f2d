//! websocket: the key and its accept value of the handshake (RFC 6455 §4; attack J1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What RFC 6455 §1.3 appends to every key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether `key` is what `Sec-WebSocket-Key` must hold: 16 bytes in base64.
pub fn is_key(key: &[u8]) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

/// The `Sec-WebSocket-Accept` that belongs to `key`.
pub fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = [0; 28];
    // Invariant: 20 bytes are always 28 characters of base64, so there is room.
    let written = STANDARD.encode_slice(digest, &mut text);
    debug_assert_eq!(written, Ok(28));
    text
}

/// Whether an upstream that answered `accept` has understood `key`. A tunnel may be opened only then.
pub fn accepts(key: &[u8], answer: &[u8]) -> bool {
    accept(key) == answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j1_the_accept_value_is_that_of_rfc_6455() {
        let key = b"dGhlIHNhbXBsZSBub25jZQ==";
        assert!(is_key(key));
        assert_eq!(&accept(key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accepts(key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!accepts(key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo"));
        assert!(!accepts(key, b""));
    }

    #[test]
    fn j1_a_key_is_sixteen_bytes() {
        for bad in [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZQ=!",
            "dGhlIHNhbXBsZSBub25jZWFh",
        ] {
            assert!(!is_key(bad.as_bytes()), "{bad}");
        }
    }
}
