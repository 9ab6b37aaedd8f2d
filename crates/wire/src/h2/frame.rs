//! frame: what stands before every frame, the numbers that frames are made of, and those frames that carry neither fields nor a body (RFC 9113 §4, §6).

/// What a client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a frame's head is.
pub const HEAD_BYTES: usize = 9;
/// The longest frame that everybody takes (RFC 9113 §4.2).
pub const LENGTH_USUAL: usize = 16 << 10;
/// The longest frame there may be.
pub const LENGTH_MAX: usize = (1 << 24) - 1;
/// What may be sent before anything is acknowledged (RFC 9113 §6.9.2).
pub const WINDOW_USUAL: i64 = 65_535;
/// The largest window (RFC 9113 §6.9.1).
pub const WINDOW_MAX: i64 = (1 << 31) - 1;
/// The last stream there may be.
pub const STREAM_MAX: u32 = (1 << 31) - 1;

/// A flag: nothing more comes of this half of the stream.
pub const END_STREAM: u8 = 0x1;
/// A flag: it answers one of ours.
pub const ACK: u8 = 0x1;
/// A flag: the block of fields is whole.
pub const END_HEADERS: u8 = 0x4;
/// A flag: there is padding.
pub const PADDED: u8 = 0x8;
/// A flag: there is a priority.
pub const PRIORITY: u8 = 0x20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

impl Kind {
    const NUMBERED: [Kind; 10] = [
        Kind::Data,
        Kind::Headers,
        Kind::Priority,
        Kind::Reset,
        Kind::Settings,
        Kind::PushPromise,
        Kind::Ping,
        Kind::GoAway,
        Kind::WindowUpdate,
        Kind::Continuation,
    ];

    /// The one with a number.
    #[inline]
    pub fn of(number: u8) -> Kind {
        Kind::NUMBERED.get(usize::from(number)).copied().unwrap_or(Kind::Unknown)
    }

    /// Its number; that of those unknown here is none that means anything.
    #[inline]
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

#[allow(missing_docs)]
impl Code {
    pub const NO_ERROR: Code = Code(0);
    pub const PROTOCOL_ERROR: Code = Code(1);
    pub const INTERNAL_ERROR: Code = Code(2);
    pub const FLOW_CONTROL_ERROR: Code = Code(3);
    pub const STREAM_CLOSED: Code = Code(5);
    pub const FRAME_SIZE_ERROR: Code = Code(6);
    pub const REFUSED_STREAM: Code = Code(7);
    pub const CANCEL: Code = Code(8);
    pub const COMPRESSION_ERROR: Code = Code(9);
    pub const ENHANCE_YOUR_CALM: Code = Code(11);
}

/// Settings by their numbers (RFC 9113 §6.5.2, RFC 8441 §3).
#[allow(missing_docs)]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// What stands before every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How long the frame is without it.
    pub length: usize,
    /// What it is.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// The stream that it belongs to; 0: the connection.
    pub stream: u32,
}

impl Head {
    /// Reads one.
    #[inline]
    pub fn read(bytes: [u8; HEAD_BYTES]) -> Head {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        Head {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        }
    }

    /// Whether it has a flag.
    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A frame's head as it is written. `length` is at most [`LENGTH_MAX`].
#[inline]
pub fn head(length: usize, kind: Kind, flags: u8, stream: u32) -> [u8; HEAD_BYTES] {
    let [_, a, b, c] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind.number(), flags, d, e, f, g]
}

/// Ends a stream at once.
pub fn reset(stream: u32, code: Code, out: &mut Vec<u8>) {
    out.extend_from_slice(&head(4, Kind::Reset, 0, stream));
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Lets the peer send so many bytes more; stream 0: on all of them together.
pub fn window_update(stream: u32, more: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&head(4, Kind::WindowUpdate, 0, stream));
    out.extend_from_slice(&more.to_be_bytes());
}

/// Says what we want.
pub fn settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    out.extend_from_slice(&head(settings.len() * 6, Kind::Settings, 0, 0));
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Says that the peer's settings hold now.
pub fn settings_ack(out: &mut Vec<u8>) {
    out.extend_from_slice(&head(0, Kind::Settings, ACK, 0));
}

/// Asks whether the peer is there, or answers that we are.
pub fn ping(flags: u8, payload: [u8; 8], out: &mut Vec<u8>) {
    out.extend_from_slice(&head(8, Kind::Ping, flags, 0));
    out.extend_from_slice(&payload);
}

/// Says that no stream after `last` is looked at.
pub fn go_away(last: u32, code: Code, out: &mut Vec<u8>) {
    out.extend_from_slice(&head(8, Kind::GoAway, 0, 0));
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        for (length, kind, flags, stream) in [
            (0, Kind::Settings, ACK, 0),
            (LENGTH_USUAL, Kind::Data, END_STREAM, 1),
            (LENGTH_MAX, Kind::Continuation, END_HEADERS, STREAM_MAX),
        ] {
            assert_eq!(Head::read(head(length, kind, flags, stream)), Head { length, kind, flags, stream });
        }
        let [.., mut reserved] = [head(1, Kind::Ping, 0, 5)];
        reserved[5] |= 0x80;
        assert_eq!(Head::read(reserved).stream, 5); // RFC 9113 §4.1: the bit means nothing
    }

    #[test]
    fn frames_are_as_long_as_they_say() {
        let frames: [fn(&mut Vec<u8>); 6] = [
            |out| reset(3, Code::CANCEL, out),
            |out| window_update(0, 7, out),
            |out| settings(&[(setting::ENABLE_PUSH, 0), (setting::MAX_FRAME_SIZE, 16384)], out),
            settings_ack,
            |out| ping(ACK, [7; 8], out),
            |out| go_away(9, Code::NO_ERROR, out),
        ];
        for write in frames {
            let mut out = Vec::new();
            write(&mut out);
            let head = Head::read(out[..HEAD_BYTES].try_into().expect("a head"));
            assert_eq!(out.len(), HEAD_BYTES + head.length, "{head:?}");
        }
    }
}
