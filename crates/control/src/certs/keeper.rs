//! keeper: sees to it that every name that wants a certificate has one that is good for a while yet; never in anybody's way.

use super::acme::{Accounts, Cleanups, Patience, Refusal};
use super::due::{Name, Task, due};
use super::job::{Job, Outcome};
use super::note::Note;
use super::permission;
use crate::apply::{Running, Supervisor};
use crate::automatic::{self, Known, ON_DEMAND_MAX, Store};
use crate::observe::log;
use portunus_relay::clock;
use portunus_relay::demands::REFUSED_FOR;
use portunus_relay::plan::{Acme, Signer, Wanted};
use portunus_relay::tls::Certificate;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Keeps them until the program stops, and what is being done then has been broken off. Records that are taken out of the DNS even then are known to
/// `cleanups`.
pub async fn keep(supervisor: Arc<Supervisor>, cleanups: Arc<Cleanups>) {
    let (mut changes, mut stop) = (supervisor.changes(), supervisor.stop_wanted());
    let (sender, mut done) = mpsc::unbounded_channel(); // bounded by AT_ONCE
    let mut keeper = Keeper::new(supervisor, cleanups, sender);
    while !keeper.supervisor.is_stopping() {
        let running = keeper.supervisor.running();
        let pause = keeper.turn(&running).await;
        let demands = Arc::clone(&running.snapshot.demands);
        drop(running);
        tokio::select! {
            // Whoever serves from now on sees to it: what is got here could not be used.
            _ = stop.wait_for(|wanted| *wanted) => break,
            changed = changes.changed() => match changed {
                Ok(()) => keeper.changed(),
                Err(_) => break,
            },
            ended = done.recv() => if let Some(ended) = ended { keeper.ended(ended) },
            () = demands.added() => {}
            // Clocks are set, and machines sleep: nothing is waited for in one piece.
            () = tokio::time::sleep(pause.min(PAUSE_MAX)) => {}
        }
    }
    // Each hears of the stop itself.
    while keeper.places.are_taken()
        && let Some(ended) = done.recv().await
    {
        keeper.ended(ended);
    }
}

struct Keeper {
    supervisor: Arc<Supervisor>,
    names: HashMap<Wanted, Name>,
    places: Places,
    sender: mpsc::UnboundedSender<Ended>,
    /// The accounts with the CAs of the configuration in force, and where they are kept.
    accounts: Option<(Arc<Accounts>, Arc<dyn Store>)>,
    /// Which CAs want to be left alone.
    patience: Arc<Patience>,
    /// Which records are being taken out of the DNS.
    cleanups: Arc<Cleanups>,
    /// What the configuration in force says of CAs and of the place to keep things, and the how many-th that is.
    asked: (Acme, Option<PathBuf>),
    turn: u64,
    /// What was told of `ask` when it gives no answer.
    told: permission::Told,
    /// Those that were known before, and are tried at once.
    hurried: HashSet<Wanted>,
}

/// How many names are being seen to.
#[derive(Debug, Default)]
struct Places {
    all: usize,
    /// Those of them that nobody wrote down.
    strangers: usize,
    asking: usize,
}

impl Places {
    /// Whether there is room for this, too. Strangers never have all of it: what they do to a CA must not keep written names from being renewed.
    fn has_room(&self, task: Task, stranger: bool) -> bool {
        match task {
            Task::Ask => self.asking < ASKING_MAX,
            Task::Get | Task::Look => self.all < AT_ONCE && !(stranger && self.strangers >= AT_ONCE - 1),
        }
    }

    fn are_taken(&self) -> bool {
        self.all + self.asking > 0
    }

    fn taken(&mut self, task: Task, stranger: bool) {
        match task {
            Task::Ask => self.asking += 1,
            Task::Get | Task::Look => {
                self.all += 1;
                self.strangers += usize::from(stranger);
            }
        }
    }

    fn left(&mut self, task: Task, stranger: bool) {
        let count = |place: &mut usize| *place = place.saturating_sub(1);
        match task {
            Task::Ask => count(&mut self.asking),
            Task::Get | Task::Look => {
                count(&mut self.all);
                if stranger {
                    count(&mut self.strangers);
                }
            }
        }
    }
}

/// What was done for a name.
struct Ended {
    wanted: Wanted,
    task: Task,
    stranger: bool,
    outcome: Outcome,
    /// For which settings.
    turn: u64,
}

impl Keeper {
    fn new(
        supervisor: Arc<Supervisor>,
        cleanups: Arc<Cleanups>,
        sender: mpsc::UnboundedSender<Ended>,
    ) -> Keeper {
        Keeper {
            asked: wishes(&supervisor.running()),
            supervisor,
            names: HashMap::new(),
            places: Places::default(),
            sender,
            accounts: None,
            patience: Arc::default(),
            cleanups,
            turn: 0,
            told: permission::Told::default(),
            hurried: HashSet::new(),
        }
    }

