//! scan: finds where a head ends, looking at each byte once, and refuses what no head may hold as soon as it comes.

use memchr::memchr;
use portunus_message::name::is_token_byte;
use portunus_message::{Crime, Limits, Side};

/// How large a head may become while it arrives. [`super::parse`] measures again, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadBounds {
    /// The request target; of an answer, the status line.
    pub url_bytes: usize,
    /// One field line, without its CRLF.
    pub line_bytes: usize,
    /// All field lines with their CRLFs.
    pub head_bytes: usize,
    /// Whose head it is. Whatever is wrong with an upstream's is [`Crime::BadResponse`].
    pub side: Side,
}

impl HeadBounds {
    /// The bounds of a client's request.
    pub fn request(limits: &Limits) -> HeadBounds {
        HeadBounds {
            url_bytes: limits.url_bytes,
            line_bytes: limits.header_line,
            head_bytes: limits.header_bytes,
            side: Side::Client,
        }
    }

    /// The bounds of an upstream's answer.
    pub fn response(limits: &Limits) -> HeadBounds {
        HeadBounds {
            url_bytes: limits.header_line,
            line_bytes: limits.upstream_header_bytes,
            head_bytes: limits.upstream_header_bytes,
            side: Side::Upstream,
        }
    }
}

/// What a request line may hold besides its target: the longest method, two spaces and the version, with room to spare.
const LINE_MARGIN: usize = 64;

/// Looks for the end of one head in a buffer that grows. A new one for each head.
///
/// Exactly one CRLF in front of a request line is passed over (RFC 9112 §2.2) and belongs to the head that is found;
/// a second one is a crime. In an answer even the first is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Everything before this has been looked at.
    seen: usize,
    /// Where the line that is being looked at begins.
    line_at: usize,
    /// Where the field lines begin; `None` during the first line.
    fields_at: Option<usize>,
}

impl Scan {
    /// Nothing has been looked at.
    pub fn new() -> Scan {
        Scan::default()
    }

    /// Looks on. `buf` begins where it began the last time and has perhaps more at its end. `Some(n)`: the head is
    /// `buf[..n]`, with its empty line. The outcome does not depend on how the bytes came: of two crimes the one
    /// whose byte stands first counts.
    pub fn advance(&mut self, buf: &[u8], bounds: &HeadBounds) -> Result<Option<usize>, Crime> {
        self.look(buf, bounds).map_err(|crime| match bounds.side {
            Side::Upstream => Crime::BadResponse,
            Side::Client | Side::Proxy => crime,
        })
    }

    fn look(&mut self, buf: &[u8], bounds: &HeadBounds) -> Result<Option<usize>, Crime> {
        loop {
            let rest = buf.get(self.seen..).unwrap_or(&[]);
            let Some(line_feed) = memchr(b'\n', rest) else {
                // A CR at the very end may be half of a CRLF: it is left to be looked at again.
                let fresh = rest.strip_suffix(b"\r").unwrap_or(rest);
                self.admit(fresh, buf, bounds)?;
                self.seen += fresh.len();
                return Ok(None);
            };
            let before = rest.get(..line_feed).unwrap_or(rest);
            let fresh = before.strip_suffix(b"\r").unwrap_or(before);
            self.admit(fresh, buf, bounds)?;
            if fresh.len() == before.len() {
                return Err(Crime::MalformedHead); // A bare LF (attack A18).
            }
            let line = buf.get(self.line_at..self.seen + fresh.len()).unwrap_or(&[]);
            self.seen += line_feed + 1;
            let ended = self.end_line(line, bounds)?;
            self.line_at = self.seen;
            if ended {
                return Ok(Some(self.seen));
            }
        }
    }

    /// Checks new bytes of the current line: first the bound, then that none of them is a control byte (attacks A19, A22).
    fn admit(&self, fresh: &[u8], buf: &[u8], bounds: &HeadBounds) -> Result<(), Crime> {
        let end = match (self.fields_at, bounds.side) {
            (Some(at), _) => {
                self.line_at.saturating_add(bounds.line_bytes).min(at.saturating_add(bounds.head_bytes))
            }
            (None, Side::Upstream) => self.line_at.saturating_add(bounds.url_bytes),
            (None, _) => self.line_at.saturating_add(bounds.url_bytes).saturating_add(LINE_MARGIN),
        };
        let room = end.saturating_sub(self.seen);
        match fresh.get(..room) {
            Some(inside) if fresh.len() > room => {
                Err(if is_clean(inside) { self.too_long(buf) } else { Crime::MalformedHead })
            }
            _ if is_clean(fresh) => Ok(()),
            _ => Err(Crime::MalformedHead),
        }
    }

    fn too_long(&self, buf: &[u8]) -> Crime {
        if self.fields_at.is_some() {
            return Crime::HeadTooLarge;
        }
        let start = buf.get(self.line_at..).unwrap_or(&[]);
        let start = start.get(..LINE_MARGIN).unwrap_or(start);
        match memchr(b' ', start) {
            Some(_) => Crime::UrlTooLong,
            // RFC 9112 §3: a method longer than any that is implemented.
            None if start.iter().copied().all(is_token_byte) => Crime::UnknownMethod,
            None => Crime::MalformedHead,
        }
    }

    /// Says whether `line` is the empty one that ends the head.
    fn end_line(&mut self, line: &[u8], bounds: &HeadBounds) -> Result<bool, Crime> {
        match self.fields_at {
            Some(_) => Ok(line.is_empty()),
            None if line.is_empty() && self.line_at == 0 && bounds.side != Side::Upstream => Ok(false),
            None if bounds.side != Side::Upstream && !ends_with_version(line) => Err(Crime::MalformedHead),
            None if line.is_empty() => Err(Crime::MalformedHead),
            None => {
                self.fields_at = Some(self.seen);
                Ok(false)
            }
        }
    }
}

/// An HTTP/0.9 client would wait for its answer, not send a head: its line is refused at once (attack A25).
fn ends_with_version(line: &[u8]) -> bool {
    line.len().checked_sub(9).and_then(|at| line.get(at..)).is_some_and(|end| end.starts_with(b" HTTP/"))
}

/// Whether no byte is a control byte other than tab. Written so that the compiler can look at many bytes at once.
pub(crate) fn is_clean(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |dirty, &byte| dirty | is_control(byte))
}

/// RFC 9110 §5.5: what may stand neither in a field nor in a first line.
pub(crate) const fn is_control(byte: u8) -> bool {
    ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
}
