//! Certificate: a chain with its key, proved to fit, and what it says of itself.

use super::provider;
use portunus_message::Target;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use std::net::IpAddr;
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// A certificate with its chain and its key.
#[derive(Debug)]
pub struct Certificate {
    /// What handshakes use.
    pub(super) key: Arc<CertifiedKey>,
    /// The names and addresses that it proves, in normal form; `*.` in front stands for one label.
    pub names: Vec<String>,
    /// From when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    /// The same as dates, for people.
    pub dates: [String; 2],
    /// Whether it tells clients to insist on a stapled answer of OCSP (RFC 7633), which is not sent.
    pub must_staple: bool,
}

/// Which of the two files is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The certificate.
    Certificate,
    /// The key.
    Key,
}

/// Why a certificate and a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Which of them.
    pub part: Part,
    /// Why, behind the name of the file: "holds no certificate".
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Certificate {
    /// Reads a chain and its key, both in PEM.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Certificate, Flaw> {
        let certificates = read_chain(chain)?;
        let key = certified(certificates, key_of(key)?)?;
        let leaf = key.cert.first().map(|leaf| leaf.as_ref()).unwrap_or(&[]);
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|_| flaw(Part::Certificate, "holds a broken certificate"))?;
        let validity = parsed.validity();
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter().filter_map(name).collect());
        Ok(Certificate {
            names: names.unwrap_or_default(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            dates: [date(validity.not_before), date(validity.not_after)],
            must_staple: parsed.extensions().iter().any(|one| one.oid.to_id_string() == MUST_STAPLE),
            key: Arc::new(key),
        })
    }

    /// The certificate itself, as DER.
    pub fn leaf(&self) -> &[u8] {
        self.key.cert.first().map_or(&[], |leaf| leaf.as_ref())
    }

    /// Whether it proves `host`, which is in normal form.
    pub fn proves(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(under) => parent == Some(under),
            None => name == host,
        })
    }

    /// Whether the two are the same chain.
    pub fn is_same(&self, other: &Certificate) -> bool {
        self.key.cert == other.key.cert
    }

    /// Whether its key is one of RSA.
    pub fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// How far it stands behind others for the same name: a signature with an elliptic curve costs a tenth of one with RSA.
    pub(super) fn rank(&self) -> u8 {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 => 1,
            _ => 2,
        }
    }
}

/// The chain with its key, if that belongs to the first of it.
fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, Flaw> {
    let key = provider().key_provider.load_private_key(key).map_err(|error| refused(&error))?;
    let fits = |chain: Vec<_>| match CertifiedKey::new(chain, Arc::clone(&key)).keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        fits => fits,
    };
    let first = chain.first().cloned().into_iter().collect();
    match fits(first) {
        Ok(()) => Ok(CertifiedKey::new(chain, key)),
        Err(_) if chain.iter().skip(1).any(|one| fits(vec![one.clone()]).is_ok()) => Err(Flaw {
            hint: Some("the certificate itself goes first, then those that have signed it".to_owned()),
            ..flaw(Part::Certificate, "begins with another certificate than that of the key")
        }),
        Err(error) => Err(refused(&error)),
    }
}

/// The extension that makes a certificate one (RFC 7633 §4.2.3).
const MUST_STAPLE: &str = "1.3.6.1.5.5.7.1.24";

pub(super) fn flaw(part: Part, reason: impl Into<String>) -> Flaw {
    Flaw { part, reason: reason.into(), hint: None }
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) if PrivateKeyDer::from_pem_slice(text).is_ok() => Err(Flaw {
            hint: Some("the certificate goes first, then the key".to_owned()),
            ..flaw(Part::Certificate, "holds a key and no certificate")
        }),
        Ok(_) => Err(Flaw {
            hint: Some("it has to be PEM, which begins with `-----BEGIN CERTIFICATE-----`".to_owned()),
            ..flaw(Part::Certificate, "holds no certificate")
        }),
        Err(_) => Err(flaw(Part::Certificate, "is broken PEM")),
    }
}

