//! hello: a ClientHello is read the same however it is cut, and what has been decided stays decided.

use portunus_wire::hello::{HELLO_BYTES_MAX, read};

/// Takes any bytes; panics when a promise is broken. The first byte says how the rest is cut.
pub fn run(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let data = &data[..data.len().min(HELLO_BYTES_MAX + 100)];
    let step = 1 + usize::from(choice % 13);
    let mut decided = None;
    for end in (0..data.len()).step_by(step).chain([data.len()]) {
        let now = read(&data[..end]);
        match &decided {
            None if now != Ok(None) => decided = Some(now),
            None => assert!(end < HELLO_BYTES_MAX, "it waits for ever"),
            Some(before) => assert_eq!(*before, now),
        }
    }
    if let Some(Ok(Some(hello))) = decided {
        assert!(hello.name.is_none_or(|name| !name.is_empty() && name.is_ascii()));
    }
}

pub const SEEDS: &[&[u8]] = &[
    // one record, with a name and two protocols
    b"\x05\x16\x03\x01\x00\x57\x01\x00\x00\x53\x03\x03aaaaaaaabbbbbbbbccccccccdddddddd\x00\x00\x02\x13\x01\x01\x00\x00\x28\x00\x00\x00\x0e\x00\x0c\x00\x00\x09a.example\x00\x10\x00\x0e\x00\x0c\x02h2\x08http/1.1\x00\x17\x00\x00",
    // the same start in two records
    b"\x01\x16\x03\x01\x00\x06\x01\x00\x00\x2b\x03\x03\x16\x03\x01\x00\x29aaaaaaaabbbbbbbbccccccccdddddddd\x00\x00\x02\x13\x01\x01\x00\x00\x00",
    b"\x00GET / HTTP/1.1\r\n\r\n",
];

pub const WORDS: &[&[u8]] = &[
    b"\x16\x03\x01",
    b"\x16\x03\x01\x00\x01",
    b"\x01\x00",
    b"\x03\x03",
    b"\x00\x00\x00\x0e\x00\x0c\x00\x00\x09a.example",
    b"\x00\x10\x00\x05\x00\x03\x02h2",
    b"\x00\x00",
    b"\xff\xff",
    b"\x40\x00",
    b"127.0.0.1",
];
