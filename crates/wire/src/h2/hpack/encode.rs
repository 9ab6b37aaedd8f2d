//! encode: fields are written (RFC 7541 §6) as short as the tables allow; what was said before is found by a few comparisons.

use super::statics::{FIELDS, STATICS};
use super::table::{Ring, Table};
use super::{ENTRY_BYTES, Field, Pseudo, TABLE_BYTES, huffman};
use portunus_message::Known;

/// Writes the blocks of one connection, in the order in which they are sent.
pub struct Encoder {
    table: Table,
    /// For each entry of the table, what it is found by.
    marks: Ring<Mark>,
    /// The newest entry of each bucket, by number; empty before the first entry.
    newest: Vec<u32>,
    /// The table's bound has changed, and the smallest that it was since the last block.
    resized: Option<usize>,
}

/// What is compared before anything else is.
#[derive(Clone, Copy)]
struct Mark {
    name: u32,
    value: u32,
    /// The value of this name that was last written without being added.
    passed: u32,
    /// The entry of the same bucket that came before this one.
    before: u32,
}

/// A name, with all that is known of it.
#[derive(Clone, Copy)]
struct Name<'a> {
    known: Known,
    pseudo: Pseudo,
    text: &'a [u8],
    /// Its index in the static table, or 0.
    index: usize,
    /// Names that are the same have the same mark. One of a known name or a pseudo-header is nobody else's.
    mark: u32,
}

/// What becomes of a field that is not in the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Custom {
    /// It is added: the next message will have the same value.
    Add,
    /// It is added if nothing of this name was, or if it comes for the second time: there are many values, of which some
    /// come often.
    AddAgain,
    /// It is spelled out: the next message will have another value.
    Pass,
    /// It is spelled out, for nobody ever to add (RFC 7541 §7.1.3).
    Hide,
}

