//! What a handshake has to be like: versions, suites and curves of a site, and why some cannot be had.

use crate::args::Scene;
use crate::draft::{Draft, Value};
use crate::findings::Span;
use crate::outside::Wrong;
use crate::route;
use portunus_relay::plan::{TlsCurve, TlsSettings, TlsSuite, TlsVersion};
use portunus_relay::tls::Certificate;
use std::collections::HashMap;
use std::sync::Arc;

/// The options of `tls` that say so.
#[derive(Default)]
pub struct Settings {
    /// Where each was written first.
    seen: HashMap<&'static str, Span>,
}

impl Settings {
    /// Reads those of one `tls`; several in a site add up.
    pub fn read(&mut self, draft: &Draft, settings: &mut TlsSettings, scene: &mut Scene<'_, '_>) {
        for (key, value) in &draft.options {
            let Some(name) = OPTIONS.into_iter().find(|name| *name == &**key) else { continue };
            if let Some(first) = self.seen.insert(name, value.span) {
                scene.twice(value.span, &format!("`{name}=` of this site"), first);
            }
            match name {
                "from" => settings.from = scene.parse(value, version).unwrap_or(settings.from),
                "versions" => range(value, settings, scene),
                "suites" => settings.suites = route::list(value, suite, scene),
                _ => settings.curves = route::list(value, curve, scene),
            }
        }
        if let (Some(&from), Some(&versions)) = (self.seen.get("from"), self.seen.get("versions"))
            && draft.options.iter().any(|(key, _)| matches!(&**key, "from" | "versions"))
        {
            scene.findings.error(versions, "`from=` says already which versions are spoken").earlier(from);
        }
    }

    /// Tells what cannot come true with the certificates that the site has, or gets `automatic`ally.
    pub fn contradictions(
        &self,
        settings: &TlsSettings,
        certificates: &[Arc<Certificate>],
        automatic: bool,
        scene: &mut Scene<'_, '_>,
    ) {
        let span = |names: &[&str]| names.iter().find_map(|name| self.seen.get(name)).copied();
        if let Some(Wrong { reason, hint }) = contradiction(settings, certificates, automatic)
            && let Some(span) = span(&["suites", "curves", "versions", "from"])
        {
            scene.findings.error(span, reason).maybe_hint(hint);
        }
    }
}

/// Why no handshake, or not every one that is wanted, could succeed with these settings. What is got `automatic`ally is for an ECDSA key.
pub fn contradiction(
    settings: &TlsSettings,
    certificates: &[Arc<Certificate>],
    automatic: bool,
) -> Option<Wrong> {
    if settings.from > settings.to {
        return Some(Wrong::new("no version of TLS is left: `from` is newer than `to`"));
    }
    let suites = &settings.suites;
    let idle = suites.iter().find(|suite| !settings.speaks(suite.version()));
    if let Some(suite) = idle.filter(|_| !suites.is_empty()) {
        let version = shown(suite.version());
        let reason = format!("`{}` belongs to TLS {version}, which this site does not speak", suite.name());
        return Some(Wrong::new(reason));
    }
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut own = suites.iter().filter(|suite| suite.version() == version).peekable();
        if suites.is_empty() || !settings.speaks(version) {
            continue;
        }
        let text = shown(version);
        if own.peek().is_none() {
            let other = if version == TlsVersion::V12 { "1.3" } else { "1.2" };
            let reason = format!("none of these suites belongs to TLS {text}, which this site speaks");
            return Some(Wrong::new(reason).hint(format!("add one, or write `versions={other}`")));
        }
        let fits = |suite: &TlsSuite| {
            let has = |rsa: bool| (automatic && !rsa) || certificates.iter().any(|one| one.is_rsa() == rsa);
            suite.is_for_rsa().is_none_or(has)
        };
        if (automatic || !certificates.is_empty()) && !own.any(fits) {
            let kind = if certificates.iter().any(|one| one.is_rsa()) { "RSA" } else { "ECDSA" };
            let reason = format!("no suite of TLS {text} among these fits a certificate of this site");
            return Some(Wrong::new(reason).hint(format!("its key needs one with `{kind}` in its name")));
        }
    }
    if settings.speaks(TlsVersion::V12)
        && !settings.curves.is_empty()
        && !settings.curves.iter().any(|curve| curve.is_classic())
    {
        let reason = "TLS 1.2, which this site speaks, has none of these curves";
        return Some(Wrong::new(reason).hint("add `x25519` or `secp256r1`, or write `versions=1.3`"));
    }
    None
}

