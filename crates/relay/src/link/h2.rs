//! h2: a link over one stream of an upstream's HTTP/2 connection; the `h2` crate frames it, and keeps its windows.

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use portunus_message::{Crime, Error, Fields, Limits, Method, Phase, Response, Retry};
use portunus_wire::convert::{self, Asked};
use portunus_wire::h1::Framing;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// The most that is handed over in one piece.
const PIECE: usize = 64 << 10;

/// One stream of an upstream's HTTP/2 connection. Dropped before its message is whole, it is reset: what was cut short never looks whole (attack A45).
pub struct H2 {
    outlet: Outlet,
    /// The head, until the first of its body comes: both leave together, and it can be taken back.
    head: Option<Asked<()>>,
    /// Body bytes for which there is room in the window, until it is known whether they are the last.
    waiting: Bytes,
    outgoing: Outgoing,
    /// Whether the end of the stream has been handed over.
    ended: bool,
    inlet: Inlet,
    data: Bytes,
    incoming: Incoming,
    /// How much is still to come, where that was declared.
    owed: Option<u64>,
    trailers: Option<Box<Fields>>,
    wants_http1: bool,
    limits: Rc<Limits>,
}

/// What is sent by.
enum Outlet {
    /// An upstream is to be asked.
    Ask(SendRequest<Bytes>),
    /// The head has gone.
    Body(SendStream<Bytes>),
}

/// What is received by.
enum Inlet {
    /// Nothing has been asked.
    Nothing,
    /// The head of the answer has not come.
    Answer(ResponseFuture),
    /// It has.
    Body(RecvStream),
}

/// What is still to come of the message that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incoming {
    /// Nothing that anybody wants: there is none, or it belongs to a tunnel that is not there yet.
    Nothing,
    Body,
    Ended,
    Broken,
}

/// What is still to be sent of the message that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    Done,
    Length(u64),
    Open,
    /// A tunnel that is not there yet: nothing is sent, and nothing ends.
    Later,
}

impl H2 {
    /// A stream to an upstream that is not open yet.
    pub fn to_upstream(sender: SendRequest<Bytes>, limits: Rc<Limits>) -> H2 {
        H2 {
            outlet: Outlet::Ask(sender),
            head: None,
            waiting: Bytes::new(),
            outgoing: Outgoing::Done,
            ended: false,
            inlet: Inlet::Nothing,
            data: Bytes::new(),
            incoming: Incoming::Nothing,
            owed: None,
            trailers: None,
            wants_http1: false,
            limits,
        }
    }

    /// Puts the head of a request in; it leaves with what follows it. `websocket`: what follows is a tunnel, once the upstream has agreed
    /// (RFC 8441 §4).
    pub fn ask(&mut self, mut head: Asked<()>, framing: Framing, websocket: bool) {
        self.promise_body(framing);
        if websocket {
            head.0.extensions_mut().insert(Protocol::from_static("websocket"));
            self.outgoing = Outgoing::Later;
        }
        self.head = Some(head);
    }

