//! acme: where certificates come from that nobody wrote down, as the operator meant it.

use super::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Let's Encrypt.
const USUAL: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// A name that is to have a certificate without the operator's doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wanted {
    /// The name or the address, in normal form; `*.` in front stands for one label.
    pub name: String,
    /// Who shall sign it.
    pub by: Signer,
}

/// Who signs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    /// One of the CAs of `acme`.
    Acme,
    /// An authority of our own, which nobody believes but those who were told to.
    Internal,
}

/// How certificates are got from a CA (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Acme {
    /// Where a CA can write to when something is wrong with a certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<String>,
    /// The CAs: the next one is asked when the one before does not give a certificate.
    pub authorities: Vec<AcmeAuthority>,
    /// How it is shown that a name is ours, the preferred first; empty: what the listeners allow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<Challenge>,
    /// Who puts records into the DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Who is asked whether a name shall have a certificate that somebody asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
}

impl Default for Acme {
    fn default() -> Acme {
        Acme {
            email: Vec::new(),
            authorities: vec![AcmeAuthority::at(USUAL.to_owned())],
            challenges: Vec::new(),
            dns: None,
            ask: None,
        }
    }
}

impl Acme {
    /// The files of those whose certificates are believed when the CAs are spoken with.
    pub fn trusts(&self) -> impl Iterator<Item = Option<PathBuf>> {
        self.authorities.iter().map(|authority| authority.trust.clone())
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Acme::default()
    }
}

/// A CA that speaks ACME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AcmeAuthority {
    /// The URL of its directory.
    pub directory: String,
    /// The account that the operator has with it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account: Option<ExternalAccount>,
    /// Whose certificates are believed when it is spoken with, a file in PEM; none: those that the system believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<PathBuf>,
    /// Which of its kinds of certificates is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

impl AcmeAuthority {
    /// The one at this directory, without anything else.
    pub fn at(directory: String) -> AcmeAuthority {
        AcmeAuthority { directory, external_account: None, trust: None, profile: None }
    }
}

/// An account with a CA that was made by other means (RFC 8555 §7.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExternalAccount {
    /// What the CA calls it.
    pub id: String,
    /// The key that the CA has given for it, in base64url.
    pub key: Text,
}

/// How it is shown to a CA that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Challenge {
    /// By an answer at port 80 (RFC 8555 §8.3).
    #[serde(rename = "http-01")]
    Http,
    /// By a handshake at port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
    /// By a record in the DNS (RFC 8555 §8.4).
    #[serde(rename = "dns-01")]
    Dns,
}

/// Who puts records into the DNS and takes them out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dns {
    /// A program of the operator's.
    Exec(DnsHook),
    /// A provider that this program speaks with itself.
    Provider(DnsProvider),
}

/// A program that puts records into the DNS and takes them out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DnsHook {
    /// The program and its first arguments.
    pub command: Vec<String>,
    /// How long a record needs until everybody sees it.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub wait: Duration,
}

/// A provider of DNS, or a name server, that takes changes from this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DnsProvider {
    /// Which one.
    pub name: String,
    /// The zone that the records are in; none: it is found by asking for one name after the other, from the longest on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What it has to be told: keys, tokens, where it is.
    pub settings: BTreeMap<String, Text>,
    /// How long a record needs until everybody sees it.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub wait: Duration,
}
