//! emit: writes heads and chunk sizes; our own framing and nobody else's, and never a byte that splits a message.

use super::control::{count_control, is_clean};
use super::{Framing, Version};
use crate::hop;
use portunus_message::{Fields, Known, Request, Response, Status};

/// What ends a chunked body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What ends each chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// What an answer says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It goes on.
    KeepAlive,
    /// It ends after this answer.
    Close,
    /// It becomes a websocket.
    Upgrade,
}

/// Appends the head of `request` in origin-form (RFC 9112 §3.2.1). `close` asks the upstream to end the connection
/// after its answer. `Framing::None` writes nothing, `Length(0)` says so; `UntilClose` cannot be said in a request and
/// is written as chunks.
pub fn request_head(request: &Request, framing: Framing, close: bool, out: &mut Vec<u8>) {
    let target = &request.target;
    out.reserve(
        target.path_and_query().len() + target.authority().len() + request.fields.written_max() + 160,
    );
    safely(out, |head| {
        head.text(request.method.as_str());
        head.text(" ");
        head.opaque(target.path_and_query());
        head.text(" HTTP/1.1\r\nHost: ");
        head.opaque(target.authority());
        head.end_line();
        head.lines += 1;
        head.fields(&request.fields, |known, _| hop::crosses_up(known));
        match framing {
            Framing::None => {}
            Framing::Length(length) => head.content_length(length),
            Framing::Chunked | Framing::UntilClose => head.line("Transfer-Encoding: chunked\r\n"),
        }
        // RFC 9110 §10.1.4: it is about this connection, and says so.
        if request.trailers && !request.websocket {
            head.line("TE: trailers\r\n");
        }
        if request.websocket {
            head.line("Connection: Upgrade\r\n");
            head.line("Upgrade: websocket\r\n");
        } else {
            match (close, request.trailers) {
                (true, true) => head.line("Connection: close, TE\r\n"),
                (true, false) => head.line("Connection: close\r\n"),
                (false, true) => head.line("Connection: TE\r\n"),
                (false, false) => {}
            }
        }
        head.end_line();
    });
}

/// Appends the head of `response` for a client that speaks `version`. `Framing::None` is for answers that have no
/// body by themselves (to HEAD, 1xx, 204, 304): whoever says `None` for others leaves the client waiting. An answer to
/// HEAD may say `Length` or `Chunked` for the body it does not have. `date` is written unless the answer has one.
pub fn response_head(
    response: &Response,
    framing: Framing,
    connection: Connection,
    version: Version,
    date: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    out.reserve(response.fields.written_max() + 256);
    safely(out, |head| {
        head.status_line(response.status);
        head.fields(&response.fields, hop::crosses_down);
        if let Some(date) = date.filter(|_| !response.fields.has(Known::DATE)) {
            head.field(b"Date", date);
        }
        // RFC 9110 §8.6, RFC 9112 §6.1: neither field in a 1xx or 204.
        let may_frame = !response.status.is_informational() && response.status != Status::NO_CONTENT;
        match framing {
            Framing::Length(length) if may_frame => head.content_length(length),
            Framing::Chunked if may_frame && version == Version::Http11 => {
                head.line("Transfer-Encoding: chunked\r\n");
            }
            Framing::None | Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {}
        }
        match connection {
            Connection::KeepAlive if version == Version::Http10 => head.line("Connection: keep-alive\r\n"),
            Connection::KeepAlive => {}
            Connection::Close => head.line("Connection: close\r\n"),
            Connection::Upgrade => {
                head.line("Connection: Upgrade\r\n");
                head.line("Upgrade: websocket\r\n");
            }
        }
        head.end_line();
    });
}

/// Appends an informational head (RFC 9110 §15.2); a final one has to follow.
pub fn informational(status: Status, fields: &Fields, out: &mut Vec<u8>) {
    out.reserve(fields.written_max() + 64);
    safely(out, |head| {
        head.status_line(status);
        head.fields(fields, hop::crosses_down);
        head.end_line();
    });
}

/// Appends what ends a chunked body that these stand behind (RFC 9112 §7.1.2). What may not stand there is left out once more.
pub fn last_chunk(trailers: &Fields, out: &mut Vec<u8>) {
    out.reserve(trailers.written_max() + 8);
    safely(out, |head| {
        head.line("0\r\n");
        head.fields(trailers, hop::may_trail);
        head.end_line();
    });
}

/// Appends the line that begins a chunk of `len` bytes; with `len` 0 it would end the body, so then nothing.
pub fn chunk_size(len: usize, out: &mut Vec<u8>) {
    if len == 0 {
        return;
    }
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = u8::try_from(len >> (place * 4) & 15).unwrap_or(0);
        out.push(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
    }
    out.extend_from_slice(b"\r\n");
}

/// Lets `write` append a head, and then counts control bytes: there must be two for each line. If there are others,
/// the head is written again without them. This is the second lock against splitting (attack A42): requests and
/// answers cannot hold such bytes in the first place.
fn safely(out: &mut Vec<u8>, write: impl Fn(&mut Head<'_>)) {
    let start = out.len();
    let mut head = Head { out, lines: 0, careful: false };
    write(&mut head);
    let lines = head.lines;
    if count_control(out.get(start..).unwrap_or(&[])) != lines * 2 {
        out.truncate(start);
        write(&mut Head { out, lines: 0, careful: true });
    }
}

/// A head being written.
struct Head<'a> {
    out: &'a mut Vec<u8>,
    /// Line ends so far.
    lines: usize,
    /// Look at each part before it is written.
    careful: bool,
}

impl Head<'_> {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A literal with its CRLF.
    fn line(&mut self, text: &'static str) {
        self.text(text);
        self.lines += 1;
    }

    fn end_line(&mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.lines += 1;
    }

    /// A part of the first line or the `Host`.
    fn opaque(&mut self, text: &str) {
        if self.careful {
            for byte in text.bytes().filter(|&byte| byte > b' ' && byte != 0x7f) {
                self.out.push(byte);
            }
        } else {
            self.text(text);
        }
    }

    fn status_line(&mut self, status: Status) {
        self.text("HTTP/1.1 ");
        match status.spelled() {
            "" => {
                self.decimal(u64::from(status.code()));
                self.text(" ");
            }
            spelled => self.text(spelled),
        }
        self.end_line();
    }

    /// Every field that `crosses`: also a filter cannot add framing of its own.
    fn fields(&mut self, fields: &Fields, crosses: impl Fn(Known, &[u8]) -> bool) {
        if !self.careful {
            self.lines += fields.write(self.out, crosses);
            return;
        }
        for (known, name, value) in fields.iter() {
            if crosses(known, name) && is_clean(name) && is_clean(value) {
                self.field(name, value);
            }
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.end_line();
    }

    fn content_length(&mut self, length: u64) {
        self.text("Content-Length: ");
        self.decimal(length);
        self.end_line();
    }

    fn decimal(&mut self, number: u64) {
        self.text(itoa::Buffer::new().format(number));
    }
}