    /// Another configuration is in force. Whoever has changed what is said of CAs wants to see what comes of it, and not to wait.
    fn changed(&mut self) {
        self.accounts = None;
        let asked = wishes(&self.supervisor.running());
        if asked != self.asked {
            self.asked = asked;
            self.turn += 1;
            self.patience.ask_all();
            // Of those that are seen to just now it is known when that has ended.
            let known = self.names.iter().filter(|(_, name)| !name.busy);
            self.hurried.extend(known.map(|(wanted, _)| wanted.clone()));
            self.names.retain(|_, name| name.busy);
        }
    }

    /// Begins what is due. How long nothing else will be.
    async fn turn(&mut self, running: &Arc<Running>) -> Duration {
        let (plan, now) = (running.snapshot.plan(), SystemTime::now());
        let (certificates, demands) = (&running.snapshot.certificates().automatic, &running.snapshot.demands);
        let written = automatic::wanted(plan);
        let all = self.all(running, &written);
        if all.is_empty() && self.names.is_empty() {
            self.supervisor.automatic().note(BTreeMap::new());
            return PAUSE_MAX;
        }
        let (accounts, store) = self.accounts(running);
        self.learn(&all, &store).await;
        let mut board = BTreeMap::new();
        let mut pause = PAUSE_MAX;
        for wanted in in_order(&all, &written, |wanted| certificates.contains_key(wanted)) {
            let certificate = certificates.get(wanted);
            let Some(name) = self.names.get_mut(wanted) else { continue };
            let (at, task) = due(wanted, name, certificate.map(|one| &**one), plan, now);
            board.insert(wanted.clone(), known(wanted, name, certificate, at));
            let stranger = !written.contains(wanted);
            let task = match task {
                Task::Get if stranger && !name.permitted && permission::is_needed(plan, wanted) => Task::Ask,
                task => task,
            };
            match at.duration_since(now).ok().filter(|left| !left.is_zero()) {
                Some(left) => {
                    pause = pause.min(left);
                    // Others may have the place among those that wait. When another program sees to this one it will not be long.
                    if certificate.is_none() && name.rests_until.is_none() && !name.busy {
                        demands.refused(wanted, clock::read(), left);
                    }
                }
                None if name.busy || !self.places.has_room(task, stranger) => {}
                None => {
                    name.busy = true;
                    self.places.taken(task, stranger);
                    let job = Job {
                        wanted: wanted.clone(),
                        task,
                        running: Arc::clone(running),
                        supervisor: Arc::clone(&self.supervisor),
                        store: Arc::clone(&store),
                        accounts: Arc::clone(&accounts),
                        cleanups: Arc::clone(&self.cleanups),
                        note: name.note.clone().into(),
                    };
                    self.begin(job, stranger);
                }
            }
        }
        self.supervisor.automatic().note(board);
        pause
    }

    /// All names: those that are written, those that clients ask for, and those that they have asked for before.
    fn all(&self, running: &Running, written: &BTreeSet<Wanted>) -> BTreeSet<Wanted> {
        let (plan, demands) = (running.snapshot.plan(), &running.snapshot.demands);
        let mut all = written.clone();
        let there = running.snapshot.certificates().automatic.keys();
        all.extend(there.filter(|wanted| automatic::may_be_demanded(plan, wanted)).cloned());
        let mut bought = all.iter().filter(|one| one.by == Signer::Acme && !written.contains(one)).count();
        for wanted in demands.waiting(clock::read()) {
            let is_bought = wanted.by == Signer::Acme;
            if all.contains(&wanted) && running.snapshot.certificates().automatic.contains_key(&wanted) {
                demands.granted(&wanted);
            } else if !automatic::may_be_demanded(plan, &wanted)
                // What we sign ourselves makes room for itself.
                || (is_bought && bought >= ON_DEMAND_MAX)
            {
                demands.refused(&wanted, clock::read(), REFUSED_FOR);
            } else if all.insert(wanted) {
                bought += usize::from(is_bought);
            }
        }
        all
    }

