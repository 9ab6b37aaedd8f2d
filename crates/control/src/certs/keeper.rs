//! keeper: sees to it that every name that wants a certificate has one that is good for a while yet; never in anybody's way.

use super::acme::{self, Accounts, Obtained, Refusal, Web, identifier};
use super::note::{self, Note};
use crate::apply::{Running, Supervisor};
use crate::automatic::{self, Known, ON_DEMAND_MAX, Store};
use crate::observe::log;
use portunus_relay::clock;
use portunus_relay::plan::{Acme, Challenge, Listen, Plan, Signer, Wanted};
use portunus_relay::tls::Certificate;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Keeps them as long as the program runs.
pub async fn keep(supervisor: Arc<Supervisor>) {
    let mut changes = supervisor.changes();
    let (sender, mut done) = mpsc::unbounded_channel(); // bounded by AT_ONCE
    let asked = wishes(&supervisor.running());
    let mut keeper =
        Keeper { supervisor, names: HashMap::new(), busy: 0, sender, accounts: None, asked, turn: 0 };
    loop {
        let running = keeper.supervisor.running();
        let pause = keeper.turn(&running).await;
        let demands = Arc::clone(&running.snapshot.demands);
        drop(running);
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => keeper.changed(),
                Err(_) => return,
            },
            ended = done.recv() => if let Some(ended) = ended { keeper.ended(ended) },
            () = demands.added() => {}
            // Clocks are set, and machines sleep: nothing is waited for in one piece.
            () = tokio::time::sleep(pause.min(PAUSE_MAX)) => {}
        }
    }
}

struct Keeper {
    supervisor: Arc<Supervisor>,
    names: HashMap<Wanted, Name>,
    /// How many are being seen to.
    busy: usize,
    sender: mpsc::UnboundedSender<Ended>,
    /// The accounts with the CAs of the configuration in force, and where they are kept.
    accounts: Option<(Arc<Accounts>, Arc<dyn Store>)>,
    /// What the configuration in force says of CAs and of the place to keep things, and the how many-th that is.
    asked: (Acme, Option<PathBuf>),
    turn: u64,
}

/// A name that wants a certificate.
struct Name {
    note: Note,
    busy: bool,
    /// Not before this, whatever the note says.
    rests_until: Option<SystemTime>,
}

/// What can be done for a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Getting a certificate.
    Get,
    /// Asking the CA when it wants the one that is there to be renewed.
    Look,
}

/// What was done for a name.
struct Ended {
    wanted: Wanted,
    outcome: Outcome,
    /// For which settings.
    turn: u64,
}

enum Outcome {
    /// This is remembered of it now.
    Noted(Box<Note>),
    /// Somebody else sees to it.
    Elsewhere,
}

impl Keeper {
    /// Another configuration is in force. Whoever has changed what is said of CAs wants to see what comes of it, and not to wait.
    fn changed(&mut self) {
        self.accounts = None;
        let asked = wishes(&self.supervisor.running());
        if asked != self.asked {
            self.asked = asked;
            self.turn += 1;
            self.names.retain(|_, name| name.busy);
        }
    }

    /// Begins what is due. How long nothing else will be.
    async fn turn(&mut self, running: &Arc<Running>) -> Duration {
        let (plan, now) = (running.snapshot.plan(), SystemTime::now());
        let all = self.all(running);
        if all.is_empty() && self.names.is_empty() {
            self.supervisor.automatic().note(BTreeMap::new());
            return PAUSE_MAX;
        }
        let (accounts, store) = self.accounts(running);
        self.learn(&all, &store).await;
        let mut board = BTreeMap::new();
        let mut pause = PAUSE_MAX;
        for wanted in &all {
            let certificate = running.snapshot.certificates().automatic.get(wanted);
            let Some(name) = self.names.get_mut(wanted) else { continue };
            let (at, task) = due(wanted, name, certificate.map(|one| &**one), plan, now);
            board.insert(wanted.clone(), known(wanted, name, certificate, at));
            match at.duration_since(now).ok().filter(|left| !left.is_zero()) {
                Some(left) => pause = pause.min(left),
                None if name.busy || self.busy >= AT_ONCE => {}
                None => {
                    name.busy = true;
                    self.busy += 1;
                    let job = Job {
                        wanted: wanted.clone(),
                        task,
                        running: Arc::clone(running),
                        supervisor: Arc::clone(&self.supervisor),
                        store: Arc::clone(&store),
                        accounts: Arc::clone(&accounts),
                    };
                    self.begin(job);
                }
            }
        }
        self.supervisor.automatic().note(board);
        pause
    }

