//! keeper: sees to it that every name that wants a certificate has one that is good for a while yet; never in anybody's way.

use super::acme::{Accounts, Refusal};
use super::due::{Name, due};
use super::job::{Job, Outcome};
use super::note::Note;
use crate::apply::{Running, Supervisor};
use crate::automatic::{self, Known, ON_DEMAND_MAX, Store};
use portunus_relay::clock;
use portunus_relay::plan::{Acme, Signer, Wanted};
use portunus_relay::tls::Certificate;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// What was done for a name.
struct Ended {
    wanted: Wanted,
    outcome: Outcome,
    /// For which settings.
    turn: u64,
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

/// How many are seen to at one time.
const AT_ONCE: usize = 4;
/// The longest sleep.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How soon it is looked again when another program sees to a name.
const ELSEWHERE_PAUSE: Duration = Duration::from_secs(3);
