//! hpack: any blocks are read or refused, and what was read can be written and read again.

use portunus_message::{FieldValue, Known};
use portunus_wire::h2::hpack::{Decoder, Encoder, Field, Pseudo};

const STRING_MAX: usize = 1000;

/// Takes any bytes; panics when a promise is broken. The first byte says how large the table may be; each block stands behind
/// a byte with its length.
pub fn run(data: &[u8]) {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let size = usize::from(choice) * 32;
    let (mut decoder, mut room) = (Decoder::new(size), Vec::new());
    let (mut encoder, mut other) = (Encoder::new(), Decoder::new(4096));
    while let Some((&length, tail)) = rest.split_first() {
        let (block, tail) = tail.split_at(tail.len().min(length.into()));
        rest = tail;
        let mut fields = Vec::new();
        let outcome = decoder.decode(block, &mut room, STRING_MAX, |field| {
            check(&field);
            fields.push((field.name.to_ascii_lowercase(), field.value.to_vec(), field.pseudo));
        });
        assert!(room.len() <= 2 * STRING_MAX + 16);
        // The sizes that the other side's table has had are tried on ours.
        if length & 7 == 0 {
            encoder.resize(usize::from(length) * 16);
            encoder.resize(size);
        }
        check_again(&mut encoder, &mut other, &fields);
        if outcome.is_err() {
            return;
        }
    }
}

/// A field says of itself what is true.
fn check(field: &Field<'_>) {
    assert_eq!(*field, Field::new(field.name, field.value));
    if let Some(value) = field.plain_value() {
        assert_eq!(FieldValue::new(field.value).unwrap().as_bytes(), value.as_bytes());
    }
    assert!(field.name.len() <= STRING_MAX && field.value.len() <= STRING_MAX);
}

/// What one end writes, the other end reads.
fn check_again(encoder: &mut Encoder, decoder: &mut Decoder, fields: &[(Vec<u8>, Vec<u8>, Pseudo)]) {
    let (mut block, mut bytes) = (Vec::new(), 0);
    encoder.begin(&mut block);
    for (name, value, pseudo) in fields {
        match pseudo {
            Pseudo::None | Pseudo::Unknown => encoder.field(Known::find(name), name, value, &mut block),
            _ => encoder.pseudo(*pseudo, value, &mut block),
        }
        bytes += name.len() + value.len();
    }
    assert!(block.len() <= bytes + fields.len() * 8 + 16);
    let (mut left, mut room) = (fields.iter(), Vec::new());
    let outcome = decoder.decode(&block, &mut room, STRING_MAX, |field| {
        check(&field);
        let sent = left.next().map(|(name, value, _)| (&name[..], &value[..]));
        assert_eq!(sent, Some((field.name, field.value)));
    });
    assert_eq!((outcome, left.next()), (Ok(()), None));
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"\x80\x14\x82\x86\x84\x41\x0fwww.example.com\x0c\x82\x86\x84\xbe\x58\x08no-cache\x08\x82\x87\x85\xbf\xbe\xbe\xbf\xbf",
    b"\x80\x11\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x0c\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf\x05\x82\x86\x84\xbf\xbe",
    b"\x80\x0b\x20\x3f\xe1\x1f\x40\x02ab\x02cd\x09\x10\x08password\x01x\x05\xbe\xbe\x7e\x01z",
    b"\x02\x0e\x40\x06nameme\x05value\x04\x7e\x02cd\x02\xbe\xbe",
];

/// Pieces that mean something here.
pub const WORDS: &[&[u8]] = &[
    b"\x20",
    b"\x3f\xe1\x1f",
    b"\x08\xbe\xbf\xc0\xc1",
    b"\x40\x03abc\x03def",
    b"\x7e\x85\xae\xc3\x77\x1a\x4b",
    b"\x5c\x0212",
    b"\x60\x18a=bbbbbbbbbbbbbbbbbbbbbb",
    b"\x00\x04Upper\x01 ",
    b"\x0f\x2f\x01x",
    b"\xff\x80\x00",
    b"\x41\x84\xff\xff\xff\xff",
    b"\x40\x05:path\x01/",
    b"\x40\x09:protocol\x09websocket",
];
