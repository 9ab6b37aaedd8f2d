//! tls: how a site speaks TLS, as the operator meant it.

use super::{Listen, Signer, Wanted};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a site speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SiteTls {
    /// Where it does; the site's other listeners are plain.
    pub listen: Vec<Listen>,
    /// What it proves its names with.
    #[serde(default)]
    pub certificates: Vec<CertificateFiles>,
    /// The names that get their certificates without the operator's doing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub automatic: Vec<Wanted>,
    /// Who signs certificates for its names that are not known before somebody asks for them; none: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<Signer>,
    /// What a handshake has to be like.
    #[serde(default)]
    pub settings: TlsSettings,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate, and behind it those between it and a root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// How the hosts of a pool are spoken with over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct PoolTls {
    /// Whose certificates are believed, a file in PEM; none: those that the system believes.
    pub ca: Option<PathBuf>,
    /// Whether anybody is believed.
    pub insecure: bool,
    /// What the hosts have to prove, and are asked for; none: each its own name or address.
    pub name: Option<String>,
    /// What the proxy proves itself with.
    pub identity: Option<CertificateFiles>,
}

/// What a handshake has to be like. Sites with the same settings have the same policy: a session of one may be resumed
/// at the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The oldest version that is spoken.
    pub from: TlsVersion,
    /// The newest one.
    #[serde(skip_serializing_if = "TlsVersion::is_newest")]
    pub to: TlsVersion,
    /// The suites that are spoken, the preferred first; empty: all that are safe. Clients that put ChaCha20 first get it when it is
    /// among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<TlsSuite>,
    /// How keys may be agreed on, the preferred first; empty: all that are safe, X25519MLKEM768 first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<TlsCurve>,
    /// Whether clients are asked for a certificate; none: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        let (from, to) = (TlsVersion::V12, TlsVersion::V13);
        TlsSettings { from, to, suites: Vec::new(), curves: Vec::new(), client_auth: None }
    }
}

impl TlsSettings {
    /// Whether this version is spoken.
    pub fn speaks(&self, version: TlsVersion) -> bool {
        self.from <= version && version <= self.to
    }
}

/// Clients are asked for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClientAuth {
    /// Whether those without one are turned away.
    pub required: bool,
    /// Whose certificates are believed, a file in PEM.
    pub ca: PathBuf,
}

/// A version of TLS.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TlsVersion {
    /// RFC 5246, with authenticated encryption and forward secrecy only.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

impl TlsVersion {
    fn is_newest(&self) -> bool {
        *self == TlsVersion::V13
    }
}

/// A cipher suite, by its name in the IANA registry. Those of TLS 1.2 are for one kind of certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum TlsSuite {
    #[serde(rename = "TLS_AES_128_GCM_SHA256")]
    Aes128,
    #[serde(rename = "TLS_AES_256_GCM_SHA384")]
    Aes256,
    #[serde(rename = "TLS_CHACHA20_POLY1305_SHA256")]
    ChaCha20,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")]
    EcdsaAes128,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")]
    EcdsaAes256,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdsaChaCha20,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")]
    RsaAes128,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")]
    RsaAes256,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256")]
    RsaChaCha20,
}

impl TlsSuite {
    /// All of them, in the order that they are offered in.
    pub const ALL: [TlsSuite; 9] = [
        TlsSuite::Aes128,
        TlsSuite::Aes256,
        TlsSuite::ChaCha20,
        TlsSuite::EcdsaAes128,
        TlsSuite::EcdsaAes256,
        TlsSuite::EcdsaChaCha20,
        TlsSuite::RsaAes128,
        TlsSuite::RsaAes256,
        TlsSuite::RsaChaCha20,
    ];

    /// Its name in the IANA registry.
    pub fn name(self) -> &'static str {
        match self {
            TlsSuite::Aes128 => "TLS_AES_128_GCM_SHA256",
            TlsSuite::Aes256 => "TLS_AES_256_GCM_SHA384",
            TlsSuite::ChaCha20 => "TLS_CHACHA20_POLY1305_SHA256",
            TlsSuite::EcdsaAes128 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            TlsSuite::EcdsaAes256 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            TlsSuite::EcdsaChaCha20 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            TlsSuite::RsaAes128 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            TlsSuite::RsaAes256 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            TlsSuite::RsaChaCha20 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        }
    }

    /// The version that it belongs to.
    pub fn version(self) -> TlsVersion {
        match self {
            TlsSuite::Aes128 | TlsSuite::Aes256 | TlsSuite::ChaCha20 => TlsVersion::V13,
            _ => TlsVersion::V12,
        }
    }

    /// Whether it is for certificates with RSA keys only; none: it is for all.
    pub fn is_for_rsa(self) -> Option<bool> {
        match self {
            TlsSuite::Aes128 | TlsSuite::Aes256 | TlsSuite::ChaCha20 => None,
            TlsSuite::EcdsaAes128 | TlsSuite::EcdsaAes256 | TlsSuite::EcdsaChaCha20 => Some(false),
            TlsSuite::RsaAes128 | TlsSuite::RsaAes256 | TlsSuite::RsaChaCha20 => Some(true),
        }
    }
}

/// A way to agree on keys, by its name in the IANA registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum TlsCurve {
    #[serde(rename = "X25519MLKEM768")]
    X25519MlKem768,
    #[serde(rename = "SecP256r1MLKEM768")]
    P256MlKem768,
    #[serde(rename = "x25519")]
    X25519,
    #[serde(rename = "secp256r1")]
    P256,
    #[serde(rename = "secp384r1")]
    P384,
}

impl TlsCurve {
    /// All of them.
    pub const ALL: [TlsCurve; 5] =
        [TlsCurve::X25519MlKem768, TlsCurve::P256MlKem768, TlsCurve::X25519, TlsCurve::P256, TlsCurve::P384];

    /// Its name in the IANA registry.
    pub fn name(self) -> &'static str {
        match self {
            TlsCurve::X25519MlKem768 => "X25519MLKEM768",
            TlsCurve::P256MlKem768 => "SecP256r1MLKEM768",
            TlsCurve::X25519 => "x25519",
            TlsCurve::P256 => "secp256r1",
            TlsCurve::P384 => "secp384r1",
        }
    }

    /// Whether TLS 1.2 has it as well.
    pub fn is_classic(self) -> bool {
        matches!(self, TlsCurve::X25519 | TlsCurve::P256 | TlsCurve::P384)
    }
}
