//! output: where blocks of lines end up — standard output, a file, a syslog socket; opened and written without waiting.

use crate::observe::wall::Wall;
use portunus_relay::plan::LogTarget;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// An open target.
#[derive(Debug)]
pub enum Output {
    /// Takes bytes as they come.
    Stream(File),
    /// Takes one line a datagram, with this program's head before each (RFC 3164).
    Syslog(UnixDatagram),
}

/// What became of an attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// How many bytes are dealt with.
    pub bytes: usize,
    /// How many of their lines the target can never take.
    pub lines_refused: u64,
}

impl Output {
    /// Opens `target`. `Ok(None)`: it is a pipe without a reader, or a syslog that does not run; it may come.
    pub fn open(target: &LogTarget) -> io::Result<Option<Output>> {
        match target {
            LogTarget::Stdout => {
                let own = io::stdout().as_fd().try_clone_to_owned()?;
                Ok(Some(Output::Stream(File::from(own))))
            }
            LogTarget::File(path) => open_file(path),
            LogTarget::Syslog(path) => open_syslog(path),
        }
    }

    /// Writes a beginning of `lines`, which are whole ones but for the first.
    pub fn write(&mut self, lines: &[u8], now: SystemTime) -> io::Result<Written> {
        match self {
            Output::Stream(file) => match file.write(lines)? {
                0 => Err(ErrorKind::WriteZero.into()),
                bytes => Ok(Written { bytes, lines_refused: 0 }),
            },
            Output::Syslog(socket) => send_line(socket, lines, now),
        }
    }

    /// Waits until more may be written, but not longer than `wait`.
    pub fn wait(&self, wait: Duration) {
        let fd = match self {
            Output::Stream(file) => file.as_fd(),
            Output::Syslog(socket) => socket.as_fd(),
        };
        let wait = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&wait));
    }
}

/// A pipe that nobody reads must stop neither the start nor a write, hence `O_NONBLOCK`; files do not mind it.
fn open_file(path: &Path) -> io::Result<Option<Output>> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).unwrap_or(0);
    match OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(Output::Stream(file))),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_syslog(path: &Path) -> io::Result<Option<Output>> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match socket.connect(path) {
        Ok(()) => Ok(Some(Output::Syslog(socket))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

fn send_line(socket: &UnixDatagram, lines: &[u8], now: SystemTime) -> io::Result<Written> {
    let end = lines.iter().position(|&byte| byte == b'\n').unwrap_or(lines.len());
    let mut datagram = Vec::with_capacity(end + 48);
    datagram.extend_from_slice(PRIORITY);
    Wall::new(now).syslog(&mut datagram);
    let _ = write!(datagram, " portunus[{}]: ", std::process::id());
    datagram.extend_from_slice(lines.get(..end).unwrap_or(lines));
    let bytes = lines.len().min(end + 1);
    match socket.send(&datagram) {
        Ok(_) => Ok(Written { bytes, lines_refused: 0 }),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
            Ok(Written { bytes, lines_refused: 1 })
        }
        Err(error) => Err(error),
    }
}

/// Facility local0, severity informational (RFC 3164 §4.1.1).
const PRIORITY: &[u8] = b"<134>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syslog_gets_one_datagram_a_line() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut output = Output::Syslog(ours);
        let lines = b"{\"a\":1}\n{\"b\":2}\n";
        let mut at = 0;
        while at < lines.len() {
            at += output.write(&lines[at..], SystemTime::UNIX_EPOCH).unwrap().bytes;
        }
        for expected in ["{\"a\":1}", "{\"b\":2}"] {
            let mut bytes = [0; 200];
            let length = theirs.recv(&mut bytes).unwrap();
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            let head = format!("<134>Jan  1 00:00:00 portunus[{}]: ", std::process::id());
            assert_eq!(text.strip_prefix(&head), Some(expected));
        }
    }
}
