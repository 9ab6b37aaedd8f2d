//! automatic: the certificates that nobody wrote down: those that are there at once, and what is known of all of them.

mod authority;
pub(crate) mod store;

pub use authority::{Authority, subject};
pub use store::{Disk, Held, Store};

use crate::described::fnv1a;
use crate::observe::log;
use portunus_relay::plan::{Plan, Settings, Signer, Wanted};
use portunus_relay::tls::{Certificate, Certificates};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// How many names that are not written anywhere may have certificates from CAs, and how many may have our own (attack D10).
pub const ON_DEMAND_MAX: usize = 10_000;

/// What is known of the certificates that nobody wrote down.
#[derive(Debug)]
pub struct Automatic {
    variable: fn(&str) -> Option<String>,
    /// Guards the authority of our own, once it was needed.
    authority: Mutex<Option<(PathBuf, Arc<Authority>)>>,
    /// Guards what is known of each name.
    known: Mutex<BTreeMap<Wanted, Known>>,
    obtained: AtomicU64,
    failed: AtomicU64,
}

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Until when its certificate is good, in seconds since 1970; none: there is none.
    pub not_after: Option<i64>,
    /// Who it is from.
    pub from: Option<String>,
    /// When something is done for it next.
    pub next: Option<SystemTime>,
    /// Why the latest try has failed.
    pub error: Option<String>,
    /// Which CAs have not given its certificate, though they come before the one that has, and why.
    pub passed_over: Option<String>,
}