    fn accounts(&mut self, running: &Running) -> (Arc<Accounts>, Arc<dyn Store>) {
        let (accounts, store) = self.accounts.get_or_insert_with(|| {
            let store = self.supervisor.automatic().store(&running.snapshot.plan().settings);
            let roots = running.snapshot.certificates().roots.clone();
            (Arc::new(Accounts::new(Arc::clone(&store), roots, Arc::clone(&self.patience))), store)
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
        let (store, hurried, now) = (Arc::clone(store), std::mem::take(&mut self.hurried), SystemTime::now());
        let read = tokio::task::spawn_blocking(move || {
            let read = |wanted: Wanted| {
                let mut note = match wanted.by {
                    Signer::Acme => Note::read(&*store, &wanted.name),
                    Signer::Internal => Note::default(),
                };
                if hurried.contains(&wanted) {
                    note.hurry(now);
                }
                (wanted, Name::new(note))
            };
            new.into_iter().map(read).collect::<Vec<_>>()
        });
        self.names.extend(read.await.unwrap_or_default());
    }

    /// Each has a thread of its own while it is at it: files may be slow, too. The stop breaks it off where it waits for somebody, and leaves it to
    /// whoever serves next.
    fn begin(&self, job: Job, stranger: bool) {
        let (sender, handle, turn) = (self.sender.clone(), Handle::current(), self.turn);
        let mut stop = self.supervisor.stop_wanted();
        tokio::spawn(async move {
            let (wanted, task, mut known) = (job.wanted.clone(), job.task, job.note.borrow().clone());
            let outcome = tokio::task::spawn_blocking(move || {
                handle.block_on(async {
                    tokio::select! {
                        biased;
                        _ = stop.wait_for(|wanted| *wanted) => Outcome::Elsewhere,
                        outcome = job.run() => outcome,
                    }
                })
            });
            let outcome = outcome.await;
            // A panic in there is a bug of ours, but no reason to leave a name without a certificate for ever.
            let outcome = outcome.unwrap_or_else(|_| {
                known.failed(&wanted.name, &[Refusal::own("it has panicked")], SystemTime::now());
                Outcome::Noted(Box::new(known))
            });
            let _ = sender.send(Ended { wanted, task, stranger, outcome, turn }); // nobody hears it when the program ends
        });
    }

    fn ended(&mut self, Ended { wanted, task, stranger, outcome, turn }: Ended) {
        self.places.left(task, stranger);
        if let Outcome::Unknown(reason) = &outcome
            && self.told.is_due(reason, Instant::now())
        {
            log::warn(format_args!(
                "`ask` gives no answer, and names on demand get no certificates: {reason}"
            ));
        }
        let Some(name) = self.names.get_mut(&wanted) else { return };
        name.busy = false;
        name.rests_until = None;
        // Who was permitted is asked about again before the next certificate.
        name.permitted = matches!(outcome, Outcome::Permitted);
        match outcome {
            Outcome::Noted(note) if turn == self.turn => name.note = *note,
            Outcome::Noted(mut note) => {
                note.hurry(SystemTime::now());
                name.note = *note;
            }
            Outcome::Elsewhere => name.rests_until = Some(SystemTime::now() + ELSEWHERE_PAUSE),
            Outcome::Permitted | Outcome::Refused | Outcome::Unknown(_) => {}
        }
    }
}

/// In which order they are seen to: first what is written, then what has been given out, then what somebody asks for just now.
fn in_order<'a>(
    all: &'a BTreeSet<Wanted>,
    written: &BTreeSet<Wanted>,
    is_there: impl Fn(&Wanted) -> bool,
) -> Vec<&'a Wanted> {
    let mut order: Vec<&Wanted> = all.iter().collect();
    order.sort_by_key(|wanted| (!written.contains(wanted), !is_there(wanted)));
    order
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
        passed_over: name.note.passed_over.clone(),
    }
}

