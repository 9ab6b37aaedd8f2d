//! Roots: whose certificates are believed.

use super::certificate::{Flaw, Part, flaw};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Authorities whose signatures are believed.
#[derive(Debug)]
pub struct Roots {
    pub(super) store: Arc<RootCertStore>,
    /// Those that the operator gave, whole.
    given: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Those in a file in PEM. One that cannot be read is a reason to refuse all: nobody shall be believed by accident (attack D8).
    pub fn read(text: &[u8]) -> Result<Roots, Flaw> {
        let broken = || flaw(Part::Certificate, "holds a broken certificate");
        let (mut store, mut given) = (RootCertStore::empty(), Vec::new());
        for certificate in CertificateDer::pem_slice_iter(text) {
            let certificate = certificate.map_err(|_| flaw(Part::Certificate, "is broken PEM"))?;
            store.add(certificate.clone()).map_err(|_| broken())?;
            given.push(certificate);
        }
        if store.is_empty() {
            return Err(Flaw {
                hint: Some("it has to be PEM, which begins with `-----BEGIN CERTIFICATE-----`".to_owned()),
                ..flaw(Part::Certificate, "holds no certificate")
            });
        }
        Ok(Roots { store: Arc::new(store), given })
    }

    /// Those that the system trusts, each as DER. Among so many a few may be too old to be understood.
    pub fn of_system(all: impl IntoIterator<Item = Vec<u8>>) -> Option<Roots> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(all.into_iter().map(CertificateDer::from));
        (!store.is_empty()).then(|| Roots { store: Arc::new(store), given: Vec::new() })
    }

    /// How the control plane shakes hands with servers that have to be believed, over HTTP/1.1.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let builder = ClientConfig::builder_with_provider(super::provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let verifier = self.verifier().map_err(|error| error.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Who decides whether a server is believed.
    pub(super) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.store), super::provider());
        Ok(Arc::new(OrItself { given: self.given.clone(), inner: inner.build()? }))
    }

    /// Whether both believe the same.
    pub fn is_same(&self, other: &Roots) -> bool {
        self.store.roots == other.store.roots && self.given == other.given
    }
}

/// Believes what the authorities have signed, and a server that shows the very certificate that the operator has given: one that has signed itself is
/// marked as an authority by most tools, which no server may be otherwise.
#[derive(Debug)]
struct OrItself {
    given: Vec<CertificateDer<'static>>,
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OrItself {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.given.iter().any(|given| given == shown) {
            return self.inner.verify_server_cert(shown, between, name, ocsp, now);
        }
        verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        let (_, parsed) =
            X509Certificate::from_der(shown).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if at > parsed.validity().not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        if at < parsed.validity().not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificate::tests::made;

    #[test]
    fn a_certificate_that_was_given_is_believed_for_its_names_and_its_time() {
        let (pem, _) = made(&["a.example"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let (other, _) = made(&["a.example"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let verifier = Roots::read(pem.as_bytes()).unwrap().verifier().unwrap();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let verify = |pem: &str, name: &'static str, now| {
            let name = ServerName::try_from(name).unwrap();
            verifier.verify_server_cert(&der(pem), &[], &name, &[], now).is_ok()
        };
        let now = UnixTime::now();
        assert!(verify(&pem, "a.example", now));
        assert!(!verify(&pem, "b.example", now));
        assert!(!verify(&other, "a.example", now));
        assert!(!verify(&pem, "a.example", UnixTime::since_unix_epoch(std::time::Duration::ZERO)));
    }

    #[test]
    fn a_certificate_that_is_renewed_with_its_key_is_another_one() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = |year| {
            let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            Roots::read(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap()
        };
        let (before, after) = (made(2040), made(2041));
        assert_eq!(before.store.roots, after.store.roots);
        assert!(!before.is_same(&after) && before.is_same(&before));
    }
}
