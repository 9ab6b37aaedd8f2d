//! h2: a client that speaks HTTP/2 frame by frame, and breaks its rules where it is told to.

use crate::wire::{Channel, Fault, Wire};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What every client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
#[allow(missing_docs)]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Codes of errors.
#[allow(missing_docs)]
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
    pub const HTTP_1_1_REQUIRED: u32 = 13;
}

/// Flags of frames.
#[allow(missing_docs)]
pub mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    /// A head that is in one frame, and all of its message.
    pub const WHOLE: u8 = END_STREAM | END_HEADERS;
    pub const PADDED: u8 = 8;
    /// With fields of priority.
    pub const WEIGHED: u8 = 0x20;
}

use flag::{END_HEADERS, END_STREAM};

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of an error, in RST_STREAM and GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        self.payload
            .get(at..at + 4)
            .map_or(u32::MAX, |bytes| u32::from_be_bytes(bytes.try_into().expect("four")))
    }
}

impl Frame {
    /// Whether it has the form that its kind has, and is on a stream or on none as that wants (RFC 9113 §6).
    fn is_fine(&self) -> bool {
        let (length, is_ours) = (self.payload.len(), self.stream % 2 == 1);
        match self.kind {
            kind::DATA | kind::HEADERS | kind::CONTINUATION => is_ours,
            kind::RST_STREAM => is_ours && length == 4,
            kind::SETTINGS => {
                self.stream == 0 && length % 6 == 0 && (self.flags & flag::ACK == 0 || length == 0)
            }
            kind::PING => self.stream == 0 && length == 8,
            kind::GOAWAY => self.stream == 0 && length >= 8,
            kind::WINDOW_UPDATE => (self.stream == 0 || is_ours) && length == 4 && self.code() != 0,
            kind::PUSH_PROMISE => false,
            _ => true,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the answer; 0: none came.
    pub status: u16,
    /// Informational answers before it.
    pub informational: Vec<u16>,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether it came to its end.
    pub complete: bool,
    /// The code of the reset that the stream was ended by.
    pub reset: Option<u32>,
    /// The code of the end of the whole connection.
    pub goaway: Option<u32>,
    /// Whether the connection was closed.
    pub closed: bool,
}

impl Outcome {
    /// The answer, if it is one with this status that came whole.
    #[track_caller]
    pub fn expect(self, status: u16) -> Outcome {
        assert!(self.status == status && self.complete, "{status} expected: {self:?}");
        self
    }
}

/// A client.
pub struct H2 {
    wire: Wire,
    next: u32,
    /// Whether what has come is acknowledged, so that more may come.
    pub makes_room: bool,
}

impl H2 {
    /// Connects and says what comes first.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> H2 {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("a connection");
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(Duration::from_secs(20)));
        H2::over(stream, &[])
    }

    /// Connects and says nothing.
    #[track_caller]
    pub fn silent(address: SocketAddr) -> H2 {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("a connection");
        let _ = stream.set_nodelay(true);
        H2 { wire: Wire::new(stream), next: 1, makes_room: true }
    }

    /// The same over a stream that is there; `settings` are told with the preface.
    pub fn over(channel: impl Channel + 'static, settings: &[(u16, u32)]) -> H2 {
        H2::begin_with(Wire::new(channel), settings)
    }

    /// The same over a wire.
    pub fn begin_with(wire: Wire, settings: &[(u16, u32)]) -> H2 {
        let mut h2 = H2 { wire, next: 1, makes_room: true };
        h2.send(PREFACE);
        h2.settings(&[&[(1, 0)], settings].concat()); // nothing is put into the table, so answers can be read without one
        h2
    }

