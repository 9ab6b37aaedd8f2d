//! handover: what a program and its successor tell each other over a socket, and the sockets they pass along with it.

use portunus_control::canary::Kept;
use portunus_relay::members::{Found, Wish};
use portunus_relay::plan::{Address, Listen};
use portunus_relay::remembered::Remembered;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// One packet. Versions of the program differ on the two sides: a note that one does not know is passed over, and none ever changes
/// its meaning.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// The successor is there.
    Hello {
        /// Its version.
        version: String,
    },
    /// With a socket: it listens here.
    Listen {
        /// Where, as the plan names it.
        listen: Listen,
        /// Whether the service manager has it, too.
        lent: bool,
    },
    /// With a socket: the admin API is here.
    Admin {
        /// Where, as it is written in the configuration.
        address: String,
    },
    /// What a name of the configuration is known to mean.
    Name {
        /// The name.
        address: Address,
        /// Its addresses.
        found: Vec<Found>,
    },
    /// What an operator wants of a host, other than what is written.
    Host {
        /// Its pool.
        pool: String,
        /// Where it is.
        address: Address,
        /// What is wanted.
        wish: Wish,
    },
    /// What is known of a host.
    Known {
        /// Its pool.
        pool: String,
        /// Where it is.
        address: Address,
        /// What is known.
        known: Remembered,
    },
    /// How far a canary has come.
    Canary {
        /// How far.
        kept: Kept,
    },
    /// That was all.
    Complete,
    /// The successor serves.
    Ready {
        /// What it listens at.
        listen: Vec<Listen>,
    },
    /// The successor will not serve.
    Refused {
        /// Why.
        reason: String,
    },
    /// The place is the successor's; whoever had it drains.
    Go,
}

/// One end of the way between them.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel::new(ours)?, theirs))
    }

    /// The end that was inherited; refused when it is anything else.
    pub fn new(socket: OwnedFd) -> io::Result<Channel> {
        if sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a socket of ours"));
        }
        // Nobody waits longer in one go: there is always something else to look at.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(STEP))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(STEP))?;
        Ok(Channel(socket))
    }

    /// Which process made the pair.
    pub fn peer(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.0)?.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Sends a note; `false` when there is no room for it now.
    pub fn send(&self, note: &Note, socket: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let text = serde_json::to_vec(note)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let sockets: Vec<_> = socket.into_iter().collect();
        if !sockets.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&sockets));
        }
        match sendmsg(&self.0, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(error) if is_too_early(error.into()) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next note.
    pub fn receive(&self) -> io::Result<Received> {
        let mut text = vec![0; NOTE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got =
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let count = match got {
            Ok(got) => got.bytes,
            Err(error) if is_too_early(error.into()) => return Ok(Received::Nothing),
            Err(error) => return Err(error.into()),
        };
        let mut socket = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(sockets) = message {
                socket = sockets.into_iter().next();
            }
        }
        if count == 0 {
            return Ok(Received::End);
        }
        let note = serde_json::from_slice(text.get(..count).unwrap_or_default());
        Ok(note.map_or(Received::Nothing, |note| Received::Note(note, socket)))
    }
}

/// What has come.
#[derive(Debug)]
pub enum Received {
    /// Nothing, or nothing that is understood.
    Nothing,
    /// This, and a socket with it.
    Note(Note, Option<OwnedFd>),
    /// The other side has closed its end.
    End,
}

fn is_too_early(error: io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

const STEP: Duration = Duration::from_millis(50);
const NOTE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn notes_and_sockets_pass_and_unknown_notes_do_no_harm() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::new(theirs).unwrap();
        assert_eq!(theirs.peer().unwrap(), std::process::id());
        let (here, mut there) = UnixStream::pair().unwrap();
        let note = Note::Listen { listen: Listen::Unix("/x".into()), lent: true };
        assert!(ours.send(&note, Some(here.as_fd())).unwrap());
        drop(here);
        let Received::Note(got, Some(socket)) = theirs.receive().unwrap() else { panic!("no note") };
        assert_eq!(got, note);
        std::io::Write::write_all(&mut UnixStream::from(socket), b"passed").unwrap();
        let mut text = String::new();
        there.read_to_string(&mut text).unwrap();
        assert_eq!(text, "passed");

        assert!(matches!(theirs.receive().unwrap(), Received::Nothing));
        rustix::net::send(&ours.0, b"{\"later\":{\"x\":1}}", SendFlags::NOSIGNAL).unwrap();
        assert!(matches!(theirs.receive().unwrap(), Received::Nothing));
        assert!(ours.send(&Note::Go, None).unwrap());
        assert!(matches!(theirs.receive().unwrap(), Received::Note(Note::Go, None)));
        drop(ours);
        assert!(matches!(theirs.receive().unwrap(), Received::End));
        assert!(Channel::new(there.into()).is_err());
    }
}
