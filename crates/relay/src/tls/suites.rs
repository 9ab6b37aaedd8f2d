//! suites: the library's cipher suites, which are handed the text of a record in pieces.

use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls12AeadAlgorithm, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CipherSuiteCommon, aws_lc_rs};
use rustls::{ConnectionTrafficSecrets, Error, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};
use std::sync::OnceLock;

/// All that can be spoken, as the library orders them.
pub fn all() -> &'static [SupportedCipherSuite] {
    static ALL: OnceLock<Vec<SupportedCipherSuite>> = OnceLock::new();
    ALL.get_or_init(|| aws_lc_rs::ALL_CIPHER_SUITES.iter().map(in_pieces).collect())
}

/// A suite for as long as the program runs.
fn in_pieces(suite: &SupportedCipherSuite) -> SupportedCipherSuite {
    match suite {
        SupportedCipherSuite::Tls13(own) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&own.common),
                hkdf_provider: own.hkdf_provider,
                aead_alg: Box::leak(Box::new(Pieces13(own.aead_alg))),
                quic: own.quic,
            })))
        }
        SupportedCipherSuite::Tls12(own) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&own.common),
                prf_provider: own.prf_provider,
                kx: own.kx,
                sign: own.sign,
                aead_alg: Box::leak(Box::new(Pieces12(own.aead_alg))),
            })))
        }
    }
}

fn common(own: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon {
        suite: own.suite,
        hash_provider: own.hash_provider,
        confidentiality_limit: own.confidentiality_limit,
    }
}

struct Pieces13(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Pieces13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(InPieces(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Pieces12(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Pieces12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(InPieces(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

/// Shows an encrypter a long text in pieces. It copies what it is shown to behind the head of a record, where nothing is aligned; in one go the C
/// library does that with `rep movsb`, which takes five times as long there on processors of AMD, and longer than the encryption.
struct InPieces(Box<dyn MessageEncrypter>);

impl MessageEncrypter for InPieces {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let OutboundChunks::Single(text) = message.payload else { return self.0.encrypt(message, seq) };
        if !(PIECE + 1..=PIECE * PIECES).contains(&text.len()) {
            return self.0.encrypt(message, seq);
        }
        let mut pieces = [&[][..]; PIECES];
        let mut count = 0;
        for (place, piece) in pieces.iter_mut().zip(text.chunks(PIECE)) {
            *place = piece;
            count += 1;
        }
        let payload = OutboundChunks::new(pieces.get(..count).unwrap_or(&[]));
        self.0.encrypt(OutboundPlainMessage { payload, ..message }, seq)
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        self.0.encrypted_payload_len(length)
    }
}

/// Less than what any C library calls long.
const PIECE: usize = 1 << 10;
/// As many as a record can have.
const PIECES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what it was shown.
    struct Seen(std::sync::mpsc::Sender<(usize, Vec<u8>)>);

    impl MessageEncrypter for Seen {
        fn encrypt(
            &mut self,
            message: OutboundPlainMessage<'_>,
            _: u64,
        ) -> Result<OutboundOpaqueMessage, Error> {
            let pieces = match &message.payload {
                OutboundChunks::Single(_) => 1,
                OutboundChunks::Multiple { chunks, .. } => chunks.len(),
            };
            self.0.send((pieces, message.payload.to_vec())).unwrap();
            Err(Error::EncryptError)
        }

        fn encrypted_payload_len(&self, length: usize) -> usize {
            length
        }
    }

    #[test]
    fn a_text_of_any_length_stays_whole() {
        let (tell, told) = std::sync::mpsc::channel();
        let mut encrypter = InPieces(Box::new(Seen(tell)));
        for (length, expected) in
            [(0, 1), (1, 1), (1024, 1), (1025, 2), (16_383, 16), (16_384, 16), (16_385, 1)]
        {
            let text: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let message = OutboundPlainMessage {
                typ: rustls::ContentType::ApplicationData,
                version: rustls::ProtocolVersion::TLSv1_3,
                payload: OutboundChunks::Single(&text),
            };
            let _ = encrypter.encrypt(message, 0);
            assert_eq!(told.recv().unwrap(), (expected, text), "{length}");
        }
    }

    #[test]
    fn every_suite_of_the_library_is_there() {
        let names =
            |suites: &[SupportedCipherSuite]| suites.iter().map(|one| one.suite()).collect::<Vec<_>>();
        assert_eq!(names(all()), names(aws_lc_rs::ALL_CIPHER_SUITES));
    }
}