impl Automatic {
    /// Nothing is known yet. `variable` tells where users keep what programs need.
    pub fn new(variable: fn(&str) -> Option<String>) -> Automatic {
        Automatic {
            variable,
            authority: Mutex::default(),
            known: Mutex::default(),
            obtained: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Where accounts, keys and certificates are kept.
    pub fn store(&self, settings: &Settings) -> Arc<dyn Store> {
        Arc::new(Disk::at(self.place(settings)))
    }

    /// Where that is.
    pub fn place(&self, settings: &Settings) -> PathBuf {
        directory(settings, &self.variable)
    }

    /// Puts those certificates of a plan in place that are there already, or that can be made without asking anybody.
    pub fn ready(&self, plan: &Plan, certificates: &mut Certificates, previous: Option<&Certificates>) {
        let store = self.store(&plan.settings);
        for wanted in wanted(plan) {
            let known = previous.and_then(|previous| previous.automatic.get(&wanted)).cloned();
            let found = match (known, wanted.by) {
                (Some(known), _) => Ok(Some(known)),
                (None, Signer::Internal) => self.sign(plan, &wanted.name).map(Some),
                (None, Signer::Acme) => stored(&*store, &wanted.name),
            };
            match found {
                Ok(Some(certificate)) => _ = certificates.automatic.insert(wanted, certificate),
                Ok(None) => {}
                Err(reason) => log::error(format_args!("{}: no certificate yet: {reason}", wanted.name)),
            }
        }
        let earlier = previous.into_iter().flat_map(|previous| &previous.automatic);
        for (wanted, certificate) in earlier.filter(|(wanted, _)| may_be_demanded(plan, wanted)) {
            certificates.automatic.entry(wanted.clone()).or_insert_with(|| Arc::clone(certificate));
        }
    }

    /// A certificate by our own authority.
    pub fn sign(&self, plan: &Plan, name: &str) -> Result<Arc<Certificate>, String> {
        let now = SystemTime::now();
        let place = self.place(&plan.settings);
        let mut authority = lock(&self.authority);
        let own = match &*authority {
            Some((known, own)) if *known == place => Arc::clone(own),
            _ => {
                let own = Arc::new(self.open(&plan.settings, now)?);
                *authority = Some((place, Arc::clone(&own)));
                own
            }
        };
        own.sign(name, now)
    }

    /// Without a place to keep it, it ends with the program: better than no certificate at all.
    fn open(&self, settings: &Settings, now: SystemTime) -> Result<Authority, String> {
        match Authority::open(&*self.store(settings), now) {
            Ok((own, new)) => {
                if new {
                    log::info("an internal CA has been made; `portunus trust` lets this machine believe it");
                }
                Ok(own)
            }
            Err(reason) => {
                log::warn(format_args!(
                    "the internal CA cannot be kept and ends with the program: {reason}; write `state DIRECTORY`"
                ));
                Authority::make(now).map(|(own, _)| own).map_err(|error| error.to_string())
            }
        }
    }

    /// What is known of each name.
    pub fn known(&self) -> BTreeMap<Wanted, Known> {
        lock(&self.known).clone()
    }

    /// How many certificates were got, and how many tries have failed.
    pub fn counts(&self) -> [u64; 2] {
        [self.obtained.load(Relaxed), self.failed.load(Relaxed)]
    }

    /// How many names have no certificate, or one that could not be renewed.
    pub fn wanting(&self) -> usize {
        lock(&self.known).values().filter(|one| one.not_after.is_none() || one.error.is_some()).count()
    }

    /// Hears what is known now, of all.
    pub(crate) fn note(&self, known: BTreeMap<Wanted, Known>) {
        *lock(&self.known) = known;
    }

    /// Hears how a try went.
    pub(crate) fn tried(&self, well: bool) {
        if well { &self.obtained } else { &self.failed }.fetch_add(1, Relaxed);
    }
}

/// The names that a plan wants certificates for, each once.
pub fn wanted(plan: &Plan) -> BTreeSet<Wanted> {
    let sites = plan.sites.iter().filter_map(|site| site.tls.as_ref());
    sites.flat_map(|tls| tls.automatic.iter().cloned()).collect()
}

/// Whether a site takes names like this one when somebody asks for them. What clients ask for goes on to others in a URL, in an order and in
/// the name of a file, so only what can be a host of the internet is taken (RFC 1123 §2.1).
pub fn may_be_demanded(plan: &Plan, wanted: &Wanted) -> bool {
    is_host(&wanted.name)
        && plan.sites.iter().any(|site| {
            let signer = site.tls.as_ref().and_then(|tls| tls.on_demand);
            signer == Some(wanted.by) && site.names.iter().any(|name| name.fits(&wanted.name))
        })
}

/// Takes away what makes more than `max` of those that nobody wrote down and that we have signed ourselves: such a one is made again in a moment
/// when somebody asks for it. Those that were made the longest ago go.
pub fn make_room(plan: &Plan, certificates: &mut Certificates, max: usize) {
    if certificates.automatic.len() <= max {
        return;
    }
    let written = wanted(plan);
    let is_own = |wanted: &Wanted| wanted.by == Signer::Internal && !written.contains(wanted);
    let own = certificates.automatic.iter().filter(|(wanted, _)| is_own(wanted));
    let mut own: Vec<_> = own.map(|(wanted, one)| (one.not_before, wanted.clone())).collect();
    let excess = own.len().saturating_sub(max);
    if excess == 0 {
        return;
    }
    own.sort_unstable();
    // Some at a time: it is no work to look for the next one each time.
    for (_, old) in own.iter().take(excess + max / ROOM_MADE) {
        certificates.automatic.remove(old);
    }
}

fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Nothing ends with a number but an address, and an address has no certificate on demand.
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= NAME_MAX
        && name.split('.').all(is_label)
        && name.rsplit_once('.').is_some_and(|(_, last)| !is_number(last))
}

/// Which part of them makes room for new ones at a time.
const ROOM_MADE: usize = 100;
/// How long a name, and each part of it, may be (RFC 1035 §2.3.4).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// The certificate of this name in the store.
pub fn stored(store: &dyn Store, name: &str) -> Result<Option<Arc<Certificate>>, String> {
    let key = key(name, "pem");
    let told = |reason: String| format!("{}: {reason}", store.place(&key));
    let Some(bytes) = store.read(&key).map_err(|error| told(error.to_string()))? else { return Ok(None) };
    let read = Certificate::read(&bytes, &bytes).map_err(|flaw| told(flaw.reason))?;
    match read.names.iter().any(|own| own == name) {
        true => Ok(Some(Arc::new(read))),
        false => Err(told(format!("is not a certificate for {name}"))),
    }
}

/// What the store calls the certificate of a name, or what is remembered of it. No two names have the same, and none is longer than
/// what file systems take.
pub fn key(name: &str, kind: &str) -> String {
    let plain = name.replace('_', "__").replace('*', "_").replace(':', "-");
    let plain = match plain.char_indices().nth(KEY_CHARS_MAX) {
        None => plain,
        Some((end, _)) => format!("{}-{:016x}", &plain[..end], fnv1a(name.as_bytes())),
    };
    format!("acme/certificates/{plain}.{kind}")
}

/// With what stands around it in the names of locks and of new files it has to fit into 255 bytes.
const KEY_CHARS_MAX: usize = 180;

/// Where it is kept: where `state` says, or where the system has a place for it.
pub fn directory(settings: &Settings, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if let Some(state) = &settings.state {
        return state.clone();
    }
    let set = |name: &str| variable(name).filter(|value| value.starts_with('/'));
    if let Some(directories) = set("STATE_DIRECTORY") {
        return PathBuf::from(directories.split(':').next().unwrap_or(&directories)); // systemd.exec(5)
    }
    let own = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| format!("{home}/.local/share")));
    match own {
        Some(own) if !rustix::process::geteuid().is_root() => PathBuf::from(own).join("portunus"),
        _ => PathBuf::from("/var/lib/portunus"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_relay::plan::{HostPattern, SitePlan, SiteTls};
    use std::time::Duration;

    fn site(tls: SiteTls) -> SitePlan {
        SitePlan {
            names: vec![HostPattern::Any],
            listen: Vec::new(),
            prefaced: Vec::new(),
            tls: Some(tls),
            routes: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_has_a_place_that_was_written_or_that_the_system_has() {
        let none = |_: &str| None;
        let systemd = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/a:/var/lib/b".to_owned());
        let mut settings = Settings::default();
        assert_eq!(directory(&settings, &none), PathBuf::from("/var/lib/portunus"));
        assert_eq!(directory(&settings, &systemd), PathBuf::from("/var/lib/a"));
        settings.state = Some("/srv/state".into());
        assert_eq!(directory(&settings, &systemd), PathBuf::from("/srv/state"));
    }

    #[test]
    fn only_what_can_be_a_host_of_the_internet_is_got_on_demand() {
        let tls = SiteTls { on_demand: Some(Signer::Acme), ..SiteTls::default() };
        let plan = Plan { sites: vec![site(tls)], ..Plan::default() };
        let may = |name: &str| may_be_demanded(&plan, &Wanted { name: name.to_owned(), by: Signer::Acme });
        let long = format!("{}.example", "a".repeat(64));
        let longest = format!("{}example", "abcdefghi.".repeat(25));
        assert!(may("a.example") && may("xn--bcher-kva.example") && may("1.2.3.example"));
        let others = [
            "",
            "example",
            ".example",
            "a..example",
            "a.example.",
            "-a.example",
            "a-.example",
            "a_b.example",
            "*.example",
            "192.0.2.1",
            "[::1]",
            "a&token=1.example",
            "a.example;x",
            "a%2eexample.com",
            "a/../b.c",
            &long,
            &longest,
        ];
        assert_eq!(others.map(may), [false; 17]);
    }

    #[test]
    fn what_was_signed_the_longest_ago_makes_room() {
        let now = SystemTime::now();
        let own = Authority::make(now).unwrap().0;
        let mut certificates = Certificates::default();
        let mut add = |name: &str, by, age: u64| {
            let made = own.sign(name, now - Duration::from_secs(age)).unwrap();
            certificates.automatic.insert(Wanted { name: name.to_owned(), by }, made);
        };
        (0..4).for_each(|age| add(&format!("{age}.example"), Signer::Internal, age));
        add("bought.example", Signer::Acme, 9);
        add("written.example", Signer::Internal, 9);
        let written = Wanted { name: "written.example".to_owned(), by: Signer::Internal };
        let tls = SiteTls { automatic: vec![written], ..SiteTls::default() };
        let plan = Plan { sites: vec![site(tls)], ..Plan::default() };
        make_room(&plan, &mut certificates, 4);
        assert_eq!(certificates.automatic.len(), 6);
        make_room(&plan, &mut certificates, 2);
        let mut left: Vec<_> = certificates.automatic.keys().map(|one| &*one.name).collect();
        left.sort_unstable();
        assert_eq!(left, ["0.example", "1.example", "bought.example", "written.example"]);
    }

    #[test]
    fn no_name_is_a_way_out_of_its_directory() {
        assert_eq!(key("*.example.com", "pem"), "acme/certificates/_.example.com.pem");
        assert_eq!(key("[::1]", "json"), "acme/certificates/[--1].json");
    }

    #[test]
    fn each_name_has_a_file_of_its_own_however_long_it_is() {
        assert_ne!(key("_.example.com", "pem"), key("*.example.com", "pem"));
        let long = |last: &str| format!("{}{last}.example", "abcdefghi.".repeat(24));
        assert_ne!(key(&long("a"), "pem"), key(&long("b"), "pem"));
        let root = std::env::temp_dir().join(format!("portunus-names-{}", std::process::id()));
        let (disk, key) = (Disk::at(root.clone()), key(&long("a"), "json"));
        let held = disk.lock(&key).unwrap();
        disk.write(&key, b"x").unwrap();
        assert_eq!(disk.read(&key).unwrap().as_deref(), Some(&b"x"[..]));
        drop(held);
        std::fs::remove_dir_all(root).unwrap();
    }
}
