//! Fields: header fields in one flat block; the only file that knows how headers are stored.

use crate::name::{AsName, FieldName, Known};
use std::fmt;

/// Header fields, in order, with their bytes in one block. Edits are marks on the entries; letter case and order
/// are kept. Names are tokens and values hold no CR, LF or NUL: whoever adds bytes has to prove it.
#[derive(Clone, Default)]
pub struct Fields {
    block: Vec<u8>,
    entries: Vec<Entry>,
    removed: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    name_at: u32,
    value_at: u32,
    value_len: u32,
    name_len: u16,
    known: Known,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The block holds it as it is written: name, colon, space, value, CRLF.
    Plain,
    /// The block holds its name and its value.
    Live,
    /// It has been taken away.
    Removed,
}

/// Where a field stands in a head, for [`Fields::index`].
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Where its line begins.
    pub at: usize,
    /// How long its name is.
    pub name_len: usize,
    /// How many bytes stand between name and value: a colon and white space.
    pub gap: usize,
    /// How long its value is.
    pub value_len: usize,
    /// Whether the line is exactly what would be written: one space after the colon, none after the value, CRLF.
    pub plain: bool,
}

impl Fields {
    /// No fields, no memory.
    pub const fn new() -> Fields {
        Fields { block: Vec::new(), entries: Vec::new(), removed: 0 }
    }

