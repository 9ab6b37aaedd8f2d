//! Password hashes: which ones are understood, and whether a password fits one. Slow on purpose; never on a worker.

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use sha_crypt::ShaCrypt;
use sha1::Sha1;

/// A hash that costs more to check than this is refused when it is loaded: each check would be an attack on us (G5).
const BCRYPT_COST_MAX: u32 = 15;
const ARGON2_MEMORY_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 64;
const SHA_ROUNDS_MAX: u32 = 1_000_000;
/// Longer passwords fit nothing; hashing takes time by their length.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// How a hash is made, told by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bcrypt,
    Argon2,
    ShaCrypt,
    Apr1,
    Sha1,
}

fn kind_of(hash: &str) -> Option<Kind> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| hash.starts_with(prefix));
    if starts(&["$2a$", "$2b$", "$2y$"]) {
        Some(Kind::Bcrypt)
    } else if starts(&["$argon2id$", "$argon2i$", "$argon2d$"]) {
        Some(Kind::Argon2)
    } else if starts(&["$5$", "$6$"]) {
        Some(Kind::ShaCrypt)
    } else if starts(&["$apr1$"]) {
        Some(Kind::Apr1)
    } else if starts(&["{SHA}"]) {
        Some(Kind::Sha1)
    } else {
        None
    }
}

/// Whether `hash` is one that [`verify`] understands and can afford; why not, as half a sentence.
pub fn check(hash: &str) -> Result<(), &'static str> {
    let fine = match kind_of(hash) {
        None => return Err("is not a password hash; make one with `htpasswd -nB NAME`"),
        Some(Kind::Bcrypt) => match hash.parse::<bcrypt::HashParts>() {
            Ok(parts) if parts.get_cost() > BCRYPT_COST_MAX => {
                return Err("costs too much to check (at most 15)");
            }
            parts => parts.is_ok(),
        },
        Some(Kind::Argon2) => match argon2::password_hash::phc::PasswordHash::new(hash) {
            Ok(parsed) => match argon2::Params::try_from(&parsed) {
                Ok(cost) if cost.m_cost() > ARGON2_MEMORY_KIB_MAX || cost.t_cost() > ARGON2_PASSES_MAX => {
                    return Err("costs too much to check (at most m=262144, t=64)");
                }
                cost => cost.is_ok() && parsed.hash.is_some(),
            },
            Err(_) => false,
        },
        Some(Kind::ShaCrypt) => {
            let rounds = hash.split('$').find_map(|part| part.strip_prefix("rounds="));
            if rounds.is_some_and(|rounds| rounds.parse::<u32>().is_ok_and(|rounds| rounds > SHA_ROUNDS_MAX))
            {
                return Err("costs too much to check (at most rounds=1000000)");
            }
            let digest_len = if hash.starts_with("$5$") { 43 } else { 86 };
            hash.rsplit('$').next().is_some_and(|digest| digest.len() == digest_len)
                && sha_crypt::PasswordHashRef::new(hash).is_ok()
        }
        Some(Kind::Apr1) => split_apr1(hash).is_some(),
        Some(Kind::Sha1) => split_sha1(hash).is_some(),
    };
    if fine { Ok(()) } else { Err("is not a whole password hash") }
}

