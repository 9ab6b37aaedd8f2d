//! chunks: takes the chunked coding off a body as it comes, strictly (RFC 9112 §7.1).

use portunus_message::fields::is_value_byte;
use portunus_message::name::is_token_byte;
use portunus_message::{Crime, FieldValue, Fields, Known, Limits, Side};

/// What [`Chunks::next`] found. The caller takes the bytes that were used off its buffer before it asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Nothing to hand out yet; `used` bytes, which are all, were framing.
    More {
        /// How many.
        used: usize,
    },
    /// `input[skip..skip + len]` is data; `skip + len` bytes were used.
    Data {
        /// Bytes of framing before the data.
        skip: usize,
        /// Bytes of data; at least one.
        len: usize,
    },
    /// Body and trailers are over; what stands after `used` belongs to the next message.
    End {
        /// How many bytes were used.
        used: usize,
    },
}

/// A decoder for one body. Extensions are checked, bounded and dropped; trailers are checked, bounded and kept.
///
/// ```text
///  Size ──';'──▶ Extension ─┐                       ┌───────── next chunk ─────────┐
///    └────────CR────────────┴▶ SizeEnd ─LF, n > 0─▶ Data ─▶ DataEnd ─CR─▶ DataLineEnd ─LF─▶ Size
///                                 └────LF, 0──────▶ Trailer ─▶ TrailerName ─':'─▶ TrailerValue ─CR─▶ TrailerEnd ─LF─▶ Trailer
///                                                      └─CR─▶ LastEnd ─LF─▶ Done
/// ```
#[derive(Clone, Debug)]
pub struct Chunks {
    state: State,
    /// The size being read, then what is left of the chunk's data.
    left: u64,
    /// Digits of the size being read.
    digits: u32,
    /// Extension bytes on this line, and in this body.
    line_extensions: usize,
    extensions: usize,
    trailer: Trailer,
    /// There from the first trailer on.
    kept: Option<Box<Kept>>,
    bounds: Bounds,
}

/// The trailers that may be handed on.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// The line being read, and how much of it is the name.
    line: Vec<u8>,
    name_len: usize,
    fields: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension(Extension),
    SizeEnd,
    Data,
    DataEnd,
    DataLineEnd,
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastEnd,
    Done,
    Failed,
}

/// Where in `*( ";" BWS name [ BWS "=" BWS value ] )` an extension is (RFC 9112 §7.1.1).
/// Deviation: the blanks that RFC 9112 lets stand before a semicolon are refused (attack A14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    AfterValue,
}

/// The trailer line being read. Names longer than the ones that are known need not be kept.
#[derive(Clone, Copy, Debug)]
struct Trailer {
    name: [u8; 40],
    name_len: usize,
    line_len: usize,
    /// Fields and their cost so far, head included.
    count: usize,
    cost: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    side: Side,
    line_extensions: usize,
    extensions: usize,
    line: usize,
    name: usize,
    count: usize,
    cost: usize,
}

impl Chunks {
    /// For the body of a request.
    pub fn new(limits: &Limits) -> Chunks {
        Chunks::with(Bounds {
            side: Side::Client,
            line_extensions: limits.chunk_line,
            extensions: limits.chunk_extensions,
            line: limits.header_line,
            name: limits.header_name,
            count: limits.header_count,
            cost: limits.header_bytes,
        })
    }

    /// For the body of an upstream's answer: whatever is wrong with it is [`Crime::BadResponse`].
    pub fn upstream(limits: &Limits) -> Chunks {
        Chunks::with(Bounds {
            side: Side::Upstream,
            line_extensions: limits.chunk_line,
            extensions: limits.chunk_extensions,
            line: limits.upstream_header_bytes,
            name: limits.header_name,
            count: limits.upstream_header_count,
            cost: limits.upstream_header_bytes,
        })
    }

    /// Counts the trailers together with the fields of the head (attack A35).
    pub fn after(mut self, fields: &Fields) -> Chunks {
        self.trailer.count = fields.len();
        self.trailer.cost = fields.cost();
        self
    }

