//! `tls`: the certificates of a site, proved to be usable, and what a handshake has to be like.

use crate::args::Scene;
use crate::draft::{Draft, Value};
use crate::findings::Span;
use crate::handshake::Settings;
use crate::outside::{Outside, Wrong};
use crate::values::{self, Scheme};
use portunus_relay::plan::{
    Acme, Address, CertificateFiles, Challenge, ClientAuth, HostPattern, PoolTls, Signer, SiteTls, Wanted,
};
use portunus_relay::tls::{Certificate, Flaw, Part, Roots};
use std::net::IpAddr;
use std::path::PathBuf;
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
    /// What it says of versions, suites and curves.
    settings: Settings,
    /// Where `client-auth` stands.
    asks_clients: Option<Span>,
    /// Who signs for names that no certificate of a file proves; none: nobody.
    automatic: Option<Automatic>,
    /// Whether names that are not known get theirs when somebody asks for them.
    on_demand: bool,
}

/// Who signs for the names of a site.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Automatic {
    /// A CA, or we ourselves where none can: nobody has written which.
    ByName,
    By(Signer),
}

impl Tls {
    /// `tls CERTIFICATE [KEY] [from=1.3]`.
    pub fn read(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        self.span.get_or_insert(draft.span);
        self.settings.read(draft, &mut self.plan.settings, scene);
        let (Some(chain), key) = (draft.words.first(), draft.words.get(1)) else { return };
        if let Some(signer) = signer(&chain.text.value) {
            if self.automatic.replace(Automatic::By(signer)).is_some() {
                scene.findings.error(chain.span, "a site has `tls auto` or `tls internal`, and one of them");
            }
            match key.map(|key| (key, key.text.value.as_str())) {
                Some((_, "on-demand")) => self.on_demand = true,
                Some((key, _)) => {
                    let reason = format!("{} cannot stand behind {}", key.shown(), chain.shown());
                    scene.findings.error(key.span, reason).hint("`on-demand` can");
                }
                None => {}
            }
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

    /// The site speaks TLS because of what stands here, and nothing says with which certificates.
    pub fn imply(&mut self, span: Span) {
        if self.span.is_none() {
            self.span = Some(span);
            self.automatic = Some(Automatic::ByName);
        }
    }

    /// `client-auth require|optional ca=FILE`.
    pub fn client_auth(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        let ca = draft.options.iter().find(|(key, _)| &**key == "ca").map(|(_, value)| value);
        let (Some(word), Some(ca)) = (draft.words.first(), ca) else { return };
        let file = scene.outside.name(ca.span.file(), &ca.text.value);
        if let Err(wrong) = roots(Some(file.clone()), scene.outside) {
            scene.findings.error(ca.span, wrong.reason).maybe_hint(wrong.hint);
        }
        let required = word.text.value == "require";
        self.plan.settings.client_auth = Some(ClientAuth { required, ca: file });
        self.asks_clients = Some(draft.span);
    }

    /// The plan of a site with these names that speaks TLS at `listen`.
    pub fn finish(
        mut self,
        names: &[HostPattern],
        secure: &[HostPattern],
        acme: &Acme,
        listen: Vec<portunus_relay::plan::Listen>,
        listens: usize,
        scene: &mut Scene<'_, '_>,
    ) -> Option<SiteTls> {
        let Some(span) = self.span else {
            if let Some(span) = self.asks_clients {
                let reason = "clients show certificates over TLS only, and this site has none of its own";
                scene.findings.error(span, reason).hint("write `tls CERTIFICATE KEY` in the site");
            }
            return None;
        };
        if let Some(span) = self.asks_clients.filter(|_| listen.len() < listens) {
            let reason = "the site also speaks plain HTTP, where clients show no certificate";
            let required = self.plan.settings.client_auth.as_ref().is_some_and(|auth| auth.required);
            if required {
                scene.findings.error(span, reason).hint("`client-auth optional` leaves it to `access`");
            } else {
                scene.findings.warning(span, reason);
            }
        }
        let good = listen.is_empty() || self.obtain(secure, acme, span, scene);
        let automatic = !self.plan.automatic.is_empty() || self.plan.on_demand.is_some();
        self.settings.contradictions(&self.plan.settings, &self.certificates, automatic, scene);
        if !good {
            return Some(SiteTls { listen, ..self.plan });
        }
        if let Some(first) = listen.first()
            && !automatic
            && self.plan.certificates.is_empty()
            && !scene.findings.any_error()
        {
            let reason =
                format!("there is no certificate for {first}: the names of this site begin with `http://`");
            scene.findings.error(span, reason).hint("leave `http://` out, or write `tls CERTIFICATE KEY`");
        }
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
            let comes = self.automatic.is_some() && secure.contains(name);
            if !named && !comes && !self.certificates.is_empty() && !listen.is_empty() {
                scene.findings.warning(span, format!("no certificate of this site names `{name}`"));
            }
        }
        Some(SiteTls { listen, ..self.plan })
    }
}

impl Tls {
    /// Which names get their certificates automatically; whether that can be.
    fn obtain(&mut self, names: &[HostPattern], acme: &Acme, span: Span, scene: &mut Scene<'_, '_>) -> bool {
        let Some(automatic) = self.automatic else { return true };
        let before = scene.findings.errors();
        for name in names {
            let host = name.to_string();
            let bare = host.trim_start_matches("*.");
            let by = match automatic {
                Automatic::By(signer) => signer,
                Automatic::ByName if *name != HostPattern::Any && values::is_private(bare) => {
                    Signer::Internal
                }
                Automatic::ByName => Signer::Acme,
            };
            let proved = self.certificates.iter().any(|one| match name {
                HostPattern::Exact(host) => one.proves(host),
                _ => one.names.contains(&host),
            });
            match name {
                _ if proved => {}
                HostPattern::Exact(_) if by == Signer::Acme && !is_provable(&host, acme) => {
                    let reason = format!("that `{host}` is ours can be shown by `http-01` only");
                    scene.findings.error(span, reason).hint("add `http-01` to `challenge`, or leave it out");
                }
                HostPattern::Exact(_) => self.plan.automatic.push(Wanted { name: host, by }),
                _ if self.on_demand => self.plan.on_demand = Some(by),
                HostPattern::Any if by == Signer::Internal => {
                    let wanted = LOCAL.iter().map(|name| Wanted { name: (*name).to_owned(), by });
                    self.plan.automatic.extend(wanted);
                }
                HostPattern::Any => {
                    let reason =
                        "this site is for any host, so it is not known which name to get a certificate for";
                    let hint = "name the hosts, or write `tls internal`, `tls auto on-demand` or `tls CERTIFICATE KEY`";
                    scene.findings.error(span, reason).hint(hint);
                }
                HostPattern::Under(_) if by == Signer::Acme && acme.dns.is_none() => {
                    let reason =
                        format!("CAs give a certificate for `{host}` by `dns-01` only (RFC 8555 §8.4)");
                    let hint = "write `acme { dns PROVIDER token=… }` or `acme { dns exec PROGRAM }`, or `tls auto on-demand` for one certificate each";
                    scene.findings.error(span, reason).hint(hint);
                }
                HostPattern::Under(_) => self.plan.automatic.push(Wanted { name: host, by }),
            }
        }
        if self.on_demand && self.plan.on_demand.is_none() {
            let reason =
                "`on-demand` has no use: every name of the site is written, and gets its certificate at once";
            scene.findings.warning(span, reason);
        }
        if self.plan.on_demand == Some(Signer::Acme) && acme.ask.is_none() {
            let reason = "with `on-demand` anybody could have certificates asked for in any name, until the CA refuses to give more";
            scene
                .findings
                .error(span, reason)
                .hint("write `acme { ask URL }`: who is asked whether a name is good");
        }
        if self.plan.on_demand == Some(Signer::Internal) && acme.ask.is_none() {
            let reason =
                "with `on-demand` anybody can have certificates made for any name, and each costs a moment";
            scene
                .findings
                .warning(span, reason)
                .hint("write `acme { ask URL }`: who is asked whether a name is good");
        }
        let asks = self.plan.on_demand == Some(Signer::Acme)
            || self.plan.automatic.iter().any(|wanted| wanted.by == Signer::Acme);
        for file in asks.then(|| acme.trusts()).into_iter().flatten() {
            // What is wrong with a file has been told where it is named.
            if let Err(wrong) = roots(file.clone(), scene.outside)
                && file.is_none()
            {
                scene.findings.error(span, wrong.reason).maybe_hint(wrong.hint);
            }
        }
        scene.findings.errors() == before
    }
}

/// Whether one of the challenges that are wanted can be used for this host: an address has no records, and handshakes do not name it.
fn is_provable(host: &str, acme: &Acme) -> bool {
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    !is_address || acme.challenges.is_empty() || acme.challenges.contains(&Challenge::Http)
}

fn signer(word: &str) -> Option<Signer> {
    match word {
        "auto" => Some(Signer::Acme),
        "internal" => Some(Signer::Internal),
        _ => None,
    }
}

/// What a site for any host proves by itself.
const LOCAL: &[&str] = &["localhost", "127.0.0.1", "[::1]"];
/// How a server is written: its address, what stands before it, and where.
pub type Written = (Address, Option<Scheme>, Span);

/// What `tls` says in a pool, and `tls=`, `ca=` … behind a plain target.
#[derive(Clone, Debug, Default)]
pub struct ToServers {
    /// What it comes to; none: plain, unless a server is written with `https://`.
    plan: Option<PoolTls>,
}

impl ToServers {
    /// `tls [insecure] [ca=…] [name=…] [cert=… key=…]`.
    pub fn read(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        if draft.words.first().is_some_and(|word| word.text.value == "off") {
            self.plan = None;
            return;
        }
        self.plan = Some(PoolTls::default());
        if let Some(word) = draft.words.first().filter(|word| word.text.value == "insecure") {
            self.option("tls", word, scene);
        }
        for (key, value) in draft.options.iter().filter(|(key, _)| !matches!(&**key, "cert" | "key")) {
            self.option(key, value, scene);
        }
        let option =
            |key: &str| draft.options.iter().find(|(name, _)| &**name == key).map(|(_, value)| value);
        match (option("cert"), option("key")) {
            (None, Some(key)) => {
                let reason = "`key=` needs the certificate that it belongs to";
                scene.findings.error(key.span, reason).hint("write `cert=FILE key=FILE`");
            }
            (None, None) => {}
            (Some(chain), key) => {
                let read = read_pair(chain, key.unwrap_or(chain), scene);
                if let (Some(plan), Some((files, certificate))) = (&mut self.plan, read) {
                    look_at_dates(chain, &certificate, scene);
                    plan.identity = Some(files);
                }
            }
        }
        self.contradictions(draft.span, scene);
    }

