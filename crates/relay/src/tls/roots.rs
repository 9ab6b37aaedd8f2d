//! Roots: whose certificates are believed.

use super::certificate::{Flaw, Part, flaw};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// Authorities whose signatures are believed.
#[derive(Debug)]
pub struct Roots {
    pub(super) store: Arc<RootCertStore>,
}

impl Roots {
    /// Those in a file in PEM. One that cannot be read is a reason to refuse all: nobody shall be believed by accident (attack D8).
    pub fn read(text: &[u8]) -> Result<Roots, Flaw> {
        let broken = || flaw(Part::Certificate, "holds a broken certificate");
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(text) {
            let certificate = certificate.map_err(|_| flaw(Part::Certificate, "is broken PEM"))?;
            store.add(certificate).map_err(|_| broken())?;
        }
        if store.is_empty() {
            return Err(Flaw {
                hint: Some("it has to be PEM, which begins with `-----BEGIN CERTIFICATE-----`".to_owned()),
                ..flaw(Part::Certificate, "holds no certificate")
            });
        }
        Ok(Roots { store: Arc::new(store) })
    }

    /// Those that the system trusts, each as DER. Among so many a few may be too old to be understood.
    pub fn of_system(all: impl IntoIterator<Item = Vec<u8>>) -> Option<Roots> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(all.into_iter().map(CertificateDer::from));
        (!store.is_empty()).then(|| Roots { store: Arc::new(store) })
    }

    /// How the control plane shakes hands with servers that have to be believed, over HTTP/1.1.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let builder = ClientConfig::builder_with_provider(super::provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let mut config = builder.with_root_certificates(Arc::clone(&self.store)).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Whether both believe the same.
    pub fn is_same(&self, other: &Roots) -> bool {
        self.store.roots == other.store.roots
    }
}
