//! TLS at rest: certificates, which of them a name gets, and what a handshake has to be like; `accept/tls` shakes hands with it.

mod certificate;
mod choices;
mod front;

pub use certificate::{Certificate, Flaw, Part};
pub use choices::Choices;
pub use front::{Front, Fronts, Policy, Secured};

use crate::plan::CertificateFiles;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Every certificate that a plan names, read.
pub type Certificates = HashMap<CertificateFiles, Arc<Certificate>>;

/// The one provider of cryptography: given everywhere, so that no default decides. X25519MLKEM768 goes first.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}
