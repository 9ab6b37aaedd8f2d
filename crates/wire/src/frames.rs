//! frames: what passes in an HTTP/2 connection, seen from the heads of its frames (RFC 9113 §4.1); for counting only, another reads them.

/// A frame that has passed whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// The stream that it belongs to; 0: the connection.
    pub stream: u32,
    /// How long it is without its head.
    pub length: u32,
    /// Whether it is a block of fields behind a body that begins with what no trailer may be (RFC 9113 §8.1; attack B4).
    pub is_bad_trailer: bool,
}

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

impl Frame {
    /// Whether it ends its half of the stream, if it is of a kind that can.
    pub fn ends_stream(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether it answers one of ours, if it is of a kind that can.
    pub fn is_ack(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// Follows one direction of a connection, from its first byte on.
#[derive(Clone, Debug)]
pub struct Frames {
    preface_left: usize,
    head: [u8; HEAD_BYTES],
    have: usize,
    /// How much of the frame's payload is still to come, while its head is whole.
    left: usize,
    /// The beginning of the payload of a frame with fields.
    start: [u8; START_BYTES],
    start_have: usize,
    /// The highest stream that has begun.
    last_stream: u32,
    in_fields: bool,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames {
            preface_left: PREFACE.len(),
            head: [0; HEAD_BYTES],
            have: 0,
            left: 0,
            start: [0; START_BYTES],
            start_have: 0,
            last_stream: 0,
            in_fields: false,
        }
    }
}

/// What a client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// Length of the padding, priority, and the first byte of the fields, perhaps behind a change of the table's size.
const START_BYTES: usize = 16;

impl Frames {
    /// For what a server says, which has no preface.
    pub fn of_server() -> Frames {
        Frames { preface_left: 0, ..Frames::default() }
    }

    /// Hears that `bytes` have passed, and tells of each frame that they end.
    pub fn advance(&mut self, mut bytes: &[u8], mut see: impl FnMut(Frame)) {
        let skip = self.preface_left.min(bytes.len());
        self.preface_left -= skip;
        bytes = bytes.get(skip..).unwrap_or(&[]);
        while !bytes.is_empty() {
            if self.have < HEAD_BYTES {
                let take = (HEAD_BYTES - self.have).min(bytes.len());
                let (now, rest) = bytes.split_at(take);
                if let Some(room) = self.head.get_mut(self.have..self.have + take) {
                    room.copy_from_slice(now);
                }
                self.have += take;
                bytes = rest;
                if self.have < HEAD_BYTES {
                    return;
                }
                self.begin();
            }
            let take = self.left.min(bytes.len());
            let (now, rest) = bytes.split_at(take);
            if self.start_have < START_BYTES && self.kind() == Kind::Headers {
                let room = self.start.get_mut(self.start_have..).unwrap_or(&mut []);
                let more = room.len().min(now.len());
                room.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
                self.start_have += more;
            }
            self.left -= take;
            bytes = rest;
            if self.left == 0 {
                self.have = 0;
                see(self.end());
            }
        }
    }

    /// Whether a block of fields has begun and is not whole.
    pub fn is_in_fields(&self) -> bool {
        self.in_fields
    }

    fn kind(&self) -> Kind {
        match self.head[3] {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        }
    }

    /// A head is whole.
    fn begin(&mut self) {
        let [a, b, c, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.start_have = 0;
        self.in_fields |= matches!(self.kind(), Kind::Headers | Kind::Continuation);
    }

    /// A frame is whole.
    fn end(&mut self) -> Frame {
        let [a, b, c, _, flags, d, e, f, g] = self.head;
        let kind = self.kind();
        let stream = u32::from_be_bytes([d & 0x7f, e, f, g]);
        let mut is_bad_trailer = false;
        if kind == Kind::Headers {
            is_bad_trailer = stream <= self.last_stream && self.begins_with_pseudo(flags);
            self.last_stream = self.last_stream.max(stream);
        }
        if matches!(kind, Kind::Headers | Kind::Continuation) {
            self.in_fields = flags & END_HEADERS == 0;
        }
        Frame { kind, flags, stream, length: u32::from_be_bytes([0, a, b, c]), is_bad_trailer }
    }

    /// Whether the first field has a name that begins with a colon (RFC 7541 §6, appendix A); those come first, if there are any. A name out of the
    /// dynamic table is not seen.
    fn begins_with_pseudo(&self, flags: u8) -> bool {
        let skip = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
        let have = self.start.get(skip..self.start_have).unwrap_or(&[]);
        // What changes the size of the table comes before.
        let changes = have.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
        let field = have.get(changes..).unwrap_or(&[]);
        let index = match field.first() {
            None => return false,
            Some(indexed @ 0x80..) => indexed & 0x7f,
            Some(added @ 0x40..=0x7f) => added & 0x3f,
            Some(once) => once & 0x0f,
        };
        match (index, field) {
            (0, [_, 0x80..=0xff, byte, ..]) => byte >> 1 == COLON,
            (0, [_, _, byte, ..]) => *byte == b':',
            (0, _) => false,
            (index, _) => index <= STATIC_PSEUDO,
        }
    }
}

const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// The last of the static table's entries whose name begins with a colon.
const STATIC_PSEUDO: u8 = 14;
/// A colon in Huffman's code: seven bits.
const COLON: u8 = 0x5c;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn seen(bytes: &[u8], step: usize) -> Vec<Frame> {
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(step) {
            frames.advance(piece, |frame| all.push(frame));
        }
        all
    }

    #[test]
    fn frames_are_seen_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(1, 5, 1, &[0x82, 0x84, 0x86]));
        bytes.extend(frame(0, 1, 1, &[b'x'; 5000]));
        bytes.extend(frame(6, 0, 0, &[0; 8]));
        bytes.extend(frame(99, 0, 7, &[1, 2]));
        for step in [1, 2, 3, 7, 100, 1 << 20] {
            let all = seen(&bytes, step);
            let kinds: Vec<Kind> = all.iter().map(|frame| frame.kind).collect();
            assert_eq!(
                kinds,
                [Kind::Settings, Kind::Headers, Kind::Data, Kind::Ping, Kind::Unknown],
                "{step}"
            );
            assert_eq!(all.iter().map(|frame| frame.length).collect::<Vec<_>>(), [0, 3, 5000, 8, 2]);
            assert!(all.iter().all(|frame| !frame.is_bad_trailer));
        }
    }

