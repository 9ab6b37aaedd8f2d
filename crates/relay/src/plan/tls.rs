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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The oldest version that is spoken.
    pub from: TlsVersion,
    /// Whether clients are asked for a certificate; none: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
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