/// `1.2,1.3`, or one of them.
fn range(value: &Value, settings: &mut TlsSettings, scene: &mut Scene<'_, '_>) {
    let list = route::list(value, version, scene);
    if let (Some(&from), Some(&to)) = (list.iter().min(), list.iter().max()) {
        (settings.from, settings.to) = (from, to);
    }
}

fn version(text: &str) -> Result<TlsVersion, Wrong> {
    let number = text.trim_start_matches("TLSv").trim_start_matches("tls");
    match number {
        "1.2" => Ok(TlsVersion::V12),
        "1.3" => Ok(TlsVersion::V13),
        "1" | "1.0" | "1.1" => {
            Err(Wrong::new("is not spoken: it was withdrawn for its weaknesses (RFC 8996)")
                .hint("the versions are `1.2` and `1.3`"))
        }
        _ => Err(Wrong::new("is no version of TLS that is spoken").hint("the versions are `1.2` and `1.3`")),
    }
}

fn shown(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V12 => "1.2",
        TlsVersion::V13 => "1.3",
    }
}

/// A suite by its name in the IANA registry, or as OpenSSL calls it.
fn suite(text: &str) -> Result<TlsSuite, Wrong> {
    let plain = |text: &str| text.to_ascii_uppercase().replace("TLS13_", "TLS_").replace(['_', '-'], "");
    let wanted = plain(text);
    // OpenSSL leaves out what all of them have in common: `ECDHE-RSA-AES128-GCM-SHA256`, `ECDHE-RSA-CHACHA20-POLY1305`.
    let short = |name: &str| {
        let name = name.trim_start_matches("TLS_").replace("_WITH", "");
        plain(
            name.strip_suffix("_POLY1305_SHA256")
                .map(|it| format!("{it}_POLY1305"))
                .as_deref()
                .unwrap_or(&name),
        )
    };
    let known = |suite: &TlsSuite| {
        let name = suite.name();
        plain(name) == wanted || (suite.version() == TlsVersion::V12 && short(name) == wanted)
    };
    if let Some(suite) = TlsSuite::ALL.into_iter().find(known) {
        return Ok(suite);
    }
    let names: Vec<&str> = TlsSuite::ALL.iter().map(|suite| suite.name()).collect();
    let reason =
        if ["RC4", "3DES", "DES", "NULL", "EXPORT", "ANON", "MD5"].iter().any(|old| wanted.contains(old)) {
            "is not spoken: it protects nothing any more"
        } else if wanted.contains("CCM") || wanted.contains("CAMELLIA") || wanted.contains("ARIA") {
            "is not supported: hardly a client has it"
        } else if wanted.contains("SHA") && !wanted.contains("GCM") && !wanted.contains("POLY1305") {
            "is not spoken: its encryption (CBC) can be tampered with, which has been used again and again"
        } else if wanted.contains("GCM") && !wanted.contains("ECDHE") && !wanted.starts_with("TLSAES") {
            "is not spoken: whoever gets the key later can read what was recorded before, or it is slow (DHE)"
        } else {
            "is no cipher suite that is known"
        };
    Err(Wrong::new(reason).hint(format!("there are {}", names.join(", "))))
}

/// A curve by its name in the IANA registry, or as people call it.
fn curve(text: &str) -> Result<TlsCurve, Wrong> {
    let known = TlsCurve::ALL.into_iter().find(|curve| curve.name().eq_ignore_ascii_case(text));
    match text.to_ascii_lowercase().as_str() {
        "p-256" | "p256" | "prime256v1" => Ok(TlsCurve::P256),
        "p-384" | "p384" => Ok(TlsCurve::P384),
        _ => known.ok_or_else(|| {
            let names: Vec<&str> = TlsCurve::ALL.iter().map(|curve| curve.name()).collect();
            Wrong::new("is no curve that is supported").hint(format!("there are {}", names.join(", ")))
        }),
    }
}

