//! Fronts: how each site shakes hands — its policy with its tickets, and its certificates.

use super::{Certificates, Choices, Roots, offer};
use crate::plan::{CompileMistake, HostPattern, Listen, Plan, Signer, SiteTls, TlsSettings};
use portunus_message::Proof;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{
    NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection, WebPkiClientVerifier,
};
use std::collections::HashMap;
use std::sync::Arc;

/// How the sites of one Snapshot shake hands.
#[derive(Debug, Default)]
pub struct Fronts {
    /// Where TLS is spoken, sorted.
    listens: Vec<Listen>,
    /// In the order of the plan's sites.
    sites: Vec<Option<Arc<Front>>>,
}

/// How one site shakes hands.
#[derive(Debug)]
pub struct Front {
    /// What a handshake is made with: for clients who get our order of suites or theirs, who bring no ticket or one.
    configs: [[Arc<ServerConfig>; 2]; 2],
    /// What it has to be like.
    pub policy: Arc<Policy>,
    choices: Arc<Choices>,
    /// Whether names that have no certificate yet may get one when somebody asks for them.
    pub on_demand: Option<Signer>,
}

/// What handshakes of some sites have to be like. A session belongs to the policy that it began with: others cannot read its ticket,
/// so a client that shows one shakes hands in full (attack D7).
#[derive(Debug)]
pub struct Policy {
    settings: TlsSettings,
    /// Whose clients' certificates are believed.
    clients: Option<Arc<Roots>>,
    config: ServerConfig,
}

/// What a client's connection was secured by.
#[derive(Debug)]
pub struct Secured {
    /// What is known of it, for those who serve it.
    pub proof: Arc<Proof>,
    /// How hands were shaken.
    pub front: Arc<Front>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// Whether HTTP/2 is spoken inside.
    pub h2: bool,
}

impl Fronts {
    /// Those of `plan`; policies that `previous` has are kept, with their tickets.
    pub fn compile(
        plan: &Plan,
        certificates: &Certificates,
        previous: Option<&Fronts>,
    ) -> Result<Fronts, Vec<CompileMistake>> {
        let mut policies = Policies::of(previous);
        let mut mistakes = Vec::new();
        let mut sites = Vec::with_capacity(plan.sites.len());
        let mut listens = Vec::new();
        for site in &plan.sites {
            let h2 = plan.settings.limits.streams > 0;
            let front =
                site.tls.as_ref().map(|tls| compile(tls, h2, &site.names, certificates, &mut policies));
            let front = front.transpose().map_err(|reason| {
                let name = site.names.first().map(ToString::to_string).unwrap_or_default();
                mistakes.push(CompileMistake { place: format!("site {name}"), reason });
            });
            sites.push(front.ok().flatten());
            listens.extend(site.tls.iter().flat_map(|tls| tls.listen.iter().cloned()));
        }
        listens.sort();
        listens.dedup();
        if mistakes.is_empty() { Ok(Fronts { listens, sites }) } else { Err(mistakes) }
    }

    /// Whether TLS is spoken at this address.
    pub fn speaks(&self, listen: &Listen) -> bool {
        !self.listens.is_empty() && self.listens.binary_search(listen).is_ok()
    }

    /// How this site of the plan shakes hands.
    pub fn site(&self, at: u32) -> Option<&Arc<Front>> {
        self.sites.get(at as usize)?.as_ref()
    }
}

/// The policies of a Snapshot, each once.
struct Policies(HashMap<TlsSettings, Arc<Policy>>);

impl Policies {
    fn of(previous: Option<&Fronts>) -> Policies {
        let known = previous.into_iter().flat_map(|fronts| fronts.sites.iter().flatten());
        Policies(known.map(|front| (front.policy.settings.clone(), Arc::clone(&front.policy))).collect())
    }

    fn get(&mut self, settings: &TlsSettings, certificates: &Certificates) -> Result<Arc<Policy>, String> {
        let clients = match &settings.client_auth {
            None => None,
            Some(auth) => {
                let missing = || format!("the authorities in `{}` have not been read", auth.ca.display());
                Some(certificates.roots.get(&Some(auth.ca.clone())).ok_or_else(missing)?)
            }
        };
        let is_same =
            |known: &&Arc<Policy>| known.clients.as_ref().map(Arc::as_ptr) == clients.map(Arc::as_ptr);
        if let Some(known) = self.0.get(settings).filter(is_same) {
            return Ok(Arc::clone(known));
        }
        let policy = Arc::new(Policy::new(settings.clone(), clients.cloned())?);
        self.0.insert(settings.clone(), Arc::clone(&policy));
        Ok(policy)
    }
}