    /// Forgets everything but keeps the memory for the next message.
    pub fn clear(&mut self) {
        self.block.clear();
        self.entries.clear();
        self.removed = 0;
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.removed
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the fields cost: names, values and 32 bytes for each, as HTTP/2 counts it (RFC 9113 §6.5.2).
    pub fn cost(&self) -> usize {
        self.live().map(|e| usize::from(e.name_len) + e.value_len as usize + 32).sum()
    }

    /// Declares that a field stands at this place of the head that [`Fields::load`] will bring next. The caller (a
    /// parser) has checked that the name is a token, and `known` its number, and that the value has no CR, LF or NUL.
    /// A place that is too far away is refused with `false`; what lies outside of the head reads as empty.
    #[inline]
    pub fn index(&mut self, known: Known, place: &Place) -> bool {
        let name_at = self.block.len() + place.at;
        let (Ok(name_len), Ok(value_at), Ok(value_len)) = (
            u16::try_from(place.name_len),
            u32::try_from(name_at + place.name_len + place.gap),
            u32::try_from(place.value_len),
        ) else {
            return false;
        };
        let state = if place.plain { State::Plain } else { State::Live };
        // Invariant: it is less than `value_at`, which fits.
        let name_at = name_at as u32;
        self.entries.push(Entry { name_at, value_at, value_len, name_len, known, state });
        true
    }

    /// Takes a whole head in one copy, after its fields have been named with [`Fields::index`].
    pub fn load(&mut self, head: &[u8]) {
        self.block.extend_from_slice(head);
    }

    /// Appends the line `name: value CRLF` of every field that `crosses`; says how many there were. Neighbours that
    /// stand in the block as they are written go in one copy.
    pub fn write(&self, out: &mut Vec<u8>, crosses: impl Fn(Known, &[u8]) -> bool) -> usize {
        let (mut lines, mut from, mut to) = (0, 0, 0);
        for e in self.live() {
            let name = slice(&self.block, e.name_at, u32::from(e.name_len));
            if !crosses(e.known, name) {
                continue;
            }
            lines += 1;
            let at = e.name_at as usize;
            if e.state == State::Plain && at == to {
                to = e.end();
                continue;
            }
            out.extend_from_slice(self.block.get(from..to).unwrap_or(&[]));
            (from, to) = (at, at);
            if e.state == State::Plain {
                to = e.end();
            } else {
                for part in [name, b": ", self.value(e), b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
        out.extend_from_slice(self.block.get(from..to).unwrap_or(&[]));
        lines
    }

    /// At most so many bytes [`Fields::write`] appends.
    pub fn written_max(&self) -> usize {
        self.block.len() + self.entries.len() * 4
    }

    /// The first value of `name`.
    pub fn get(&self, name: impl AsName) -> Option<&[u8]> {
        self.live().find(|e| self.is(e, &name)).map(|e| self.value(e))
    }

    /// All values of `name`, in order.
    pub fn get_all<'a>(&'a self, name: impl AsName + 'a) -> impl DoubleEndedIterator<Item = &'a [u8]> + 'a {
        self.live().filter(move |e| self.is(e, &name)).map(|e| self.value(e))
    }

    /// How many times `name` stands here.
    pub fn count(&self, name: impl AsName) -> usize {
        self.live().filter(|e| self.is(e, &name)).count()
    }

    /// Whether `name` stands here.
    pub fn has(&self, name: impl AsName) -> bool {
        self.live().any(|e| self.is(e, &name))
    }

    /// Whether a list-valued field (RFC 9110 §5.6.1) holds `token`, in any letter case, on any of its lines.
    pub fn has_token(&self, name: impl AsName, token: &str) -> bool {
        self.live()
            .filter(|e| self.is(e, &name))
            .any(|e| tokens(self.value(e)).any(|t| t.eq_ignore_ascii_case(token.as_bytes())))
    }

    /// Adds a field at the end. The value is a [`FieldValue`], so it cannot split the message (attack A42).
    pub fn add(&mut self, name: impl AsName, value: FieldValue<'_>) {
        self.push(name.known(), name.text().as_bytes(), value);
    }

    /// The same for a name of which the caller has checked that it is a token, and `known` its number.
    pub fn push(&mut self, known: Known, name: &[u8], value: FieldValue<'_>) {
        let name_at = self.block.len();
        let value_at = name_at + name.len() + 2;
        self.block.reserve(name.len() + value.0.len() + 4);
        for part in [name, b": ", value.0, b"\r\n"] {
            self.block.extend_from_slice(part);
        }
        // Invariant: names and the block are bounded by the header limits.
        let (Ok(name_len), Ok(name_at), Ok(value_at), Ok(value_len)) = (
            u16::try_from(name.len()),
            u32::try_from(name_at),
            u32::try_from(value_at),
            u32::try_from(value.0.len()),
        ) else {
            return;
        };
        self.entries.push(Entry { name_at, value_at, value_len, name_len, known, state: State::Plain });
    }

    /// Adds all fields of `other` at the end, in one copy.
    pub fn append(&mut self, other: &Fields) {
        let Ok(by) = u32::try_from(self.block.len()) else { return };
        self.block.extend_from_slice(&other.block);
        let moved = |e: &Entry| Entry { name_at: e.name_at + by, value_at: e.value_at + by, ..*e };
        self.entries.extend(other.live().map(moved));
    }

    /// Leaves exactly one field of this name, with this value.
    pub fn set(&mut self, name: impl AsName, value: FieldValue<'_>) {
        self.remove_ref(&name);
        self.add(name, value);
    }

    /// Takes away every field of this name; says how many there were.
    pub fn remove(&mut self, name: impl AsName) -> usize {
        self.remove_ref(&name)
    }

    /// Keeps only the fields for which `keep(known, name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let block = &self.block;
        for e in self.entries.iter_mut().filter(|e| e.state != State::Removed) {
            let name = slice(block, e.name_at, u32::from(e.name_len));
            let value = slice(block, e.value_at, e.value_len);
            if !keep(e.known, name, value) {
                e.state = State::Removed;
                self.removed += 1;
            }
        }
    }

    /// Every field in order: number, name as written, value.
    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.live().map(|e| (e.known, slice(&self.block, e.name_at, u32::from(e.name_len)), self.value(e)))
    }

    fn live(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(|e| e.state != State::Removed)
    }

    fn value(&self, e: &Entry) -> &[u8] {
        slice(&self.block, e.value_at, e.value_len)
    }

    fn is(&self, e: &Entry, name: &impl AsName) -> bool {
        let known = name.known();
        if e.known != known {
            return false;
        }
        known != Known::OTHER
            || slice(&self.block, e.name_at, u32::from(e.name_len))
                .eq_ignore_ascii_case(name.text().as_bytes())
    }

    fn remove_ref(&mut self, name: &impl AsName) -> usize {
        let mut count = 0;
        for at in 0..self.entries.len() {
            let Some(e) = self.entries.get(at).copied() else { break };
            if e.state != State::Removed && self.is(&e, name) {
                if let Some(e) = self.entries.get_mut(at) {
                    e.state = State::Removed;
                }
                count += 1;
            }
        }
        self.removed += count;
        count
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lossy = |bytes| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|(_, name, value)| (lossy(name), lossy(value)))).finish()
    }
}

/// A value that may stand in a field: no CR, LF or NUL, no other control byte but tab (RFC 9110 §5.5), no white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldValue<'a>(&'a [u8]);

