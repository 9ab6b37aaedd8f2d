//! hpack: fields as HTTP/2 compresses them (RFC 7541); each direction of a connection has a table that both ends keep alike.

mod custom;
mod decode;
mod encode;
mod huffman;
mod statics;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use decode::Decoder;
pub use encode::Encoder;

use portunus_message::name::is_token_byte;
use portunus_message::{FieldValue, Known};

/// One field as it stands in a block. Lent for the call. What is known of its name and its value was found when they were
/// spelled out; it costs nothing where they come as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name's number, or `OTHER`.
    pub known: Known,
    /// Its name, as the peer wrote it.
    pub name: &'a [u8],
    /// Its value, as the peer wrote it.
    pub value: &'a [u8],
    /// Which pseudo-header it is.
    pub pseudo: Pseudo,
    /// Whether its name is a pseudo-header that exists, or a token in lower case (RFC 9113 §8.2, §8.2.1).
    pub is_name: bool,
    /// Whether its value may stand where it stands: for a pseudo-header, no control byte and no white space at all;
    /// otherwise no control byte but tab, and no white space at its ends (§8.2.1).
    pub is_value: bool,
}

impl<'a> Field<'a> {
    /// Looks at every byte.
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Field<'a> {
        let pseudo = Pseudo::find(name);
        let is_token = || name.iter().all(|&byte| is_token_byte(byte) && !byte.is_ascii_uppercase());
        let is_name = match pseudo {
            Pseudo::None => !name.is_empty() && is_token(),
            Pseudo::Unknown => false,
            _ => true,
        };
        Field { known: Known::find(name), name, value, pseudo, is_name, is_value: pseudo.takes(value) }
    }

    /// Its value as one that may stand in a message, if it `is_value` and it is no pseudo-header.
    #[inline]
    pub fn plain_value(&self) -> Option<FieldValue<'a>> {
        (self.is_value && self.pseudo == Pseudo::None).then(|| FieldValue::proven(self.value))
    }
}

/// Which pseudo-header a name is (RFC 9113 §8.3, RFC 8441), found once when an entry is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Pseudo {
    None,
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    /// It begins with a colon and is none of these.
    Unknown,
}

impl Pseudo {
    /// Which one `name` is. Letter case counts: a name has to be in lower case.
    #[inline]
    pub fn find(name: &[u8]) -> Pseudo {
        if name.first() != Some(&b':') {
            return Pseudo::None;
        }
        match name {
            b":method" => Pseudo::Method,
            b":scheme" => Pseudo::Scheme,
            b":authority" => Pseudo::Authority,
            b":path" => Pseudo::Path,
            b":protocol" => Pseudo::Protocol,
            b":status" => Pseudo::Status,
            _ => Pseudo::Unknown,
        }
    }

    /// Whether `value` may stand behind such a name, see [`Field::is_value`].
    fn takes(self, value: &[u8]) -> bool {
        if self != Pseudo::None {
            return !words::any(value, words::blank);
        }
        let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        !words::any(value, words::control) && !is_blank(value.first()) && !is_blank(value.last())
    }
}

/// What is wrong with a block of fields. The connection ends with COMPRESSION_ERROR (RFC 9113 §4.3), because from here on
/// the two tables may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It ends inside of a field.
    Truncated,
    /// An index is 0, or beyond what the tables hold (RFC 7541 §2.3.3).
    Index,
    /// An integer is larger than anything here can be, or longer than it had to be (§5.1).
    Integer,
    /// A string holds the end-of-string symbol, or its padding is not at most seven ones (§5.2).
    Huffman,
    /// The table is made larger than we allow, or is resized behind a field (§4.2, §6.3).
    TableSize,
    /// A name or a value is longer than the caller takes.
    TooLong,
}

/// What an entry costs besides its name and its value (§4.1).
const ENTRY_BYTES: usize = 32;

/// The table that both ends begin with, before any SETTINGS (RFC 9113 §6.5.2); and the largest that an [`Encoder`] keeps.
const TABLE_BYTES: usize = 4096;
