//! h2_origin: an origin that speaks HTTP/2 frame by frame, and does exactly what its script says.

use crate::h2::{Frame, PREFACE, block, frame, kind};
use crate::origin::{Connection, Origin};
use std::collections::HashMap;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The proxy, as the origin sees it on one connection.
pub struct Peer<'a> {
    /// The connection below.
    pub connection: &'a mut Connection,
    /// Whether questions after our life are answered.
    pub answers_pings: bool,
    /// Whether what has come is acknowledged, so that more may come.
    pub makes_room: bool,
    bodies: HashMap<u32, Vec<u8>>,
}

/// A request that came whole. Its head is not looked at: it is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its stream.
    pub stream: u32,
    /// Its body.
    pub body: Vec<u8>,
}

impl Origin {
    /// Runs `script` for every connection, behind the preface and with these settings.
    pub fn http2(
        settings: &'static [(u16, u32)],
        script: impl Fn(&mut Peer<'_>) + Send + Sync + 'static,
    ) -> Origin {
        Origin::script(move |connection| {
            if let Some(mut peer) = Peer::begin(connection, settings) {
                script(&mut peer);
            }
        })
    }

    /// Answers every request with `text`.
    pub fn http2_says(text: &'static str) -> Origin {
        Origin::http2(&[], move |peer| {
            while let Some(asked) = peer.request() {
                peer.answer(asked.stream, &[(":status", "200")], text);
            }
        })
    }
}

impl<'a> Peer<'a> {
    /// Reads the preface and says its own.
    pub fn begin(connection: &'a mut Connection, settings: &[(u16, u32)]) -> Option<Peer<'a>> {
        if connection.exactly(PREFACE.len())? != PREFACE {
            return None;
        }
        let setting = |&(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<u8> = settings.iter().flat_map(setting).collect();
        let mut peer = Peer { connection, answers_pings: true, makes_room: true, bodies: HashMap::new() };
        peer.send(kind::SETTINGS, 0, 0, payload).then_some(peer)
    }

    /// Sends a frame; whether it was taken.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> bool {
        self.connection.send(frame(kind, flags, stream, payload))
    }

    /// The next frame; settings and pings are answered on the way.
    pub fn frame(&mut self) -> Option<Frame> {
        let head = self.connection.exactly(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = self.connection.exactly(length)?;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        match frame.kind {
            kind::SETTINGS if frame.flags & ACK == 0 => _ = self.send(kind::SETTINGS, ACK, 0, []),
            kind::PING if frame.flags & ACK == 0 && self.answers_pings => {
                self.send(kind::PING, ACK, 0, &frame.payload);
            }
            kind::DATA if self.makes_room && !frame.payload.is_empty() => {
                let count = (frame.payload.len() as u32).to_be_bytes();
                self.send(kind::WINDOW_UPDATE, 0, 0, count);
                if frame.flags & END_STREAM == 0 {
                    self.send(kind::WINDOW_UPDATE, 0, stream, count);
                }
            }
            _ => {}
        }
        Some(frame)
    }

    /// The next frame of this kind.
    pub fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame()?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// The next request that has come whole.
    pub fn request(&mut self) -> Option<Asked> {
        loop {
            let frame = self.frame()?;
            let body = self.bodies.entry(frame.stream).or_default();
            match frame.kind {
                kind::DATA => body.extend_from_slice(&frame.payload),
                kind::HEADERS => {}
                _ => continue,
            }
            if frame.flags & END_STREAM != 0 {
                let body = self.bodies.remove(&frame.stream).unwrap_or_default();
                return Some(Asked { stream: frame.stream, body });
            }
        }
    }

    /// The head of an answer.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) -> bool {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.send(kind::HEADERS, flags, stream, block(fields))
    }

    /// A piece of its body.
    pub fn data(&mut self, stream: u32, bytes: impl AsRef<[u8]>, end: bool) -> bool {
        self.send(kind::DATA, if end { END_STREAM } else { 0 }, stream, bytes)
    }

    /// A whole answer.
    pub fn answer(&mut self, stream: u32, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> bool {
        self.head(stream, fields, false) && self.data(stream, body, true)
    }

    /// Ends a stream with an error.
    pub fn reset(&mut self, stream: u32, code: u32) -> bool {
        self.send(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// Says that the connection ends, and which stream was the last that it has looked at.
    pub fn goaway(&mut self, last: u32, code: u32) -> bool {
        self.send(kind::GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }
}
