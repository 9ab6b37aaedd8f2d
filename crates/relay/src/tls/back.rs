//! Back: how the hosts of a pool are shaken hands with.

use super::{Certificate, Certificates, Roots, provider};
use crate::plan::PoolTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

/// How the hosts of one pool are shaken hands with. Sessions are kept by the name that was proved, and for this pool alone (attack D11).
#[derive(Debug)]
pub struct Back {
    config: Arc<ClientConfig>,
    plan: PoolTls,
    roots: Option<Arc<Roots>>,
    identity: Option<Arc<Certificate>>,
}

/// How one host is shaken hands with.
#[derive(Clone, Debug)]
pub struct Behind {
    back: Arc<Back>,
    /// What the host has to prove, and is asked for.
    name: ServerName<'static>,
}

impl Back {
    /// As the plan of a pool wants it; `old` when that is the same.
    pub fn compile(
        plan: &PoolTls,
        certificates: &Certificates,
        old: Option<&Arc<Back>>,
    ) -> Result<Arc<Back>, String> {
        let roots = match plan.insecure {
            true => None,
            false => Some(certificates.roots.get(&plan.ca).ok_or("the roots have not been read")?),
        };
        let identity = match &plan.identity {
            None => None,
            Some(files) => {
                let missing =
                    || format!("the certificate `{}` has not been read", files.certificate.display());
                Some(certificates.pairs.get(files).ok_or_else(missing)?)
            }
        };
        if let Some(old) = old
            && old.plan == *plan
            && is_same(old.roots.as_ref(), roots)
            && is_same(old.identity.as_ref(), identity)
        {
            return Ok(Arc::clone(old));
        }
        let config = configured(roots, identity).map_err(|error| error.to_string())?;
        let (roots, identity) = (roots.cloned(), identity.cloned());
        Ok(Arc::new(Back { config: Arc::new(config), plan: plan.clone(), roots, identity }))
    }

    /// For a host of this name or address, unless the pool says which name its hosts have.
    pub fn behind(self: &Arc<Back>, host: &str) -> Result<Behind, String> {
        let host = self.plan.name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| format!("`{host}` is no name that a certificate can prove"))?;
        Ok(Behind { back: Arc::clone(self), name })
    }
}

impl Behind {
    /// A handshake with the host.
    pub fn connection(&self) -> Result<UnbufferedClientConnection, Error> {
        UnbufferedClientConnection::new(Arc::clone(&self.back.config), self.name.clone())
    }

    /// Whether another handshake with the host would be the same.
    pub fn is_same(&self, other: &Behind) -> bool {
        Arc::ptr_eq(&self.back, &other.back) && self.name == other.name
    }
}

fn is_same<T>(old: Option<&Arc<T>>, new: Option<&Arc<T>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        (None, None) => true,
        _ => false,
    }
}

fn configured(
    roots: Option<&Arc<Roots>>,
    identity: Option<&Arc<Certificate>>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(Arc::clone(&roots.store)),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider()))),
    };
    let mut config = match identity {
        Some(own) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&own.key))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Believes anybody (`tls insecure`); only that the peer has the key that it shows is proved.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
