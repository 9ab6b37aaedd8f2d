//! Proofs: the certificates that are shown to a CA and to nobody else, so that it believes that a name is ours (RFC 8737).

use super::{Flaw, provider};
use crate::tls::certificate::key_of;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::collections::HashMap;
use std::sync::Arc;

/// What a client offers to speak that wants to see such a certificate, and nothing else.
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// The certificates of the names that are being proved now.
#[derive(Clone, Debug, Default)]
pub struct Proofs(HashMap<Box<str>, Arc<ServerConfig>>);

impl Proofs {
    /// Shows `certificate`, as DER, with its key in PEM, to whoever wants a proof for `name`.
    pub fn show(&mut self, name: &str, certificate: Vec<u8>, key: &[u8]) -> Result<(), Flaw> {
        let key = key_of(key)?;
        let refused = |error: rustls::Error| super::certificate::refused(&error);
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(refused)?.with_no_client_auth();
        let key = provider().key_provider.load_private_key(key).map_err(refused)?;
        // The library would look at it and find an extension that has to be understood and that it does not know (RFC 8737 §3).
        let own = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.send_tls13_tickets = 0;
        self.0.insert(name.into(), Arc::new(config));
        Ok(())
    }

    /// Does not show it any more.
    pub fn hide(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Whether nothing is shown.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are shown.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A handshake with a CA that wants to see that `name` is ours.
    pub fn connection(&self, name: &str) -> Option<UnbufferedServerConnection> {
        UnbufferedServerConnection::new(Arc::clone(self.0.get(name)?)).ok()
    }
}
