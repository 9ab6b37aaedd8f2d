//! upgrade: starts the program that is on disk now, hands the listening sockets over to it, and goes on when it does not serve.

use crate::handover::{Channel, Note, Received};
use crate::systemd;
use portunus_control::admin::{self, Spare};
use portunus_control::apply::Supervisor;
use portunus_control::legacy;
use portunus_relay::plan::Listen;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// In the environment of a successor: the process whose place it takes.
pub const PREDECESSOR: &str = "PORTUNUS_PREDECESSOR";

/// How this program was started: so it is started again.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// This one. To be asked early: later its file may be another, or gone.
    pub fn this() -> io::Result<Program> {
        let running = std::env::current_exe()?;
        let mut args = std::env::args_os();
        let typed = args.next().map(PathBuf::from).and_then(|typed| as_typed(&typed));
        // A link that was followed at the start may point to another version at the upgrade: it is followed again.
        let path = typed.filter(|typed| is_same_file(typed, &running)).unwrap_or_else(|| present(running));
        Ok(Program { path, args: args.collect() })
    }
}

/// Where the shell has found what was typed.
fn as_typed(typed: &Path) -> Option<PathBuf> {
    if typed.components().count() > 1 {
        return std::path::absolute(typed).ok();
    }
    let search = std::env::var_os("PATH")?;
    std::env::split_paths(&search).map(|folder| folder.join(typed)).find(|path| path.is_file())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other)
}

/// The kernel marks the name of a file that has been replaced since; the name without the mark is what is there now.
fn present(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(text) => PathBuf::from(text),
        None => path,
    }
}

/// Starts the successor and hands over. When it serves, this program has to end: its supervisor has been told so. Otherwise nothing has
/// changed, and the successor is gone. It blocks: call it off the runtime.
pub fn upgrade(program: &Program, supervisor: &Supervisor, admin: Option<&Spare>) -> Result<Handed, String> {
    if std::process::id() == 1 {
        return Err("process 1 cannot be replaced by another process: start the container anew".into());
    }
    // What is handed over must not change meanwhile.
    let still = supervisor.hold_still();
    let mut successor = Successor::start(program)?;
    let result = successor.lead(supervisor, admin);
    let listen = match result {
        Ok(listen) => listen,
        Err(reason) => {
            successor.end();
            return Err(reason);
        }
    };
    let id = successor.child.id();
    supervisor.running().sockets.own_files(false, |name| listen.contains(name));
    if let Some(admin) = admin {
        admin.own(false);
    }
    systemd::notify(&format!("MAINPID={id}"));
    // Should this not arrive, the end of this process tells the same.
    let _ = successor.channel.send(&Note::Go, None);
    supervisor.hand_over_to(id);
    drop(still);
    Ok(Handed { id, listen })
}

/// What a successor has taken over.
#[derive(Debug)]
pub struct Handed {
    /// Its process.
    pub id: u32,
    /// What it listens at.
    pub listen: Vec<Listen>,
}

struct Successor {
    child: Child,
    channel: Channel,
}

impl Successor {
    fn start(program: &Program) -> Result<Successor, String> {
        let (channel, theirs) = Channel::pair().map_err(|error| format!("no socket for it: {error}"))?;
        let child = Command::new(&program.path)
            .args(&program.args)
            .env(PREDECESSOR, std::process::id().to_string())
            .env_remove("WATCHDOG_PID") // the one who is meant changes
            .stdin(theirs)
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", program.path.display()))?;
        Ok(Successor { child, channel })
    }

    /// From its first word to the proof that it serves.
    fn lead(&mut self, supervisor: &Supervisor, admin: Option<&Spare>) -> Result<Vec<Listen>, String> {
        let ready_time = supervisor.running().snapshot.plan().settings.limits.upgrade_time;
        let begun = Instant::now();
        let hello_time = HELLO_TIME.min(ready_time);
        let said = self.wait(supervisor, begun + hello_time, |note| matches!(note, Note::Hello { .. }))?;
        if said.is_none() {
            return Err(format!("the new program has not said a word within {hello_time:?}"));
        }
        self.give(supervisor, admin, begun + ready_time)?;
        let ready = self.wait(supervisor, begun + ready_time, |note| matches!(note, Note::Ready { .. }))?;
        let Some(Note::Ready { listen }) = ready else {
            return Err(format!("the new program was not ready within {ready_time:?} (limit upgrade-time)"));
        };
        // Both serve now. One that breaks at once has cost nothing but what it had itself; it says again and again that it serves.
        let over = Instant::now() + PROBATION;
        self.wait(supervisor, over, |_| false)?;
        match self.wait(supervisor, over + LIFE_TIME, |note| matches!(note, Note::Ready { .. }))? {
            Some(_) => Ok(listen),
            None => {
                Err(format!("the new program was ready, and has not said a word for {LIFE_TIME:?} since"))
            }
        }
    }

