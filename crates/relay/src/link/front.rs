//! front: a link over one stream of a client's HTTP/2 connection.

use crate::streams::{Fault, Stream, Streams};
use portunus_message::{Crime, Error, Fields, Phase, Response, Status};
use portunus_wire::h1::Framing;
use portunus_wire::h2::frame::Code;
use portunus_wire::h2::give::Answer;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// One stream of a client's HTTP/2 connection. Dropped before its answer is whole, it is reset: what was cut short never looks whole
/// (attack A45).
pub struct Front {
    streams: Rc<Streams>,
    stream: Rc<Stream>,
    /// The head, until the first of its body comes: both leave together, and it can be taken back.
    head: Answer,
    outgoing: Outgoing,
    /// What has been taken from the stream, and how much of it is used.
    data: Vec<u8>,
    used: usize,
    incoming: Incoming,
}

/// What is still to come of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incoming {
    /// Nothing that anybody wants: there is none, or it belongs to a tunnel that is not there yet.
    Nothing,
    Body,
    Ended,
    Broken,
}

/// What is still to be sent of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    Nothing,
    Length(u64),
    Open,
    /// All has been handed over.
    Ended,
}

impl Front {
    /// A request's stream; `has_body`: one follows that is wanted before anything is answered.
    pub fn new(streams: Rc<Streams>, stream: Rc<Stream>, has_body: bool) -> Front {
        Front {
            streams,
            stream,
            head: Answer::default(),
            outgoing: Outgoing::Nothing,
            data: Vec::new(),
            used: 0,
            incoming: if has_body { Incoming::Body } else { Incoming::Nothing },
        }
    }

    /// Puts the head of an answer in; it leaves with what follows it.
    pub fn answer(&mut self, response: &Response, length: Option<u64>, date: &[u8]) {
        self.head = self.streams.spare();
        self.head.take(response, length, date);
    }

    /// Sends an informational head at once.
    pub fn inform(&mut self, status: Status, fields: &Fields) {
        self.streams.inform(&self.stream, status, fields);
    }