    /// All names: those that are written, those that clients ask for, and those that they have asked for before.
    fn all(&self, running: &Running) -> BTreeSet<Wanted> {
        let (plan, demands) = (running.snapshot.plan(), &running.snapshot.demands);
        let mut all = automatic::wanted(plan);
        let there = running.snapshot.certificates().automatic.keys();
        all.extend(there.filter(|wanted| automatic::may_be_demanded(plan, wanted)).cloned());
        for wanted in demands.waiting() {
            if all.contains(&wanted) && running.snapshot.certificates().automatic.contains_key(&wanted) {
                demands.granted(&wanted);
            } else if all.len() >= ON_DEMAND_MAX || !automatic::may_be_demanded(plan, &wanted) {
                demands.refused(&wanted, clock::read());
            } else {
                all.insert(wanted);
            }
        }
        all
    }

    fn accounts(&mut self, running: &Running) -> (Arc<Accounts>, Arc<dyn Store>) {
        let (accounts, store) = self.accounts.get_or_insert_with(|| {
            let store = self.supervisor.automatic().store(&running.snapshot.plan().settings);
            let roots = running.snapshot.certificates().roots.clone();
            (Arc::new(Accounts::new(Arc::clone(&store), roots)), store)
        });
        (Arc::clone(accounts), Arc::clone(store))
    }

    /// Reads what is remembered of names that are new here, and forgets the others.
    async fn learn(&mut self, all: &BTreeSet<Wanted>, store: &Arc<dyn Store>) {
        self.names.retain(|wanted, name| name.busy || all.contains(wanted));
        let new: Vec<Wanted> =
            all.iter().filter(|wanted| !self.names.contains_key(wanted)).cloned().collect();
        if new.is_empty() {
            return;
        }
        let (store, hurry) = (Arc::clone(store), self.turn > 0);
        let read = tokio::task::spawn_blocking(move || {
            let read = |wanted: Wanted| {
                let mut note = match wanted.by {
                    Signer::Acme => Note::read(&*store, &wanted.name),
                    Signer::Internal => Note::default(),
                };
                if hurry {
                    note.next_try = None;
                }
                (wanted, Name { note, busy: false, rests_until: None })
            };
            new.into_iter().map(read).collect::<Vec<_>>()
        });
        self.names.extend(read.await.unwrap_or_default());
    }

    /// Each has a thread of its own while it is at it: files may be slow, too.
    fn begin(&self, job: Job) {
        let (sender, handle, turn) = (self.sender.clone(), Handle::current(), self.turn);
        tokio::spawn(async move {
            let wanted = job.wanted.clone();
            let outcome = tokio::task::spawn_blocking(move || handle.block_on(job.run())).await;
            // A panic in there is a bug of ours, but no reason to leave a name without a certificate for ever.
            let outcome = outcome.unwrap_or_else(|_| {
                let mut note = Note::default();
                note.failed(&wanted.name, &[Refusal::own("it has panicked")], SystemTime::now());
                Outcome::Noted(Box::new(note))
            });
            let _ = sender.send(Ended { wanted, outcome, turn }); // nobody hears it when the program ends
        });
    }

