//! hpack: fields as they are packed, and blocks that cannot be unpacked (RFC 7541).

use portunus_tests::H2;
use portunus_tests::h2::{code::*, flag::*, kind::*};
use portunus_tests::h2_rules::{Court, Rule};

/// GET http://example.com/ with nothing put into the table.
const GET: &[u8] = b"\x82\x86\x84\x01\x0bexample.com";

/// Asks with these bytes behind those of a GET.
fn get(c: &mut H2, more: impl AsRef<[u8]>) -> u32 {
    let stream = c.stream();
    c.frame(HEADERS, WHOLE, stream, [GET, more.as_ref()].concat());
    stream
}

/// The origin is asked with these fields.
#[track_caller]
fn says(c: &mut H2, more: impl AsRef<[u8]>, fields: &str) {
    let stream = get(c, more);
    c.expect_text(stream, &format!("GET / 0{fields}"));
}

/// This is no block.
#[track_caller]
fn fails(c: &mut H2, more: impl AsRef<[u8]>) {
    get(c, more);
    c.expect_goaway(&[COMPRESSION_ERROR]);
}

/// A literal that is put into the table.
fn kept(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0x40];
    for text in [name, value] {
        let length = text.len();
        match length {
            0..127 => bytes.push(length as u8),
            _ => bytes.extend([127, (length - 127) as u8 & 0x7f | 0x80, ((length - 127) >> 7) as u8]),
        }
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[test]
fn representations() {
    Court::new().keeps(&[
        ("6.1: indexed", |c| says(c, b"\x90\x90", "")), // accept-encoding, twice
        ("6.2.1: put into the table, with a new name", |c| {
            says(c, b"\x40\x0acustom-key\x0ccustom-value", " custom-key=custom-value");
            says(c, b"\xbe", " custom-key=custom-value");
        }),
        ("6.2.1: put into the table, with a name that is there", |c| {
            says(c, b"\x60\x03a=b", " cookie=a=b");
            says(c, b"\xbe", " cookie=a=b");
            says(c, b"\x7e\x03c=d\xbf\xbe", " cookie=c=d; a=b; c=d"); // by its place in the dynamic table
        }),
        ("6.2.2: not put into the table", |c| {
            says(c, b"\x00\x0acustom-key\x0ccustom-value", " custom-key=custom-value");
            says(c, b"\x0f\x11\x03a=b", " cookie=a=b");
            fails(c, b"\xbe");
        }),
        ("6.2.3: never put into any table", |c| {
            says(c, b"\x10\x0acustom-key\x0ccustom-value", " custom-key=custom-value");
            says(c, b"\x1f\x11\x03a=b", " cookie=a=b");
            fails(c, b"\xbe");
        }),
        ("5.2: Huffman's code", |c| {
            let (name, value) = (b"\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", b"\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf");
            says(c, [&[0][..], name, value].concat(), " custom-key=custom-value");
            says(c, [&[0x10][..], name, value].concat(), " custom-key=custom-value");
            says(c, [&[0x40][..], name, value].concat(), " custom-key=custom-value");
            says(c, b"\xbe", " custom-key=custom-value");
        }),
        ("5.2: Huffman's code of nothing", |c| says(c, b"\x00\x03x-a\x80", " x-a=")),
        ("5.1: numbers of several bytes, with zeros in front", |c| {
            let value = "v".repeat(300);
            says(c, [b"\x00\x03x-a\x7f\xad\x01", value.as_bytes()].concat(), &format!(" x-a={value}"));
            says(c, b"\x0f\x91\x00\x03a=b", " cookie=a=b");
        }),
        ("C.3: three requests of a browser", |c| {
            for (block, text) in [
                (&b"\x82\x86\x84\x41\x0fwww.example.com"[..], "GET / 0"),
                (b"\x82\x86\x84\xbe\x58\x08no-cache", "GET / 0"),
                (b"\x82\x86\x85\xbf\x40\x0acustom-key\x0ccustom-value", "GET /index.html 0 custom-key=custom-value"),
            ] {
                let stream = c.stream();
                c.frame(HEADERS, WHOLE, stream, block);
                c.expect_text(stream, text);
            }
        }),
        ("C.4: the same in Huffman's code", |c| {
            for (block, text) in [
                (&b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "GET / 0"),
                (b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf", "GET / 0"),
                (
                    b"\x82\x86\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
                    "GET /index.html 0 custom-key=custom-value",
                ),
            ] {
                let stream = c.stream();
                c.frame(HEADERS, WHOLE, stream, block);
                c.expect_text(stream, text);
            }
        }),
    ]);
}

#[test]
fn the_table() {
    Court::new().keeps(&[
        ("2.3.2: the newest comes first", |c| {
            says(c, [kept("x-a", "1"), kept("x-a", "2"), kept("x-a", "3")].concat(), " x-a=1 x-a=2 x-a=3");
            says(c, b"\xbe\xbf\xc0", " x-a=3 x-a=2 x-a=1");
        }),
        ("4.4: the oldest goes", |c| {
            // Three of 1,500 bytes; there is room for two.
            let (one, two, three) = ("1".repeat(1465), "2".repeat(1465), "3".repeat(1465));
            for value in [&one, &two, &three] {
                says(c, kept("x-a", value), &format!(" x-a={value}"));
            }
            says(c, b"\xbe", &format!(" x-a={three}"));
            says(c, b"\xbf", &format!(" x-a={two}"));
            fails(c, b"\xc0");
        }),
        ("4.1: an entry counts 32 bytes more; 4,096 are full", |c| {
            let value = "v".repeat(4096 - 32 - 3);
            says(c, kept("x-a", &value), &format!(" x-a={value}"));
            says(c, b"\xbe", &format!(" x-a={value}"));
            says(c, kept("x-a", "b"), " x-a=b");
            says(c, b"\xbe", " x-a=b");
            fails(c, b"\xbf");
        }),
        ("4.4: what is larger than the table empties it", |c| {
            says(c, kept("x-a", "b"), " x-a=b");
            let value = "v".repeat(4096 - 32 - 2);
            says(c, kept("x-a", &value), &format!(" x-a={value}"));
            fails(c, b"\xbe");
        }),
        ("4.4: an entry may be named by one that it drives out", |c| {
            let value = "v".repeat(4096 - 32 - 3);
            says(c, kept("x-a", &value), &format!(" x-a={value}"));
            says(c, b"\x7e\x01b", " x-a=b");
            says(c, b"\xbe", " x-a=b");
        }),
        ("6.3: its size may be changed in front of the fields", |c| {
            says(c, kept("x-a", "b"), " x-a=b");
            let stream = c.stream();
            c.frame(HEADERS, WHOLE, stream, [b"\x20\x3f\xe1\x1f", GET, &kept("x-a", "c")].concat()); // 0, then 4,096
            c.expect_text(stream, "GET / 0 x-a=c");
            says(c, b"\xbe", " x-a=c");
            fails(c, b"\xbf");
        }),
        ("6.3: a smaller table holds less", |c| {
            let stream = c.stream();
            c.frame(
                HEADERS,
                WHOLE,
                stream,
                [b"\x3f\x29", GET, &kept("x-a", "1"), &kept("x-a", "2")].concat(),
            ); // 72
            c.expect_text(stream, "GET / 0 x-a=1 x-a=2");
            says(c, b"\xbe\xbf", " x-a=2 x-a=1");
            says(c, kept("x-a", "3"), " x-a=3");
            says(c, b"\xbe\xbf", " x-a=3 x-a=2");
            fails(c, b"\xc0");
        }),
        ("6.3: no table", |c| {
            let stream = c.stream();
            c.frame(HEADERS, WHOLE, stream, [b"\x20", GET, &kept("x-a", "1")].concat());
            c.expect_text(stream, "GET / 0 x-a=1");
            fails(c, b"\xbe");
        }),
    ]);
}

#[test]
fn blocks_that_are_none() {
    let rules: &[Rule] = &[
        ("2.3.3: a place behind the end of the table", |c| fails(c, b"\xbe")),
        ("2.3.3: a place far behind it", |c| fails(c, b"\xff\xff\x7f")),
        ("2.3.3: a literal's name there", |c| fails(c, b"\x7f\x00\x01b")),
        ("2.3.3: a literal's name there, not put into the table", |c| fails(c, b"\x0f\xff\x7f\x01b")),
        ("6.1: place 0", |c| fails(c, b"\x80")),
        ("4.2: a change of size behind a field", |c| fails(c, b"\x20")),
        ("4.2: a change of size between fields", |c| fails(c, b"\x20\x00\x03x-a\x01b")),
        ("6.3: more than we have said", |c| {
            c.frame(HEADERS, WHOLE, 1, [b"\x3f\xe2\x1f", GET].concat()); // 4,097
            c.expect_goaway(&[COMPRESSION_ERROR]);
        }),
        ("5.2: more than 7 bits of padding", |c| fails(c, b"\x00\x03x-a\x84\x49\x50\x9f\xff")),
        ("5.2: a whole byte of padding", |c| fails(c, b"\x00\x03x-a\x81\xff")),
        ("5.2: padding that is not of ones", |c| fails(c, b"\x00\x03x-a\x83\x49\x50\x90")),
        ("5.2: padding of zeros", |c| fails(c, b"\x00\x03x-a\x81\x00")),
        ("5.2: the end of text within it", |c| fails(c, b"\x00\x03x-a\x87\x49\x51\xff\xff\xff\xfa\x7f")),
        ("5.2: in a name", |c| fails(c, b"\x00\x86\xf2\xb2\x4a\x84\xff\xff\x01b")),
        ("5.1: a number without an end", |c| {
            fails(c, b"\x00\x03x-a\x7f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")
        }),
        ("5.1: a number that is too large", |c| {
            fails(c, b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01b")
        }),
        ("5.1: a place that is too large", |c| fails(c, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
        ("5.1: a number that is cut", |c| fails(c, b"\x00\x03x-a\x7f\x80")),
        ("6.1: a place that is cut", |c| fails(c, b"\xff\x80")),
        ("5.2: a text that is cut", |c| fails(c, b"\x00\x03x-a\x05four")),
        ("5.2: a coded text that is cut", |c| fails(c, b"\x00\x03x-a\x89\x25\xa8")),
        ("6.2: a name without a value", |c| fails(c, b"\x00\x03x-a")),
        ("6.2: a kind of field alone", |c| fails(c, b"\x40")),
        ("4.3: what is cut is not mended by other frames", |c| {
            c.frame(HEADERS, END_STREAM, 1, [GET, b"\x00\x03x-a\x05fo"].concat());
            c.frame(CONTINUATION, END_HEADERS, 1, b"ur");
            c.expect_goaway(&[COMPRESSION_ERROR]);
        }),
        ("4.3: behind a body", |c| {
            c.frame(HEADERS, END_HEADERS, 1, GET);
            c.data(1, "x", false);
            c.frame(HEADERS, WHOLE, 1, b"\xbe");
            c.expect_goaway(&[COMPRESSION_ERROR]);
        }),
        ("4.3: on a stream that is closed", |c| {
            let stream = get(c, "");
            c.reset(stream);
            c.frame(HEADERS, WHOLE, stream, b"\xbe");
            c.expect_goaway(&[COMPRESSION_ERROR, STREAM_CLOSED, PROTOCOL_ERROR]);
        }),
    ];
    Court::new().keeps(rules);
}
