//! scan: finds where a head ends, looking at each byte once, and refuses what no head may hold as soon as it comes.

use super::control::first_control;
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

    /// Whether nothing has been looked at yet.
    pub fn is_new(&self) -> bool {
        self.seen == 0
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
            let clean = first_control(rest);
            if clean > self.room(bounds) {
                return Err(self.too_long(buf));
            }
            match rest.get(clean..) {
                Some([b'\r', b'\n', ..]) => {}
                // A CR at the very end may be half of a CRLF: it is left to be looked at again.
                None | Some([] | [b'\r']) => {
                    self.seen += clean;
                    return Ok(None);
                }
                // Bare LF or CR, NUL, or another control byte (attacks A18, A19, A22).
                Some(_) => return Err(Crime::MalformedHead),
            }
            let line = buf.get(self.line_at..self.seen + clean).unwrap_or(&[]);
            self.seen += clean + 2;
            let ended = self.end_line(line, bounds)?;
            self.line_at = self.seen;
            if ended {
                return Ok(Some(self.seen));
            }
        }
    }

    /// How many further bytes the current line may have.
    fn room(&self, bounds: &HeadBounds) -> usize {
        let line_end = |bytes: usize| self.line_at.saturating_add(bytes);
        let end = match self.fields_at {
            Some(at) => line_end(bounds.line_bytes).min(at.saturating_add(bounds.head_bytes)),
            None if bounds.side == Side::Upstream => line_end(bounds.url_bytes),
            None => line_end(bounds.url_bytes).saturating_add(LINE_MARGIN),
        };
        end.saturating_sub(self.seen)
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