    /// One option; whether it is one of these.
    pub fn option(&mut self, key: &str, value: &Value, scene: &mut Scene<'_, '_>) -> bool {
        match key {
            "tls" if value.text.value != "insecure" => {} // which has been said
            "tls" => {
                let reason = "`insecure` believes whoever answers: anybody on the way can read and change what is sent";
                scene.findings.warning(value.span, reason).hint("`ca=FILE` believes one authority");
                self.plan.get_or_insert_default().insecure = true;
            }
            "ca" => {
                let file = scene.outside.name(value.span.file(), &value.text.value);
                let read = roots(Some(file.clone()), scene.outside);
                if let Err(wrong) = read {
                    scene.findings.error(value.span, wrong.reason).maybe_hint(wrong.hint);
                }
                self.plan.get_or_insert_default().ca = Some(file);
            }
            "name" => {
                let name = scene.parse(value, values::host);
                self.plan.get_or_insert_default().name = name;
            }
            _ => return false,
        }
        true
    }

    fn contradictions(&self, span: Span, scene: &mut Scene<'_, '_>) {
        if self.plan.as_ref().is_some_and(|plan| plan.insecure && plan.ca.is_some()) {
            scene.findings.error(span, "`ca=` has no use where `insecure` believes anybody");
        }
    }

