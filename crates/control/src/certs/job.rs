//! job: what is done for one name — its certificate is got, or its CA is asked when that shall be renewed — on a thread of its own.

use super::acme::{self, Accounts, Cleanups, Obtained, Patience, Refusal, identifier};
use super::due::{Name, Task, due};
use super::note::{self, Note};
use super::permission;
use super::schedule::{Failing, LOOK_PAUSE};
use crate::apply::{Running, Supervisor};
use crate::automatic::{self, ON_DEMAND_MAX, Store};
use crate::observe::log;
use portunus_relay::clock;
use portunus_relay::demands::REFUSED_FOR;
use portunus_relay::plan::{AcmeAuthority, Challenge, Listen, Plan, Signer, Wanted};
use portunus_relay::tls::Certificate;
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What came of it.
pub enum Outcome {
    /// This is remembered of it now.
    Noted(Box<Note>),
    /// Somebody else sees to it.
    Elsewhere,
    /// It may have a certificate.
    Permitted,
    /// It shall have none. Nothing is written anywhere: anybody can ask for any number of names.
    Refused,
    /// Whoever is asked whether it may does not say it, for this reason.
    Unknown(String),
}

/// Something that is done for a name.
pub struct Job {
    /// The name.
    pub wanted: Wanted,
    /// What.
    pub task: Task,
    /// For which configuration.
    pub running: Arc<Running>,
    /// Whose handshakes go over to it.
    pub supervisor: Arc<Supervisor>,
    /// Where it is kept.
    pub store: Arc<dyn Store>,
    /// Who we are for CAs.
    pub accounts: Arc<Accounts>,
    /// Who is told of records that are taken out of the DNS again.
    pub cleanups: Arc<Cleanups>,
    /// What is known of the name. Taken by whoever says what came of the job.
    pub note: RefCell<Note>,
}

impl Job {
    /// Does it.
    pub async fn run(self) -> Outcome {
        if self.task == Task::Ask {
            return self.permission().await.unwrap_or_else(|refusals| self.failed(&refusals));
        }
        if self.wanted.by == Signer::Internal {
            return self.sign().unwrap_or_else(|refusals| self.failed(&refusals));
        }
        // Whoever has this writes what is kept of the name, and nobody else.
        let _held = match self.store.lock(&self.key()) {
            Ok(Some(held)) => held,
            Ok(None) => return Outcome::Elsewhere,
            Err(error) => return self.failed(&[self.unkept(&error)]),
        };
        let (name, now) = (&self.wanted.name, SystemTime::now());
        let note = self.note.take().latest(&*self.store, name);
        let waits = note.waits_until(now).is_some_and(|until| until > now);
        self.note.replace(note);
        match self.task {
            Task::Look => self.look().await,
            // Another program has had its try a moment ago.
            _ if waits => Outcome::Noted(Box::new(self.note.take())),
            _ => self.get().await.unwrap_or_else(|refusals| self.failed(&refusals)),
        }
    }

    fn key(&self) -> String {
        automatic::key(&self.wanted.name, "pem")
    }

    fn unkept(&self, error: &std::io::Error) -> Refusal {
        let place = self.store.place(&self.key());
        Refusal::own(format!("what is got could not be kept: {place}: {error}; write `state DIRECTORY`"))
    }

    fn failed(&self, refusals: &[Refusal]) -> Outcome {
        let (name, mut note) = (&self.wanted.name, self.note.take());
        let pause = note.failed(name, refusals, SystemTime::now());
        let used = self.running.snapshot.certificates().automatic.get(&self.wanted);
        log::error(failure(name, used.map(|used| &**used), note.error.as_deref().unwrap_or(""), pause));
        if self.wanted.by == Signer::Acme
            && let Err(reason) = note.keep(&*self.store, name)
        {
            log::warn(format_args!(
                "{name}: this failure is forgotten with the end of the program: {reason}"
            ));
        }
        self.supervisor.automatic().tried(false);
        self.running.snapshot.demands.refused(&self.wanted, clock::read(), REFUSED_FOR);
        Outcome::Noted(Box::new(note))
    }

