//! authority: a CA of our own, for names that no other one can know; whoever shall believe it has to be told to.

use super::store::Store;
use crate::described::fnv1a;
use portunus_relay::tls::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

/// Where its certificate is, with its key.
const KEY: &str = "internal/ca.pem";
/// How long it is believed, and how much of that has to be left.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * DAY);
const LEFT_MIN: Duration = Duration::from_secs(90 * DAY);
/// How long what it signs is good, and by how much clocks may differ.
const LEAF_LIFETIME: Duration = Duration::from_secs(30 * DAY);
const CLOCKS: Duration = Duration::from_secs(3600);
const DAY: u64 = 24 * 3600;

/// A CA of our own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, in PEM.
    pub certificate: String,
    /// Its name, which is another one for each.
    pub name: String,
    /// Until when it is believed, and the same as a date.
    pub until: (SystemTime, String),
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// The one in the store, or a new one, which is put there. Whether it is new.
    pub fn open(store: &dyn Store, now: SystemTime) -> Result<(Authority, bool), String> {
        // Of two programs that begin at the same moment one makes it. The other one has to read what that has written.
        let told = |error: std::io::Error| format!("{}: {error}", store.place(KEY));
        for _ in 0..LOOKS {
            if let Some(authority) = Authority::read(store, now)? {
                return Ok((authority, false));
            }
            let Some(_held) = store.lock(KEY).map_err(told)? else {
                std::thread::sleep(LOOK_PAUSE);
                continue;
            };
            if let Some(authority) = Authority::read(store, now)? {
                return Ok((authority, false));
            }
            let (authority, pem) = Authority::make(now).map_err(|error| error.to_string())?;
            store.write(KEY, pem.as_bytes()).map_err(told)?;
            return Ok((authority, true));
        }
        Err(format!("{}: somebody else has been making it for a long time", store.place(KEY)))
    }

    /// The one in the store, as long as it is good for a while.
    pub fn read(store: &dyn Store, now: SystemTime) -> Result<Option<Authority>, String> {
        Ok(Authority::find(store)?.filter(|authority| !authority.ends_soon(now)))
    }

    /// The one in the store, however long it is good.
    pub fn find(store: &dyn Store) -> Result<Option<Authority>, String> {
        let told = |what: String| format!("{}: {what}", store.place(KEY));
        let Some(bytes) = store.read(KEY).map_err(|error| told(error.to_string()))? else { return Ok(None) };
        let read = Certificate::read(&bytes, &bytes).map_err(|flaw| told(flaw.reason))?;
        let until = UNIX_EPOCH + Duration::from_secs(u64::try_from(read.not_after).unwrap_or(0));
        let text = String::from_utf8(bytes).map_err(|_| told("is no text".to_owned()))?;
        let end = text.find(KEY_BEGINS).ok_or_else(|| told("holds no private key".to_owned()))?;
        let (certificate, key) = text.split_at(end);
        let key = KeyPair::from_pem(key).map_err(|error| told(error.to_string()))?;
        let name = name(&key);
        let issuer = Issuer::new(params(&key), key);
        let [_, last] = read.dates;
        Ok(Some(Authority { issuer, certificate: certificate.to_owned(), name, until: (until, last) }))
    }

    /// Whether the next start makes another one.
    pub fn ends_soon(&self, now: SystemTime) -> bool {
        self.until.0 < now + LEFT_MIN
    }

    /// Where it is in a store.
    pub fn place(store: &dyn Store) -> String {
        store.place(KEY)
    }

    /// A new one, for as long as the program runs.
    pub fn make(now: SystemTime) -> Result<(Authority, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let (mut params, name) = (params(&key), name(&key));
        params.not_before = OffsetDateTime::from(now - Duration::from_secs(DAY));
        params.not_after = OffsetDateTime::from(now + LIFETIME);
        let certificate = params.self_signed(&key)?.pem();
        let pem = format!("{certificate}{}", key.serialize_pem());
        let until = (now + LIFETIME, params.not_after.date().to_string());
        Ok((Authority { issuer: Issuer::new(params, key), certificate, name, until }, pem))
    }

    /// A certificate for this name or address, with a key.
    pub fn sign(&self, name: &str, now: SystemTime) -> Result<Arc<Certificate>, String> {
        let signed = self.sign_pem(name, now).map_err(|error| error.to_string())?;
        let read = Certificate::read(signed.0.as_bytes(), signed.1.as_bytes());
        read.map(Arc::new).map_err(|flaw| flaw.reason)
    }

    fn sign_pem(&self, name: &str, now: SystemTime) -> Result<(String, String), rcgen::Error> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![subject(name)?];
        params.distinguished_name.remove(DnType::CommonName);
        params.not_before = OffsetDateTime::from(now - CLOCKS);
        params.not_after = OffsetDateTime::from(now + LEAF_LIFETIME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// A name as it stands in a certificate.
pub fn subject(name: &str) -> Result<SanType, rcgen::Error> {
    match name.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}

/// What is the same each time that the authority with this key is opened. Its name says which one it is: there may be others in the
/// same system's list.
fn params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Portunus");
    params.distinguished_name.push(DnType::CommonName, name(key));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn name(key: &KeyPair) -> String {
    format!("Portunus internal CA {:016x}", fnv1a(key.public_key_raw()))
}

const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";
/// How often, and how long apart, it is looked for while somebody else makes it.
const LOOKS: usize = 50;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::super::store::tests::Memory;
    use super::*;

    #[test]
    fn it_is_made_once_and_signs_for_names_and_addresses() {
        let (store, now) = (Memory::default(), SystemTime::now());
        let (first, new) = Authority::open(&store, now).unwrap();
        let (second, again) = Authority::open(&store, now).unwrap();
        assert!(new && !again && first.certificate == second.certificate);
        assert_eq!((&first.name, &first.until.1), (&second.name, &second.until.1));
        for name in ["localhost", "*.home.internal", "127.0.0.1", "[::1]"] {
            let signed = second.sign(name, now).unwrap();
            assert_eq!(signed.names, [name]);
        }
        assert!(first.certificate.contains("BEGIN CERTIFICATE") && !first.certificate.contains("PRIVATE"));
    }

    #[test]
    fn one_that_ends_soon_is_replaced_and_a_broken_one_is_not() {
        let (store, now) = (Memory::default(), SystemTime::now());
        let (first, _) = Authority::open(&store, now).unwrap();
        let late = now + LIFETIME - LEFT_MIN + CLOCKS;
        assert!(Authority::read(&store, late).unwrap().is_none());
        assert!(
            Authority::find(&store)
                .unwrap()
                .is_some_and(|found| found.ends_soon(late) && !found.ends_soon(now))
        );
        let (second, new) = Authority::open(&store, now + LIFETIME - LEFT_MIN + CLOCKS).unwrap();
        assert!(new && first.certificate != second.certificate);
        store.write(KEY, b"nonsense").unwrap();
        assert!(Authority::open(&store, now).unwrap_err().contains(KEY));
    }
}
