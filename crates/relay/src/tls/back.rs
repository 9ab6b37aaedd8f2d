//! Back: how the hosts of a pool are shaken hands with.

use super::{Certificate, Certificates, Roots, provider};
use crate::plan::{PoolTls, Protocol};
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
    /// The same, for what HTTP/2 cannot carry.
    http1: Arc<ClientConfig>,
    plan: PoolTls,
    protocol: Protocol,
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
        protocol: Protocol,
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
            && old.protocol == protocol
            && is_same(old.roots.as_ref(), roots)
            && is_same(old.identity.as_ref(), identity)
        {
            return Ok(Arc::clone(old));
        }
        let mut config = configured(roots, identity).map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![HTTP1.to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = match protocol {
            Protocol::Auto => vec![HTTP2.to_vec(), HTTP1.to_vec()],
            Protocol::Http1 => vec![HTTP1.to_vec()],
            Protocol::Http2 => vec![HTTP2.to_vec()],
        };
        let (roots, identity, plan) = (roots.cloned(), identity.cloned(), plan.clone());
        Ok(Arc::new(Back { config: Arc::new(config), http1, plan, protocol, roots, identity }))
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
    /// A handshake with the host; `http1`: in which nothing but HTTP/1.1 is offered.
    pub fn connection(&self, http1: bool) -> Result<UnbufferedClientConnection, Error> {
        let config = if http1 { &self.back.http1 } else { &self.back.config };
        UnbufferedClientConnection::new(Arc::clone(config), self.name.clone())
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
    let verifier = match roots {
        Some(roots) => roots.verifier().map_err(|error| Error::General(error.to_string()))?,
        None => Arc::new(Anybody(provider())),
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(match identity {
        Some(own) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&own.key))))
        }
        None => builder.with_no_client_auth(),
    })
}

/// HTTP/1.1, as ALPN calls it (RFC 7301 §6).
const HTTP1: &[u8] = b"http/1.1";
/// HTTP/2 over TLS, as ALPN calls it (RFC 9113 §3.2).
pub const HTTP2: &[u8] = b"h2";

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