    /// Whether a name that nobody wrote down may have one. What was got before is used without asking.
    async fn permission(&self) -> Result<Outcome, Vec<Refusal>> {
        let (snapshot, name) = (&self.running.snapshot, &self.wanted.name);
        if self.wanted.by == Signer::Acme {
            let note = self.note.take().latest(&*self.store, name);
            self.note.replace(note);
            if let Some(taken) = self.kept_by_others()? {
                return self.take(&taken);
            }
        }
        let Err(refusal) = permission::of(snapshot, name).await else { return Ok(Outcome::Permitted) };
        let Some(used) = snapshot.certificates().automatic.get(&self.wanted) else {
            return Ok(self.not_permitted(refusal));
        };
        let (now, mut note) = (SystemTime::now(), self.note.take());
        let is_over = refusal.kind == Failing::Refused && note::dates(used)[1] < now;
        let gone = is_over
            .then(|| self.supervisor.change_certificates(|all| _ = all.automatic.remove(&self.wanted)));
        if let Some(Ok(())) = gone {
            log::info(format_args!("{name} has no certificate any more: {}", refusal.reason));
            self.give_up();
            return Ok(Outcome::Refused);
        }
        note.failed(name, std::slice::from_ref(&refusal), now);
        log::warn(format_args!("{}: {}", not_renewed(name, used), refusal.reason));
        Ok(Outcome::Noted(Box::new(note)))
    }

    /// A name without a certificate gets none now.
    fn not_permitted(&self, refusal: Refusal) -> Outcome {
        let demands = &self.running.snapshot.demands;
        log::debug(format_args!("{} gets no certificate: {}", self.wanted.name, refusal.reason));
        match refusal.kind {
            Failing::Refused => {
                demands.refused(&self.wanted, clock::read(), REFUSED_FOR);
                self.give_up();
                Outcome::Refused
            }
            // That is no "no".
            Failing::Outage => {
                demands.refused(&self.wanted, clock::read(), UNKNOWN_FOR);
                Outcome::Unknown(refusal.reason)
            }
        }
    }

    /// Nothing is remembered of it any more.
    fn give_up(&self) {
        // What cannot be removed is read again should the name be asked for again.
        let _ = self.store.remove(&automatic::key(&self.wanted.name, "json"));
    }

    /// By our own authority.
    fn sign(&self) -> Result<Outcome, Vec<Refusal>> {
        let (plan, name) = (self.running.snapshot.plan(), &self.wanted.name);
        let own = |reason: String| vec![Refusal::own(reason)];
        let certificate = self.supervisor.automatic().sign(plan, name).map_err(own)?;
        self.note.take(); // there is nothing to remember but failures
        let outcome = self.take(&certificate)?;
        self.supervisor.automatic().tried(true);
        Ok(outcome)
    }

    /// When the CA wants it to be renewed (RFC 9773).
    async fn look(&self) -> Outcome {
        let (plan, now) = (self.running.snapshot.plan(), SystemTime::now());
        let mut note = self.note.take();
        let authorities = &plan.settings.acme.authorities;
        let authority = authorities.iter().find(|one| Some(&one.directory) == note.from.as_ref());
        let certificate = self.running.snapshot.certificates().automatic.get(&self.wanted);
        let mut again = LOOK_PAUSE;
        if let (Some(authority), Some(id)) = (authority, certificate.and_then(|one| identifier(one.leaf())))
            && let Ok(account) = self.accounts.of(authority, &plan.settings.acme).await
            && let Some((window, pause)) = acme::suggested(&account, &id).await
        {
            note.window = Some(window);
            again = pause.clamp(LOOK_PAUSE_MIN, LOOK_PAUSE_MAX);
        }
        note.look_at = Some(note::seconds(now + again));
        note.at = note::seconds(now);
        // If that is lost, the CA is asked once more.
        let _ = note.keep(&*self.store, &self.wanted.name);
        Outcome::Noted(Box::new(note))
    }