/// How many are seen to at one time, and about how many others it is asked whether they shall be.
const AT_ONCE: usize = 4;
const ASKING_MAX: usize = 8;
/// The longest sleep.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How soon it is looked again when another program sees to a name.
const ELSEWHERE_PAUSE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Trouble;
    use crate::automatic::Authority;
    use crate::automatic::store::tests::Memory;
    use crate::legacy::Legacy;
    use crate::source::Source;

    fn wanted(name: &str) -> Wanted {
        Wanted { name: name.to_owned(), by: Signer::Acme }
    }

    #[test]
    fn what_strangers_ask_for_leaves_a_place_for_what_is_written() {
        let mut places = Places::default();
        let mut begun = 0;
        while places.has_room(Task::Get, true) {
            places.taken(Task::Get, true);
            begun += 1;
        }
        assert_eq!(begun, AT_ONCE - 1);
        assert!(places.has_room(Task::Get, false) && places.has_room(Task::Ask, true));
        places.taken(Task::Get, false);
        assert!(!places.has_room(Task::Look, false));
        (0..ASKING_MAX).for_each(|_| places.taken(Task::Ask, true));
        assert!(!places.has_room(Task::Ask, true));
        places.left(Task::Ask, true);
        places.left(Task::Get, true);
        assert!(places.has_room(Task::Ask, true) && places.has_room(Task::Get, true));
    }

    #[test]
    fn written_names_come_first_and_then_what_is_in_use() {
        let [new, used, written] = ["a.example", "b.example", "c.example"].map(wanted);
        let all = BTreeSet::from([new.clone(), used.clone(), written.clone()]);
        let order = in_order(&all, &BTreeSet::from([written.clone()]), |one| *one == used);
        assert_eq!(order, [&written, &used, &new]);
    }

    fn supervisor(text: &str) -> Arc<Supervisor> {
        let text = format!("admin off\nworkers 1\n{text}");
        let source = Source::Text { name: "test".into(), text };
        let opened = |_: &_| Ok::<_, Trouble>(());
        Supervisor::start(source, |_| None, "0", &mut Legacy::default(), opened).unwrap().0
    }

    const PLAIN: &str = "site a.example { listen 127.0.0.1:0; respond 200 }";

    fn keeper(supervisor: Arc<Supervisor>) -> Keeper {
        Keeper { turn: 1, ..Keeper::new(supervisor, Arc::default(), mpsc::unbounded_channel().0) }
    }

    fn failed(name: &str, store: &dyn Store) {
        let mut note = Note::default();
        note.failed(name, &[Refusal::own("no")], SystemTime::now() + Duration::from_secs(600));
        note.keep(store, name).unwrap();
    }

    #[tokio::test]
    async fn a_name_that_has_to_wait_gives_its_place_to_another_one() {
        let folder = std::env::temp_dir().join(format!("portunus-keeper-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let root = folder.join("root.pem");
        std::fs::write(&root, Authority::make(SystemTime::now()).unwrap().0.certificate).unwrap();
        let supervisor = supervisor(&format!(
            "state {}\nacme {{ ca https://ca.example/dir trust={}\nask http://127.0.0.1:1/may }}\n\
             site *.example {{ listen 127.0.0.1:0 tls; tls auto on-demand; respond 200 }}",
            folder.display(),
            root.display()
        ));
        let running = supervisor.running();
        failed("a.example", &*supervisor.automatic().store(&running.snapshot.plan().settings));
        let (demands, now) = (&running.snapshot.demands, clock::read());
        assert!(demands.ask("a.example", Signer::Acme, now));
        let mut keeper = keeper(supervisor);
        keeper.turn(&running).await;
        assert!(demands.waiting(now).is_empty() && !demands.ask("a.example", Signer::Acme, now));
        assert_eq!((keeper.places.all, keeper.places.asking), (0, 0));
        assert!(demands.ask("b.example", Signer::Acme, now));
        keeper.turn(&running).await;
        assert_eq!((keeper.places.all, keeper.places.asking), (0, 1));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn who_stops_begins_nothing_and_leaves_the_rest_to_others() {
        let supervisor = supervisor(PLAIN);
        let keeping = tokio::spawn(keep(Arc::clone(&supervisor), Arc::default()));
        supervisor.want_stop();
        keeping.await.unwrap();
        keep(supervisor, Arc::default()).await;
    }

    #[tokio::test]
    async fn an_order_that_the_stop_breaks_off_is_left_to_whoever_serves_next() {
        let folder = std::env::temp_dir().join(format!("portunus-keeper-stop-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let root = folder.join("root.pem");
        std::fs::write(&root, Authority::make(SystemTime::now()).unwrap().0.certificate).unwrap();
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let supervisor = supervisor(&format!(
            "state {}\nacme {{ ca https://{}/dir trust={} }}\n\
             site a.example {{ listen 127.0.0.1:0 tls; tls auto; respond 200 }}",
            folder.display(),
            silent.local_addr().unwrap(),
            root.display()
        ));
        let keeping = tokio::spawn(keep(Arc::clone(&supervisor), Arc::default()));
        let _ca = silent.accept().await.unwrap();
        supervisor.want_stop();
        tokio::time::timeout(Duration::from_secs(5), keeping).await.expect("a prompt end").unwrap();
        let store = supervisor.automatic().store(&supervisor.running().snapshot.plan().settings);
        assert!(store.lock(&automatic::key("a.example", "pem")).unwrap().is_some(), "it is let go");
        let note = Note::read(&*store, "a.example");
        assert_eq!((note.error, note.outages, supervisor.automatic().counts()), (None, 0, [0, 0]));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn only_what_was_known_when_the_settings_changed_is_hurried() {
        let mut keeper = keeper(supervisor(PLAIN));
        keeper.hurried.insert(wanted("known.example"));
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let both = BTreeSet::from(["known.example", "new.example"].map(wanted));
        both.iter().for_each(|one| failed(&one.name, &*store));
        keeper.learn(&both, &store).await;
        let next = |name: &str| keeper.names[&wanted(name)].note.next_try;
        assert!(next("known.example").is_none() && next("new.example").is_some());
    }
}