impl Encoder {
    /// With the table that all begin with. Takes no memory before a field is added to it.
    pub const fn new() -> Encoder {
        Encoder { table: Table::new(TABLE_BYTES), marks: Ring::new(), newest: Vec::new(), resized: None }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. The table never grows above 4096 bytes. The next block begins with the change.
    pub fn resize(&mut self, size: usize) {
        let size = size.min(TABLE_BYTES);
        if self.resized.is_some() || size != self.table.size_max() {
            self.resized = Some(self.resized.map_or(size, |smallest| smallest.min(size)));
            self.table.resize(size);
        }
    }

    /// Begins a block.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(smallest) = self.resized.take() {
            // §4.2: the smallest that it was, so that the peer lets go what went here; then what it is.
            let size = self.table.size_max();
            if smallest < size {
                integer(UPDATE, smallest, out);
            }
            integer(UPDATE, size, out);
        }
    }

    /// The status of an answer.
    #[inline]
    pub fn status(&mut self, code: u16, out: &mut Vec<u8>) {
        let index = match code {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => return self.pseudo(Pseudo::Status, &digits(code), out),
        };
        out.push(INDEXED.0 | index);
    }

    /// Adds a field. `name` may be in any letter case; `known` is its number, or `OTHER`.
    #[inline]
    pub fn field(&mut self, known: Known, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let Row { index, custom } = ROWS[usize::from(known.number() & 127)];
        let mark = match known {
            Known::OTHER => print(name, 0x2020_2020_2020_2020) | OTHER_MARK,
            _ => u32::from(known.number()),
        };
        let name = Name { known, pseudo: Pseudo::None, text: name, index: usize::from(index), mark };
        if index != 0 && value == FIELDS.get(name.index - 1).map_or(&b""[..], |field| field.value) {
            return integer(INDEXED, name.index, out);
        }
        let is_short_secret =
            value.len() < SECRET_BYTES_MIN && matches!(known, Known::COOKIE | Known::SET_COOKIE);
        match custom {
            Custom::Hide => literal(HIDDEN, name.index, name.text, value, out),
            _ if is_short_secret => literal(HIDDEN, name.index, name.text, value, out),
            Custom::Pass => literal(PASSED, name.index, name.text, value, out),
            Custom::Add | Custom::AddAgain => self.find_or_add(name, value, custom, out),
        }
    }

    /// A pseudo-header. One that does not exist is not written.
    #[inline]
    pub fn pseudo(&mut self, pseudo: Pseudo, value: &[u8], out: &mut Vec<u8>) {
        let (text, fixed, custom): (&[u8], _, _) = match pseudo {
            Pseudo::Authority => (b":authority", 1..2, Custom::Add),
            Pseudo::Method => (b":method", 2..4, Custom::Add),
            Pseudo::Path => (b":path", 4..6, Custom::Pass),
            Pseudo::Scheme => (b":scheme", 6..8, Custom::Add),
            Pseudo::Status => (b":status", 8..15, Custom::Add),
            Pseudo::Protocol => (b":protocol", 0..0, Custom::Add),
            Pseudo::None | Pseudo::Unknown => return,
        };
        let index = fixed.start;
        for index in fixed {
            if FIELDS.get(index - 1).is_some_and(|field| field.value == value) {
                return integer(INDEXED, index, out);
            }
        }
        if custom == Custom::Pass {
            return literal(PASSED, index, text, value, out);
        }
        let mark = PSEUDO_MARK + pseudo as u32;
        let name = Name { known: Known::OTHER, pseudo, text, index, mark };
        self.find_or_add(name, value, custom, out);
    }

    #[inline]
    fn find_or_add(&mut self, name: Name<'_>, value: &[u8], custom: Custom, out: &mut Vec<u8>) {
        let mark = print(value, 0);
        let mut named = None;
        let mut number = self.newest.get(bucket(name.mark)).copied().unwrap_or(0);
        let mut age_min = 0;
        loop {
            let age = self.table.age(number);
            // What is gone looks old. What looks younger than the one that led here has a number that was given again.
            if age >= self.table.count() || age < age_min {
                break;
            }
            let Some(entry) = self.marks.get(number) else { break };
            if entry.name == name.mark && (entry.value == mark || named.is_none()) {
                let Some(field) = self.table.get(age) else { break };
                if name.known != Known::OTHER || name.is(&field) {
                    if entry.value == mark && field.value == value {
                        return integer(INDEXED, STATICS + 1 + age as usize, out);
                    }
                    named = named.or(Some(number));
                }
            }
            (number, age_min) = (entry.before, age + 1);
        }
        self.add(name, value, mark, named, custom, out);
    }

    /// Writes what is not in the tables, and adds it if that is worth it. `named` is an entry of the same name.
    #[inline(never)]
    fn add(
        &mut self,
        name: Name<'_>,
        value: &[u8],
        mark: u32,
        named: Option<u32>,
        custom: Custom,
        out: &mut Vec<u8>,
    ) {
        let index = match named {
            _ if name.index != 0 => name.index,
            Some(number) => STATICS + 1 + self.table.age(number) as usize,
            None => name.find_fixed(),
        };
        let cost = name.text.len().saturating_add(value.len()).saturating_add(ENTRY_BYTES);
        let mut adds = cost <= self.table.size_max() / LARGEST_PART;
        if adds
            && custom == Custom::AddAgain
            && let Some(entry) = named.and_then(|number| self.marks.get_mut(number))
            && entry.passed != mark
        {
            (entry.passed, adds) = (mark, false);
        }
        if !adds {
            return literal(PASSED, index, name.text, value, out);
        }
        literal(ADDED, index, name.text, value, out);
        let (number, count) = (self.table.next(), self.table.count());
        let Name { known, pseudo, text, .. } = name;
        if !self.table.insert(Field { known, name: text, value, pseudo }) {
            return;
        }
        self.table.newest_name().make_ascii_lowercase();
        if self.newest.is_empty() {
            self.newest = vec![0; BUCKETS];
        }
        let mut before = 0;
        if let Some(newest) = self.newest.get_mut(bucket(name.mark)) {
            before = std::mem::replace(newest, number);
        }
        self.marks.put(number, count, Mark { name: name.mark, value: mark, passed: mark, before });
    }
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Name<'_> {
    /// Whether it is the name of `field`, when the marks are the same.
    #[inline]
    fn is(&self, field: &Field<'_>) -> bool {
        self.pseudo == field.pseudo
            && (self.pseudo != Pseudo::None || self.text.eq_ignore_ascii_case(field.name))
    }

    /// Its index in the static table if it stands there without being a known one; 0 if it does not.
    fn find_fixed(&self) -> usize {
        if self.known != Known::OTHER || self.pseudo != Pseudo::None {
            return 0;
        }
        let others = FIXED_OTHERS.iter().map(|index| usize::from(*index));
        others
            .into_iter()
            .find(|index| FIELDS.get(index - 1).is_some_and(|f| f.name.eq_ignore_ascii_case(self.text)))
            .unwrap_or(0)
    }
}

#[inline]
fn bucket(mark: u32) -> usize {
    mark as usize % BUCKETS
}