    fn ended(&mut self, Ended { wanted, outcome, turn }: Ended) {
        self.busy = self.busy.saturating_sub(1);
        let Some(name) = self.names.get_mut(&wanted) else { return };
        name.busy = false;
        name.rests_until = None;
        match outcome {
            Outcome::Noted(note) if turn == self.turn => name.note = *note,
            Outcome::Noted(note) => name.note = Note { next_try: None, ..*note },
            Outcome::Elsewhere => name.rests_until = Some(SystemTime::now() + ELSEWHERE_PAUSE),
        }
    }
}

fn wishes(running: &Running) -> (Acme, Option<PathBuf>) {
    let settings = &running.snapshot.plan().settings;
    (settings.acme.clone(), settings.state.clone())
}

/// What is done for a name next, and when.
fn due(
    wanted: &Wanted,
    name: &Name,
    certificate: Option<&Certificate>,
    plan: &Plan,
    now: SystemTime,
) -> (SystemTime, Task) {
    let note = &name.note;
    let rest = note.waits_until().into_iter().chain(name.rests_until).max();
    let not_before_rest = |at: SystemTime| rest.map_or(at, |rest| rest.max(at));
    let Some(certificate) = certificate else { return (not_before_rest(now), Task::Get) };
    let authorities = &plan.settings.acme.authorities;
    let is_foreign = |from: &String| !authorities.iter().any(|authority| authority.directory == *from);
    let renew = match note.from.as_ref().filter(|_| wanted.by == Signer::Acme) {
        // The operator wants certificates from other CAs now.
        Some(from) if is_foreign(from) => now,
        _ => note.renew_at(&wanted.name, certificate),
    };
    let renew = not_before_rest(renew);
    let look = note.look_at.map_or(now, note::moment);
    match wanted.by == Signer::Acme && note.from.is_some() && look < renew {
        true => (look, Task::Look),
        false => (renew, Task::Get),
    }
}

fn known(wanted: &Wanted, name: &Name, certificate: Option<&Arc<Certificate>>, next: SystemTime) -> Known {
    let from = match wanted.by {
        Signer::Internal => Some("internal".to_owned()),
        Signer::Acme => name.note.from.clone(),
    };
    Known {
        not_after: certificate.map(|one| one.not_after),
        from: certificate.and(from),
        next: Some(next),
        error: name.note.error.clone(),
    }
}

/// Something that is done for a name.
struct Job {
    wanted: Wanted,
    task: Task,
    running: Arc<Running>,
    supervisor: Arc<Supervisor>,
    store: Arc<dyn Store>,
    accounts: Arc<Accounts>,
}

impl Job {
    async fn run(self) -> Outcome {
        let name = &self.wanted.name;
        let outcome = match (self.wanted.by, self.task) {
            (Signer::Internal, _) => self.sign(),
            (Signer::Acme, Task::Look) => self.look().await,
            (Signer::Acme, Task::Get) => self.get().await,
        };
        match outcome {
            Ok(outcome) => outcome,
            Err(refusals) => {
                let mut note = match self.wanted.by {
                    Signer::Acme => Note::read(&*self.store, name),
                    Signer::Internal => Note::default(),
                };
                let pause = note.failed(name, &refusals, SystemTime::now());
                let reason = note.error.as_deref().unwrap_or("");
                let seconds = pause.as_secs();
                log::error(format_args!(
                    "{name} gets no certificate: {reason}; the next try is in {seconds} s"
                ));
                if self.wanted.by == Signer::Acme
                    && let Err(reason) = note.keep(&*self.store, name)
                {
                    log::warn(format_args!(
                        "{name}: this failure is forgotten with the end of the program: {reason}"
                    ));
                }
                self.supervisor.automatic().tried(false);
                self.running.snapshot.demands.refused(&self.wanted, clock::read());
                Outcome::Noted(Box::new(note))
            }
        }
    }