    /// Sends bytes as they are, if they are taken.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.send(bytes.as_ref()).is_ok()
    }

    /// Sends a frame; says whether it was taken.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> bool {
        if kind == kind::HEADERS && stream % 2 == 1 {
            self.next = self.next.max((stream & 0x7fff_ffff) + 2);
        }
        self.send(frame(kind, flags, stream, payload))
    }

    /// The number of the next stream.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Fields on any stream, with any flags.
    pub fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> bool {
        self.frame(kind::HEADERS, flags, stream, block(fields))
    }

    /// Tells settings.
    pub fn settings(&mut self, settings: &[(u16, u32)]) -> bool {
        let payload: Vec<u8> = settings.iter().flat_map(|&(name, value)| setting(name, value)).collect();
        self.frame(kind::SETTINGS, 0, 0, payload)
    }

    /// Makes room on a stream, or on the connection (0).
    pub fn window(&mut self, stream: u32, more: u32) -> bool {
        self.frame(kind::WINDOW_UPDATE, 0, stream, more.to_be_bytes())
    }

    /// Begins a request with exactly these fields, and ends it, or leaves it open for a body.
    pub fn ask(&mut self, fields: &[(&str, &str)], end: bool) -> u32 {
        let stream = self.stream();
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(kind::HEADERS, flags, stream, block(fields));
        stream
    }

    /// A GET, asked.
    pub fn begin(&mut self, path: &str) -> u32 {
        self.ask(&head("GET", path), true)
    }

    /// A piece of a body.
    pub fn data(&mut self, stream: u32, bytes: impl AsRef<[u8]>, end: bool) -> bool {
        self.frame(kind::DATA, if end { END_STREAM } else { 0 }, stream, bytes)
    }

    /// Fields behind a body.
    pub fn trailers(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, block(fields))
    }

    /// Takes a request back.
    pub fn reset(&mut self, stream: u32) -> bool {
        self.frame(kind::RST_STREAM, 0, stream, code::CANCEL.to_be_bytes())
    }

    /// A GET, and what becomes of it.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Outcome {
        let stream = self.begin(path);
        self.outcome(stream)
    }

    /// A POST, and what becomes of it.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Outcome {
        let stream = self.ask(&head("POST", path), false);
        self.data(stream, body, true);
        self.outcome(stream)
    }

    /// The next frame; settings are acknowledged on the way.
    pub fn next_frame(&mut self) -> Result<Frame, Fault> {
        let head = self.wire.exactly(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = self.wire.exactly(length)?;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        assert!(frame.is_fine(), "no server sends {frame:?}");
        if frame.kind == kind::SETTINGS && frame.flags & 1 == 0 {
            self.frame(kind::SETTINGS, 1, 0, []);
        }
        if frame.kind == kind::PING && frame.flags & 1 == 0 {
            self.frame(kind::PING, 1, 0, &frame.payload);
        }
        if frame.kind == kind::DATA && self.makes_room && !frame.payload.is_empty() {
            let count = (frame.payload.len() as u32).to_be_bytes();
            self.frame(kind::WINDOW_UPDATE, 0, 0, count);
            if frame.flags & END_STREAM == 0 {
                self.frame(kind::WINDOW_UPDATE, 0, stream, count);
            }
        }
        Ok(frame)
    }

    /// What becomes of a request; everything about other streams is passed over.
    #[track_caller]
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        let mut outcome = Outcome::default();
        while !outcome.complete && outcome.reset.is_none() && !outcome.closed {
            self.step(stream, &mut outcome);
        }
        outcome
    }

    /// The answer's head, and perhaps more.
    #[track_caller]
    pub fn answered(&mut self, stream: u32) -> Outcome {
        let mut outcome = Outcome::default();
        while outcome.status == 0 && outcome.reset.is_none() && !outcome.closed {
            self.step(stream, &mut outcome);
        }
        outcome
    }

    /// Takes one frame in.
    #[track_caller]
    pub fn step(&mut self, stream: u32, outcome: &mut Outcome) {
        let frame = match self.next_frame() {
            Ok(frame) => frame,
            Err(Fault::Timeout) => panic!("nothing came of stream {stream}: {outcome:?}"),
            Err(_) => {
                outcome.closed = true;
                return;
            }
        };
        match frame.kind {
            kind::GOAWAY => outcome.goaway = Some(frame.code()),
            _ if frame.stream != stream => {}
            kind::RST_STREAM => outcome.reset = Some(frame.code()),
            kind::HEADERS if outcome.status == 0 => {
                let status = status(&frame.payload);
                if (100..200).contains(&status) {
                    outcome.informational.push(status)
                } else {
                    outcome.status = status
                }
                outcome.complete = frame.flags & END_STREAM != 0;
            }
            kind::HEADERS => outcome.complete = frame.flags & END_STREAM != 0,
            kind::DATA => {
                outcome.body.extend_from_slice(&frame.payload);
                outcome.complete = frame.flags & END_STREAM != 0;
            }
            _ => {}
        }
    }

    /// The code that the connection ends with; `None`: it is closed without a word.
    #[track_caller]
    pub fn end(&mut self) -> Option<u32> {
        let mut last = None;
        loop {
            match self.next_frame() {
                Ok(frame) if frame.kind == kind::GOAWAY => last = Some(frame.code()),
                Ok(_) => {}
                Err(Fault::Timeout) => panic!("the connection goes on; last GOAWAY: {last:?}"),
                Err(_) => return last,
            }
        }
    }

    /// How long each frame is waited for.
    pub fn patience(mut self, patience: Duration) -> H2 {
        self.wire.patience = patience;
        self
    }
}

/// The four fields that every request has.
pub fn head<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "http"), (":authority", "example.com"), (":path", path)]
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields, each spelled out and put into no table (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(text.len(), &mut bytes);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

fn length(mut length: usize, bytes: &mut Vec<u8>) {
    if length < 127 {
        bytes.push(length as u8);
        return;
    }
    bytes.push(127);
    length -= 127;
    while length >= 128 {
        bytes.push(length as u8 & 127 | 128);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// What a server of HTTP/1.1 answers to a websocket's key (RFC 6455 §4.2.2).
pub fn accept(key: &str) -> String {
    use base64::Engine;
    use sha1::Digest;
    let digest =
        sha1::Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    base64::engine::general_purpose::STANDARD.encode(digest)
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// The status, which is the first field of every answer; a change of the table's size may come before it.
fn status(block: &[u8]) -> u16 {
    let at = block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
    match &block[at..] {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            digits.iter().take(3).fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
        }
        [0x08 | 0x18 | 0x48, 0x82 | 0x83, coded @ ..] => huffman(coded),
        other => panic!("no status: {other:x?}"),
    }
}

/// Three digits in Huffman's code: five bits for 0 to 2, six for the others (RFC 7541, appendix B).
fn huffman(coded: &[u8]) -> u16 {
    let bits = |at: usize| u32::from(coded.get(at).copied().unwrap_or(0xff));
    let (mut left, mut status) = (bits(0) << 24 | bits(1) << 16 | bits(2) << 8, 0);
    for _ in 0..3 {
        let five = left >> 27;
        let (digit, used) = if five < 3 { (five, 5) } else { ((left >> 26) - 0x19 + 3, 6) };
        status = status * 10 + digit as u16;
        left <<= used;
    }
    status
}
