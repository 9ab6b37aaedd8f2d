//! Budgets of HPACK, run in this process: an idle connection's tables take no memory, and a block that is like the last ones takes none.

#![allow(clippy::unwrap_used, clippy::expect_used)] // it is a test from end to end

use portunus_budgets::heap::{self, Counting};
use portunus_budgets::report;
use portunus_message::Known;
use portunus_wire::h2::hpack::{Decoder, Encoder, Pseudo};

#[global_allocator]
static HEAP: Counting = Counting;

const BLOCKS: u64 = 1000;

/// An answer's fields, of which two change each time, and a request's.
fn pass(both: &mut (Encoder, Decoder), nth: u64, block: &mut Vec<u8>, room: &mut Vec<u8>) -> usize {
    let (encoder, decoder) = both;
    let length = [b'0' + (nth % 10) as u8; 4];
    let trace = [b'a' + (nth % 26) as u8; 30];
    block.clear();
    encoder.begin(block);
    encoder.status(if nth.is_multiple_of(2) { 200 } else { 301 }, block);
    encoder.pseudo(Pseudo::Authority, b"example.com", block);
    encoder.pseudo(Pseudo::Path, b"/some/path", block);
    encoder.field(Known::SERVER, b"Server", b"origin", block);
    encoder.field(Known::DATE, b"Date", b"Mon, 21 Oct 2013 20:13:21 GMT", block);
    encoder.field(Known::CONTENT_LENGTH, b"Content-Length", &length, block);
    encoder.field(Known::OTHER, b"X-Trace", &trace, block);
    encoder.field(Known::OTHER, b"X-Frame-Options", b"DENY", block);
    encoder.field(Known::SET_COOKIE, b"Set-Cookie", &[b'c'; 100], block);
    let mut bytes = 0;
    decoder.decode(block, room, 1000, |field| bytes += field.name.len() + field.value.len()).unwrap();
    bytes
}

#[test]
fn a_warm_block_takes_no_memory() {
    // The threads of the test's frame take some, seldom; what something takes, it takes in every run.
    let idle = (0..5).map(|_| {
        let before = heap::taken();
        std::hint::black_box((Encoder::new(), Decoder::new(4096)));
        heap::taken() - before
    });
    let idle = idle.min().unwrap();
    let mut both = (Encoder::new(), Decoder::new(4096));
    let (mut block, mut room) = (Vec::new(), Vec::new());
    (0..100).for_each(|nth| assert!(pass(&mut both, nth, &mut block, &mut room) > 200));
    let runs = (0..5).map(|_| {
        let before = heap::taken();
        (0..BLOCKS).for_each(|nth| assert!(pass(&mut both, nth, &mut block, &mut room) > 200));
        heap::taken() - before
    });
    let least = runs.min().unwrap();
    report("heap allocations of 1000 warm blocks", format!("{least}"), "0");
    assert_eq!((idle, least), (0, 0));
}