    /// By our own authority.
    fn sign(&self) -> Result<Outcome, Vec<Refusal>> {
        let (plan, name) = (self.running.snapshot.plan(), &self.wanted.name);
        let own = |reason: String| vec![Refusal::own(reason)];
        let certificate = self.supervisor.automatic().sign(plan, name).map_err(own)?;
        self.take(&certificate)?;
        self.supervisor.automatic().tried(true);
        Ok(Outcome::Noted(Box::default()))
    }

    /// When the CA wants it to be renewed (RFC 9773).
    async fn look(&self) -> Result<Outcome, Vec<Refusal>> {
        let (plan, name, now) = (self.running.snapshot.plan(), &self.wanted.name, SystemTime::now());
        let mut note = Note::read(&*self.store, name);
        let authorities = &plan.settings.acme.authorities;
        let authority = authorities.iter().find(|one| Some(&one.directory) == note.from.as_ref());
        let certificate = self.running.snapshot.certificates().automatic.get(&self.wanted);
        let mut again = LOOK_PAUSE;
        if let (Some(authority), Some(id)) = (authority, certificate.and_then(|one| identifier(one.leaf())))
            && let Ok(known) = self.accounts.of(authority, &plan.settings.acme).await
            && let Ok((told, pause)) = known.account.renewal_info(&id).await
        {
            let window = [told.suggested_window.start, told.suggested_window.end];
            note.window = Some(window.map(|at| u64::try_from(at.unix_timestamp()).unwrap_or(0)));
            again = pause.clamp(LOOK_PAUSE_MIN, LOOK_PAUSE_MAX);
        }
        note.look_at = Some(note::seconds(now + again));
        // If that is lost, the CA is asked once more.
        let _ = note.keep(&*self.store, name);
        Ok(Outcome::Noted(Box::new(note)))
    }

    /// From a CA.
    async fn get(&self) -> Result<Outcome, Vec<Refusal>> {
        let (plan, name) = (self.running.snapshot.plan(), &self.wanted.name);
        let own = |reason: String| vec![Refusal::own(reason)];
        let key = automatic::key(name, "pem");
        let held = self.store.lock(&key).map_err(|error| {
            own(format!(
                "what is got could not be kept: {}: {error}; write `state DIRECTORY`",
                self.store.place(&key)
            ))
        })?;
        let Some(_held) = held else { return Ok(Outcome::Elsewhere) };
        let mut note = Note::read(&*self.store, name);
        if let Some(taken) = self.kept_by_others(&note)? {
            self.take(&taken)?;
            return Ok(Outcome::Noted(Box::new(note)));
        }
        if !automatic::wanted(plan).contains(&self.wanted) {
            self.may_have().await.map_err(own)?;
        }
        let mut refusals = Vec::new();
        for authority in &plan.settings.acme.authorities {
            match self.ask(authority, &note).await {
                Ok(Obtained { pem, certificate }) => {
                    self.store.write(&key, pem.as_bytes()).map_err(|error| {
                        own(format!("the certificate cannot be kept: {}: {error}", self.store.place(&key)))
                    })?;
                    note = Note { from: Some(authority.directory.clone()), ..Note::default() };
                    if let Err(reason) = note.keep(&*self.store, name) {
                        log::warn(format_args!("{name}: {reason}"));
                    }
                    self.supervisor.automatic().tried(true);
                    self.take(&certificate)?;
                    return Ok(Outcome::Noted(Box::new(note)));
                }
                Err(refusal) => {
                    let host = host_of(&authority.directory);
                    let reason = match refusal.reason.starts_with(host) {
                        true => refusal.reason,
                        false => format!("{host}: {}", refusal.reason),
                    };
                    refusals.push(Refusal { reason, ..refusal });
                }
            }
        }
        Err(refusals)
    }

