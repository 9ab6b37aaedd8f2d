//! table: the dynamic table of one direction (RFC 7541 §2.3.2, §4): entries in a ring, their bytes in one piece of memory.

use super::{ENTRY_BYTES, Field, Pseudo};
use portunus_message::Known;

/// Entries are numbered as they come; number 0 is nobody's. `M` is what its owner notes of each. Takes no memory before the
/// first entry.
pub(super) struct Table<M> {
    /// Name and value of each entry, in order. Those of entries that are gone may still stand at its beginning.
    bytes: Vec<u8>,
    /// Where `bytes` begins, counted from the first byte that ever came.
    base: u32,
    /// As many as a power of two, or none; an entry stands where its number says.
    entries: Vec<Entry<M>>,
    /// The number of the entry that comes next.
    next: u32,
    count: u32,
    /// What all entries cost (§4.1).
    size: usize,
    size_max: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Entry<M> {
    at: u32,
    name_bytes: u32,
    value_bytes: u32,
    known: Known,
    pseudo: Pseudo,
    is_name: bool,
    is_value: bool,
    /// Its owner's.
    pub(super) mark: M,
}

impl<M: Copy> Table<M> {
    pub(super) const fn new(size_max: usize) -> Table<M> {
        Table { bytes: Vec::new(), base: 0, entries: Vec::new(), next: 1, count: 0, size: 0, size_max }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// The number of the entry that comes next.
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// How many entries came after number `number`; `None` if it is gone. Numbers are given again after a very long time.
    #[inline]
    pub(super) fn age(&self, number: u32) -> Option<u32> {
        let age = self.next.wrapping_sub(number).wrapping_sub(1);
        (age < self.count).then_some(age)
    }

    /// The field of this age; 0 is the newest.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<Field<'_>> {
        if age >= self.count as usize {
            return None;
        }
        let entry = self.entry(self.next.wrapping_sub(age as u32).wrapping_sub(1))?;
        let bytes = self.bytes_of(entry)?;
        let (name, value) = bytes.split_at_checked(entry.name_bytes as usize)?;
        let Entry { known, pseudo, is_name, is_value, .. } = *entry;
        Some(Field { known, name, value, pseudo, is_name, is_value })
    }

    /// The entry with this number, if it is still there; otherwise another one, or none.
    #[inline]
    pub(super) fn entry(&self, number: u32) -> Option<&Entry<M>> {
        self.entries.get(number as usize & self.entries.len().wrapping_sub(1))
    }

    /// The same, to change its mark.
    pub(super) fn mark(&mut self, number: u32) -> Option<&mut M> {
        let mask = self.entries.len().wrapping_sub(1);
        self.entries.get_mut(number as usize & mask).map(|entry| &mut entry.mark)
    }

    /// The name of an entry that is still there.
    #[inline]
    pub(super) fn name(&self, entry: &Entry<M>) -> &[u8] {
        let at = entry.at.wrapping_sub(self.base) as usize;
        self.bytes.get(at..at.wrapping_add(entry.name_bytes as usize)).unwrap_or(&[])
    }

    /// The value of an entry that is still there.
    #[inline]
    pub(super) fn value(&self, entry: &Entry<M>) -> &[u8] {
        let at = entry.at.wrapping_sub(self.base) as usize + entry.name_bytes as usize;
        self.bytes.get(at..at.wrapping_add(entry.value_bytes as usize)).unwrap_or(&[])
    }

    #[inline]
    fn bytes_of(&self, entry: &Entry<M>) -> Option<&[u8]> {
        let at = entry.at.wrapping_sub(self.base) as usize;
        let bytes = entry.name_bytes as usize + entry.value_bytes as usize;
        self.bytes.get(at..at.wrapping_add(bytes))
    }

    /// Another bound; entries go until it is kept (§4.3).
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.shrink(size_max);
    }

    /// Adds a field as the newest; old ones go for it. When it is larger than the table, all go, and it is not added
    /// (§4.4).
    pub(super) fn insert(&mut self, field: Field<'_>, mark: M) -> bool {
        let Field { known, name, value, pseudo, is_name, is_value } = field;
        let bytes = name.len().saturating_add(value.len());
        let cost = bytes.saturating_add(ENTRY_BYTES);
        let Some(left) = self.size_max.checked_sub(cost) else {
            self.shrink(0);
            return false;
        };
        let (Ok(name_bytes), Ok(value_bytes)) = (u32::try_from(name.len()), u32::try_from(value.len()))
        else {
            self.shrink(0);
            return false;
        };
        self.shrink(left);
        self.make_room(bytes);
        let at = self.base.wrapping_add(self.bytes.len() as u32);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.put(Entry { at, name_bytes, value_bytes, known, pseudo, is_name, is_value, mark });
        self.next = self.next.wrapping_add(1);
        self.count += 1;
        self.size += cost;
        true
    }

