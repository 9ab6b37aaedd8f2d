//! h1: one HTTP/1 connection with its buffers; body bytes are taken out of it and put into it piece by piece.

use crate::buffers::{Buffers, Bytes, LARGE, SMALL};
use crate::net::Stream;
use portunus_message::{Crime, Error, Fields, Limits, Phase, Retry, Side};
use portunus_wire::h1::emit;
use portunus_wire::h1::{Chunks, Framing, HeadBounds, Piece, Scan};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Body pieces up to this size are copied behind what is waiting to be sent, so that they leave in the same write.
const COALESCED: usize = 8 << 10;

/// One HTTP/1 connection. It holds a read buffer only while there are bytes in it or a read is under way.
#[derive(Debug)]
pub struct H1 {
    /// The connection itself.
    pub stream: Stream,
    held: Held,
    sent: usize,
    /// Whether a byte of the message that is being written has left.
    departed: bool,
    /// Whether the peer has reset the connection, as one does that closes it with something unread.
    reset: bool,
    /// Whether nothing is written after this message.
    last: bool,
    /// Whether the end of the connection is to be a reset.
    cut: bool,
    start: usize,
    end: usize,
    filled: bool,
    scan: Scan,
    incoming: Incoming,
    outgoing: Outgoing,
    side: Side,
}

/// What is read into, what waits to be sent, and where the memory of both goes back to.
#[derive(Debug)]
struct Held {
    input: Option<Bytes>,
    output: Vec<u8>,
    buffers: Rc<Buffers>,
}

/// What is still to come of the message that is being read.
#[derive(Debug)]
enum Incoming {
    Done,
    /// The same; these stood behind it.
    Trailed(Box<Fields>),
    Length(u64),
    Chunked {
        chunks: Chunks,
        ready: usize,
    },
    UntilClose,
    /// It broke a rule or was cut short: what follows on the connection has no meaning (attack A36).
    Broken,
}

/// What is still to be sent of the message that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    Done,
    Length(u64),
    Chunked { left: usize },
    UntilClose,
}

impl H1 {
    /// A link over `stream`, which leads to the client or to an upstream.
    pub fn new(stream: Stream, side: Side, buffers: Rc<Buffers>) -> H1 {
        H1 {
            stream,
            held: Held { input: None, output: Vec::new(), buffers },
            sent: 0,
            departed: false,
            reset: false,
            last: false,
            cut: false,
            start: 0,
            end: 0,
            filled: false,
            scan: Scan::new(),
            incoming: Incoming::Done,
            outgoing: Outgoing::Done,
            side,
        }
    }

