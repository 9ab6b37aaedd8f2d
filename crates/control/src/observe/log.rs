//! log: what the program says of itself, one line each on standard error; never waits for a reader.

use crate::observe::wall::Wall;
use portunus_relay::plan::LogLevel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt::Display;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::SystemTime;

/// From now on only messages of this level and above are written.
pub fn set_level(level: LogLevel) {
    LEVEL.store(level as u8, Relaxed);
}

/// Something does not work.
pub fn error(message: impl Display) {
    write(LogLevel::Error, &message);
}

/// Something should be looked at.
pub fn warn(message: impl Display) {
    write(LogLevel::Warn, &message);
}

/// Something happened that an operator wants to know.
pub fn info(message: impl Display) {
    write(LogLevel::Info, &message);
}

/// Something that helps to find out why.
pub fn debug(message: impl Display) {
    write(LogLevel::Debug, &message);
}

fn write(level: LogLevel, message: &dyn Display) {
    if level as u8 > LEVEL.load(Relaxed) {
        return;
    }
    let line = line(level, SystemTime::now(), message);
    let stderr = std::io::stderr();
    // A pipe that reports room takes PIPE_BUF (4096) bytes without blocking; a line is never longer. A message
    // that nobody reads is lost: the panic hook runs on workers, and they must not wait.
    let room = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    if matches!(room, Ok(1..)) {
        let _ = stderr.lock().write_all(&line);
    }
}

/// One line of text: time, level, message. Line ends within the message become `; `, other control bytes are escaped (attack I1).
fn line(level: LogLevel, at: SystemTime, message: &dyn Display) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    Wall::new(at).rfc3339(&mut out);
    out.extend_from_slice(match level {
        LogLevel::Error => b" error  ",
        LogLevel::Warn => b" warning  ",
        LogLevel::Info => b" info  ",
        LogLevel::Debug => b" debug  ",
    });
    let message = message.to_string();
    for (at, part) in message.trim_end().lines().enumerate() {
        if at > 0 {
            out.extend_from_slice(b"; ");
        }
        for character in part.trim().chars() {
            if character.is_control() {
                let _ = write!(out, "{}", character.escape_unicode());
            } else {
                let mut bytes = [0; 4];
                out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
            }
        }
    }
    out.truncate(LINE_BYTES_MAX - 1);
    out.push(b'\n');
    out
}

static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);

const LINE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn i1_a_message_is_one_line() {
        let line = line(LogLevel::Warn, UNIX_EPOCH, &"a\r\nb\u{1b}[31m\n  c\n");
        let text = String::from_utf8(line).unwrap();
        assert_eq!(text, "1970-01-01T00:00:00.000Z warning  a; b\\u{1b}[31m; c\n");
    }

    #[test]
    fn a_line_fits_into_one_write_of_a_pipe() {
        let line = line(LogLevel::Error, UNIX_EPOCH, &"x".repeat(10_000));
        assert_eq!(line.len(), LINE_BYTES_MAX);
        assert_eq!(line.last(), Some(&b'\n'));
    }
}