    fn with(bounds: Bounds) -> Chunks {
        let trailer = Trailer { name: [0; 40], name_len: 0, line_len: 0, count: 0, cost: 0 };
        Chunks {
            state: State::Size,
            left: 0,
            digits: 0,
            line_extensions: 0,
            extensions: 0,
            trailer,
            kept: None,
            bounds,
        }
    }

    /// How much of the chunk under way has not been handed out.
    pub fn data_left(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Whether body and trailers are over. A connection that ends before that has cut the body short (attack A45).
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers that stood behind the body, once that is over, but for those that may not be handed on.
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        let kept = self.kept.take().filter(|_| self.is_done())?;
        Some(Box::new(kept.fields)).filter(|fields| !fields.is_empty())
    }

    /// Takes the next bytes. After a crime nothing on the connection has a meaning any more.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, Crime> {
        let mut used = 0;
        while self.state != State::Done {
            let Some(&byte) = input.get(used) else { return Ok(Piece::More { used }) };
            if self.state == State::Data {
                return Ok(self.data(input.len(), used));
            }
            self.state = match self.step(byte) {
                Ok(state) => state,
                Err(crime) => {
                    self.state = State::Failed; // for good: bytes fed again must not be taken for a fresh start
                    return Err(if self.bounds.side == Side::Upstream { Crime::BadResponse } else { crime });
                }
            };
            used += 1;
        }
        Ok(Piece::End { used })
    }

    fn data(&mut self, available: usize, skip: usize) -> Piece {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(available - skip);
        self.left -= len as u64;
        if self.left == 0 {
            self.state = State::DataEnd;
        }
        Piece::Data { skip, len }
    }

    /// One byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, Crime> {
        match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => Ok(State::SizeEnd),
            (State::Size, b';') if self.digits > 0 => {
                self.line_extensions = 0;
                self.count_extension()?;
                Ok(State::Extension(Extension::BeforeName))
            }
            (State::Size, _) => self.digit(byte),
            (State::Extension(at), _) => self.extension(at, byte),
            (State::SizeEnd, b'\n') if self.left == 0 => Ok(State::Trailer),
            (State::SizeEnd, b'\n') => Ok(State::Data),
            (State::DataEnd, b'\r') => Ok(State::DataLineEnd),
            (State::DataLineEnd, b'\n') => {
                self.digits = 0;
                Ok(State::Size)
            }
            (State::LastEnd, b'\n') => Ok(State::Done),
            (State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerEnd, _) => {
                self.trailer(byte)
            }
            _ => Err(Crime::BadChunk),
        }
    }

    /// At most 16 digits and a value below 2^63 (attacks A13, A14).
    fn digit(&mut self, byte: u8) -> Result<State, Crime> {
        let digit = char::from(byte).to_digit(16).ok_or(Crime::BadChunk)?;
        self.digits += 1;
        if self.digits > 16 || self.left >= 1 << 59 {
            return Err(Crime::BadChunk);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn count_extension(&mut self) -> Result<(), Crime> {
        self.line_extensions += 1;
        self.extensions += 1;
        let bounds = &self.bounds;
        let fits = self.line_extensions <= bounds.line_extensions && self.extensions <= bounds.extensions;
        if fits { Ok(()) } else { Err(Crime::BadChunk) }
    }

    /// Attack A15: also a quoted value holds no line end and no control byte.
    fn extension(&mut self, at: Extension, byte: u8) -> Result<State, Crime> {
        use Extension::*;
        let blank = byte == b' ' || byte == b'\t';
        let next = match (at, byte) {
            (Name | Value | AfterValue, b'\r') => return Ok(State::SizeEnd),
            (Name | Value | AfterValue, b';') => BeforeName,
            (Name | AfterName, b'=') => BeforeValue,
            (BeforeName | BeforeValue, _) if blank => at,
            (Name | AfterName, _) if blank => AfterName,
            (BeforeName | Name, _) if is_token_byte(byte) => Name,
            (BeforeValue, b'"') => Quoted,
            (BeforeValue | Value, _) if is_token_byte(byte) => Value,
            (Quoted, b'"') => AfterValue,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, _) if is_value_byte(byte) => Quoted,
            _ => return Err(Crime::BadChunk),
        };
        self.count_extension()?;
        Ok(State::Extension(next))
    }

    /// One byte after the last chunk (RFC 9112 §7.1.2; attacks A34, A35).
    fn trailer(&mut self, byte: u8) -> Result<State, Crime> {
        match (self.state, byte) {
            (State::Trailer, b'\r') => Ok(State::LastEnd),
            (State::Trailer, _) => {
                self.trailer.name_len = 0;
                self.trailer.line_len = 0;
                self.trailer.count += 1;
                self.trailer.cost = self.trailer.cost.saturating_add(32);
                self.kept.get_or_insert_default().line.clear();
                self.trailer_name(byte)
            }
            (State::TrailerName, b':') => {
                self.check_name()?;
                if let Some(kept) = &mut self.kept {
                    kept.name_len = kept.line.len();
                }
                Ok(State::TrailerValue)
            }
            (State::TrailerName, _) => self.trailer_name(byte),
            (State::TrailerValue, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerValue, _) if is_value_byte(byte) => {
                self.count_trailer(byte).map(|()| State::TrailerValue)
            }
            (State::TrailerEnd, b'\n') => {
                let side = self.bounds.side;
                self.kept.iter_mut().for_each(|kept| kept.end_line(side));
                Ok(State::Trailer)
            }
            _ => Err(Crime::BadTrailer),
        }
    }

    fn trailer_name(&mut self, byte: u8) -> Result<State, Crime> {
        if !is_token_byte(byte) {
            return Err(Crime::BadTrailer);
        }
        if let Some(place) = self.trailer.name.get_mut(self.trailer.name_len) {
            *place = byte;
        }
        self.trailer.name_len += 1;
        if self.trailer.name_len > self.bounds.name {
            return Err(Crime::HeadTooLarge);
        }
        self.count_trailer(byte).map(|()| State::TrailerName)
    }

    /// One more byte of a trailer; what is kept of them has the same bounds.
    fn count_trailer(&mut self, byte: u8) -> Result<(), Crime> {
        let (trailer, bounds) = (&mut self.trailer, &self.bounds);
        trailer.line_len += 1;
        trailer.cost = trailer.cost.saturating_add(1);
        let fits =
            trailer.line_len <= bounds.line && trailer.count <= bounds.count && trailer.cost <= bounds.cost;
        if let Some(kept) = self.kept.as_mut().filter(|_| fits) {
            kept.line.push(byte);
        }
        if fits { Ok(()) } else { Err(Crime::HeadTooLarge) }
    }

    /// Of an upstream's trailers those are dropped that may not be any; a client that sends one of them means harm.
    fn check_name(&self) -> Result<(), Crime> {
        let kept = &self.trailer.name;
        let name = kept.get(..self.trailer.name_len).unwrap_or(kept);
        let fine = self.bounds.side == Side::Upstream || crate::hop::may_trail(Known::find(name), name);
        if fine { Ok(()) } else { Err(Crime::BadTrailer) }
    }
}

impl Kept {
    /// Takes the line over, if such a field may be handed on (attacks A34, F9).
    fn end_line(&mut self, side: Side) {
        let (name, value) = self.line.split_at_checked(self.name_len).unwrap_or_default();
        let known = Known::find(name);
        // An upstream's names are its own affair, as in its heads.
        let may_pass = crate::hop::may_trail(known, name)
            && (side == Side::Upstream || !crate::hop::has_underscore(name));
        if may_pass && let Some(value) = FieldValue::new(value.trim_ascii()) {
            self.fields.push(known, name, value);
        }
    }
}