    /// Reads until a whole head is there, takes it away, and gives what `parse` made of it; `parse` says how long it
    /// was. `None`: the peer ended before the first byte.
    ///
    /// Nearly every head comes whole, so it is parsed at once. Only when that fails does a scan find out whether more
    /// is to come or a rule is broken, looking at each byte once however slowly they come.
    pub fn poll_head<T>(
        &mut self,
        cx: &mut Context<'_>,
        bounds: &HeadBounds,
        mut parse: impl FnMut(&[u8]) -> Result<(T, usize), Error>,
    ) -> Poll<Result<Option<T>, Error>> {
        loop {
            if self.start < self.end {
                if self.scan.is_new()
                    && let Ok((head, length)) = parse(self.here())
                {
                    self.take_head(length);
                    return Poll::Ready(Ok(Some(head)));
                }
                if let Some(length) = self.scan_head(bounds)? {
                    let (head, length) = parse(self.here().get(..length).unwrap_or(&[]))?;
                    self.take_head(length);
                    return Poll::Ready(Ok(Some(head)));
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) if self.start == self.end => return Poll::Ready(Ok(None)),
                // A peer that ends TLS without having said so has ended all the same, and before the first byte nothing is cut short.
                Err(error) if self.start == self.end && error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(None));
                }
                Ok(0) => return Poll::Ready(Err(self.cut_error())),
                Err(error) => {
                    self.reset |= is_reset(&error);
                    return Poll::Ready(Err(self.cut_error()));
                }
            }
        }
    }

    /// Looks for the end of the head in what is here.
    fn scan_head(&mut self, bounds: &HeadBounds) -> Result<Option<usize>, Error> {
        let here = self.held.input.as_deref().and_then(|all| all.get(self.start..self.end)).unwrap_or(&[]);
        if self.side == Side::Upstream && !is_status_line(here) {
            return Err(self.head_error(Crime::BadResponse));
        }
        self.scan.advance(here, bounds).map_err(|crime| self.head_error(crime))
    }

    /// Takes all that was read and not yet taken.
    pub fn take_read(&mut self) -> Vec<u8> {
        let read = self.here().to_vec();
        self.start = self.end;
        self.rest_input();
        read
    }

    /// The bytes that were read and not yet taken.
    pub fn here(&self) -> &[u8] {
        self.held.input.as_deref().and_then(|all| all.get(self.start..self.end)).unwrap_or(&[])
    }

    /// Takes a head of `length` bytes away and starts to look for the next one.
    fn take_head(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
        self.scan = Scan::new();
        self.rest_input();
    }

    /// Says what follows the head that was taken, which holds `fields`.
    pub fn expect_body(&mut self, framing: Framing, fields: &Fields, limits: &Limits) {
        self.incoming = match framing {
            Framing::None | Framing::Length(0) => Incoming::Done,
            Framing::Length(length) => Incoming::Length(length),
            Framing::Chunked => Incoming::Chunked { chunks: self.chunks(limits).after(fields), ready: 0 },
            Framing::UntilClose => Incoming::UntilClose,
        };
    }

    fn chunks(&self, limits: &Limits) -> Chunks {
        if self.side == Side::Upstream { Chunks::upstream(limits) } else { Chunks::new(limits) }
    }

    /// Everything that follows is one body without frames, until the peer ends its half.
    pub fn expect_raw(&mut self) {
        self.incoming = Incoming::UntilClose;
    }

    /// Says what will follow the head that was put into `output`: a new message begins.
    pub fn promise_body(&mut self, framing: Framing) {
        self.departed = self.sent > 0;
        self.outgoing = match framing {
            Framing::None => Outgoing::Done,
            Framing::Length(length) => Outgoing::Length(length),
            Framing::Chunked => Outgoing::Chunked { left: 0 },
            Framing::UntilClose => Outgoing::UntilClose,
        };
    }

    /// Whether the message that is being read has been read to its end.
    pub fn is_read(&self) -> bool {
        matches!(self.incoming, Incoming::Done | Incoming::Trailed(_))
    }

    /// How much is still to come, when that was declared.
    pub fn declared_left(&self) -> Option<u64> {
        match self.incoming {
            Incoming::Done | Incoming::Trailed(_) => Some(0),
            Incoming::Length(left) => Some(left),
            Incoming::Chunked { .. } | Incoming::UntilClose | Incoming::Broken => None,
        }
    }

    /// Whether the message that is being read broke a rule, so that nothing after it may be read.
    pub fn is_broken(&self) -> bool {
        matches!(self.incoming, Incoming::Broken)
    }

    /// How much of the body has been announced and has not been taken: of the chunk, or of the whole.
    pub fn announced(&self) -> u64 {
        match &self.incoming {
            Incoming::Done | Incoming::Trailed(_) | Incoming::UntilClose | Incoming::Broken => 0,
            Incoming::Length(left) => *left,
            Incoming::Chunked { chunks, .. } => chunks.data_left(),
        }
    }

    /// Whether both messages are over and nothing is left of them: what was read came to its end and nothing after it, and all that was
    /// promised has been written. Whoever writes another message behind half a body writes that body (attack A11).
    pub fn is_clean(&self) -> bool {
        let is_sent = matches!(self.outgoing, Outgoing::Done | Outgoing::Length(0));
        self.is_read() && self.start == self.end && is_sent && self.held.output.is_empty()
    }

    /// Whether bytes of a further message are here already.
    pub fn has_more(&self) -> bool {
        self.start < self.end
    }

    /// Makes body bytes available in [`H1::data`]; `false` at the end of the body.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        loop {
            let here =
                self.held.input.as_deref().and_then(|all| all.get(self.start..self.end)).unwrap_or(&[]);
            match &mut self.incoming {
                Incoming::Done | Incoming::Trailed(_) => return Poll::Ready(Ok(false)),
                Incoming::Length(_) | Incoming::UntilClose if !here.is_empty() => {
                    return Poll::Ready(Ok(true));
                }
                Incoming::Length(_) | Incoming::UntilClose => {}
                Incoming::Chunked { ready: 1.., .. } => return Poll::Ready(Ok(true)),
                Incoming::Chunked { chunks, ready } => match chunks.next(here) {
                    Ok(Piece::Data { skip, len }) => {
                        self.start += skip;
                        *ready = len;
                        return Poll::Ready(Ok(true));
                    }
                    Ok(Piece::More { used }) => self.start += used,
                    Ok(Piece::End { used }) => {
                        self.start += used;
                        self.incoming = chunks.take_trailers().map_or(Incoming::Done, Incoming::Trailed);
                        return Poll::Ready(Ok(false));
                    }
                    Err(crime) => return Poll::Ready(Err(self.break_off(crime))),
                },
                Incoming::Broken => return Poll::Ready(Err(self.body_error(Crime::BadChunk))),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) if matches!(self.incoming, Incoming::UntilClose) => {
                    self.incoming = Incoming::Done;
                    return Poll::Ready(Ok(false));
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(self.break_off(self.truncation()))),
            }
        }
    }

    /// The body bytes that are here.
    pub fn data(&self) -> &[u8] {
        let here = self.here();
        let length = match &self.incoming {
            Incoming::Done | Incoming::Trailed(_) | Incoming::Broken => 0,
            Incoming::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Incoming::Chunked { ready, .. } => *ready,
            Incoming::UntilClose => usize::MAX,
        };
        here.get(..length.min(here.len())).unwrap_or(&[])
    }

    /// Takes `count` bytes of [`H1::data`] away.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        match &mut self.incoming {
            Incoming::Length(left) => {
                *left = left.saturating_sub(count as u64);
                if *left == 0 {
                    self.incoming = Incoming::Done;
                }
            }
            Incoming::Chunked { ready, .. } => *ready = ready.saturating_sub(count),
            Incoming::Done | Incoming::Trailed(_) | Incoming::UntilClose | Incoming::Broken => {}
        }
    }

    /// Whether exactly these data end the body, so that they may leave together with what ends it.
    pub fn data_is_last(&self) -> bool {
        matches!(self.incoming, Incoming::Length(left) if left <= self.here().len() as u64)
    }

    /// Puts body bytes into the connection, framed as promised; says how many were taken. Small pieces wait in
    /// `output` until [`H1::poll_flush`]; large ones are written at once, together with what waits.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        let room = match &mut self.outgoing {
            Outgoing::Done | Outgoing::Length(0) => {
                return Poll::Ready(Err(Error::proxy(Phase::Body, Crime::Internal)));
            }
            Outgoing::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Outgoing::UntilClose => usize::MAX,
            Outgoing::Chunked { left: 0 } => {
                emit::chunk_size(data.len(), &mut self.held.output);
                self.outgoing = Outgoing::Chunked { left: data.len() };
                data.len()
            }
            Outgoing::Chunked { left } => *left,
        };
        let data = data.get(..room.min(data.len())).unwrap_or(data);
        let taken = if data.len() <= COALESCED && self.held.output.len() + data.len() <= SMALL {
            self.held.output.extend_from_slice(data);
            data.len()
        } else {
            ready!(self.poll_write_with(cx, data)).map_err(|_| self.write_error())?
        };
        match &mut self.outgoing {
            Outgoing::Length(left) => *left -= taken as u64,
            Outgoing::Chunked { left } => {
                *left -= taken;
                if *left == 0 {
                    self.held.output.extend_from_slice(b"\r\n");
                }
            }
            Outgoing::Done | Outgoing::UntilClose => {}
        }
        Poll::Ready(Ok(taken))
    }

    /// The trailers that stood behind the body that was read.
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        if !matches!(self.incoming, Incoming::Trailed(_)) {
            return None;
        }
        match std::mem::replace(&mut self.incoming, Incoming::Done) {
            Incoming::Trailed(trailers) => Some(trailers),
            _ => None,
        }
    }

    /// Ends the body that was promised; only behind chunks there is room for trailers. Fewer bytes than promised are an error, which must be seen by the peer (attack A45).
    pub fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Error> {
        match std::mem::replace(&mut self.outgoing, Outgoing::Done) {
            Outgoing::Done | Outgoing::Length(0) | Outgoing::UntilClose => Ok(()),
            Outgoing::Chunked { left: 0 } => {
                match trailers {
                    Some(trailers) => emit::last_chunk(trailers, &mut self.held.output),
                    None => self.held.output.extend_from_slice(emit::LAST_CHUNK),
                }
                Ok(())
            }
            Outgoing::Length(_) | Outgoing::Chunked { .. } => Err(Error::proxy(Phase::Body, Crime::Internal)),
        }
    }

    /// Whether all that was promised has been handed over (though perhaps not flushed).
    pub fn is_finished(&self) -> bool {
        matches!(self.outgoing, Outgoing::Done)
    }

    /// Whether not a byte of the message has left, its head included.
    pub fn nothing_sent(&self) -> bool {
        !self.departed && !self.held.output.is_empty()
    }

    /// Whether the peer has reset the connection. One that ends a connection with something unread does that; others seldom do.
    pub fn was_reset(&self) -> bool {
        self.reset
    }

    /// Takes back what waits, when not a byte of the message has left.
    pub fn take_back_output(&mut self) {
        if !self.departed {
            self.held.output.clear();
            self.outgoing = Outgoing::Done;
        }
    }

    /// How many bytes wait to be sent.
    pub fn waiting(&self) -> usize {
        self.held.output.len() - self.sent
    }

    /// Bytes that are here on their way, in the program and, to be read, in the kernel. It asks the kernel.
    pub fn held(&self) -> usize {
        self.here().len() + self.waiting() + self.stream.queued()
    }

    /// Nothing is written after the message that is being written: under TLS that is said in the same breath.
    pub fn end_with_this(&mut self) {
        self.last = true;
    }

    /// Makes the end of the connection a reset: nobody may take it for the end of the message that was being written.
    pub fn reset_on_drop(&mut self) {
        self.cut = true;
        self.stream.reset_on_drop();
    }

    /// Whether the end of the connection is to be a reset.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Writes what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.last
            && self.outgoing == Outgoing::Done
            && let Stream::Tls(layer) = &mut self.stream
        {
            layer.end_with_next();
        }
        while self.sent < self.held.output.len() {
            let waiting = self.held.output.get(self.sent..).unwrap_or(&[]);
            match ready!(self.stream.poll_write(cx, waiting)) {
                Ok(0) => return Poll::Ready(Err(self.write_error())),
                Err(error) => {
                    self.reset |= is_reset(&error);
                    return Poll::Ready(Err(self.write_error()));
                }
                Ok(count) => {
                    self.sent += count;
                    self.departed = true;
                }
            }
        }
        self.sent = 0;
        self.rest_output();
        self.stream.poll_flush(cx).map_err(|_| self.write_error())
    }

    /// Gives the buffers back that nothing is in.
    pub fn rest(&mut self) {
        self.rest_input();
        if self.held.output.is_empty() {
            self.rest_output();
        }
    }

    /// What is given back early is what the next connection finds in the processor's cache.
    fn rest_input(&mut self) {
        if self.start == self.end
            && let Some(input) = self.held.input.take()
        {
            self.held.buffers.give(input);
            (self.start, self.end, self.filled) = (0, 0, false);
        }
    }

    fn rest_output(&mut self) {
        if self.held.output.capacity() > 0 {
            self.held.buffers.give_output(std::mem::take(&mut self.held.output));
        }
    }

    /// Takes the connection out; what was read and not taken is lost.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Takes an output vector from the stock, for a head to be written into.
    pub fn begin_output(&mut self) -> &mut Vec<u8> {
        if self.held.output.capacity() == 0 {
            self.held.output = self.held.buffers.output();
        }
        &mut self.held.output
    }

    /// Forgets what was read and what waits to be sent: both belong to a protocol that has ended (attack A41).
    pub fn forget(&mut self) {
        (self.start, self.end) = (0, 0);
        self.held.output.clear();
        self.sent = 0;
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            if self.stream.poll_readable(cx)?.is_pending() {
                self.rest_input(); // a waiting connection holds no buffer
                return Poll::Pending;
            }
            let room = self.held.room(&mut self.start, &mut self.end, self.filled);
            let asked = room.len();
            match self.stream.try_read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.end += count;
                    self.filled = count == asked;
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Writes what waits and then `data`; says how many of `data` were written, at least one.
    fn poll_write_with(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.held.output.get(self.sent..).unwrap_or(&[]);
            let written = if waiting.is_empty() {
                ready!(self.stream.poll_write(cx, data))?
            } else {
                ready!(self.stream.poll_write_vectored(cx, &[IoSlice::new(waiting), IoSlice::new(data)]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.departed = true;
            let of_waiting = written.min(waiting.len());
            self.sent += of_waiting;
            if self.sent == self.held.output.len() {
                self.held.output.clear();
                self.sent = 0;
            }
            if written > of_waiting {
                return Poll::Ready(Ok(written - of_waiting));
            }
        }
    }

    fn head_error(&self, crime: Crime) -> Error {
        match self.side {
            Side::Upstream => Error::upstream(Phase::Wait, Crime::BadResponse, Retry::IfIdempotent),
            Side::Client | Side::Proxy => Error::client(Phase::Head, crime),
        }
    }

    fn cut_error(&self) -> Error {
        // Where a head has begun the request was processed, and the connection was alive; but nobody has heard anything of it yet.
        let crime = if self.start < self.end { Crime::Truncated } else { Crime::UpstreamClosed };
        match self.side {
            Side::Upstream => Error::upstream(Phase::Wait, crime, Retry::IfIdempotent),
            Side::Client | Side::Proxy => Error::client(Phase::Head, Crime::ClientGone),
        }
    }

    fn break_off(&mut self, crime: Crime) -> Error {
        self.incoming = Incoming::Broken;
        self.body_error(crime)
    }

    fn truncation(&self) -> Crime {
        if self.side == Side::Upstream { Crime::Truncated } else { Crime::ClientGone }
    }

    fn body_error(&self, crime: Crime) -> Error {
        match (self.side, crime) {
            (Side::Upstream, Crime::Truncated) => Error::upstream(Phase::Body, crime, Retry::Never),
            (Side::Upstream, _) => Error::upstream(Phase::Body, Crime::BadResponse, Retry::Never),
            _ => Error::client(Phase::Body, crime),
        }
    }

    fn write_error(&self) -> Error {
        match self.side {
            Side::Upstream => Error::upstream(Phase::Send, Crime::UpstreamClosed, Retry::IfIdempotent),
            Side::Client | Side::Proxy => Error::client(Phase::Body, Crime::ClientGone),
        }
    }
}

impl Held {
    /// Room to read into, behind what has been read and not taken: from `start` to `end`. `filled`: the last read took
    /// all the room there was.
    fn room(&mut self, start: &mut usize, end: &mut usize, filled: bool) -> &mut [u8] {
        if *start == *end {
            (*start, *end) = (0, 0);
            // A body that fills small buffers moves in larger steps.
            if filled && self.input.as_ref().is_some_and(|input| input.len() < LARGE) {
                let large = self.buffers.large();
                if let Some(small) = self.input.replace(large) {
                    self.buffers.give(small);
                }
            }
        }
        let input = self.input.get_or_insert_with(|| self.buffers.small());
        if *end == input.len() {
            if *start > 0 {
                input.copy_within(*start..*end, 0);
                *end -= *start;
                *start = 0;
            } else {
                let mut larger = vec![0; input.len() * 2].into_boxed_slice();
                if let Some(head) = larger.get_mut(..input.len()) {
                    head.copy_from_slice(input);
                }
                // Bounded: only a head can fill a buffer without being consumed, and `Scan` bounds heads.
                self.buffers.give(std::mem::replace(input, larger));
            }
        }
        input.get_mut(*end..).unwrap_or(&mut [])
    }
}

/// Whether a connection was reset, of which writing may be told first.
fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Whether these may be the first bytes of an answer: garbage is not waited for until it looks like a head.
fn is_status_line(bytes: &[u8]) -> bool {
    bytes.iter().zip(b"HTTP/").all(|(byte, expected)| byte == expected)
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.buffers.give(input);
        }
        self.buffers.give_output(std::mem::take(&mut self.output));
    }
}
