//! TLS at rest: certificates, which of them a name gets, and what a handshake has to be like; `accept/tls` and `pool/tls` shake hands with it.

mod back;
mod certificate;
mod choices;
mod front;
mod identity;
mod offer;
mod proof;
mod roots;
mod suites;

pub use back::{Back, Behind, HTTP2};
pub use certificate::{Certificate, Flaw, Part};
pub use choices::Choices;
pub use front::{Front, Fronts, Policy, Secured};
pub use identity::identity;
pub use proof::{PROTOCOL as PROOF_PROTOCOL, Proofs};
pub use roots::Roots;

use crate::plan::{CertificateFiles, Wanted};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// All that a plan names of certificates, read.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// Certificates with their keys.
    pub pairs: HashMap<CertificateFiles, Arc<Certificate>>,
    /// Those that nobody wrote down, as far as they are there.
    pub automatic: HashMap<Wanted, Arc<Certificate>>,
    /// Whose certificates are believed, by the file; none: those that the system believes.
    pub roots: HashMap<Option<PathBuf>, Arc<Roots>>,
}

impl Certificates {
    /// What is the same as in `old` becomes that: whatever was made of it goes on.
    pub fn keep(&mut self, old: &Certificates) {
        for (files, own) in &mut self.pairs {
            if let Some(known) = old.pairs.get(files).filter(|known| known.is_same(own)) {
                *own = Arc::clone(known);
            }
        }
        for (file, own) in &mut self.roots {
            if let Some(known) = old.roots.get(file).filter(|known| known.is_same(own)) {
                *own = Arc::clone(known);
            }
        }
    }
}

/// The one provider of cryptography: given everywhere, so that no default decides. X25519MLKEM768 goes first.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let library = aws_lc_rs::default_provider();
        let random = library.secure_random;
        // Its first random number takes 40 ms, which a worker that shakes hands with a server should not have to wait for. Where no thread
        // can be made it is the first handshake that waits.
        let _ = std::thread::Builder::new().name("entropy".into()).spawn(move || random.fill(&mut [0]));
        Arc::new(CryptoProvider { cipher_suites: suites::all().to_vec(), ..library })
    }))
}
