//! wire: a stream with a buffer and a deadline, that reads heads and bodies by the letter.

use crate::message::{self, Framing, Request, Response};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Why something expected did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer closed where it may: before the first byte.
    Closed,
    /// The peer closed in the middle.
    Cut,
    /// The peer reset the connection.
    Reset,
    /// The deadline passed.
    Timeout,
    /// The bytes break the grammar.
    Malformed(String),
}

/// A stream that may be TCP or unix.
pub trait Channel: Read + Write + Send {
    /// How long one read may take.
    fn set_read_time(&self, time: Duration);
    /// Ends what we send; the peer reads to the end.
    fn half_close(&self);
    /// Closes with a reset when dropped.
    fn set_reset(&self);
}

impl Channel for TcpStream {
    fn set_read_time(&self, time: Duration) {
        let _ = self.set_read_timeout(Some(time));
    }
    fn half_close(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
    fn set_reset(&self) {
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Channel for UnixStream {
    fn set_read_time(&self, time: Duration) {
        let _ = self.set_read_timeout(Some(time));
    }
    fn half_close(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
    fn set_reset(&self) {}
}

/// A stream with what was read from it and not yet taken.
pub struct Wire {
    channel: Box<dyn Channel>,
    buffer: Vec<u8>,
    /// How long the whole of one head, body or other thing may take.
    pub patience: Duration,
}

impl Wire {
    /// A wire over `channel`.
    pub fn new(channel: impl Channel + 'static) -> Wire {
        Wire { channel: Box::new(channel), buffer: Vec::new(), patience: Duration::from_secs(10) }
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.channel.write_all(bytes).map_err(|error| fault(error.kind()))
    }

    /// Ends what we send.
    pub fn half_close(&self) {
        self.channel.half_close();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.channel.set_reset();
    }

    /// The next request head.
    pub fn request_head(&mut self) -> Result<Request, Fault> {
        let head = self.head()?;
        message::request(&head).map_err(Fault::Malformed)
    }

    /// The next response head, be it informational or final.
    pub fn response_head(&mut self) -> Result<Response, Fault> {
        let head = self.head()?;
        message::response(&head).map_err(Fault::Malformed)
    }

    /// The next final response to a request with `method`, with its body. When the body faults, what came of it is lost.
    pub fn response(&mut self, method: &str) -> Result<Response, Fault> {
        let mut informational = Vec::new();
        loop {
            let mut response = self.response_head()?;
            if matches!(response.status, 100 | 102..=199) {
                informational.push((response.status, response.fields));
                continue;
            }
            let framing = message::response_framing(&response, method).map_err(Fault::Malformed)?;
            response.informational = informational;
            response.body = self.body(framing)?;
            return Ok(response);
        }
    }

    /// The body of a head that was just read.
    pub fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Fault> {
        match framing {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => {
                self.exactly(usize::try_from(length).map_err(|_| Fault::Malformed("length".to_owned()))?)
            }
            Framing::Chunked => self.chunks(),
            Framing::UntilClose => self.rest(),
        }
    }

    /// One chunk: its data, empty for the last one with its trailers and its closing line.
    pub fn chunk(&mut self) -> Result<Vec<u8>, Fault> {
        let line = self.line()?;
        let text = String::from_utf8_lossy(&line).into_owned();
        if text.is_empty() || text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Fault::Malformed(format!("chunk size {text:?}")));
        }
        let size =
            usize::from_str_radix(&text, 16).map_err(|_| Fault::Malformed(format!("chunk size {text:?}")))?;
        if size == 0 {
            return self.trailers().map(|()| Vec::new());
        }
        let data = self.exactly(size)?;
        match self.exactly(2)?.as_slice() {
            b"\r\n" => Ok(data),
            other => Err(Fault::Malformed(format!("after a chunk of {size}: {other:?}"))),
        }
    }

    /// Fields behind a body, which are not kept.
    fn trailers(&mut self) -> Result<(), Fault> {
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&line);
            if !text.split_once(": ").is_some_and(|(name, _)| !name.is_empty() && !name.contains(' ')) {
                return Err(Fault::Malformed(format!("trailer {text:?}")));
            }
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        loop {
            match self.chunk() {
                Ok(data) if data.is_empty() => return Ok(body),
                Ok(data) => body.extend_from_slice(&data),
                Err(Fault::Closed) => return Err(Fault::Cut),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Exactly `count` bytes.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        let end = Instant::now() + self.patience;
        while self.buffer.len() < count {
            if self.fill(end)? == 0 {
                return Err(Fault::Cut);
            }
        }
        Ok(self.take(count))
    }

    /// Whatever comes next, at least one byte; empty at the end.
    pub fn some(&mut self) -> Result<Vec<u8>, Fault> {
        if self.buffer.is_empty() {
            self.fill(Instant::now() + self.patience)?;
        }
        let count = self.buffer.len();
        Ok(self.take(count))
    }

    /// Everything until the peer closes.
    pub fn rest(&mut self) -> Result<Vec<u8>, Fault> {
        let end = Instant::now() + self.patience;
        while self.fill(end)? > 0 {}
        let count = self.buffer.len();
        Ok(self.take(count))
    }

    /// What has been read and not been taken.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    fn head(&mut self) -> Result<Vec<u8>, Fault> {
        let end = Instant::now() + self.patience;
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(self.take(at + 4));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(Fault::Malformed("endless head".to_owned()));
            }
            if self.fill(end)? == 0 {
                return Err(if self.buffer.is_empty() { Fault::Closed } else { Fault::Cut });
            }
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, Fault> {
        let end = Instant::now() + self.patience;
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let mut line = self.take(at + 2);
                line.truncate(at);
                return Ok(line);
            }
            if self.fill(end)? == 0 {
                return Err(if self.buffer.is_empty() { Fault::Closed } else { Fault::Cut });
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    fn fill(&mut self, end: Instant) -> Result<usize, Fault> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Timeout);
            }
            self.channel.set_read_time(left);
            match self.channel.read(&mut bytes) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(fault(error.kind())),
            }
        }
    }
}

/// Where `needle` begins in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn fault(kind: ErrorKind) -> Fault {
    match kind {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Fault::Timeout,
        _ => Fault::Reset,
    }
}

const HEAD_BYTES_MAX: usize = 4 << 20;