    fn give(&mut self, supervisor: &Supervisor, admin: Option<&Spare>, until: Instant) -> Result<(), String> {
        let running = supervisor.running();
        for (listen, lent, socket) in running.sockets.descriptors() {
            let note = Note::Listen { listen: listen.clone(), lent };
            self.send(&note, Some(socket), until)?;
        }
        if let Some(spare) = admin {
            let address = admin::shown(&running.snapshot.plan().settings.admin);
            self.send(&Note::Admin { address }, Some(spare.socket()), until)?;
        }
        let members = running.snapshot.members();
        for (address, found) in &members.found {
            let note = Note::Name { address: address.clone(), found: found.clone() };
            self.send(&note, None, until)?;
        }
        for (pool, hosts) in &members.wishes {
            for (address, &wish) in hosts {
                let note = Note::Host { pool: pool.clone(), address: address.clone(), wish };
                self.send(&note, None, until)?;
            }
        }
        for (pool, address, known) in legacy::hosts(&running.snapshot) {
            let note = Note::Known { pool: pool.to_owned(), address: address.clone(), known };
            self.send(&note, None, until)?;
        }
        for kept in supervisor.canaries().kept(running.snapshot.canaries()) {
            self.send(&Note::Canary { kept }, None, until)?;
        }
        self.send(&Note::Complete, None, until)
    }

    fn send(&mut self, note: &Note, socket: Option<BorrowedFd<'_>>, until: Instant) -> Result<(), String> {
        while Instant::now() < until {
            match self.channel.send(note, socket) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(_) => return Err(self.how_it_ended()),
            }
        }
        Err("the new program does not take the sockets".into())
    }

    /// Waits for a note that `fits`; none when it has not come in time. It fails when the successor does.
    fn wait(
        &mut self,
        supervisor: &Supervisor,
        until: Instant,
        fits: impl Fn(&Note) -> bool,
    ) -> Result<Option<Note>, String> {
        while Instant::now() < until {
            if supervisor.is_stopping() {
                return Err("this program is stopping".into());
            }
            match self.channel.receive() {
                Ok(Received::Note(Note::Refused { reason }, _)) => {
                    return Err(format!("the new program refuses: {reason}"));
                }
                Ok(Received::Note(note, _)) if fits(&note) => return Ok(Some(note)),
                Ok(Received::Note(..) | Received::Nothing) => {}
                Ok(Received::End) | Err(_) => return Err(self.how_it_ended()),
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(ended(status));
            }
        }
        Ok(None)
    }

    /// It has closed its end, so its own end is not far.
    fn how_it_ended(&mut self) -> String {
        let until = Instant::now() + LAST_BREATH;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return ended(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        "the new program does not know how to take over".into()
    }

    /// It goes, whatever it does.
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the new program has ended with exit code {code}"),
        (_, Some(signal)) => format!("the new program was ended by signal {signal}"),
        _ => "the new program has ended".into(),
    }
}

/// How long a program may take to say that it is there; whatever does not say it in that time is not this program.
const HELLO_TIME: Duration = Duration::from_secs(4);
/// How long both serve before the old one leaves.
const PROBATION: Duration = Duration::from_millis(500);
/// How long a successor that serves may be silent after that.
const LIFE_TIME: Duration = Duration::from_secs(2);
/// How long a program takes to end once it has closed its end of the channel.
const LAST_BREATH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_where_it_was() {
        let program = Program::this().unwrap();
        assert!(program.path.is_absolute() && program.path.is_file(), "{program:?}");
        assert_eq!(present("/a/b (deleted)".into()), Path::new("/a/b"));
        assert_eq!(present("/a/b".into()), Path::new("/a/b"));
        assert!(as_typed(Path::new("sh")).unwrap().is_file());
        assert!(as_typed(Path::new("no such program")).is_none());
    }
}
