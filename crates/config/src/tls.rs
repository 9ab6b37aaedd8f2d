//! `tls`: the certificates of a site, proved to be usable, and what a handshake has to be like.

use crate::args::Scene;
use crate::draft::{Draft, Value};
use crate::findings::Span;
use crate::outside::{Outside, Wrong};
use portunus_relay::plan::{CertificateFiles, HostPattern, SiteTls, TlsVersion};
use portunus_relay::tls::{Certificate, Flaw, Part};
use std::sync::Arc;
use std::time::SystemTime;

/// How long a file with certificates or a key may be.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// What a site says of TLS.
#[derive(Default)]
pub struct Tls {
    plan: SiteTls,
    /// Where the first `tls` stands.
    pub span: Option<Span>,
    certificates: Vec<Arc<Certificate>>,
}

impl Tls {
    /// `tls CERTIFICATE [KEY] [from=1.3]`.
    pub fn read(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        self.span.get_or_insert(draft.span);
        if let Some((_, value)) = draft.options.iter().find(|(key, _)| &**key == "from") {
            self.plan.settings.from =
                if value.text.value == "1.3" { TlsVersion::V13 } else { TlsVersion::V12 };
        }
        let (Some(chain), key) = (draft.words.first(), draft.words.get(1)) else { return };
        if matches!(chain.text.value.as_str(), "auto" | "internal") && key.is_none() {
            let reason = format!("`tls {}` is not supported yet", chain.text.value);
            scene
                .findings
                .error(chain.span, reason)
                .hint("write `tls CERTIFICATE KEY`, the names of two files");
            return;
        }
        let Some((files, certificate)) = read_pair(chain, key.unwrap_or(chain), scene) else { return };
        if self.plan.certificates.contains(&files) {
            scene.findings.error(chain.span, format!("the certificate {} is there twice", chain.shown()));
            return;
        }
        look_at_dates(chain, &certificate, scene);
        self.plan.certificates.push(files);
        self.certificates.push(certificate);
    }

    /// The plan of a site with these names that speaks TLS at `listen`.
    pub fn finish(
        self,
        names: &[HostPattern],
        listen: Vec<portunus_relay::plan::Listen>,
        scene: &mut Scene<'_, '_>,
    ) -> Option<SiteTls> {
        let span = self.span?;
        let proved = |name: &str| self.certificates.iter().any(|certificate| certificate.proves(name));
        for name in names {
            let named = match name {
                HostPattern::Exact(host) => proved(host),
                HostPattern::Under(host) => {
                    let wild = name.to_string();
                    self.certificates.iter().any(|one| one.names.contains(&wild))
                        || proved(&format!("x.{host}"))
                }
                HostPattern::Any => true,
            };
            if !named && !self.certificates.is_empty() && !listen.is_empty() {
                scene.findings.warning(span, format!("no certificate of this site names `{name}`"));
            }
        }
        Some(SiteTls { listen, ..self.plan })
    }
}

/// Reads a certificate and its key, and tells what is wrong with them.
fn read_pair(
    chain: &Value,
    key: &Value,
    scene: &mut Scene<'_, '_>,
) -> Option<(CertificateFiles, Arc<Certificate>)> {
    let files = CertificateFiles {
        certificate: scene.outside.name(chain.span.file(), &chain.text.value),
        key: scene.outside.name(key.span.file(), &key.text.value),
    };
    match prove(&files, scene.outside) {
        Ok(certificate) => Some((files, certificate)),
        Err((part, wrong)) => {
            let value = if part == Part::Certificate { chain } else { key };
            scene.findings.error(value.span, wrong.reason).maybe_hint(wrong.hint);
            None
        }
    }
}

/// The certificate in these files, read once.
pub fn prove(files: &CertificateFiles, outside: &mut Outside<'_>) -> Result<Arc<Certificate>, (Part, Wrong)> {
    if let Some(known) = outside.certificates.get(files) {
        return Ok(Arc::clone(known));
    }
    let mut read = |part, path| outside.read_bytes(path, FILE_BYTES_MAX).map_err(|wrong| (part, wrong));
    let chain = read(Part::Certificate, &files.certificate)?;
    let key = if files.key == files.certificate { chain.clone() } else { read(Part::Key, &files.key)? };
    let certificate = Certificate::read(&chain, &key).map_err(|flaw| (flaw.part, told(files, flaw)))?;
    let certificate = Arc::new(certificate);
    outside.certificates.insert(files.clone(), Arc::clone(&certificate));
    Ok(certificate)
}

/// What is wrong with a certificate or its key, with the name of the file.
pub fn told(files: &CertificateFiles, flaw: Flaw) -> Wrong {
    let (kind, path) = match flaw.part {
        Part::Certificate => ("certificate", &files.certificate),
        Part::Key => ("key", &files.key),
    };
    Wrong { reason: format!("the {kind} `{}` {}", path.display(), flaw.reason), hint: flaw.hint }
}

/// A certificate out of its time is no reason not to start: whoever has no other one needs the site all the more.
fn look_at_dates(chain: &Value, certificate: &Certificate, scene: &mut Scene<'_, '_>) {
    if let Some(reason) = untimely(certificate, SystemTime::now()) {
        scene.findings.warning(chain.span, format!("the certificate {} {reason}", chain.shown()));
    }
}

/// What is wrong with the dates of a certificate.
pub fn untimely(certificate: &Certificate, now: SystemTime) -> Option<String> {
    let [from, until] = &certificate.dates;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if now > certificate.not_after {
        Some(format!("expired on {until}"))
    } else if now < certificate.not_before {
        Some(format!("is not valid before {from}"))
    } else {
        None
    }
}
