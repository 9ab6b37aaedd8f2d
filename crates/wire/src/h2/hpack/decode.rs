//! decode: a block of fields is read (RFC 7541 §3, §6), strictly; what comes as an index is lent out of the tables.

use super::statics::{FIELDS, STATICS};
use super::table::Table;
use super::{Bad, Field, TABLE_BYTES, huffman};
use std::ops::Range;

/// Reads the blocks of one connection, in the order in which they came.
pub struct Decoder {
    table: Table<()>,
    /// What our SETTINGS allow the peer to make of the table.
    allowed: usize,
}

impl Decoder {
    /// `table`: the size that our SETTINGS_HEADER_TABLE_SIZE allows. Takes no memory before a field is added.
    pub const fn new(table: usize) -> Decoder {
        // Without an update of the peer's it has the size that all begin with.
        let size = if table < TABLE_BYTES { table } else { TABLE_BYTES };
        Decoder { table: Table::new(size), allowed: table }
    }

    /// Reads one whole block. Every field is handed to `field` in order. `room` is scratch space, for the strings that come
    /// packed; a name or a value that is longer than `string_max`, packed or not, is [`Bad::TooLong`].
    ///
    /// Behind an error the decoder is of no use any more.
    #[inline]
    pub fn decode(
        &mut self,
        block: &[u8],
        room: &mut Vec<u8>,
        string_max: usize,
        mut field: impl FnMut(Field<'_>),
    ) -> Result<(), Bad> {
        let mut rest = block;
        while let Some((&first, tail)) = rest.split_first()
            && first & 0xe0 == 0x20
        {
            rest = tail;
            self.resize(first, &mut rest)?;
        }
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first & 0x80 != 0 {
                let index = integer(first, 7, &mut rest)?;
                field(look(&self.table, index)?);
            } else {
                field(self.literal(first, &mut rest, room, string_max)?);
            }
        }
        Ok(())
    }

    fn resize(&mut self, first: u8, rest: &mut &[u8]) -> Result<(), Bad> {
        let size = integer(first, 5, rest)?;
        if size > self.allowed {
            return Err(Bad::TableSize);
        }
        self.table.resize(size);
        Ok(())
    }

    /// A field that is spelled out, at least its value (§6.2).
    #[inline]
    fn literal<'a, 'b: 'a>(
        &'a mut self,
        first: u8,
        rest: &mut &'b [u8],
        room: &'a mut Vec<u8>,
        string_max: usize,
    ) -> Result<Field<'a>, Bad> {
        let adds = first & 0x40 != 0;
        if !adds && first & 0x20 != 0 {
            return Err(Bad::TableSize);
        }
        let index = integer(first, if adds { 6 } else { 4 }, rest)?;
        room.clear();
        if !adds && index != 0 {
            let value = string(rest, room, string_max)?.of(room);
            let named = look(&self.table, index)?;
            return Ok(Field { value, is_value: named.pseudo.takes(value), ..named });
        }
        self.spelled(index, adds, rest, room, string_max)
    }

    /// The same where the name is spelled out too, or the field is added.
    #[inline(never)]
    fn spelled<'a, 'b: 'a>(
        &'a mut self,
        index: usize,
        adds: bool,
        rest: &mut &'b [u8],
        room: &'a mut Vec<u8>,
        string_max: usize,
    ) -> Result<Field<'a>, Bad> {
        let (name, named) = if index == 0 {
            (string(rest, room, string_max)?, None)
        } else {
            // The entry whose name it takes may have to go for it (§4.4): the name is copied before.
            let named = look(&self.table, index)?;
            room.extend_from_slice(named.name);
            (Text::Room(0..room.len()), Some((named.known, named.pseudo, named.is_name)))
        };
        let value = string(rest, room, string_max)?.of(room);
        let name = name.of(room);
        let field = match named {
            Some((known, pseudo, is_name)) => {
                Field { known, name, value, pseudo, is_name, is_value: pseudo.takes(value) }
            }
            None => Field::new(name, value),
        };
        if adds {
            self.table.insert(field, ());
        }
        Ok(field)
    }
}

/// The field that has this index (§2.3.3).
#[inline]
fn look(table: &Table<()>, index: usize) -> Result<Field<'_>, Bad> {
    if let Some(field) = FIELDS.get(index.wrapping_sub(1)) {
        return Ok(*field);
    }
    // 0 is no index: it becomes an age that nothing has.
    table.get(index.wrapping_sub(STATICS + 1)).ok_or(Bad::Index)
}

/// An integer (§5.1) that begins in the low `bits` of `first`.
#[inline]
fn integer(first: u8, bits: u32, rest: &mut &[u8]) -> Result<usize, Bad> {
    let most = 0xff >> (8 - bits);
    let start = first & most;
    if start < most { Ok(usize::from(start)) } else { long_integer(start, rest) }
}

fn long_integer(start: u8, rest: &mut &[u8]) -> Result<usize, Bad> {
    let mut value = usize::from(start);
    for nth in 0..INTEGER_BYTES_MAX {
        let (&byte, tail) = rest.split_first().ok_or(Bad::Truncated)?;
        *rest = tail;
        value += usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Bad::Integer)
}

/// Where a string stands.
enum Text<'b> {
    Block(&'b [u8]),
    Room(Range<usize>),
}

impl<'b> Text<'b> {
    #[inline]
    fn of<'a>(self, room: &'a [u8]) -> &'a [u8]
    where
        'b: 'a,
    {
        match self {
            Text::Block(text) => text,
            Text::Room(range) => room.get(range).unwrap_or(&[]),
        }
    }
}

/// A string (§5.2); one that is packed is unpacked to the end of `room`.
#[inline]
fn string<'b>(rest: &mut &'b [u8], room: &mut Vec<u8>, bytes_max: usize) -> Result<Text<'b>, Bad> {
    let (&first, tail) = rest.split_first().ok_or(Bad::Truncated)?;
    *rest = tail;
    let length = integer(first, 7, rest)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(Bad::Truncated)?;
    *rest = tail;
    if first & 0x80 != 0 {
        let start = room.len();
        huffman::unpack(text, room, bytes_max)?;
        return Ok(Text::Room(start..room.len()));
    }
    if text.len() > bytes_max { Err(Bad::TooLong) } else { Ok(Text::Block(text)) }
}

/// An integer has at most so many bytes behind its first one: enough for 2^28, more than any block or table has.
const INTEGER_BYTES_MAX: u32 = 4;