/// Whether `password` fits `hash`; an unknown or broken hash fits nothing. The time it takes does not depend on where
/// a wrong password differs (attack G4).
pub fn verify(hash: &str, password: &[u8]) -> bool {
    if password.len() > PASSWORD_BYTES_MAX || check(hash).is_err() {
        return false;
    }
    match kind_of(hash) {
        Some(Kind::Bcrypt) => bcrypt::verify(password, hash).unwrap_or(false),
        Some(Kind::Argon2) => argon2::password_hash::phc::PasswordHash::new(hash)
            .is_ok_and(|parsed| Argon2::default().verify_password(password, &parsed).is_ok()),
        Some(Kind::ShaCrypt) => sha_crypt::PasswordHashRef::new(hash)
            .is_ok_and(|parsed| ShaCrypt::default().verify_password(password, parsed).is_ok()),
        Some(Kind::Apr1) => {
            split_apr1(hash).is_some_and(|(salt, wanted)| same(&apr1(password, salt), wanted))
        }
        Some(Kind::Sha1) => split_sha1(hash).is_some_and(|wanted| same(&Sha1::digest(password), &wanted)),
        None => false,
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

fn split_sha1(hash: &str) -> Option<Vec<u8>> {
    STANDARD.decode(hash.strip_prefix("{SHA}")?).ok().filter(|digest| digest.len() == 20)
}

fn split_apr1(hash: &str) -> Option<(&[u8], &[u8])> {
    let (salt, digest) = hash.strip_prefix("$apr1$")?.split_once('$')?;
    let fine = salt.len() <= 8 && digest.len() == 22 && digest.bytes().all(|byte| CRYPT_64.contains(&byte));
    fine.then_some((salt.as_bytes(), digest.as_bytes()))
}

const CRYPT_64: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Apache's variant of MD5-crypt, as `apr_md5_encode` does it: a thousand rounds of MD5.
fn apr1(password: &[u8], salt: &[u8]) -> [u8; 22] {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(b"$apr1$").chain_update(salt);
    for at in (0..password.len()).step_by(16) {
        let count = (password.len() - at).min(16);
        first.update(inner.get(..count).unwrap_or(&[]));
    }
    let mut length = password.len();
    while length > 0 {
        first.update(if length & 1 == 1 { &[0] } else { password.get(..1).unwrap_or(&[]) });
        length >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        next.update(if round % 2 == 1 { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round % 2 == 1 { &digest } else { password });
        digest = next.finalize();
    }
    // Invariant: an MD5 digest has 16 bytes, and every index here is below 16, every number below 64.
    let group = |high: usize, middle: usize, low: usize| {
        u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low])
    };
    let groups = [group(0, 6, 12), group(1, 7, 13), group(2, 8, 14), group(3, 9, 15), group(4, 10, 5)];
    let mut text = [0u8; 22];
    for (at, place) in text.iter_mut().enumerate() {
        let bits = groups.get(at / 4).copied().unwrap_or(u32::from(digest[11]));
        *place = CRYPT_64[(bits >> (6 * (at % 4)) & 63) as usize];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by other programs: htpasswd, openssl passwd, argon2.
    const HASHES: &[(&str, &str)] = &[
        ("$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a", "secret"),
        ("$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a", "secret"),
        ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"),
        ("$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.", "secret"),
        ("$5$rounds=1000$saltstring$AH5PD0i.riCRu4BNDy9v7OPV7u3dfLBApcXI6khquVA", "secret"),
        (
            "$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
            "secret",
        ),
        ("$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0", "secret"),
        ("$apr1$xyz$sngVNd2HxztpkLOqQL95a.", "a much longer password than sixteen bytes"),
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret"),
    ];

    #[test]
    fn known_hashes_fit_their_passwords_only() {
        for (hash, password) in HASHES {
            assert_eq!(check(hash), Ok(()), "{hash}");
            assert!(verify(hash, password.as_bytes()), "{hash}");
            assert!(!verify(hash, b"wrong"), "{hash}");
            assert!(!verify(hash, b""), "{hash}");
            assert!(!verify(hash, format!("{password}x").as_bytes()), "{hash}");
        }
    }

    #[test]
    fn g5_what_costs_too_much_or_is_no_hash_is_refused() {
        for bad in [
            "secret",
            "",
            "$1$abc$def",
            "$2y$31$abcdefghijklmnopqrstuuIXyFqETyzUxBVfFUmB3GPq0nxcr6u3y",
            "$2y$05$short",
            "$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$argon2id$v=19$m=4096,t=3000,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$argon2id$nope",
            "$6$rounds=999999999$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
            "$6$saltstring$short",
            "$apr1$salt$short",
            "{SHA}short",
        ] {
            assert!(check(bad).is_err(), "{bad}");
            assert!(!verify(bad, b"secret"), "{bad}");
        }
    }
}
