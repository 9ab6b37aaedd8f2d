//! legacy: what was there before this program started — a predecessor's sockets, or those of the service manager.

use crate::exit::Exit;
use crate::handover::{Channel, Note, Received};
use crate::upgrade::PREDECESSOR;
use listenfd::ListenFd;
use portunus_control::apply::Supervisor;
use portunus_control::legacy::Legacy;
use portunus_control::observe::log;
use portunus_relay::members::Members;
use portunus_relay::net;
use portunus_relay::plan::Listen;
use rustix::io::{FdFlags, fcntl_setfd};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The program whose place this one takes.
pub struct Predecessor {
    channel: Channel,
    id: u32,
    /// Its admin API: where, and the socket.
    admin: Option<(String, OwnedFd)>,
}

/// Takes what is there. To be called before any thread is started.
pub fn take() -> Result<(Legacy, Option<Predecessor>), Exit> {
    let mut legacy = Legacy::default();
    let predecessor = Predecessor::meet()
        .map_err(|error| Exit::failed(format_args!("cannot reach the process to take over from: {error}")))?;
    let predecessor = match predecessor {
        Some(mut predecessor) => {
            predecessor
                .receive(&mut legacy)
                .map_err(|error| Exit::failed(format_args!("cannot take over: {error}")))?;
            Some(predecessor)
        }
        None => {
            take_activated(&mut legacy);
            None
        }
    };
    Ok((legacy, predecessor))
}

impl Predecessor {
    /// The parent that waits for this program, if it is there for that.
    fn meet() -> io::Result<Option<Predecessor>> {
        let wanted = std::env::var(PREDECESSOR).ok().and_then(|text| text.parse::<u32>().ok());
        let Some(id) = wanted.filter(|&id| id == parent()) else { return Ok(None) };
        let channel = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        if channel.peer()? != id {
            return Err(io::Error::other("the socket is not from there"));
        }
        // Nobody else shall speak on it.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Ok(Some(Predecessor { channel, id, admin: None }))
    }

    /// Says who is there, and takes all that is given.
    fn receive(&mut self, legacy: &mut Legacy) -> io::Result<()> {
        self.channel.send(&Note::Hello { version: env!("CARGO_PKG_VERSION").into() }, None)?;
        let until = Instant::now() + GIVING_TIME;
        let mut members = Members::default();
        while Instant::now() < until {
            match self.channel.receive()? {
                Received::Note(Note::Listen { listen, lent }, Some(socket)) => {
                    legacy.sockets.add(listen, lent, socket);
                }
                Received::Note(Note::Admin { address }, Some(socket)) => self.admin = Some((address, socket)),
                Received::Note(Note::Name { address, found }, _) => {
                    members.found.insert(address, found);
                }
                Received::Note(Note::Host { pool, address, wish }, _) => {
                    members.wishes.entry(pool).or_default().insert(address, wish);
                }
                Received::Note(Note::Known { pool, address, known }, _) => {
                    legacy.hosts.push((pool, address, known));
                }
                Received::Note(Note::Canary { kept }, _) => legacy.canaries.push(kept),
                Received::Note(Note::Complete, _) => {
                    legacy.members = Some(members);
                    return Ok(());
                }
                Received::Note(..) | Received::Nothing => {}
                Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Its admin API's socket, if it is at `address`.
    pub fn admin(&self, address: &str) -> Option<OwnedFd> {
        let (_, socket) = self.admin.as_ref().filter(|(at, _)| at == address)?;
        socket.try_clone().ok()
    }

    /// Tells why this program does not take over.
    pub fn refuse(&self, reason: &str) {
        let reason: String = reason.chars().take(REASON_MAX).collect();
        let _ = self.channel.send(&Note::Refused { reason }, None);
    }

    /// Says again and again that this program serves, until the place is its own.
    pub fn relieve(&self, supervisor: &Supervisor) -> Result<(), Exit> {
        let listen: Vec<Listen> = supervisor.running().sockets.names().cloned().collect();
        loop {
            if !supervisor.is_serving() {
                return Err(Exit::failed("a worker does not answer"));
            }
            let _ = self.channel.send(&Note::Ready { listen: listen.clone() }, None);
            match self.channel.receive() {
                Ok(Received::Note(Note::Go, _)) => break,
                Ok(Received::Note(..) | Received::Nothing) => {}
                // It has broken: whoever asks now has nobody else.
                Ok(Received::End) | Err(_) if self.has_died() => {
                    log::warn(format_args!("process {} has ended before it had handed over", self.id));
                    break;
                }
                Ok(Received::End) | Err(_) => return Err(Exit::failed("the upgrade was called off")),
            }
        }
        log::info(format_args!("took over from process {}", self.id));
        Ok(())
    }
}

impl Predecessor {
    /// Whether its process is no more. The kernel closes the sockets of one that ends before it gives its children away.
    fn has_died(&self) -> bool {
        let until = Instant::now() + DYING;
        while parent() == self.id && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        parent() != self.id
    }
}

fn parent() -> u32 {
    rustix::process::getppid().map_or(0, |id| id.as_raw_nonzero().get().unsigned_abs())
}

/// Takes the sockets that the service manager has opened (sd_listen_fds(3)).
fn take_activated(legacy: &mut Legacy) {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|id| id.parse() == Ok(std::process::id()));
    if !ours {
        return;
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    for at in 0..sockets.len() {
        let name = names.split(':').nth(at).filter(|name| !name.is_empty()).unwrap_or("unknown");
        let tcp = sockets.take_tcp_listener(at).ok().flatten().map(OwnedFd::from);
        let socket = tcp.or_else(|| sockets.take_unix_listener(at).ok().flatten().map(OwnedFd::from));
        let Some((socket, listen)) = socket.and_then(|socket| {
            Some((net::name_of(&socket)?, socket)).map(|(listen, socket)| (socket, listen))
        }) else {
            log::warn(format_args!(
                "socket {name} of the service manager is not one that streams can be accepted from"
            ));
            continue;
        };
        // A successor gets it in another way.
        let _ = fcntl_setfd(&socket, FdFlags::CLOEXEC);
        legacy.sockets.add(listen, true, socket);
    }
}

/// Tells of sockets that nobody has a use for.
pub fn report_unused(legacy: &Legacy) {
    for listen in legacy.sockets.left() {
        log::warn(format_args!(
            "no site listens at {listen}, where the service manager has opened a socket: nobody will answer there"
        ));
    }
}

/// How long a process takes to end once its sockets are closed.
const DYING: Duration = Duration::from_millis(500);
const GIVING_TIME: Duration = Duration::from_secs(10);
const REASON_MAX: usize = 8 << 10;
