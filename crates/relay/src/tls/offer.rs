//! Offer: which suites and groups a handshake may end with, in whose order.

use super::{provider, suites};
use crate::plan::{TlsCurve, TlsSettings, TlsSuite, TlsVersion};
use rustls::crypto::aws_lc_rs::kx_group as groups;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, SupportedProtocolVersion, version};
use std::sync::Arc;

/// The cryptography of handshakes with these settings.
pub fn provider_of(settings: &TlsSettings) -> Arc<CryptoProvider> {
    let mut own = (*provider()).clone();
    // AES with 128 bits goes first: it is as safe as anybody needs, and the hash that belongs to it makes a handshake cheaper.
    let all = &TlsSuite::ALL[..];
    let wanted = if settings.suites.is_empty() { all } else { &settings.suites };
    let found =
        wanted.iter().filter_map(|wanted| suites::all().iter().find(|own| own.suite() == suite(*wanted)));
    own.cipher_suites = found.copied().collect();
    if !settings.curves.is_empty() {
        own.kx_groups = settings.curves.iter().copied().map(group).collect();
    }
    Arc::new(own)
}

/// The versions that are spoken.
pub fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    let mut spoken = Vec::new();
    if settings.speaks(TlsVersion::V13) {
        spoken.push(&version::TLS13);
    }
    if settings.speaks(TlsVersion::V12) {
        spoken.push(&version::TLS12);
    }
    spoken
}

fn suite(suite: TlsSuite) -> CipherSuite {
    match suite {
        TlsSuite::Aes128 => CipherSuite::TLS13_AES_128_GCM_SHA256,
        TlsSuite::Aes256 => CipherSuite::TLS13_AES_256_GCM_SHA384,
        TlsSuite::ChaCha20 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        TlsSuite::EcdsaAes128 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TlsSuite::EcdsaAes256 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TlsSuite::EcdsaChaCha20 => CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        TlsSuite::RsaAes128 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TlsSuite::RsaAes256 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        TlsSuite::RsaChaCha20 => CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group(curve: TlsCurve) -> &'static dyn SupportedKxGroup {
    match curve {
        TlsCurve::X25519MlKem768 => groups::X25519MLKEM768,
        TlsCurve::P256MlKem768 => groups::SECP256R1MLKEM768,
        TlsCurve::X25519 => groups::X25519,
        TlsCurve::P256 => groups::SECP256R1,
        TlsCurve::P384 => groups::SECP384R1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::NamedGroup;

    #[test]
    fn the_usual_offer_is_modern_and_post_quantum_first() {
        let usual = provider_of(&TlsSettings::default());
        assert_eq!(usual.cipher_suites.len(), 9);
        assert_eq!(usual.kx_groups[0].name(), NamedGroup::X25519MLKEM768);
        let names: Vec<NamedGroup> = usual.kx_groups.iter().map(|group| group.name()).collect();
        let known =
            [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];
        assert_eq!(names, known);
        assert_eq!(versions(&TlsSettings::default()).len(), 2);
    }

    #[test]
    fn every_word_is_what_the_library_calls_so() {
        for known in TlsSuite::ALL {
            let own =
                provider_of(&TlsSettings { suites: vec![known], ..TlsSettings::default() }).cipher_suites[0];
            assert_eq!(format!("{:?}", own.suite()).replace("TLS13_", "TLS_"), known.name());
            let version = own.version().version;
            assert_eq!(version == rustls::ProtocolVersion::TLSv1_3, known.version() == TlsVersion::V13);
        }
        for known in TlsCurve::ALL {
            assert!(format!("{:?}", group(known).name()).eq_ignore_ascii_case(known.name()), "{known:?}");
        }
        let settings = TlsSettings {
            to: TlsVersion::V12,
            suites: vec![TlsSuite::RsaAes256],
            curves: vec![TlsCurve::P384, TlsCurve::P256],
            ..TlsSettings::default()
        };
        let narrow = provider_of(&settings);
        assert_eq!((narrow.cipher_suites.len(), narrow.kx_groups.len()), (1, 2));
        assert_eq!(narrow.kx_groups[0].name(), NamedGroup::secp384r1);
        assert_eq!(versions(&settings)[0].version, rustls::ProtocolVersion::TLSv1_2);
    }
}