    /// The one in the store, when it is another one than what is in use, and good for a while: somebody else has got it, or we have
    /// before.
    fn kept_by_others(&self, note: &Note) -> Result<Option<Arc<Certificate>>, Vec<Refusal>> {
        let (plan, name) = (self.running.snapshot.plan(), &self.wanted.name);
        let stored = match automatic::stored(&*self.store, name) {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(None),
            Err(reason) => {
                log::warn(format_args!("a kept certificate is of no use, and another one is got: {reason}"));
                return Ok(None);
            }
        };
        let name =
            Name { note: Note { look_at: Some(u64::MAX), ..note.clone() }, busy: true, rests_until: None };
        let now = SystemTime::now();
        let (at, _) = due(&self.wanted, &name, Some(&stored), plan, now);
        let used = self.supervisor.running().snapshot.certificates().automatic.get(&self.wanted).cloned();
        let is_new = used.is_none_or(|used| !used.is_same(&stored));
        Ok((is_new && at > now).then_some(stored))
    }

    async fn ask(
        &self,
        authority: &portunus_relay::plan::AcmeAuthority,
        note: &Note,
    ) -> Result<Obtained, Refusal> {
        let (snapshot, name) = (&self.running.snapshot, &self.wanted.name);
        let used = snapshot.certificates().automatic.get(&self.wanted);
        let told = note.window.is_some() && note.from.as_ref() == Some(&authority.directory);
        let request = acme::Request {
            name,
            acme: &snapshot.plan().settings.acme,
            authority,
            challenges: &challenges(snapshot.plan(), name),
            turn: note.refused,
            begun: note.begun.clone(),
            replaces: used.filter(|_| told).and_then(|one| identifier(one.leaf())),
        };
        let keep = |begun: &acme::Begun| {
            let note = Note { begun: Some(begun.clone()), ..note.clone() };
            note.keep(&*self.store, name)
        };
        acme::obtain(request, &self.accounts, &snapshot.challenges, &keep).await
    }

    /// Whether a name that nobody wrote down shall have a certificate.
    async fn may_have(&self) -> Result<(), String> {
        let (snapshot, name) = (&self.running.snapshot, &self.wanted.name);
        let ask = snapshot.plan().settings.acme.ask.as_deref().ok_or("nobody can be asked whether it may")?;
        let roots: Option<PathBuf> = None;
        let roots = snapshot.certificates().roots.get(&roots);
        let mark = if ask.contains('?') { '&' } else { '?' };
        let status = Web::new(roots.map(|roots| &**roots))?.get(&format!("{ask}{mark}domain={name}")).await?;
        match status.as_u16() {
            200 => Ok(()),
            status => Err(format!("`ask` does not allow it ({status})")),
        }
    }

    /// Lets handshakes go over to it.
    fn take(&self, certificate: &Arc<Certificate>) -> Result<(), Vec<Refusal>> {
        let changed = self.supervisor.change_certificates(|certificates| {
            certificates.automatic.insert(self.wanted.clone(), Arc::clone(certificate));
        });
        match changed {
            Ok(()) => {
                self.running.snapshot.demands.granted(&self.wanted);
                let until = &certificate.dates[1];
                log::info(format_args!("{} has a certificate, valid until {until}", self.wanted.name));
                Ok(())
            }
            Err(crate::apply::Trouble::Stopping) => Ok(()),
            Err(trouble) => Err(vec![Refusal::own(trouble.lines().join("; "))]),
        }
    }
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

/// The host of a CA's directory, which is what people know it by.
fn host_of(directory: &str) -> &str {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// How many are seen to at one time.
const AT_ONCE: usize = 4;
/// The longest sleep.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How soon it is looked again when another program sees to a name.
const ELSEWHERE_PAUSE: Duration = Duration::from_secs(3);
/// How often a CA is asked when it wants a certificate to be renewed: as often as it says, but neither all the time nor hardly ever.
const LOOK_PAUSE: Duration = Duration::from_secs(6 * 3600);
const LOOK_PAUSE_MIN: Duration = Duration::from_secs(60);
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::automatic::Authority;
    use portunus_relay::plan::{AcmeAuthority, HostPattern, SitePlan, SiteTls};

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const CA: &str = "https://ca.example/directory";

    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.settings.acme.authorities = vec![AcmeAuthority::at(CA.to_owned())];
        plan
    }