    #[test]
    fn a_block_of_fields_is_open_until_it_says_that_it_ends() {
        let mut frames = Frames::default();
        frames.advance(PREFACE, |_| {});
        frames.advance(&frame(1, 0, 1, &[0x82]), |_| {});
        assert!(frames.is_in_fields());
        frames.advance(&frame(9, 0, 1, &[0x82]), |_| {});
        assert!(frames.is_in_fields());
        frames.advance(&frame(9, 4, 1, &[0x82]), |_| {});
        assert!(!frames.is_in_fields());
    }

    #[test]
    fn b4_pseudo_header_fields_in_trailers_are_seen() {
        let last = |flags: u8, payload: &[u8]| {
            let mut bytes = PREFACE.to_vec();
            bytes.extend(frame(1, 4, 1, &[0x82]));
            bytes.extend(frame(1, 5 | flags, 1, payload));
            seen(&bytes, 3)[1].is_bad_trailer
        };
        for bad in [
            &[0x82][..],
            &[0x20, 0x84],
            &[0x43, 3, b'2', b'0', b'0'],
            &[0x04, 1, b'/'],
            &[0x40, 5, b':', b'p', b'a', b't', b'h', 1, b'/'],
            &[0x00, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 1, b'/'],
        ] {
            assert!(last(0, bad), "{bad:x?}");
        }
        assert!(last(PADDED, &[0, 0x82]) && last(PRIORITY, &[0, 0, 0, 0, 9, 0x82]));
        for good in [&[][..], &[0x40, 1, b'a', 1, b'b'], &[0x50, 1, b'b'], &[0xbe], &[0x7f, 0]] {
            assert!(!last(0, good), "{good:x?}");
        }
    }
}
