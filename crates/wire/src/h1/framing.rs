//! framing: how the end of a message's body is told (RFC 9112 §6), decided from what its head declares.

use super::Version;
use portunus_message::fields::{tokens, trim};
use portunus_message::name::is_token_byte;
use portunus_message::{Crime, Method, Status};

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// It has this many bytes.
    Length(u64),
    /// It comes in chunks; the last one is empty.
    Chunked,
    /// It ends with the connection. Answers only.
    UntilClose,
}

impl Framing {
    /// How many bytes there will be, if that is known.
    pub fn length(self) -> Option<u64> {
        match self {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }
}

/// The framing fields of one head, as they were met.
#[derive(Default)]
pub(super) struct Declared<'a> {
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    broken: bool,
}

impl<'a> Declared<'a> {
    /// A `Content-Length` line; a second one is never right, even when it says the same (attack A6).
    pub(super) fn content_length(&mut self, value: &'a [u8], plain: bool) {
        self.broken |= self.length.replace(value).is_some() || !plain;
    }

    /// A `Transfer-Encoding` line; `plain` says that no tab stood around the value, where some parsers see a part of it (attack A3).
    pub(super) fn transfer_encoding(&mut self, value: &'a [u8], plain: bool) {
        self.broken |= self.coding.replace(value).is_some() || !plain;
    }

    /// RFC 9112 §6.3 for a request, without its leniencies (attacks A1–A7).
    pub(super) fn of_request(&self, version: Version) -> Result<Framing, Crime> {
        match (self.length, self.coding) {
            _ if self.broken => Err(Crime::BadFraming),
            (None, None) => Ok(Framing::None),
            (Some(value), None) => content_length(value).map(Framing::Length).ok_or(Crime::BadFraming),
            (Some(_), Some(_)) => Err(Crime::BadFraming),
            (None, Some(_)) if version == Version::Http10 => Err(Crime::BadFraming),
            (None, Some(value)) if value.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (None, Some(value)) if is_foreign(value) => Err(Crime::UnknownCoding),
            (None, Some(_)) => Err(Crime::BadFraming),
        }
    }

    /// The same for the answer to a request with `method` (attacks A38, A40), and the length that its fields declare,
    /// if they do: of an answer without a body it is the length that another request would get.
    pub(super) fn of_response(
        &self,
        version: Version,
        status: Status,
        method: Method,
    ) -> Result<(Framing, Option<u64>), Crime> {
        let (framing, declared) = match (self.length, self.coding) {
            _ if self.broken => return Err(Crime::BadResponse),
            (Some(_), Some(_)) => return Err(Crime::BadResponse),
            (None, Some(_)) if version == Version::Http10 => return Err(Crime::BadResponse),
            (None, Some(value)) if value.eq_ignore_ascii_case(b"chunked") => (Framing::Chunked, None),
            (None, Some(_)) => return Err(Crime::BadResponse),
            (None, None) => (Framing::UntilClose, None),
            (Some(value), None) => {
                let length = content_length(value).ok_or(Crime::BadResponse)?;
                (Framing::Length(length), Some(length))
            }
        };
        let bodiless = status.is_bodiless() || method == Method::HEAD;
        Ok((if bodiless { Framing::None } else { framing }, declared))
    }

    /// Whether anything but "no bytes" is declared.
    pub(super) fn promises_body(&self) -> bool {
        self.coding.is_some() || self.length.is_some_and(|value| value != b"0")
    }
}

/// A `Content-Length`: 1 to 19 digits, no leading zero, below 2^63 (attack A7).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || (value.len() > 1 && value.first() == Some(&b'0')) {
        return None;
    }
    let mut length = 0u64;
    for &byte in value {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length = length.checked_mul(10)?.checked_add(digit)?;
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// Whether `value` is a correct list of codings that we do not speak: one other coding, or others before a final
/// `chunked`. Everything else that is not `chunked` is a disguise of it.
fn is_foreign(value: &[u8]) -> bool {
    let members = value.split(|&byte| byte == b',').count();
    let names = |coding: &[u8]| coding.iter().copied().all(is_token_byte);
    let foreign = |coding: &[u8]| names(coding) && !coding.eq_ignore_ascii_case(b"chunked");
    let last = value.rsplit(|&byte| byte == b',').next().map(trim).unwrap_or(&[]);
    match members {
        1 => !value.is_empty() && foreign(value),
        _ => {
            tokens(value).count() == members
                && last.eq_ignore_ascii_case(b"chunked")
                && tokens(value).take(members - 1).all(foreign)
        }
    }
}
