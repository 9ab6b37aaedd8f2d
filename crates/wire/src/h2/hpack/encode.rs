//! encode: fields are written (RFC 7541 §6) as short as the tables allow; what was said before is found by a few comparisons.

use super::custom::{Custom, ROWS, Row};
use super::statics::{FIELDS, STATICS};
use super::table::{Entry, Table};
use super::words::{is_same, is_spelled, print};
use super::{ENTRY_BYTES, Field, Pseudo, TABLE_BYTES, huffman};
use portunus_message::Known;

/// Writes the blocks of one connection, in the order in which they are sent.
pub struct Encoder {
    table: Table<Mark>,
    /// The newest entry of each bucket, by number; empty before the first entry.
    newest: Vec<u32>,
    /// The table's bound has changed, and the smallest that it was since the last block.
    resized: Option<usize>,
}

/// What an entry is found by.
#[derive(Clone, Copy)]
struct Mark {
    name: u32,
    /// The print of the value of this name that was last written without being added.
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

impl Encoder {
    /// With the table that all begin with. Takes no memory before a field is added to it.
    pub const fn new() -> Encoder {
        Encoder { table: Table::new(TABLE_BYTES), newest: Vec::new(), resized: None }
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
        if custom == Custom::Pass {
            return literal(PASSED, usize::from(index), name, value, out);
        }
        if known == Known::OTHER {
            return self.other(name, value, out);
        }
        let mark = u32::from(known.number());
        if self.was_last(mark, |_| true, value, out).is_none() {
            let name = Name { known, pseudo: Pseudo::None, text: name, index: usize::from(index), mark };
            self.anew(name, value, custom, out);
        }
    }

    /// A field whose name has no number.
    #[inline(never)]
    fn other(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let mark = print(name, 0x2020_2020_2020_2020) | OTHER_MARK;
        let is_name = |entry: &Entry<Mark>| is_spelled(self.table.name(entry), name);
        if self.was_last(mark, is_name, value, out).is_none() {
            let name = Name { known: Known::OTHER, pseudo: Pseudo::None, text: name, index: 0, mark };
            self.find_or_add(name, value, Custom::AddAgain, out);
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
            if FIELDS.get(index - 1).is_some_and(|field| is_same(field.value, value)) {
                return integer(INDEXED, index, out);
            }
        }
        if custom == Custom::Pass {
            return literal(PASSED, index, text, value, out);
        }
        let mark = PSEUDO_MARK + pseudo as u32;
        if self.was_last(mark, |_| true, value, out).is_none() {
            self.find_or_add(Name { known: Known::OTHER, pseudo, text, index, mark }, value, custom, out);
        }
    }

    /// Writes the index if this name came with this value when it was last added: that is how it mostly is.
    #[inline]
    fn was_last(
        &self,
        mark: u32,
        is_name: impl Fn(&Entry<Mark>) -> bool,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let number = *self.newest.get(bucket(mark))?;
        let age = self.table.age(number)?;
        let entry = self.table.entry(number)?;
        if entry.mark.name != mark || !is_name(entry) || !is_same(self.table.value(entry), value) {
            return None;
        }
        integer(INDEXED, STATICS + 1 + age as usize, out);
        Some(())
    }

    /// A field of a known name that has another value than the last time.
    #[inline(never)]
    fn anew(&mut self, name: Name<'_>, value: &[u8], custom: Custom, out: &mut Vec<u8>) {
        if FIELDS.get(name.index.wrapping_sub(1)).is_some_and(|field| field.value == value) {
            return integer(INDEXED, name.index, out);
        }
        match custom {
            Custom::Cookie if value.len() < COOKIE_BYTES_MIN => {
                literal(HIDDEN, name.index, name.text, value, out)
            }
            Custom::Hide => literal(HIDDEN, name.index, name.text, value, out),
            Custom::Pass => literal(PASSED, name.index, name.text, value, out),
            Custom::Cookie if name.known == Known::SET_COOKIE => {
                literal(PASSED, name.index, name.text, value, out)
            }
            Custom::Add | Custom::AddAgain | Custom::Cookie => self.find_or_add(name, value, custom, out),
        }
    }