impl Policy {
    fn new(settings: TlsSettings, clients: Option<Arc<Roots>>) -> Result<Policy, String> {
        let provider = offer::provider_of(&settings);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&offer::versions(&settings));
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = match (&clients, &settings.client_auth) {
            (Some(clients), Some(auth)) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::clone(&clients.store), provider);
                let verifier = if auth.required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::<Choices>::default());
        config.ignore_client_order = true;
        // Sessions live in tickets alone: nothing is kept for clients that may never come back.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if clients.is_some() {
            // Whoever has to prove who it is does so each time (attack D7).
            config.send_tls13_tickets = 0;
        } else {
            // Its keys are replaced every 6 hours; the ones before are still read for as long.
            config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
        }
        Ok(Policy { settings, clients, config })
    }
}

fn compile(
    tls: &SiteTls,
    h2: bool,
    names: &[HostPattern],
    certificates: &Certificates,
    policies: &mut Policies,
) -> Result<Arc<Front>, String> {
    let mut own = Vec::with_capacity(tls.certificates.len());
    for files in &tls.certificates {
        let certificate = certificates.pairs.get(files);
        let missing = || format!("the certificate `{}` has not been read", files.certificate.display());
        own.push(Arc::clone(certificate.ok_or_else(missing)?));
    }
    let policy = policies.get(&tls.settings, certificates)?;
    // A site for any host has nothing better for a name than what it has for another one.
    let any = tls.on_demand.is_none() && names.contains(&HostPattern::Any);
    let known = tls.automatic.iter().filter_map(|wanted| certificates.automatic.get(wanted));
    let (for_all, others) = match any {
        true => (known.cloned().collect(), Vec::new()),
        false => (Vec::new(), known.collect()),
    };
    own.extend(for_all);
    let mut choices = match tls.on_demand {
        // Names that these do not prove get certificates of their own.
        Some(_) => Choices::only(own.into_iter()),
        None => Choices::new(own.into_iter()),
    };
    others.into_iter().for_each(|one| choices.add(one));
    if let Some(signer) = tls.on_demand {
        let fits = |name: &str| names.iter().any(|pattern| pattern.fits(name));
        let found = certificates.automatic.iter();
        let found = found.filter(|(wanted, _)| wanted.by == signer && fits(&wanted.name));
        found.for_each(|(_, one)| choices.add(one));
    }
    let choices = Arc::new(choices);
    let mut config = policy.config.clone();
    config.alpn_protocols = PROTOCOLS.iter().skip(usize::from(!h2)).map(|name| name.to_vec()).collect();
    config.cert_resolver = Arc::clone(&choices) as Arc<dyn ResolvesServerCert>;
    let variant = |obliging: bool, resumes: bool| {
        let mut config = config.clone();
        config.ignore_client_order = !obliging;
        // One for the one that was used up; a new client may open two connections at a time.
        config.send_tls13_tickets = config.send_tls13_tickets.min(if resumes { 1 } else { 2 });
        Arc::new(config)
    };
    let configs = [false, true].map(|obliging| [false, true].map(|resumes| variant(obliging, resumes)));
    Ok(Arc::new(Front { configs, policy, choices, on_demand: tls.on_demand }))
}

impl Front {
    /// Whether there is a certificate to show to whoever asks for this host, or names none.
    pub fn has_certificate(&self, name: Option<&str>) -> bool {
        !self.choices.of(name).is_empty()
    }

    /// A handshake with a client that prefers this suite to all others, and shows a ticket or does not. Who has no AES in his processor
    /// puts ChaCha20 first, and gets it.
    pub fn connection(
        &self,
        preferred: Option<u16>,
        resumes: bool,
    ) -> Result<UnbufferedServerConnection, rustls::Error> {
        let prefers_chacha = preferred.is_some_and(|suite| CHACHA20.contains(&suite));
        let config = &self.configs[usize::from(prefers_chacha)][usize::from(resumes)];
        UnbufferedServerConnection::new(Arc::clone(config))
    }
}

impl Secured {
    /// Whether a request for `host`, whose site shakes hands like `front`, may come by this connection: when another handshake would have been
    /// the same (attack D6), and its certificate proves that host, too.
    pub fn is_good_for(&self, host: &str, front: Option<&Front>) -> bool {
        let Some(front) = front else { return false };
        let same_policy = Arc::ptr_eq(&self.front.policy, &front.policy);
        let name = &self.proof.name;
        let named = match name {
            Some(name) => **name == *host,
            None => false,
        };
        let proved = || self.front.choices.of(name.as_deref()).iter().any(|one| one.proves(host));
        // Whoever named no host has been given what its site has for all.
        same_policy && (named || name.is_none() || proved())
    }
}

/// The suites with ChaCha20: of TLS 1.3 (RFC 8446 §B.4), and of 1.2 (RFC 7905).
const CHACHA20: [u16; 3] = [0x1303, 0xcca8, 0xcca9];
/// What is spoken inside (RFC 7301), the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