    fn wanted(by: Signer) -> Wanted {
        Wanted { name: "a.example".to_owned(), by }
    }

    fn name(note: Note) -> Name {
        Name { note, busy: false, rests_until: None }
    }

    /// A certificate for 30 days, made at `now`.
    fn certificate(now: SystemTime) -> Arc<Certificate> {
        Authority::make(now).unwrap().0.sign("a.example", now).unwrap()
    }

    #[test]
    fn who_has_none_gets_one_at_once_or_when_it_may_be_tried_again() {
        let (now, wanted) = (SystemTime::now(), wanted(Signer::Acme));
        assert!(due(&wanted, &name(Note::default()), None, &plan(), now) == (now, Task::Get));
        let later = note::moment(note::seconds(now) + 300);
        let failed = Note { next_try: Some(note::seconds(later)), ..Note::default() };
        assert!(due(&wanted, &name(failed.clone()), None, &plan(), now) == (later, Task::Get));
        let elsewhere = Name { rests_until: Some(now + 2 * DAY), ..name(failed) };
        assert!(due(&wanted, &elsewhere, None, &plan(), now).0 == now + 2 * DAY);
    }

    #[test]
    fn the_ca_is_asked_when_then_it_is_renewed_and_after_a_failure_not_too_often() {
        let now = SystemTime::now();
        let (own, shown) = (wanted(Signer::Internal), certificate(now));
        let (at, task) = due(&own, &name(Note::default()), Some(&shown), &plan(), now);
        assert!(task == Task::Get && (now + 18 * DAY..now + 20 * DAY).contains(&at));

        let wanted = wanted(Signer::Acme);
        let mut note = Note { from: Some(CA.to_owned()), ..Note::default() };
        assert!(due(&wanted, &name(note.clone()), Some(&shown), &plan(), now) == (now, Task::Look));
        note.look_at = Some(note::seconds(now + 25 * DAY));
        note.window = Some([note::seconds(now + 3 * DAY), note::seconds(now + 4 * DAY)]);
        let (at, task) = due(&wanted, &name(note.clone()), Some(&shown), &plan(), now);
        assert!(task == Task::Get && (now + 3 * DAY - DAY / 24..now + 4 * DAY).contains(&at));
        note.next_try = Some(note::seconds(now + 6 * DAY));
        let (at, task) = due(&wanted, &name(note), Some(&shown), &plan(), now + 5 * DAY);
        assert!(task == Task::Get && note::seconds(at) == note::seconds(now + 6 * DAY));
    }

    #[test]
    fn one_from_a_ca_that_is_not_wanted_any_more_is_replaced() {
        let (now, note) =
            (SystemTime::now(), Note { from: Some("https://staging.example".into()), ..Note::default() });
        let at = due(&wanted(Signer::Acme), &name(note), Some(&certificate(now)), &plan(), now);
        assert!(at == (now, Task::Get));
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
        let mut plan = plan();
        plan.sites = vec![site(&[443], &[443])];
        assert_eq!(challenges(&plan, "a.example"), [Challenge::TlsAlpn]);
        plan.sites.push(site(&[80], &[]));
        assert_eq!(challenges(&plan, "a.example"), [Challenge::Http, Challenge::TlsAlpn]);
        assert_eq!(challenges(&plan, "192.0.2.1"), [Challenge::Http]);
        assert_eq!(challenges(&plan, "*.example"), [Challenge::Dns]);
        plan.settings.acme.challenges = vec![Challenge::TlsAlpn];
        assert_eq!(challenges(&plan, "a.example"), [Challenge::TlsAlpn]);
    }
}