    /// The newest entry's name, to be changed in place.
    pub(super) fn newest_name(&mut self) -> &mut [u8] {
        let newest = self.entry(self.next.wrapping_sub(1)).filter(|_| self.count > 0);
        let place = newest.map(|e| (e.at.wrapping_sub(self.base) as usize, e.name_bytes as usize));
        let (at, length) = place.unwrap_or((0, 0));
        self.bytes.get_mut(at..at.saturating_add(length)).unwrap_or(&mut [])
    }

    fn put(&mut self, entry: Entry<M>) {
        if self.count as usize >= self.entries.len() {
            let mut entries = vec![entry; (self.entries.len() * 2).max(ENTRIES_MIN)];
            let mask = entries.len() - 1;
            for number in (1..=self.count).map(|age| self.next.wrapping_sub(age)) {
                if let (Some(slot), Some(entry)) =
                    (entries.get_mut(number as usize & mask), self.entry(number))
                {
                    *slot = *entry;
                }
            }
            self.entries = entries;
        }
        let mask = self.entries.len() - 1;
        if let Some(slot) = self.entries.get_mut(self.next as usize & mask) {
            *slot = entry;
        }
    }

    /// The oldest go until no more than `size` is left.
    fn shrink(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.oldest()
        {
            let cost = entry.name_bytes as usize + entry.value_bytes as usize + ENTRY_BYTES;
            self.size = self.size.saturating_sub(cost);
            self.count -= 1;
        }
        if self.count == 0 {
            self.bytes.clear();
        }
    }

    fn oldest(&self) -> Option<&Entry<M>> {
        self.entry(self.next.wrapping_sub(self.count)).filter(|_| self.count > 0)
    }

    /// Makes it so that `more` bytes can be appended. What is gone is moved over when that frees a good part, or when
    /// there would be more memory than the table may be large: then what is left is less than that.
    fn make_room(&mut self, more: usize) {
        let end = self.bytes.len().saturating_add(more);
        if end <= self.bytes.capacity() {
            return;
        }
        let gone = self.oldest().map_or(0, |oldest| oldest.at.wrapping_sub(self.base) as usize);
        if gone > 0 && (gone >= self.bytes.len() / 4 || end > self.size_max) {
            self.bytes.drain(..gone.min(self.bytes.len()));
            self.base = self.base.wrapping_add(gone as u32);
        }
        let end = self.bytes.len().saturating_add(more);
        if end > self.bytes.capacity() {
            let bytes = end.next_power_of_two().max(BYTES_MIN);
            self.bytes.reserve_exact(bytes - self.bytes.len());
        }
    }
}

const BYTES_MIN: usize = 256;
const ENTRIES_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(name: &'a [u8], value: &'a [u8]) -> Field<'a> {
        Field::new(name, value)
    }

    fn values(table: &Table<()>) -> Vec<Vec<u8>> {
        (0..table.count as usize).map(|age| table.get(age).unwrap().value.to_vec()).collect()
    }

    #[test]
    fn the_oldest_go_first() {
        let mut table = Table::<()>::new(3 * (32 + 2));
        for value in [b"1", b"2", b"3", b"4"] {
            assert!(table.insert(field(b"a", value), ()));
        }
        assert_eq!(values(&table), [b"4", b"3", b"2"]);
        assert_eq!(table.get(3), None);
        assert!(table.insert(field(b"a", b"long"), ()));
        assert_eq!(values(&table), [&b"long"[..], b"4"]);
        table.resize(36);
        assert!(values(&table).is_empty());
    }

    #[test]
    fn what_is_larger_than_the_table_empties_it() {
        let mut table = Table::<()>::new(100);
        assert!(table.insert(field(b"a", &[b'x'; 67]), ()));
        assert!(!table.insert(field(b"a", &[b'x'; 68]), ()));
        assert_eq!((table.count, table.size), (0, 0));
        assert!(table.insert(field(b"a", b"b"), ()));
        assert_eq!(values(&table), [b"b"]);
    }

    #[test]
    fn it_is_a_queue_however_long_it_lives_and_takes_little() {
        let mut table = Table::<()>::new(4096);
        table.next = u32::MAX - 5000; // so that numbers and places wrap
        table.base = u32::MAX - 100_000;
        let mut queue = std::collections::VecDeque::new();
        let (mut size, mut seed) = (0, 7u32);
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let length =
                (seed >> 24) as usize * usize::from(seed >> 20 & 7 == 0) + (seed >> 16 & 15) as usize;
            let value = vec![seed as u8; length];
            assert!(table.insert(field(b"name", &value), ()));
            size += 36 + length;
            queue.push_front(value);
            while size > 4096 {
                size -= 36 + queue.pop_back().unwrap().len();
            }
            assert_eq!(table.size, size);
            assert_eq!(table.count as usize, queue.len());
            assert_eq!(table.get(0).unwrap().value, queue[0]);
            assert_eq!(table.get(table.count as usize - 1).unwrap().value, *queue.back().unwrap());
        }
        assert!(queue.iter().eq(&values(&table)));
        assert!(table.bytes.capacity() <= 4096, "{}", table.bytes.capacity());
        assert!(table.entries.len() <= 128);
    }
}