    /// What a pool has whose servers are written so.
    pub fn finish(self, servers: &[Written], scene: &mut Scene<'_, '_>) -> Option<PoolTls> {
        let first = servers.iter().find(|(_, scheme, _)| *scheme == Some(Scheme::Https));
        let plain = |scheme: &Option<Scheme>| match self.plan.is_some() {
            true => matches!(scheme, Some(Scheme::Http | Scheme::H2c)),
            false => *scheme != Some(Scheme::Https),
        };
        if (self.plan.is_some() || first.is_some())
            && let Some((_, _, span)) = servers.iter().find(|(_, scheme, _)| plain(scheme))
        {
            let reason = "servers of one pool speak TLS, or none of them does";
            scene.findings.error(*span, reason).hint("write `https://` before each, or `tls` in the pool");
        }
        let plan = self.plan.or(first.map(|_| PoolTls::default()))?;
        let span = first.or(servers.first()).map_or(Span::default(), |(_, _, span)| *span);
        contradictions_of_names(&plan, servers, scene);
        // What is wrong with a file has been told where it is named.
        if !plan.insecure
            && plan.ca.is_none()
            && let Err(wrong) = roots(None, scene.outside)
        {
            scene.findings.error(span, wrong.reason).maybe_hint(wrong.hint);
        }
        Some(plan)
    }
}

/// What has no name that a certificate could prove needs one.
fn contradictions_of_names(plan: &PoolTls, servers: &[Written], scene: &mut Scene<'_, '_>) {
    let found = servers.iter().find(|(address, ..)| is_unproved(plan, address));
    if let Some((_, _, span)) = found {
        let reason = "it is not known which name this server has to prove by its certificate";
        scene.findings.error(*span, reason).hint(NAME_IT);
    }
}

/// Whether the server at `address` has no name that its certificate could prove, and has to prove one.
pub fn is_unproved(plan: &PoolTls, address: &Address) -> bool {
    let nameless = matches!(address, Address::Unix(_) | Address::Srv(_));
    nameless && plan.name.is_none() && !plan.insecure
}

/// What is said of such a server after its address.
pub const UNPROVED: &str = "has no name that it could prove by its certificate";
/// What helps.
pub const NAME_IT: &str = "write `tls name=NAME` in the pool";

/// Whose certificates are believed: those of a file, or those that the system believes; read once.
pub fn roots(file: Option<PathBuf>, outside: &mut Outside<'_>) -> Result<(), Wrong> {
    if outside.certificates.roots.contains_key(&file) {
        return Ok(());
    }
    let found = match &file {
        None => Roots::of_system(outside.system_roots()).ok_or_else(|| {
            Wrong::new(
                "TLS needs to know whom to believe, and this system has no certificates of authorities",
            )
            .hint("install `ca-certificates`, or write `ca=FILE`")
        })?,
        Some(name) => {
            let text = outside.read_bytes(name, FILE_BYTES_MAX)?;
            Roots::read(&text).map_err(|flaw| Wrong {
                reason: format!("`{}` {}", name.display(), flaw.reason),
                hint: flaw.hint,
            })?
        }
    };
    outside.certificates.roots.insert(file, Arc::new(found));
    Ok(())
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
    if let Some(known) = outside.certificates.pairs.get(files) {
        return Ok(Arc::clone(known));
    }
    let mut read = |part, path| outside.read_bytes(path, FILE_BYTES_MAX).map_err(|wrong| (part, wrong));
    let chain = read(Part::Certificate, &files.certificate)?;
    let key = if files.key == files.certificate { chain.clone() } else { read(Part::Key, &files.key)? };
    let certificate = Certificate::read(&chain, &key).map_err(|flaw| (flaw.part, told(files, flaw)))?;
    let certificate = Arc::new(certificate);
    outside.certificates.pairs.insert(files.clone(), Arc::clone(&certificate));
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
    if certificate.must_staple {
        let reason = format!("the certificate {} wants an answer of OCSP stapled to it", chain.shown());
        let hint =
            "none is: clients that heed it refuse the certificate; have it issued without `must-staple`";
        scene.findings.warning(chain.span, reason).hint(hint);
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