    #[inline(never)]
    fn find_or_add(&mut self, name: Name<'_>, value: &[u8], custom: Custom, out: &mut Vec<u8>) {
        let mut named = None;
        let mut number = self.newest.get(bucket(name.mark)).copied().unwrap_or(0);
        let mut age_min = 0;
        // What is gone ends the search. So does what is younger than the one that led there: its number was given again.
        while let Some(age) = self.table.age(number).filter(|age| *age >= age_min)
            && let Some(entry) = self.table.entry(number)
        {
            if entry.mark.name == name.mark
                && (name.mark < OTHER_MARK || is_spelled(self.table.name(entry), name.text))
            {
                if is_same(self.table.value(entry), value) {
                    return integer(INDEXED, STATICS + 1 + age as usize, out);
                }
                named = named.or(Some(number));
            }
            (number, age_min) = (entry.mark.before, age + 1);
        }
        self.add(name, value, named, custom, out);
    }

    /// Writes what is not in the tables, and adds it if that is worth it. `named` is an entry of the same name.
    #[inline(never)]
    fn add(&mut self, name: Name<'_>, value: &[u8], named: Option<u32>, custom: Custom, out: &mut Vec<u8>) {
        let index = match named.and_then(|number| self.table.age(number)) {
            _ if name.index != 0 => name.index,
            Some(age) => STATICS + 1 + age as usize,
            None => name.find_fixed(),
        };
        let cost = name.text.len().saturating_add(value.len()).saturating_add(ENTRY_BYTES);
        let mut adds = cost <= self.table.size_max() / LARGEST_PART;
        let passed = print(value, 0);
        if adds
            && custom != Custom::Add
            && let Some(mark) = named.and_then(|number| self.table.mark(number))
            && mark.passed != passed
        {
            (mark.passed, adds) = (passed, false);
        }
        if !adds {
            return literal(PASSED, index, name.text, value, out);
        }
        literal(ADDED, index, name.text, value, out);
        if self.newest.is_empty() {
            self.newest = vec![0; BUCKETS];
        }
        let Some(newest) = self.newest.get_mut(bucket(name.mark)) else { return };
        let before = std::mem::replace(newest, self.table.next());
        let Name { known, pseudo, text, mark, .. } = name;
        // Invariant: it fits, as it is only a part of the table.
        let field = Field { known, name: text, value, pseudo, is_name: true, is_value: true };
        self.table.insert(field, Mark { name: mark, passed, before });
        self.table.newest_name().make_ascii_lowercase();
    }
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Name<'_> {
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
    if mark < OTHER_MARK { mark as usize } else { mark as usize % 128 }
}

/// A field whose value is spelled out, and its name too when `index` is 0.
#[inline]
fn literal(kind: Kind, index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    if kind != ADDED && value.len() < PACKED_BYTES_MIN && (0x0f..0x8f).contains(&index) {
        // What most are: an index in two bytes, and a length in one.
        out.extend_from_slice(&[kind.0 | kind.1, (index - 0x0f) as u8, value.len() as u8]);
        return out.extend_from_slice(value);
    }
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

/// The marks of known names are below this, those of pseudo-headers below the next, and all others have its bit.
const PSEUDO_MARK: u32 = 128;
const OTHER_MARK: u32 = 256;
/// Entries are looked for by their names. Known names and pseudo-headers have a bucket each; the others share the first 128.
const BUCKETS: usize = 136;
/// Shorter cookies could be guessed by how long a block becomes (§7.1.3).
const COOKIE_BYTES_MIN: usize = 20;
/// What is larger than this part of the table would push too much out of it.
const LARGEST_PART: usize = 4;
/// What is not added is not packed if it is shorter.
const PACKED_BYTES_MIN: usize = 64;
/// The names of the static table that are not known ones.
const FIXED_OTHERS: [u8; 4] = [15, 27, 52, 56];