/// The options of `tls` that are read here.
const OPTIONS: [&str; 4] = ["from", "versions", "suites", "curves"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_that_people_know() {
        for known in TlsSuite::ALL {
            assert_eq!(suite(known.name()).unwrap(), known);
            assert_eq!(suite(&known.name().replace("TLS_", "TLS13_")).unwrap(), known);
        }
        for (name, known) in [
            ("ECDHE-ECDSA-AES128-GCM-SHA256", TlsSuite::EcdsaAes128),
            ("ECDHE-RSA-AES256-GCM-SHA384", TlsSuite::RsaAes256),
            ("ECDHE-RSA-CHACHA20-POLY1305", TlsSuite::RsaChaCha20),
            ("tls_aes_128_gcm_sha256", TlsSuite::Aes128),
        ] {
            assert_eq!(suite(name).unwrap(), known);
        }
    }

    #[test]
    fn what_cannot_be_had_is_told_with_its_reason() {
        let reason = |name: &str| suite(name).unwrap_err().reason;
        assert!(reason("ECDHE-RSA-AES128-SHA").contains("CBC"));
        assert!(reason("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256").contains("CBC"));
        assert!(reason("TLS_RSA_WITH_AES_128_GCM_SHA256").contains("recorded before"));
        assert!(reason("DHE-RSA-AES128-GCM-SHA256").contains("DHE"));
        assert!(reason("ECDHE-RSA-RC4-SHA").contains("nothing any more"));
        assert!(reason("DES-CBC3-SHA").contains("nothing any more"));
        assert!(reason("TLS_AES_128_CCM_SHA256").contains("hardly"));
        assert!(reason("HIGH").contains("no cipher suite"));
        assert!(version("1.1").unwrap_err().reason.contains("RFC 8996"));
        assert!(version("SSLv3").unwrap_err().reason.contains("no version"));
        assert_eq!(version("TLSv1.3").unwrap(), TlsVersion::V13);
        assert!(curve("P-521").unwrap_err().reason.contains("no curve"));
        assert_eq!(curve("P-256").unwrap(), TlsCurve::P256);
        assert_eq!(curve("x25519mlkem768").unwrap(), TlsCurve::X25519MlKem768);
    }

    #[test]
    fn settings_that_no_client_could_meet_are_contradictions() {
        let told = |settings: TlsSettings| contradiction(&settings, &[], false).map(|wrong| wrong.reason);
        let usual = TlsSettings::default;
        assert_eq!(told(usual()), None);
        let only = |suites: Vec<TlsSuite>| TlsSettings { suites, ..usual() };
        assert_eq!(told(only(vec![TlsSuite::Aes128, TlsSuite::RsaAes128])), None);
        assert!(told(only(vec![TlsSuite::Aes128])).unwrap().contains("belongs to TLS 1.2"));
        assert!(told(only(vec![TlsSuite::RsaAes128])).unwrap().contains("belongs to TLS 1.3"));
        let new = |suites| TlsSettings { from: TlsVersion::V13, ..only(suites) };
        assert_eq!(told(new(vec![TlsSuite::Aes128])), None);
        assert!(told(new(vec![TlsSuite::Aes128, TlsSuite::RsaAes128])).unwrap().contains("does not speak"));
        let curves = |curves| TlsSettings { curves, ..usual() };
        assert!(told(curves(vec![TlsCurve::X25519MlKem768])).unwrap().contains("TLS 1.2"));
        assert_eq!(told(curves(vec![TlsCurve::X25519MlKem768, TlsCurve::P256])), None);
        let none = TlsSettings { from: TlsVersion::V13, to: TlsVersion::V12, ..usual() };
        assert!(told(none).unwrap().contains("no version"));
    }
}