    /// Whether the stream is over before its time: the client has reset it, or has broken a rule, or the connection is over.
    pub fn poll_over(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Error> {
        self.check(phase).map_or_else(Poll::Ready, |()| {
            self.stream.wakes(cx);
            Poll::Pending
        })
    }

    /// Whether nothing has ended the stream before its time.
    fn check(&self, phase: Phase) -> Result<(), Error> {
        match self.stream.fault() {
            None => Ok(()),
            Some(Fault::Reset | Fault::Gone) => Err(Error::client(phase, Crime::ClientGone)),
            Some(Fault::Wrong(crime)) => Err(Error::client(phase, crime)),
        }
    }

    /// Everything that follows is one body, until the client ends its half.
    pub fn expect_raw(&mut self) {
        if self.incoming == Incoming::Nothing {
            self.incoming = Incoming::Body;
        }
    }

    /// Says what will follow the head.
    pub fn promise_body(&mut self, framing: Framing) {
        self.outgoing = match framing {
            Framing::None => Outgoing::Nothing,
            Framing::Length(length) => Outgoing::Length(length),
            Framing::Chunked | Framing::UntilClose => Outgoing::Open,
        };
    }

    /// Whether the request has been read to its end.
    pub fn is_read(&self) -> bool {
        match self.incoming {
            Incoming::Nothing | Incoming::Ended => true,
            Incoming::Body => self.data().is_empty() && self.is_all_here(),
            Incoming::Broken => false,
        }
    }

    fn is_all_here(&self) -> bool {
        self.stream.has_ended() && self.stream.is_empty() && self.stream.fault().is_none()
    }

    /// Whether the request broke a rule.
    pub fn is_broken(&self) -> bool {
        self.incoming == Incoming::Broken
    }

    /// Whether both messages are over.
    pub fn is_clean(&self) -> bool {
        self.outgoing == Outgoing::Ended && self.is_read()
    }

    /// Whether bytes are here already that nobody has asked for.
    pub fn has_more(&self) -> bool {
        !self.data().is_empty()
    }

    /// Makes body bytes available in [`Front::data`]; `false` at the end of the body.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        match self.incoming {
            Incoming::Nothing | Incoming::Ended => return Poll::Ready(Ok(false)),
            Incoming::Broken => {
                let gone = Error::client(Phase::Body, Crime::ClientGone);
                return Poll::Ready(Err(self.check(Phase::Body).err().unwrap_or(gone)));
            }
            Incoming::Body if !self.data().is_empty() => return Poll::Ready(Ok(true)),
            Incoming::Body => {}
        }
        if let Err(error) = self.check(Phase::Body) {
            self.incoming = Incoming::Broken;
            return Poll::Ready(Err(error));
        }
        self.take_over();
        if !self.data.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.stream.has_ended() {
            self.incoming = Incoming::Ended;
            return Poll::Ready(Ok(false));
        }
        self.stream.wakes(cx);
        Poll::Pending
    }

    /// Takes over what has come of a body, if anything has, and wakes nobody for more.
    pub fn look(&mut self) {
        if self.incoming == Incoming::Body && self.data().is_empty() && self.stream.fault().is_none() {
            self.take_over();
        }
        self.gather();
    }

    fn take_over(&mut self) {
        self.data.clear();
        self.used = 0;
        self.stream.take(&mut self.data);
    }

    /// Joins what else has come to [`Front::data`], for as long as that is not taken. No more than the window of the stream comes.
    pub fn gather(&mut self) {
        if self.incoming == Incoming::Body && !self.data().is_empty() {
            // What is used goes where it is more than what is left: an upstream that is slower than the client never takes all.
            if self.used > self.data().len() {
                self.data.drain(..self.used);
                self.used = 0;
            }
            self.stream.take_more(&mut self.data);
        }
    }

    /// How much memory the body bytes take that are here.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.data.capacity()
    }

    /// The body bytes that are here.
    pub fn data(&self) -> &[u8] {
        self.data.get(self.used..).unwrap_or(&[])
    }

    /// Takes `count` bytes of [`Front::data`] away; the client may send as many more.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.data().len());
        self.used += count;
        self.streams.taken(&self.stream, count);
    }

    /// Whether exactly these data end the body.
    pub fn data_is_last(&self) -> bool {
        self.incoming == Incoming::Body && self.is_all_here()
    }

    /// The trailers that came behind the body.
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        self.stream.take_trailers()
    }

    /// Hands body bytes over, as many as there is room for; says how many.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        let most = match self.outgoing {
            Outgoing::Nothing | Outgoing::Ended | Outgoing::Length(0) => {
                return Poll::Ready(Err(Error::proxy(Phase::Body, Crime::Internal)));
            }
            Outgoing::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Outgoing::Open => usize::MAX,
        };
        self.check(Phase::Body)?;
        self.send_head();
        let data = data.get(..most).unwrap_or(data);
        let taken = ready!(self.streams.poll_send(cx, &self.stream, data));
        if let Outgoing::Length(left) = &mut self.outgoing {
            *left -= taken as u64;
        }
        Poll::Ready(Ok(taken))
    }

    /// Ends the body that was promised, or our half of a tunnel.
    pub fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Error> {
        match std::mem::replace(&mut self.outgoing, Outgoing::Ended) {
            Outgoing::Ended => return Ok(()),
            Outgoing::Length(1..) => {
                self.outgoing = Outgoing::Nothing;
                return Err(Error::proxy(Phase::Body, Crime::Internal));
            }
            Outgoing::Nothing | Outgoing::Length(0) | Outgoing::Open => {}
        }
        self.check(Phase::Body)?;
        self.send_head();
        self.streams.finish(&self.stream, trailers.filter(|trailers| !trailers.is_empty()));
        Ok(())
    }

    /// Whether not a byte of the answer has left, its head included.
    pub fn nothing_sent(&self) -> bool {
        !self.head.is_empty()
    }

    /// Takes back what waits, when not a byte of the answer has left.
    pub fn take_back_output(&mut self) {
        if self.nothing_sent() {
            self.forget();
        }
    }

    /// Bytes that are here on their way.
    pub fn held(&self) -> usize {
        self.data().len()
    }

    /// Hands over what waits; the connection sends it by itself.
    pub fn poll_flush(&mut self) -> Poll<Result<(), Error>> {
        if self.outgoing == Outgoing::Ended {
            return Poll::Ready(Ok(()));
        }
        self.check(Phase::Body)?; // nobody waits for the rest
        self.send_head();
        Poll::Ready(Ok(()))
    }

    /// Forgets an answer that has not gone.
    pub fn forget(&mut self) {
        self.head.clear();
        if self.outgoing != Outgoing::Ended {
            self.outgoing = Outgoing::Nothing;
        }
    }

    fn send_head(&mut self) {
        if !self.head.is_empty() {
            self.streams.answer(&self.stream, std::mem::take(&mut self.head));
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.streams.leave(&self.stream, self.data().len(), Code::INTERNAL_ERROR);
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Front({:?}, {:?}, {:?})", self.stream, self.incoming, self.outgoing)
    }
}