    /// Reads a head of the answer to a request with `method` into `response`, which is empty; after an informational one another
    /// follows.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        method: Method,
        response: &mut Response,
        limits: &Limits,
    ) -> Poll<Result<(), Error>> {
        let Inlet::Answer(future) = &mut self.inlet else {
            let is_to_come = self.head.is_some();
            return if is_to_come { Poll::Pending } else { Poll::Ready(Err(cut_error())) };
        };
        let bad = |crime| Error::upstream(Phase::Wait, crime, Retry::Never);
        if let Poll::Ready(Some(informational)) = future.poll_informational(cx) {
            let head = match informational {
                Ok(head) => head,
                Err(error) => return Poll::Ready(Err(self.no_answer(&error))),
            };
            return Poll::Ready(convert::response(&head, method, false, response, limits).map_err(bad));
        }
        let answer = match ready!(Pin::new(future).poll(cx)) {
            Ok(answer) => answer,
            Err(error) => return Poll::Ready(Err(self.no_answer(&error))),
        };
        let mut receiver = None;
        let head = answer.map(|body| receiver = Some(body));
        let Some(receiver) = receiver else { return Poll::Ready(Err(cut_error())) };
        let ended = receiver.is_end_stream();
        self.inlet = Inlet::Body(receiver);
        self.incoming = if ended { Incoming::Ended } else { Incoming::Body };
        convert::response(&head, method, ended, response, limits).map_err(bad)?;
        if method == Method::HEAD || response.status.is_bodiless() {
            self.incoming = Incoming::Ended; // whatever else comes is no body
        }
        self.owed = response.body.length.filter(|_| !self.is_read());
        Poll::Ready(Ok(()))
    }

    fn no_answer(&mut self, error: &h2::Error) -> Error {
        self.wants_http1 = error.is_remote() && error.reason() == Some(Reason::HTTP_1_1_REQUIRED);
        fault(error, Phase::Wait)
    }

    /// Whether the upstream has said that it wants this request by HTTP/1.1, of which it has then looked at nothing (RFC 9113 §7).
    pub fn wants_http1(&self) -> bool {
        self.wants_http1
    }

    /// Whether the upstream has reset the stream, or the connection is over.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.outlet {
            Outlet::Body(sender) => sender.poll_reset(cx).map(drop),
            Outlet::Ask(_) => Poll::Pending,
        }
    }

    /// Everything that follows is one body, until the peer ends its half.
    pub fn expect_raw(&mut self) {
        if self.incoming == Incoming::Nothing {
            self.incoming = Incoming::Body;
        }
    }

    /// Says what will follow the head.
    pub fn promise_body(&mut self, framing: Framing) {
        self.outgoing = match framing {
            Framing::None => Outgoing::Done,
            Framing::Length(length) => Outgoing::Length(length),
            Framing::Chunked | Framing::UntilClose => Outgoing::Open,
        };
    }

    /// Whether the message that is being read has been read to its end.
    pub fn is_read(&self) -> bool {
        match self.incoming {
            Incoming::Nothing | Incoming::Ended => true,
            Incoming::Body => self.data.is_empty() && self.is_end_stream(),
            Incoming::Broken => false,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.inlet, Inlet::Body(receiver) if receiver.is_end_stream())
    }

    /// Whether the message that is being read broke a rule.
    pub fn is_broken(&self) -> bool {
        self.incoming == Incoming::Broken
    }

    /// Whether both messages are over.
    pub fn is_clean(&self) -> bool {
        self.ended && self.is_read()
    }

    /// Whether bytes are here already that nobody has asked for.
    pub fn has_more(&self) -> bool {
        !self.data.is_empty()
    }

    /// Makes body bytes available in [`H2::data`]; `false` at the end of the body.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        loop {
            match self.incoming {
                Incoming::Nothing | Incoming::Ended => return Poll::Ready(Ok(false)),
                Incoming::Broken => return Poll::Ready(Err(cut_error())),
                Incoming::Body if !self.data.is_empty() => return Poll::Ready(Ok(true)),
                Incoming::Body => {}
            }
            let Inlet::Body(receiver) = &mut self.inlet else { return Poll::Ready(Err(cut_error())) };
            // Bounded: the library counts empty frames.
            match ready!(receiver.poll_data(cx)) {
                Some(Ok(data)) => self.data = data,
                // An upstream that has answered, and wants nothing more of the request (RFC 9113 §8.1).
                Some(Err(error)) if has_enough(&error, self.owed) => {
                    self.incoming = Incoming::Ended;
                }
                Some(Err(error)) => return Poll::Ready(Err(self.break_off(&error))),
                None => {
                    match ready!(receiver.poll_trailers(cx)) {
                        Ok(None) => {}
                        Ok(Some(trailers)) => match convert::trailers(&trailers, &self.limits) {
                            Ok(trailers) => self.trailers = Some(Box::new(trailers)),
                            Err(_) => {
                                self.incoming = Incoming::Broken;
                                return Poll::Ready(Err(body_error()));
                            }
                        },
                        Err(error) => return Poll::Ready(Err(self.break_off(&error))),
                    }
                    self.incoming = Incoming::Ended;
                }
            }
        }
    }

    /// Takes over what has come of a body, if anything has. What is wrong with it is told by [`H2::poll_data`].
    pub fn look(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        if self.poll_data(&mut nobody).is_ready() {
            self.gather(&mut nobody);
        }
    }

    /// Joins what else has come to [`H2::data`], for as long as that is not taken: many small pieces cost the library more than their bytes,
    /// and it ends the whole connection for it. No more than the window of the stream comes.
    pub fn gather(&mut self, cx: &mut Context<'_>) {
        let Inlet::Body(receiver) = &mut self.inlet else { return };
        if self.incoming != Incoming::Body || self.data.is_empty() {
            return;
        }
        // How it ends is told once more when all this has been taken.
        while let Poll::Ready(Some(Ok(more))) = receiver.poll_data(cx) {
            let data = std::mem::take(&mut self.data);
            let mut all = data.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
            all.extend_from_slice(&more);
            self.data = all.freeze();
        }
    }

    /// The body bytes that are here.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Takes `count` bytes of [`H2::data`] away; the peer may send as many more.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.data.len());
        self.data.advance(count);
        if let Some(owed) = &mut self.owed {
            *owed = owed.saturating_sub(count as u64);
        }
        if let Inlet::Body(receiver) = &mut self.inlet {
            let _ = receiver.flow_control().release_capacity(count); // as many have come
        }
    }

    /// Whether exactly these data end the body.
    pub fn data_is_last(&self) -> bool {
        self.incoming == Incoming::Body && self.is_end_stream()
    }

    /// The trailers that came behind the body.
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        self.trailers.take()
    }

    /// Hands body bytes over, as many as there is room for in the window; says how many. They leave with the next ones, or with the end, or
    /// with [`H2::poll_flush`].
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        let room = match self.outgoing {
            Outgoing::Done | Outgoing::Later | Outgoing::Length(0) => {
                return Poll::Ready(Err(Error::proxy(Phase::Body, Crime::Internal)));
            }
            Outgoing::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Outgoing::Open => usize::MAX,
        };
        let data = data.get(..room.min(PIECE).min(data.len())).unwrap_or(data);
        self.send_waiting()?;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Outlet::Body(sender) = &mut self.outlet else {
            return Poll::Ready(Err(Error::proxy(Phase::Body, Crime::Internal)));
        };
        sender.reserve_capacity(data.len());
        let mut window = sender.capacity();
        while window == 0 {
            window = match ready!(sender.poll_capacity(cx)) {
                Some(Ok(window)) => window,
                Some(Err(error)) => return Poll::Ready(Err(fault(&error, Phase::Send))),
                None => return Poll::Ready(Err(write_error())),
            };
        }
        let taken = window.min(data.len());
        self.waiting = Bytes::copy_from_slice(data.get(..taken).unwrap_or(data));
        if let Outgoing::Length(left) = &mut self.outgoing {
            *left -= taken as u64;
        }
        Poll::Ready(Ok(taken))
    }

    /// Ends the body that was promised, or the half of a tunnel.
    pub fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Error> {
        if self.outgoing == Outgoing::Later {
            return Ok(());
        }
        if let Outgoing::Length(1..) = std::mem::replace(&mut self.outgoing, Outgoing::Done) {
            return Err(Error::proxy(Phase::Body, Crime::Internal));
        }
        if self.ended {
            return Ok(());
        }
        match trailers.filter(|trailers| !trailers.is_empty()) {
            Some(trailers) => {
                self.send_waiting()?;
                self.ended = true;
                match &mut self.outlet {
                    Outlet::Body(sender) => sender.send_trailers(convert::trailers_to(trailers).0),
                    Outlet::Ask(_) => return Ok(()),
                }
                .map_err(|_| write_error())
            }
            None if self.waiting.is_empty() && self.head.is_some() => self.send_head(true),
            None => {
                self.send_head(false)?;
                self.ended = true;
                match &mut self.outlet {
                    Outlet::Body(sender) => sender.send_data(std::mem::take(&mut self.waiting), true),
                    Outlet::Ask(_) => return Ok(()),
                }
                .map_err(|_| write_error())
            }
        }
    }

    /// Whether not a byte of the message has left, its head included.
    pub fn nothing_sent(&self) -> bool {
        self.head.is_some()
    }

    /// Takes back what waits, when not a byte of the message has left.
    pub fn take_back_output(&mut self) {
        if self.head.is_some() {
            self.forget();
        }
    }

    /// How many bytes wait to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes that are here on their way.
    pub fn held(&self) -> usize {
        self.data.len() + self.waiting.len()
    }

    /// Hands over what waits; the connection sends it by itself.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.ended && matches!(self.outlet, Outlet::Body(_)) && self.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(write_error())); // nobody waits for the rest
        }
        if self.head.is_some() && self.outgoing == Outgoing::Done && self.waiting.is_empty() {
            return Poll::Ready(self.send_head(true));
        }
        Poll::Ready(self.send_waiting())
    }

    /// Forgets an answer that has not gone.
    pub fn forget(&mut self) {
        self.head = None;
        self.waiting = Bytes::new();
        self.outgoing = Outgoing::Done;
    }

    fn send_head(&mut self, end: bool) -> Result<(), Error> {
        let sent = match (self.head.take(), &mut self.outlet) {
            (Some(head), Outlet::Ask(sender)) => sender.send_request(head.0, end).map(|(answer, sender)| {
                self.inlet = Inlet::Answer(answer);
                sender
            }),
            _ => return Ok(()),
        };
        match sent {
            Ok(sender) => {
                self.outlet = Outlet::Body(sender);
                self.ended = end;
                Ok(())
            }
            // Nothing has gone over a connection that opens no more streams.
            Err(error) => Err(Error { retry: Retry::Untouched, ..fault(&error, Phase::Send) }),
        }
    }

    fn send_waiting(&mut self) -> Result<(), Error> {
        self.send_head(false)?;
        if self.waiting.is_empty() {
            return Ok(());
        }
        match &mut self.outlet {
            Outlet::Body(sender) => {
                sender.send_data(std::mem::take(&mut self.waiting), false).map_err(|_| write_error())
            }
            Outlet::Ask(_) => Ok(()),
        }
    }

    /// What the library has found wrong, or the peer has ended.
    fn break_off(&mut self, error: &h2::Error) -> Error {
        self.incoming = Incoming::Broken;
        let is_ours = error.is_library() && error.reason() == Some(Reason::PROTOCOL_ERROR);
        if is_ours { body_error() } else { cut_error() } // attack B1
    }
}

