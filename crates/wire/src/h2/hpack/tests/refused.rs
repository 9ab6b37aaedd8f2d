//! refused: blocks that break a rule of RFC 7541, and the size of the table.

use super::{bytes, decoded};
use crate::h2::hpack::{Bad, Decoder, Encoder, Field};
use portunus_message::Known;

fn refused(hex: &str) -> Bad {
    decoded(&mut Decoder::new(4096), &bytes(hex)).unwrap_err()
}

#[test]
fn an_index_has_to_be_of_an_entry() {
    for hex in ["80", "be", "ff 00", "ff ff ff ff 7f", "7f 00 01 61", "0f 80 01 01 61", "1f 7f 01 61"] {
        assert_eq!(refused(hex), Bad::Index, "{hex}");
    }
    // one entry, asked for twice, and then the one behind it
    let mut decoder = Decoder::new(4096);
    assert_eq!(decoded(&mut decoder, &bytes("40 01 61 01 62 be be")).unwrap().len(), 3);
    assert_eq!(decoded(&mut decoder, &bytes("bf")), Err(Bad::Index));
}

#[test]
fn an_integer_is_not_too_long() {
    for start in ["ff", "7f", "3f", "1f", "0f", "40 7f", "40 ff", "41 7f", "41 ff"] {
        for rest in ["80 80 80 80 00", "ff ff ff ff 01", "ff ff ff ff ff ff ff ff ff ff 7f"] {
            assert_eq!(refused(&format!("{start} {rest}")), Bad::Integer, "{start} {rest}");
        }
    }
}

#[test]
fn a_block_does_not_end_inside_of_a_field() {
    for hex in
        ["ff", "ff 80", "40", "40 01", "40 01 61", "40 01 61 02 62", "41", "01 85 aec3", "0f", "10", "3f"]
    {
        assert_eq!(refused(hex), Bad::Truncated, "{hex}");
    }
}

#[test]
fn a_string_is_packed_as_the_rfc_says() {
    for hex in ["41 81 ff", "41 84 ffff ffff", "41 82 1fff", "41 81 18", "40 81 ff 01 61"] {
        assert_eq!(refused(hex), Bad::Huffman, "{hex}");
    }
    assert_eq!(decoded(&mut Decoder::new(4096), &bytes("41 80")).unwrap()[0].1, b"");
}

#[test]
fn a_string_is_not_longer_than_the_caller_takes() {
    let take = |hex: &str, most: usize| {
        Decoder::new(4096).decode(&bytes(hex), &mut Vec::new(), most, |_| ()).unwrap_err()
    };
    assert_eq!(take("41 03 616161", 2), Bad::TooLong);
    assert_eq!(take("41 82 18c7", 2), Bad::TooLong);
    assert_eq!(take("40 03 616161 01 61", 2), Bad::TooLong);
    assert_eq!(Decoder::new(4096).decode(&bytes("41 82 18c7"), &mut Vec::new(), 3, |_| ()), Ok(()));
}

#[test]
fn the_table_is_resized_only_at_the_beginning_and_within_what_is_allowed() {
    let read = |hex: &str| decoded(&mut Decoder::new(4096), &bytes(hex)).map(|fields| fields.len());
    assert_eq!(read("20"), Ok(0));
    assert_eq!(read("20 82"), Ok(1));
    assert_eq!(read("20 3fe1 1f 82"), Ok(1));
    assert_eq!(read("3fe2 1f"), Err(Bad::TableSize));
    assert_eq!(read("20 3fe2 1f 82"), Err(Bad::TableSize));
    for hex in ["82 20", "82 3fe1 1f", "40 01 61 01 62 20", "00 01 61 01 62 3f 80"] {
        assert_eq!(read(hex), Err(Bad::TableSize), "{hex}");
    }
}

#[test]
fn a_smaller_table_lets_entries_go_for_good() {
    let mut decoder = Decoder::new(4096);
    assert_eq!(decoded(&mut decoder, &bytes("40 01 61 01 62 40 01 63 01 64")).unwrap().len(), 2);
    // room for one of the two, and then for many
    assert_eq!(decoded(&mut decoder, &bytes("3f03 3fe1 1f be")).unwrap(), [(b"c".to_vec(), b"d".to_vec())]);
    assert_eq!(decoded(&mut decoder, &bytes("bf")), Err(Bad::Index));
    let mut decoder = Decoder::new(4096);
    assert_eq!(decoded(&mut decoder, &bytes("40 01 61 01 62 be")).unwrap().len(), 2);
    assert_eq!(decoded(&mut decoder, &bytes("20 3fe1 1f be")), Err(Bad::Index));
    // nothing is added to a table without room
    assert_eq!(decoded(&mut Decoder::new(0), &bytes("40 01 61 01 62 be")), Err(Bad::Index));
}

