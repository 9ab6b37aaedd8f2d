//! hpack: what a server packs is unpacked by the letter (RFC 7541); it shares nothing with the program's own.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

/// A field.
pub type Field = (String, String);

/// The table that a server's fields may refer to.
pub struct Table {
    entries: VecDeque<Field>,
    /// How large it is.
    size: usize,
    /// How large it may be.
    most: usize,
    /// It was made smaller, and the next block has to say so (RFC 9113 §4.3.1).
    lowered: bool,
}

impl Table {
    /// An empty one.
    pub fn new(size: usize) -> Table {
        Table { entries: VecDeque::new(), size, most: size, lowered: false }
    }

    /// Another size may be used, as the server has confirmed.
    pub fn allow(&mut self, most: usize) {
        self.lowered |= most < self.size;
        self.most = most;
    }

    /// The fields of a block.
    pub fn unpack(&mut self, block: &[u8]) -> Result<Vec<Field>, String> {
        let (mut fields, mut left) = (Vec::new(), block);
        while let Some(&first) = left.first() {
            if self.lowered && first & 0xe0 != 0x20 {
                return Err("the table's size is not told first".to_owned());
            }
            match first {
                0x80.. => fields.push(self.entry(number(&mut left, 7)?)?),
                0x40..0x80 => {
                    let field = self.literal(&mut left, 6)?;
                    self.entries.push_front(field.clone());
                    self.shrink();
                    fields.push(field);
                }
                0x20..0x40 => {
                    if !fields.is_empty() {
                        return Err("a size behind fields".to_owned());
                    }
                    self.size = number(&mut left, 5)?;
                    if self.size > self.most {
                        return Err(format!("{} of {} bytes", self.size, self.most));
                    }
                    self.lowered = false;
                    self.shrink();
                }
                _ => fields.push(self.literal(&mut left, 4)?),
            }
        }
        Ok(fields)
    }

    fn literal(&self, left: &mut &[u8], bits: u32) -> Result<Field, String> {
        let name = match number(left, bits)? {
            0 => text(left)?,
            at => self.entry(at)?.0,
        };
        Ok((name, text(left)?))
    }

    fn entry(&self, at: usize) -> Result<Field, String> {
        let at = at.checked_sub(1).ok_or("place 0")?;
        let known = STATIC.get(at).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        known
            .or_else(|| self.entries.get(at - STATIC.len()).cloned())
            .ok_or_else(|| format!("place {at} of {}", STATIC.len() + self.entries.len()))
    }

    fn shrink(&mut self) {
        let size = |(name, value): &Field| name.len() + value.len() + 32;
        while self.entries.iter().map(size).sum::<usize>() > self.size {
            self.entries.pop_back();
        }
    }
}

fn next(left: &mut &[u8]) -> Result<u8, String> {
    let (first, rest) = left.split_first().ok_or("a block that is cut")?;
    *left = rest;
    Ok(*first)
}

/// A number behind the bits of its first byte (RFC 7541 §5.1).
fn number(left: &mut &[u8], bits: u32) -> Result<usize, String> {
    let most = (1 << bits) - 1;
    let mut number = usize::from(next(left)?) & most;
    if number < most {
        return Ok(number);
    }
    for shift in (0..28).step_by(7) {
        let byte = next(left)?;
        number += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number without an end".to_owned())
}

/// A text, plain or in Huffman's code (RFC 7541 §5.2).
fn text(left: &mut &[u8]) -> Result<String, String> {
    let coded = left.first().is_some_and(|byte| byte & 0x80 != 0);
    let length = number(left, 7)?;
    let (bytes, rest) = left.split_at_checked(length).ok_or("a text that is cut")?;
    *left = rest;
    let bytes = if coded { decode(bytes)? } else { bytes.to_vec() };
    Ok(bytes.into_iter().map(char::from).collect())
}

fn decode(coded: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0, 0);
    for at in 0..coded.len() * 8 {
        (code, length) = (code << 1 | u32::from(coded[at / 8] >> (7 - at % 8) & 1), length + 1);
        if let Some(symbol) = CODES.get(&(length, code)) {
            text.push(u8::try_from(*symbol).map_err(|_| "the end within a text")?);
            (code, length) = (0, 0);
        }
    }
    let padding = length < 8 && code == (1 << length) - 1;
    if padding { Ok(text) } else { Err(format!("{length} bits of padding")) }
}

/// What the codes of each length stand for. They are canonical (RFC 7541, appendix B): those of one length follow on each other, in the
/// order of what they stand for.
static CODES: LazyLock<HashMap<(u8, u32), usize>> = LazyLock::new(|| {
    let (mut codes, mut next) = (HashMap::new(), 0);
    for length in 1..=30 {
        next <<= 1;
        for (symbol, _) in LENGTHS.iter().enumerate().filter(|(_, its)| **its == length) {
            codes.insert((length, next), symbol);
            next += 1;
        }
    }
    codes
});

/// How long the code of each byte is, and of the end.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""),
    ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

#[test]
fn the_examples_of_the_rfc() {
    let mut table = Table::new(256);
    let first = b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff\x6e\x91\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
    let mut wanted = vec![
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    let text = |fields: Vec<Field>| {
        fields.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let same = |wanted: &[(&str, &str)]| {
        wanted.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    assert_eq!(text(table.unpack(first).expect("C.6.1")), same(&wanted));
    wanted[0].1 = "307"; // which drives the first status out
    assert_eq!(text(table.unpack(b"\x48\x83\x64\x0e\xff\xc1\xc0\xbf").expect("C.6.2")), same(&wanted));
    assert_eq!(table.entries.len(), 4);
    assert!(table.unpack(b"\xc2").is_err());
}