pub(super) fn key_of(text: &[u8]) -> Result<PrivateKeyDer<'static>, Flaw> {
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(_) if contains(text, b"ENCRYPTED") => Err(Flaw {
            hint: Some("`openssl pkey -in KEY -out NEW` takes the password off".to_owned()),
            ..flaw(Part::Key, "is protected by a password")
        }),
        Err(pem::Error::NoItemsFound) if contains(text, b"BEGIN CERTIFICATE") => Err(Flaw {
            hint: Some("the key stands behind the certificate, mostly in a file of its own".to_owned()),
            ..flaw(Part::Key, "holds a certificate and no private key")
        }),
        Err(pem::Error::NoItemsFound) => Err(Flaw {
            hint: Some("it has to be PEM, which begins with `-----BEGIN PRIVATE KEY-----`".to_owned()),
            ..flaw(Part::Key, "holds no private key")
        }),
        Err(_) => Err(flaw(Part::Key, "is broken PEM")),
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|here| here == word)
}

pub(super) fn refused(error: &Error) -> Flaw {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            flaw(Part::Key, "does not belong to the certificate")
        }
        Error::InvalidCertificate(_) => flaw(Part::Certificate, "holds a broken certificate"),
        _ => Flaw {
            hint: Some(
                "RSA from 2048 bits, ECDSA with P-256, P-384 or P-521, and Ed25519 are supported".into(),
            ),
            ..flaw(Part::Key, "is of a kind that is not supported")
        },
    }
}

/// A name in the form that hosts are compared in.
pub(super) fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => {
            let (wild, rest) = match name.strip_prefix("*.") {
                Some(rest) => ("*.", rest),
                None => ("", *name),
            };
            let mut target = Target::new();
            target.set_authority(rest.as_bytes()).ok()?;
            Some(format!("{wild}{}", target.host()))
        }
        GeneralName::IPAddress(bytes) => {
            let address: IpAddr = match *bytes {
                bytes if bytes.len() == 4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
                bytes => <[u8; 16]>::try_from(bytes).ok()?.into(),
            };
            Some(match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            })
        }
        _ => None,
    }
}

fn date(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm as Algorithm};

    /// A certificate that signs itself, and its key, in PEM.
    pub fn made(names: &[&str], algorithm: &'static Algorithm) -> (String, String) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        (made.pem(), key.serialize_pem())
    }

    fn pair(names: &[&str]) -> (String, String) {
        made(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    #[test]
    fn names_are_read_and_compared_in_normal_form() {
        let (chain, key) = pair(&["A.example", "*.b.example", "127.0.0.1", "::1"]);
        let read = Certificate::read(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(read.names, ["a.example", "*.b.example", "127.0.0.1", "[::1]"]);
        assert!(read.proves("a.example") && read.proves("x.b.example") && read.proves("[::1]"));
        assert!(!read.proves("b.example") && !read.proves("y.x.b.example") && !read.proves("example"));
        assert!(read.not_before < read.not_after);
        assert_eq!(read.dates[0], "1975-01-01");
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_reason() {
        let (chain, key) = pair(&["a.example"]);
        let (_, other) = pair(&["a.example"]);
        let read = |chain: &str, key: &str| Certificate::read(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(read(&chain, &other), flaw(Part::Key, "does not belong to the certificate"));
        let (another, _) = pair(&["b.example"]);
        let turned = read(&format!("{another}{chain}"), &key);
        assert_eq!(turned.reason, "begins with another certificate than that of the key");
        assert!(Certificate::read(format!("{chain}{another}").as_bytes(), key.as_bytes()).is_ok());
        assert_eq!(read(&key, &chain).reason, "holds a key and no certificate");
        assert_eq!(read("hello", &key).reason, "holds no certificate");
        assert_eq!(read(&chain, "hello").reason, "holds no private key");
        assert_eq!(read(&chain, &chain).reason, "holds a certificate and no private key");
        let broken = chain.replacen("MII", "AII", 1);
        assert_eq!(read(&broken, &key).reason, "holds a broken certificate");
        let cut = chain.replacen("-----END CERTIFICATE-----", "", 1);
        assert_eq!(read(&cut, &key).part, Part::Certificate);
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(read(&chain, locked).reason, "is protected by a password");
    }

    #[test]
    fn it_is_known_whether_it_wants_a_stapled_answer() {
        let key = KeyPair::generate().unwrap();
        let must_staple = |must: bool| {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            if must {
                let feature = vec![0x30, 3, 2, 1, 5]; // status_request
                let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
                params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&oid, feature));
            }
            let made = params.self_signed(&key).unwrap();
            let read = Certificate::read(made.pem().as_bytes(), key.serialize_pem().as_bytes());
            read.unwrap().must_staple
        };
        assert!(must_staple(true) && !must_staple(false));
    }
}