impl<'a> FieldValue<'a> {
    /// Checks `bytes`, after trimming spaces and tabs; `None` when they hold a control byte.
    pub fn new(bytes: &'a [u8]) -> Option<FieldValue<'a>> {
        let bytes = trim(bytes);
        // Looks at every byte without a branch, so that the compiler can take many at a time.
        let bad = bytes.iter().fold(false, |bad, &b| bad | !is_value_byte(b));
        (!bad).then_some(FieldValue(bytes))
    }

    /// For who has looked at every byte before and remembers what came of it. What [`FieldValue::new`] would refuse, or trim,
    /// must never be given here.
    #[inline]
    pub fn proven(bytes: &'a [u8]) -> FieldValue<'a> {
        debug_assert!(FieldValue::new(bytes).is_some_and(|value| value.0.len() == bytes.len()));
        FieldValue(bytes)
    }

    /// A literal of the program's own.
    pub const fn from_static(text: &'static str) -> FieldValue<'static> {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(is_value_byte(bytes[at]));
            at += 1;
        }
        FieldValue(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// RFC 9110 §5.5: visible ASCII, space, tab, and opaque bytes from 0x80 up.
pub const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The members of a comma-separated list, trimmed, empty ones left out.
pub fn tokens(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|t| !t.is_empty())
}

/// Without spaces and tabs at both ends.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

impl Entry {
    /// Where the line of a plain field ends in the block.
    fn end(&self) -> usize {
        self.value_at as usize + self.value_len as usize + 2
    }
}

fn slice(block: &[u8], at: u32, len: u32) -> &[u8] {
    let at = at as usize;
    block.get(at..at + len as usize).unwrap_or(&[])
}

impl FieldName {
    /// Adds this name with `value` to `fields`; says whether the value was one that a field may hold.
    pub fn add_to(&self, fields: &mut Fields, value: &[u8]) -> bool {
        FieldValue::new(value).map(|value| fields.add(self, value)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> FieldValue<'_> {
        FieldValue::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn set_add_remove_keep_order_and_case() {
        let odd = FieldName::new("x-OdD").unwrap();
        let mut fields = Fields::new();
        fields.add(Known::HOST, value("a"));
        fields.add(&odd, value("1"));
        fields.add(&FieldName::new("X-Odd").unwrap(), value("2"));
        assert_eq!(fields.get_all(&odd).collect::<Vec<_>>(), [b"1", b"2"]);
        fields.set(&odd, value("3"));
        assert_eq!(fields.get_all(&odd).collect::<Vec<_>>(), [b"3"]);
        assert_eq!(fields.len(), 2);
        assert_eq!(fields.remove(Known::HOST), 1);
        assert!(!fields.has(Known::HOST));
        assert_eq!(fields.iter().map(|(_, n, _)| n.to_vec()).collect::<Vec<_>>(), [b"x-OdD"]);
    }

    #[test]
    fn tokens_are_found_on_every_line() {
        let mut fields = Fields::new();
        fields.add(Known::CONNECTION, value("keep-alive,, foo"));
        fields.add(Known::CONNECTION, value(" Upgrade"));
        assert!(fields.has_token(Known::CONNECTION, "upgrade"));
        assert!(fields.has_token(Known::CONNECTION, "FOO"));
        assert!(!fields.has_token(Known::CONNECTION, "up"));
    }

    #[test]
    fn values_cannot_split_a_message() {
        for bad in ["a\r\nb", "a\nb", "a\rb", "a\0b", "\u{7f}", "a\u{1b}"] {
            assert!(FieldValue::new(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert_eq!(FieldValue::new(b" \ta b\t ").unwrap().as_bytes(), b"a b");
        assert!(FieldValue::new(b"\xff\x80").is_some());
    }

    #[test]
    fn what_was_indexed_is_there_and_nothing_outside_the_head() {
        let mut fields = Fields::new();
        let place = Place { at: 0, name_len: 4, gap: 2, value_len: 1, plain: true };
        assert!(fields.index(Known::HOST, &place));
        assert!(fields.index(Known::AGE, &Place { at: 90, ..place }));
        assert!(!fields.index(Known::AGE, &Place { name_len: 70_000, ..place }));
        fields.load(b"Host: a\r\n");
        assert_eq!(fields.get(Known::HOST), Some(&b"a"[..]));
        assert_eq!(fields.get(Known::AGE), Some(&b""[..]));
    }

    #[test]
    fn what_is_appended_stands_at_the_end() {
        let (mut fields, mut more) = (Fields::new(), Fields::new());
        fields.add(Known::AGE, value("1"));
        more.add(Known::VARY, value("2"));
        more.add(Known::FROM, value("3"));
        more.remove(Known::VARY);
        fields.append(&more);
        let mut out = Vec::new();
        assert_eq!((fields.len(), fields.write(&mut out, |_, _| true)), (2, 2));
        assert_eq!(out, b"Age: 1\r\nFrom: 3\r\n");
    }

    #[test]
    fn neighbours_are_written_in_one_piece_and_others_as_they_should_be() {
        let mut fields = Fields::new();
        let head = b"Age: 1\r\nETag:2 \r\nVary: 3\r\nFrom: 4\r\nLink: 5\r\n";
        let place = |at, name_len, gap, plain| Place { at, name_len, gap, value_len: 1, plain };
        assert!(fields.index(Known::AGE, &place(0, 3, 2, true)));
        assert!(fields.index(Known::ETAG, &place(8, 4, 1, false)));
        assert!(fields.index(Known::VARY, &place(17, 4, 2, true)));
        assert!(fields.index(Known::FROM, &place(26, 4, 2, true)));
        assert!(fields.index(Known::LINK, &place(35, 4, 2, true)));
        fields.load(head);
        fields.add(Known::SERVER, value("6"));
        fields.remove(Known::FROM);
        let mut out = b">".to_vec();
        assert_eq!(fields.write(&mut out, |known, _| known != Known::LINK), 4);
        assert_eq!(out, b">Age: 1\r\nETag: 2\r\nVary: 3\r\nServer: 6\r\n");
        assert!(fields.written_max() >= out.len());
    }
}
