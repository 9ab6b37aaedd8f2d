//! parse: a whole head into a Request or a Response; every check that can be made on a head is made here.

mod request;
mod response;

pub use request::{RequestHead, request};
pub use response::{ResponseHead, response};

use super::Version;
use portunus_message::{Fields, Known};
use std::mem::MaybeUninit;
use std::ops::Range;

/// More fields than this no head may have, whatever the limits allow: they are gathered on the stack.
pub const FIELDS_MAX: usize = 512;

/// Room for the fields of a head before they are checked; costs nothing until it is used.
type Slots<'a> = [MaybeUninit<httparse::Header<'a>>; FIELDS_MAX];

const fn slots<'a>() -> Slots<'a> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// One field line of a head.
struct Line<'a> {
    known: Known,
    name: &'a [u8],
    value: &'a [u8],
    /// Where both stand in the head.
    name_at: Range<usize>,
    value_at: Range<usize>,
    /// The whole line, without its CRLF.
    len: usize,
    /// Only spaces, no tabs, stand around the value.
    plain: bool,
}

impl<'a> Line<'a> {
    /// Finds `header` at `at`, and proves that the line is exactly `name ":" OWS value OWS CRLF` (RFC 9112 §5), so
    /// that no byte of a head is passed over, whatever the tokeniser lets through.
    fn at(head: &'a [u8], at: usize, header: &httparse::Header<'a>) -> Option<Line<'a>> {
        let name_at = at..at.checked_add(header.name.len())?;
        let name = head.get(name_at.clone())?;
        if !std::ptr::eq(name, header.name.as_bytes()) || head.get(name_at.end) != Some(&b':') {
            return None;
        }
        let mut plain = true;
        let value_start = skip_blanks(head, name_at.end + 1, &mut plain);
        let value_at = value_start..value_start.checked_add(header.value.len())?;
        let value = head.get(value_at.clone())?;
        if !value.is_empty() && !std::ptr::eq(value, header.value) {
            return None;
        }
        let end = skip_blanks(head, value_at.end, &mut plain);
        head.get(end..end + 2).filter(|end| end == b"\r\n")?;
        Some(Line { known: Known::find(name), name, value, name_at, value_at, len: end - at, plain })
    }

    /// Where the next line begins.
    fn next(&self) -> usize {
        self.name_at.start + self.len + 2
    }

    /// What the field costs, as limits count it.
    fn cost(&self) -> usize {
        self.name.len() + self.value.len() + 32
    }

    /// Names this line in `fields`, which have loaded the head so that its byte `from` stands at `block`.
    fn index(&self, fields: &mut Fields, from: usize, block: usize) -> bool {
        let shift = |range: &Range<usize>| range.start - from + block..range.end - from + block;
        fields.index_known(self.known, shift(&self.name_at), shift(&self.value_at))
    }
}

fn skip_blanks(head: &[u8], mut at: usize, plain: &mut bool) -> usize {
    while let Some(&byte @ (b' ' | b'\t')) = head.get(at) {
        *plain &= byte == b' ';
        at += 1;
    }
    at
}
