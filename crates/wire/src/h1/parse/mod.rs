//! parse: a whole head into a Request or a Response; every check that can be made on a head is made here.

mod request;
mod response;

pub use request::{RequestHead, request};
pub use response::{ResponseHead, response};

use super::Version;
use super::control::{first_colon, first_control};
use portunus_message::fields::{Place, trim};
use portunus_message::name::is_token_byte;
use portunus_message::{Fields, Known};

/// Splits off the first line, without its CRLF. No control byte but tab stands in it, so neither a bare CR or LF
/// (attacks A18, A19, A22). `None` also when its end is not there.
#[inline]
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = text.split_at_checked(first_control(text))?;
    Some((line, rest.strip_prefix(b"\r\n")?))
}

/// One field line of a head.
struct Line<'a> {
    known: Known,
    name: &'a [u8],
    /// What follows the colon, and the same without the white space around it.
    raw: &'a [u8],
    value: &'a [u8],
    /// Whether exactly one space stands around the value, in front of it.
    plain: bool,
}

impl<'a> Line<'a> {
    /// Splits off the first field line: exactly `name ":" OWS value OWS CRLF` (RFC 9112 §5). Nothing is passed over or
    /// mended: no folded lines, no white space before the colon or the name, no empty name (attacks A20, A21, A23).
    #[inline(always)] // Returned through memory it costs a tenth of the whole parse.
    fn split(text: &'a [u8]) -> Option<(Line<'a>, &'a [u8])> {
        let (name, [_, after @ ..]) = text.split_at_checked(first_colon(text))? else { return None };
        let known = Known::find(name);
        // A known name is a token; no line end is one.
        if known == Known::OTHER && (name.is_empty() || !name.iter().copied().all(is_token_byte)) {
            return None;
        }
        let (raw, rest) = split_line(after)?;
        let (value, plain) = match raw {
            [b' ', value @ ..] if is_bare(value) => (value, true),
            _ => (trim(raw), false),
        };
        Some((Line { known, name, raw, value, plain }, rest))
    }

    /// The whole line, without its CRLF.
    #[inline]
    fn len(&self) -> usize {
        self.name.len() + 1 + self.raw.len()
    }

    /// What the field costs, as limits count it.
    #[inline]
    fn cost(&self) -> usize {
        self.name.len() + self.value.len() + 32
    }

    /// Whether no tab stands around the value.
    fn is_plain(&self) -> bool {
        self.raw.iter().all(|&byte| byte != b'\t')
    }

    /// Names this line in `fields`; it begins at `at` of the head that they will load.
    #[inline(always)]
    fn index(&self, fields: &mut Fields, at: usize) -> bool {
        let (name_len, value_len) = (self.name.len(), self.value.len());
        let gap = if self.plain {
            2
        } else {
            let blanks = self.raw.len() - self.raw.trim_ascii_start().len();
            1 + blanks.min(self.raw.len() - value_len)
        };
        fields.index(self.known, &Place { at, name_len, gap, value_len, plain: self.plain })
    }
}

/// Whether it is a value without white space at either end.
#[inline]
fn is_bare(value: &[u8]) -> bool {
    // No control byte but tab can stand here.
    matches!((value.first(), value.last()), (Some(b'!'..), Some(b'!'..)))
}
