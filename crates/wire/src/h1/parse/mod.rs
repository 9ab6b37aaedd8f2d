//! parse: a whole head into a Request or a Response; every check that can be made on a head is made here.

mod request;
mod response;

pub use request::{RequestHead, request};
pub use response::{ResponseHead, response};

use super::Version;
use portunus_message::{Fields, Known};
use std::mem::MaybeUninit;

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
    /// Where the line, and so its name, begins in the head.
    at: usize,
    value_at: usize,
    /// The whole line, without its CRLF.
    len: usize,
    /// Only spaces, no tabs, stand around the value.
    plain: bool,
}

impl<'a> Line<'a> {
    /// Finds `header` at `at`, and proves that the line is exactly `name ":" OWS value OWS CRLF` (RFC 9112 §5), so
    /// that no byte of a head is passed over, whatever the tokeniser lets through.
    #[inline]
    fn at(head: &'a [u8], at: usize, header: &httparse::Header<'a>) -> Option<Line<'a>> {
        let (name, value) = (header.name.as_bytes(), header.value);
        let line = head.get(at..)?;
        let rest = line.get(name.len()..)?.strip_prefix(b":")?;
        let (before, rest) = skip_blanks(rest);
        let (found, rest) = rest.split_at_checked(value.len())?;
        let (behind, rest) = skip_blanks(rest);
        let same =
            std::ptr::eq(line.as_ptr(), name.as_ptr()) && (value.is_empty() || std::ptr::eq(found, value));
        if !same || !rest.starts_with(b"\r\n") {
            return None;
        }
        let value_at = at + name.len() + 1 + before.len();
        let len = value_at + value.len() + behind.len() - at;
        let plain = !before.contains(&b'\t') && !behind.contains(&b'\t');
        Some(Line { known: Known::find(name), name, value, at, value_at, len, plain })
    }

    /// Where the next line begins.
    fn next(&self) -> usize {
        self.at + self.len + 2
    }

    /// What the field costs, as limits count it.
    fn cost(&self) -> usize {
        self.name.len() + self.value.len() + 32
    }

    /// Names this line in `fields`, which have loaded the head so that its byte `from` stands at `block`.
    fn index(&self, fields: &mut Fields, from: usize, block: usize) -> bool {
        let (name_at, value_at) = (self.at - from + block, self.value_at - from + block);
        let (name_end, value_end) = (name_at + self.name.len(), value_at + self.value.len());
        fields.index_known(self.known, name_at..name_end, value_at..value_end)
    }
}

/// Splits off the spaces and tabs in front; nearly always one space or nothing.
#[inline]
fn skip_blanks(text: &[u8]) -> (&[u8], &[u8]) {
    let blanks = text.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    text.split_at_checked(blanks).unwrap_or((text, &[]))
}
