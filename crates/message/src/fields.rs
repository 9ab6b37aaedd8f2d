//! Fields: header fields in one flat block; the only file that knows how headers are stored.

use crate::name::{AsName, FieldName, Known};
use std::fmt;
use std::ops::Range;

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
    live: bool,
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

    /// Takes a whole head in one copy; the parser then names what stands where with [`Fields::index`].
    /// Returns the offset of `head` in the block.
    pub fn load(&mut self, head: &[u8]) -> usize {
        let at = self.block.len();
        self.block.extend_from_slice(head);
        at
    }

    /// Declares that a field stands at these ranges of the block. The caller (a parser) has checked that the name is
    /// a token and the value has no CR, LF or NUL. Ranges outside the block, or too long, are refused with `false`.
    pub fn index(&mut self, name: Range<usize>, value: Range<usize>) -> bool {
        let known = self.block.get(name.clone()).map_or(Known::OTHER, Known::find);
        self.index_known(known, name, value)
    }

    /// The same, when the caller has already found which name it is.
    pub fn index_known(&mut self, known: Known, name: Range<usize>, value: Range<usize>) -> bool {
        let (Ok(name_len), Ok(name_at), Ok(value_at), Ok(value_len)) = (
            u16::try_from(name.len()),
            u32::try_from(name.start),
            u32::try_from(value.start),
            u32::try_from(value.len()),
        ) else {
            return false;
        };
        if name.end > self.block.len() || value.end > self.block.len() {
            return false;
        }
        self.entries.push(Entry { name_at, value_at, value_len, name_len, known, live: true });
        true
    }

    /// The first value of `name`.
    pub fn get(&self, name: impl AsName) -> Option<&[u8]> {
        self.live().find(|e| self.is(e, &name)).map(|e| self.value(e))
    }

    /// All values of `name`, in order.
    pub fn get_all<'a>(&'a self, name: impl AsName + 'a) -> impl Iterator<Item = &'a [u8]> + 'a {
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
        let known = name.known();
        let text = name.text().as_bytes();
        let name_at = self.block.len();
        self.block.extend_from_slice(text);
        let value_at = self.block.len();
        self.block.extend_from_slice(value.0);
        // Invariant: a FieldName has at most 256 bytes, and the block is bounded by the header limits.
        let (Ok(name_len), Ok(name_at), Ok(value_at), Ok(value_len)) = (
            u16::try_from(text.len()),
            u32::try_from(name_at),
            u32::try_from(value_at),
            u32::try_from(value.0.len()),
        ) else {
            return;
        };
        self.entries.push(Entry { name_at, value_at, value_len, name_len, known, live: true });
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
        for e in self.entries.iter_mut().filter(|e| e.live) {
            let name = slice(block, e.name_at, u32::from(e.name_len));
            let value = slice(block, e.value_at, e.value_len);
            if !keep(e.known, name, value) {
                e.live = false;
                self.removed += 1;
            }
        }
    }

    /// Every field in order: number, name as written, value.
    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.live().map(|e| (e.known, slice(&self.block, e.name_at, u32::from(e.name_len)), self.value(e)))
    }

    fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|e| e.live)
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
            if e.live && self.is(&e, name) {
                if let Some(e) = self.entries.get_mut(at) {
                    e.live = false;
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
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
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
    fn index_refuses_ranges_outside_the_block() {
        let mut fields = Fields::new();
        let at = fields.load(b"Host: a");
        assert!(fields.index(at..at + 4, at + 6..at + 7));
        assert!(!fields.index(0..4, 6..99));
        assert!(!fields.index(90..99, 0..1));
        assert_eq!(fields.get(Known::HOST), Some(&b"a"[..]));
    }
}