    /// From a CA.
    async fn get(&self) -> Result<Outcome, Vec<Refusal>> {
        let (plan, name) = (self.running.snapshot.plan(), &self.wanted.name);
        if let Some(taken) = self.kept_by_others()? {
            return self.take(&taken);
        }
        let challenges = challenges(plan, name);
        if challenges.is_empty() {
            return Err(vec![Refusal::own(
                "nothing that is written in `acme`, and listened at, can show that it is ours",
            )]);
        }
        // What a CA gives is lost where nothing can be written, so it is not even asked.
        self.note.borrow().keep(&*self.store, name).map_err(|reason| {
            vec![Refusal::own(format!("what is got could not be kept: {reason}; write `state DIRECTORY`"))]
        })?;
        let authorities = &plan.settings.acme.authorities;
        let mut refusals = Vec::new();
        for authority in in_turn(authorities, &self.accounts.patience) {
            match self.ask(authority, &challenges).await {
                Ok(obtained) => return self.keep(authority, &obtained, &refusals),
                Err(refusal) => {
                    self.note.borrow_mut().heard(&authority.directory, &refusal, SystemTime::now());
                    let reason = said_by(authority, &refusal.reason);
                    refusals.push((authority, Refusal { reason, ..refusal }));
                }
            }
        }
        let is_known = |directory: &String| authorities.iter().any(|one| one.directory == *directory);
        self.note.borrow_mut().forget_but(is_known);
        Err(refusals.into_iter().map(|(_, refusal)| refusal).collect())
    }

    /// Keeps what this CA has given, after others have not.
    fn keep(
        &self,
        authority: &AcmeAuthority,
        obtained: &Obtained,
        refusals: &[(&AcmeAuthority, Refusal)],
    ) -> Result<Outcome, Vec<Refusal>> {
        let (key, name) = (self.key(), &self.wanted.name);
        self.store.write(&key, obtained.pem.as_bytes()).map_err(|error| vec![self.unkept(&error)])?;
        let now = SystemTime::now();
        let mut note = Note::obtained(&authority.directory, name, &obtained.certificate, now);
        note.passed_over = self.passed_over(authority, refusals);
        for (_, refusal) in refusals {
            let giver = host_of(&authority.directory);
            log::warn(format_args!("{name} gets its certificate from {giver} instead: {}", refusal.reason));
            self.supervisor.automatic().tried(false);
        }
        if let Err(reason) = note.keep(&*self.store, name) {
            log::warn(format_args!("{name}: {reason}"));
        }
        self.note.replace(note);
        self.supervisor.automatic().tried(true);
        self.take(&obtained.certificate)
    }

    /// Why none of those CAs has given it that are written before this one.
    fn passed_over(&self, giver: &AcmeAuthority, refusals: &[(&AcmeAuthority, Refusal)]) -> Option<String> {
        let authorities = self.running.snapshot.plan().settings.acme.authorities.iter();
        let reasons = authorities.take_while(|one| one.directory != giver.directory).filter_map(|one| {
            let asked = refusals.iter().find(|(asked, _)| asked.directory == one.directory);
            let silence = || self.accounts.patience.silence(&one.directory);
            asked.map(|(_, refusal)| refusal.reason.clone()).or_else(|| Some(said_by(one, &silence()?)))
        });
        Some(reasons.collect::<Vec<_>>().join("; ")).filter(|reasons| !reasons.is_empty())
    }

    /// The one in the store, when it is another one than what is in use, and good for a while: somebody else has got it, or we have
    /// before.
    fn kept_by_others(&self) -> Result<Option<Arc<Certificate>>, Vec<Refusal>> {
        let (plan, name) = (self.running.snapshot.plan(), &self.wanted.name);
        let stored = match automatic::stored(&*self.store, name) {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(None),
            Err(reason) => {
                log::warn(format_args!("a kept certificate is of no use, and another one is got: {reason}"));
                return Ok(None);
            }
        };
        let note = Note { look_at: Some(u64::MAX), ..self.note.borrow().clone() };
        let now = SystemTime::now();
        let (at, _) = due(&self.wanted, &Name::new(note), Some(&stored), plan, now);
        let used = self.supervisor.running().snapshot.certificates().automatic.get(&self.wanted).cloned();
        let is_new = used.is_none_or(|used| !used.is_same(&stored));
        Ok((is_new && at > now).then_some(stored))
    }