impl Drop for H2 {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Outlet::Body(sender) = &mut self.outlet {
            sender.send_reset(Reason::CANCEL);
        }
    }
}

/// What an upstream, or its connection, has done to a stream, and whether the request may go to another one: what was refused, and what came
/// after the last that its connection took, has not been looked at (RFC 9113 §8.7; attack B21).
fn fault(error: &h2::Error, phase: Phase) -> Error {
    let (crime, retry) = match error.reason() {
        _ if error.is_go_away() && error.is_remote() => (Crime::UpstreamClosed, Retry::Untouched),
        Some(Reason::REFUSED_STREAM | Reason::HTTP_1_1_REQUIRED) if error.is_remote() => {
            (Crime::UpstreamReset, Retry::Untouched)
        }
        _ if error.is_library() => (Crime::BadResponse, Retry::IfIdempotent),
        _ if error.is_reset() => (Crime::UpstreamReset, Retry::IfIdempotent),
        _ => (Crime::UpstreamClosed, Retry::IfIdempotent),
    };
    Error::upstream(phase, crime, retry)
}

fn body_error() -> Error {
    Error::upstream(Phase::Body, Crime::BadResponse, Retry::Never)
}

fn cut_error() -> Error {
    Error::upstream(Phase::Body, Crime::Truncated, Retry::Never)
}

fn write_error() -> Error {
    Error::upstream(Phase::Send, Crime::UpstreamClosed, Retry::IfIdempotent)
}

/// Whether an answer that ends so, without its end, is whole: it said how long it is, and all of that is here.
fn has_enough(error: &h2::Error, owed: Option<u64>) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR) && owed == Some(0)
}

impl std::fmt::Debug for H2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "H2({:?}, {:?})", self.incoming, self.outgoing)
    }
}