/// What tells texts from each other most of the time: the length, the first eight bytes and the last eight. Bits of `fold`
/// make no difference.
#[inline]
fn print(text: &[u8], fold: u64) -> u32 {
    let (first, last) = match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (text.first_chunk(), text.last_chunk()) {
            (Some(first), Some(last)) => {
                (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
            }
            _ => (text.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0),
        },
    };
    let all = (first | fold) ^ (last | fold).rotate_left(23) ^ text.len() as u64;
    (all.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// A field whose value is spelled out, and its name too when `index` is 0.
#[inline]
fn literal(kind: Kind, index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    integer(kind, index, out);
    if index == 0 {
        // What is spelled out every time is written as it is, if it is short: packing it costs more than it saves.
        let packs = kind == ADDED || name.len() >= PACKED_BYTES_MIN;
        spell(name.iter().map(u8::to_ascii_lowercase), packs, out);
    }
    if kind == ADDED || value.len() >= PACKED_BYTES_MIN {
        return spell(value.iter().copied(), true, out);
    }
    integer(PLAIN, value.len(), out);
    out.extend_from_slice(value);
}

/// A string (§5.2), packed if it `packs` and becomes shorter by it.
fn spell(text: impl ExactSizeIterator<Item = u8> + Clone, packs: bool, out: &mut Vec<u8>) {
    let length = text.len();
    let packed = if packs { huffman::packed_bytes(text.clone()) } else { length };
    if packed < length {
        integer(PACKED, packed, out);
        huffman::pack(text, out);
    } else {
        integer(PLAIN, length, out);
        out.extend(text);
    }
}

/// An integer (§5.1) behind the bits that say what it is.
#[inline]
fn integer(Kind(start, most): Kind, value: usize, out: &mut Vec<u8>) {
    if value < usize::from(most) {
        out.push(start | value as u8);
    } else {
        long_integer(start | most, value - usize::from(most), out);
    }
}

fn long_integer(start: u8, mut rest: usize, out: &mut Vec<u8>) {
    out.push(start);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
fn digits(code: u16) -> [u8; 3] {
    [code / 100 % 10, code / 10 % 10, code % 10].map(|digit| b'0' | digit as u8)
}

/// How a byte begins, and the largest number that fits into what is left of it, plus one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind(u8, u8);

const INDEXED: Kind = Kind(0x80, 0x7f);
const ADDED: Kind = Kind(0x40, 0x3f);
const UPDATE: Kind = Kind(0x20, 0x1f);
const HIDDEN: Kind = Kind(0x10, 0x0f);
const PASSED: Kind = Kind(0x00, 0x0f);
const PACKED: Kind = Kind(0x80, 0x7f);
const PLAIN: Kind = Kind(0x00, 0x7f);

/// Entries are looked for by their names.
const BUCKETS: usize = 64;
/// The marks of known names are below this; those of pseudo-headers below the next; all others have the bit of the next.
const PSEUDO_MARK: u32 = 128;
const OTHER_MARK: u32 = 256;
/// Shorter cookies could be guessed one after the other by how long a block becomes (§7.1.3).
const SECRET_BYTES_MIN: usize = 20;
/// What is larger than this part of the table would push too much out of it.
const LARGEST_PART: usize = 4;
/// What is not added is not packed if it is shorter.
const PACKED_BYTES_MIN: usize = 64;
/// The names of the static table that are not known ones.
const FIXED_OTHERS: [u8; 4] = [15, 27, 52, 56];

/// What every known name is written by.
#[derive(Clone, Copy)]
struct Row {
    index: u8,
    custom: Custom,
}

static ROWS: [Row; 128] = rows();

/// They differ from message to message.
const PASSING: &[Known] = &[
    Known::AGE,
    Known::CONTENT_DISPOSITION,
    Known::CONTENT_LENGTH,
    Known::CONTENT_LOCATION,
    Known::CONTENT_RANGE,
    Known::ETAG,
    Known::EXPIRES,
    Known::IDEMPOTENCY_KEY,
    Known::IF_MATCH,
    Known::IF_MODIFIED_SINCE,
    Known::IF_NONE_MATCH,
    Known::IF_RANGE,
    Known::IF_UNMODIFIED_SINCE,
    Known::LAST_MODIFIED,
    Known::LOCATION,
    Known::RANGE,
    Known::RETRY_AFTER,
    Known::SEC_WEBSOCKET_ACCEPT,
    Known::SEC_WEBSOCKET_KEY,
    Known::SET_COOKIE,
    Known::X_ACCEL_REDIRECT,
    Known::X_ORIGINAL_URL,
    Known::X_REQUEST_ID,
    Known::X_REWRITE_URL,
    Known::X_SENDFILE,
];
/// They differ from client to client, or from page to page.
const VARIED: &[Known] =
    &[Known::COOKIE, Known::FORWARDED, Known::LINK, Known::REFERER, Known::X_FORWARDED_FOR, Known::X_REAL_IP];
const SECRET: &[Known] = &[Known::AUTHORIZATION, Known::PROXY_AUTHORIZATION];

const fn rows() -> [Row; 128] {
    let mut rows = [Row { index: 0, custom: Custom::Add }; 128];
    let mut at = STATICS;
    while at > 0 {
        at -= 1;
        rows[FIELDS[at].known.number() as usize].index = at as u8 + 1;
    }
    // The first row is that of all names that are not known.
    rows[0] = Row { index: 0, custom: Custom::AddAgain };
    let rows = customs(rows, VARIED, Custom::AddAgain);
    customs(customs(rows, PASSING, Custom::Pass), SECRET, Custom::Hide)
}

const fn customs(mut rows: [Row; 128], names: &[Known], custom: Custom) -> [Row; 128] {
    let mut at = 0;
    while at < names.len() {
        rows[names[at].number() as usize].custom = custom;
        at += 1;
    }
    rows
}