    async fn ask(&self, authority: &AcmeAuthority, challenges: &[Challenge]) -> Result<Obtained, Refusal> {
        let (snapshot, name) = (&self.running.snapshot, &self.wanted.name);
        let note = self.note.borrow().clone();
        if let Some(left) = note.told_by(&authority.directory, SystemTime::now()) {
            let reason = format!("wants to be left alone for {} s", left.as_secs());
            return Err(Refusal { reason, kind: Failing::Outage, wait: Some(left) });
        }
        let used = snapshot.certificates().automatic.get(&self.wanted);
        // A CA that does not take it well to be told is told once.
        let told =
            note.window.is_some() && note.from.as_ref() == Some(&authority.directory) && note.error.is_none();
        let request = acme::Request {
            name,
            acme: &snapshot.plan().settings.acme,
            authority,
            challenges,
            turn: note.refused,
            begun: note.orders.into_iter().find(|order| order.directory == authority.directory),
            patience: ORDER_TIME,
            cleanups: &self.cleanups,
            stranger: !automatic::wanted(snapshot.plan()).contains(&self.wanted),
            replaces: used.filter(|_| told).and_then(|one| identifier(one.leaf())),
        };
        let keep = |begun: &acme::Begun| {
            let mut note = self.note.borrow_mut();
            note.orders.retain(|order| order.directory != begun.directory);
            note.orders.push(begun.clone());
            note.keep(&*self.store, name)
        };
        acme::obtain(request, &self.accounts, &snapshot.challenges, &keep).await
    }

    /// Lets handshakes go over to it.
    fn take(&self, certificate: &Arc<Certificate>) -> Result<Outcome, Vec<Refusal>> {
        let changed = self.supervisor.change_certificates(|certificates| {
            certificates.automatic.insert(self.wanted.clone(), Arc::clone(certificate));
            automatic::make_room(self.running.snapshot.plan(), certificates, ON_DEMAND_MAX);
        });
        match changed {
            Ok(()) => {
                self.running.snapshot.demands.granted(&self.wanted);
                let until = &certificate.dates[1];
                log::info(format_args!("{} has a certificate, valid until {until}", self.wanted.name));
                Ok(Outcome::Noted(Box::new(self.note.take())))
            }
            // Whoever serves from now on takes it from the store.
            Err(crate::apply::Trouble::Stopping) => Ok(Outcome::Elsewhere),
            Err(trouble) => Err(vec![Refusal::own(trouble.lines().join("; "))]),
        }
    }
}

/// What a try that has come to nothing means for a name that has this certificate, if any.
fn failure(name: &str, used: Option<&Certificate>, reason: &str, pause: Duration) -> String {
    let what = match used {
        None => format!("{name} gets no certificate"),
        Some(used) => not_renewed(name, used),
    };
    format!("{what}: {reason}; the next try is in {} s", pause.as_secs())
}

fn not_renewed(name: &str, used: &Certificate) -> String {
    format!("the certificate of {name}, valid until {}, is not renewed", used.dates[1])
}

/// How it can be shown that a name is ours.
fn challenges(plan: &Plan, name: &str) -> Vec<Challenge> {
    if name.starts_with("*.") {
        return vec![Challenge::Dns];
    }
    let acme = &plan.settings.acme;
    let mut kinds = acme.challenges.clone();
    if kinds.is_empty() {
        let is_tls = |site: &portunus_relay::plan::SitePlan, listen: &Listen| {
            site.tls.as_ref().is_some_and(|tls| tls.listen.contains(listen))
        };
        let mut places = plan.sites.iter().flat_map(|site| site.listen.iter().map(move |one| (site, one)));
        if places.clone().any(|(site, listen)| !is_tls(site, listen)) {
            kinds.push(Challenge::Http);
        }
        if places.any(|(site, listen)| is_tls(site, listen)) {
            kinds.push(Challenge::TlsAlpn);
        }
        kinds.extend(acme.dns.is_some().then_some(Challenge::Dns));
    }
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    kinds.retain(|kind| !is_address || *kind == Challenge::Http);
    kinds
}