#[test]
fn what_is_larger_than_the_table_is_read_and_empties_it() {
    let mut decoder = Decoder::new(64);
    assert_eq!(decoded(&mut decoder, &bytes("40 01 61 01 62 be")).unwrap().len(), 2);
    let large = [&bytes("40 01 61 20")[..], &[b'x'; 32]].concat();
    assert_eq!(decoded(&mut decoder, &large).unwrap()[0].1, [b'x'; 32]);
    assert_eq!(decoded(&mut decoder, &bytes("be")), Err(Bad::Index));
}

#[test]
fn a_name_may_be_of_the_entry_that_goes_for_it() {
    let mut decoder = Decoder::new(44);
    assert_eq!(decoded(&mut decoder, &bytes("40 06 6e616d656d65 01 62")).unwrap().len(), 1);
    let fields = decoded(&mut decoder, &bytes("7e 02 6364 be")).unwrap();
    assert_eq!(fields, vec![(b"nameme".to_vec(), b"cd".to_vec()); 2]);
}

#[test]
fn every_prefix_of_a_block_is_read_or_refused() {
    let (mut encoder, mut block) = (Encoder::new(), Vec::new());
    encoder.resize(100);
    encoder.resize(4000);
    encoder.begin(&mut block);
    encoder.status(503, &mut block);
    for (name, value) in
        [("Server", "some"), ("x-other", "thing"), ("date", "Mon, 21 Oct 2013 20:13:21 GMT"), ("age", "9")]
    {
        encoder.field(Known::find(name.as_bytes()), name.as_bytes(), value.as_bytes(), &mut block);
        encoder.field(Known::find(name.as_bytes()), name.as_bytes(), value.as_bytes(), &mut block);
    }
    let whole = decoded(&mut Decoder::new(4096), &block).unwrap();
    for end in 0..block.len() {
        let mut seen = 0;
        let count = |field: Field<'_>| {
            assert_eq!((field.name, field.value), (&whole[seen].0[..], &whole[seen].1[..]));
            seen += 1;
        };
        let outcome = Decoder::new(4096).decode(&block[..end], &mut Vec::new(), 100, count);
        assert!(matches!(outcome, Ok(()) | Err(Bad::Truncated)), "{end}: {outcome:?}");
    }
}

#[test]
fn a_name_and_a_value_are_looked_at_when_they_are_spelled() {
    let is = |name: &[u8], value: &[u8]| {
        let field = Field::new(name, value);
        assert_eq!(field.plain_value().is_some(), field.is_value && name.first() != Some(&b':'));
        (field.is_name, field.is_value)
    };
    for name in [&b"a"[..], b"x-a_b.c", b":path", b":status", b"1"] {
        assert_eq!(is(name, b"a"), (true, true));
    }
    for name in [&b""[..], b"A", b"x-A", b":Path", b":other", b":", b"a b", b"a:", b"a\0", b"\xe4"] {
        assert_eq!(is(name, b"a"), (false, true));
    }
    for value in [&b""[..], b"a b", b"a\tb", b"\xff"] {
        assert_eq!(is(b"a", value), (true, true));
    }
    for value in [&b" a"[..], b"a ", b"\t", b"a\r", b"\n", b"a\0b", b"\x7f"] {
        assert_eq!(is(b"a", value), (true, false));
        assert_eq!(is(b":path", value), (true, false));
    }
    assert_eq!(is(b":path", b"/a b"), (true, false));
    for byte in 0..=255u8 {
        for length in [1, 5, 15, 16, 17, 40] {
            let value = [&vec![b'a'; length][..], &[byte], &vec![b'z'; length][..]].concat();
            assert_eq!(is(b"a", &value).1, portunus_message::FieldValue::new(&value).is_some(), "{byte}");
            assert_eq!(is(b":path", &value).1, byte > b' ' && byte != 0x7f, "{byte}");
        }
    }
    // they stay true where the name, or both, come from the table
    let mut seen = Vec::new();
    let block = bytes("40 01 41 01 62 7e 01 20 be bf 0f2f 01 20 0f2f 01 61 04 01 20 44 01 0a be");
    let note = |field: Field<'_>| seen.push((field.is_name, field.is_value));
    assert_eq!(Decoder::new(4096).decode(&block, &mut Vec::new(), 100, note), Ok(()));
    let (wrong, right) = ((false, false), (false, true));
    let path = (true, false);
    assert_eq!(seen, [right, wrong, wrong, right, wrong, right, path, path, path]);
}
