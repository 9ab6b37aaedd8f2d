//! Choices: which certificate a name gets — its own first, then that of its wildcard, then the site's first; one lookup, however many there are.

use super::Certificate;
use foldhash::fast::FixedState;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The certificates of one site. Its keys are the operator's, so nobody can make them collide.
#[derive(Debug, Default)]
pub struct Choices {
    exact: HashMap<Box<str>, Choice, FixedState>,
    /// Without their `*.`.
    under: HashMap<Box<str>, Choice, FixedState>,
    /// For names that none of them proves: the operator has given them to this site all the same.
    other: Choice,
    /// For clients that name nobody, where these are others.
    nameless: Choice,
}

/// Certificates for one name, each with another kind of key; the preferred first.
type Choice = Vec<Arc<Certificate>>;

impl Choices {
    /// Those of a site, as written: of two for the same name with the same kind of key the first is used.
    pub fn new(certificates: impl Iterator<Item = Arc<Certificate>>) -> Choices {
        let mut choices = Choices::default();
        for certificate in certificates {
            choices.add(&certificate);
            add(&mut choices.other, &certificate);
        }
        choices
    }

    /// Those of a site that shows none of them for a name that it does not prove; who names nobody gets the first.
    pub fn only(certificates: impl Iterator<Item = Arc<Certificate>>) -> Choices {
        let mut choices = Choices::default();
        for certificate in certificates {
            choices.add(&certificate);
            add(&mut choices.nameless, &certificate);
        }
        choices
    }

    /// One more, for the names that it proves and no other.
    pub fn add(&mut self, certificate: &Arc<Certificate>) {
        for name in &certificate.names {
            let table = match name.strip_prefix("*.") {
                Some(_) => &mut self.under,
                None => &mut self.exact,
            };
            if is_address(name) {
                add(&mut self.nameless, certificate);
            }
            let name = name.strip_prefix("*.").unwrap_or(name);
            match table.get_mut(name) {
                Some(choice) => add(choice, certificate),
                None => _ = table.insert(name.into(), vec![Arc::clone(certificate)]),
            }
        }
    }

    /// Those for `name`, which is in lower case; the preferred first.
    pub fn of(&self, name: Option<&str>) -> &[Arc<Certificate>] {
        let exact = name.and_then(|name| self.exact.get(name));
        let under = || name.and_then(|name| self.under.get(name.split_once('.')?.1));
        match name {
            None if !self.nameless.is_empty() => &self.nameless,
            _ => exact.or_else(under).unwrap_or(&self.other),
        }
    }
}

/// Whether a name in normal form is an address.
fn is_address(name: &str) -> bool {
    name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

fn add(choice: &mut Choice, certificate: &Arc<Certificate>) {
    let at = choice.partition_point(|known| known.rank() < certificate.rank());
    if choice.get(at).is_none_or(|known| known.rank() != certificate.rank()) {
        choice.insert(at, Arc::clone(certificate));
    }
}

impl ResolvesServerCert for Choices {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let choice = self.of(name.as_deref());
        let fits = |one: &&Arc<Certificate>| {
            let key = &one.key.key;
            key.choose_scheme(hello.signature_schemes()).is_some()
                && has_suite(hello.cipher_suites(), key.algorithm())
        };
        choice.iter().find(fits).or(choice.first()).map(|one| Arc::clone(&one.key))
    }
}

/// Whether one of these suites can be used with such a key. In TLS 1.3 all can (RFC 8446 §B.4); before, the suite says it.
fn has_suite(suites: &[CipherSuite], algorithm: SignatureAlgorithm) -> bool {
    use CipherSuite as Suite;
    suites.iter().any(|suite| match suite {
        Suite::TLS13_AES_128_GCM_SHA256
        | Suite::TLS13_AES_256_GCM_SHA384
        | Suite::TLS13_CHACHA20_POLY1305_SHA256 => true,
        Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => algorithm == SignatureAlgorithm::RSA,
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => algorithm != SignatureAlgorithm::RSA,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::made;
    use super::*;

    fn certificate(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<Certificate> {
        let (chain, key) = made(names, algorithm);
        Arc::new(Certificate::read(chain.as_bytes(), key.as_bytes()).unwrap())
    }

    #[test]
    fn its_own_goes_first_then_the_wildcard_then_the_first_one() {
        let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
        let all = [&["first.example"][..], &["*.example", "y.example"], &["x.example"], &["x.example"]]
            .map(|names| certificate(names, ecdsa));
        let choices = Choices::new(all.iter().cloned());
        let chosen = |name| {
            let choice = choices.of(name);
            assert_eq!(choice.len(), 1);
            all.iter().position(|one| Arc::ptr_eq(one, &choice[0])).unwrap()
        };
        assert_eq!(chosen(Some("x.example")), 2);
        assert_eq!(chosen(Some("y.example")), 1);
        assert_eq!(chosen(Some("z.example")), 1);
        assert_eq!(chosen(Some("a.z.example")), 0);
        assert_eq!(chosen(None), 0);
    }

    #[test]
    fn names_that_get_their_own_see_no_other() {
        let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
        let all = [&["a.example"][..], &["b.example"]].map(|names| certificate(names, ecdsa));
        let choices = Choices::only(all.iter().cloned());
        assert!(Arc::ptr_eq(&choices.of(Some("b.example"))[0], &all[1]));
        assert!(choices.of(Some("c.example")).is_empty());
        assert!(Arc::ptr_eq(&choices.of(None)[0], &all[0]));
    }

    #[test]
    fn ten_thousand_certificates_are_one_lookup() {
        let one = certificate(&["x.example"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let named = |name: String| {
            Arc::new(Certificate {
                key: Arc::clone(&one.key),
                names: vec![name],
                not_before: 0,
                not_after: 0,
                dates: Default::default(),
                must_staple: false,
            })
        };
        let all: Vec<_> = (0..10_000)
            .map(|at| named(if at % 2 == 0 { format!("x{at}.example") } else { format!("*.y{at}.example") }))
            .collect();
        let choices = Choices::new(all.iter().cloned());
        for (at, own) in all.iter().enumerate() {
            let name = if at % 2 == 0 { format!("x{at}.example") } else { format!("a.y{at}.example") };
            // One that fits and nothing to choose among: what a handshake looks at does not grow.
            let [found] = choices.of(Some(&name)) else { panic!("{name}") };
            assert!(Arc::ptr_eq(found, own), "{name}");
        }
        assert_eq!((choices.exact.len(), choices.under.len(), choices.other.len()), (5000, 5000, 1));
    }

    #[test]
    fn elliptic_curves_go_before_rsa_and_both_are_kept() {
        let rsa = certificate(&["x.example"], &rcgen::PKCS_RSA_SHA256);
        let ecdsa = certificate(&["x.example"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let choices = Choices::new([&rsa, &ecdsa].into_iter().cloned());
        let ranks: Vec<u8> = choices.of(Some("x.example")).iter().map(|one| one.rank()).collect();
        assert_eq!(ranks, [0, 2]);
        let old = [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
        assert!(has_suite(&old, SignatureAlgorithm::RSA) && !has_suite(&old, SignatureAlgorithm::ECDSA));
    }
}