/// In which order CAs are asked: as they are written, but whoever has given no answer of late comes last.
fn in_turn<'a>(authorities: &'a [AcmeAuthority], patience: &Patience) -> Vec<&'a AcmeAuthority> {
    let mut all: Vec<_> = authorities.iter().collect();
    all.sort_by_cached_key(|one| patience.silence(&one.directory).is_some());
    all
}

/// A reason with the CA that it comes from.
fn said_by(authority: &AcmeAuthority, reason: &str) -> String {
    let host = host_of(&authority.directory);
    match reason.starts_with(host) {
        true => reason.to_owned(),
        false => format!("{host}: {reason}"),
    }
}

/// The host of a CA's directory, which is what people know it by.
fn host_of(directory: &str) -> &str {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// For how long nobody is asked again about a name when nobody has answered.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// How long a CA has for each of its decisions. The last pause that does not fit into it is left out.
const ORDER_TIME: Duration = Duration::from_secs(90);
/// How often a CA is asked when it wants a certificate to be renewed: as often as it says, but neither all the time nor hardly ever.
const LOOK_PAUSE_MIN: Duration = Duration::from_secs(60);
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_relay::plan::{HostPattern, SitePlan, SiteTls};

    #[test]
    fn a_failure_says_what_it_means() {
        let pause = Duration::from_secs(60);
        assert_eq!(
            failure("a.example", None, "no", pause),
            "a.example gets no certificate: no; the next try is in 60 s"
        );
        let now = SystemTime::now();
        let used = crate::automatic::Authority::make(now).unwrap().0.sign("a.example", now).unwrap();
        let expected = format!(
            "the certificate of a.example, valid until {}, is not renewed: no; the next try is in 60 s",
            used.dates[1]
        );
        assert_eq!(failure("a.example", Some(&used), "no", pause), expected);
    }

    #[test]
    fn who_has_given_no_answer_is_asked_last() {
        let patience = Patience::default();
        let authorities = ["https://a/", "https://b/"].map(|one| AcmeAuthority::at(one.to_owned()));
        let first = |patience: &Patience| in_turn(&authorities, patience)[0].directory.clone();
        assert_eq!(first(&patience), "https://a/");
        patience.unanswered("https://a/", "no answer within 30 s");
        assert_eq!(first(&patience), "https://b/");
        patience.unanswered("https://b/", "no answer within 30 s");
        assert_eq!(first(&patience), "https://a/");
    }

    #[test]
    fn a_name_is_proved_by_what_listens() {
        let listen = |port: u16| Listen::Tcp(([127, 0, 0, 1], port).into());
        let site = |listens: &[u16], secure: &[u16]| SitePlan {
            names: vec![HostPattern::Any],
            listen: listens.iter().copied().map(listen).collect(),
            prefaced: Vec::new(),
            tls: Some(SiteTls { listen: secure.iter().copied().map(listen).collect(), ..SiteTls::default() }),
            routes: Vec::new(),
        };
        let mut plan = Plan { sites: vec![site(&[443], &[443])], ..Plan::default() };
        assert_eq!(challenges(&plan, "a.example"), [Challenge::TlsAlpn]);
        plan.sites.push(site(&[80], &[]));
        assert_eq!(challenges(&plan, "a.example"), [Challenge::Http, Challenge::TlsAlpn]);
        assert_eq!(challenges(&plan, "192.0.2.1"), [Challenge::Http]);
        assert_eq!(challenges(&plan, "*.example"), [Challenge::Dns]);
        plan.settings.acme.challenges = vec![Challenge::TlsAlpn];
        assert_eq!(challenges(&plan, "a.example"), [Challenge::TlsAlpn]);
    }
}
