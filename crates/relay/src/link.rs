//! Link: what a message comes by and goes by — an HTTP/1 connection, or one stream of an HTTP/2 connection; bodies move through both in one way.

mod front;
mod h1;
mod h2;

pub use front::Front;
pub use h1::H1;
pub use h2::H2;

use crate::buffers::Buffers;
use crate::net::Stream;
use portunus_message::{Error, Fields, Side};
use portunus_wire::h1::Framing;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What a message comes by and goes by. Heads differ between the two, and whoever reads or writes one asks which it is; nobody else does.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // the large one is the usual one
pub enum Link {
    /// A whole connection.
    H1(H1),
    /// A stream of a client's connection; boxed, as the next, so that the first is no larger for it.
    Front(Box<Front>),
    /// A stream of an upstream's connection.
    H2(Box<H2>),
}

impl Link {
    /// A link over an HTTP/1 connection, which leads to the client or to an upstream.
    pub fn new(stream: Stream, side: Side, buffers: Rc<Buffers>) -> Link {
        Link::H1(H1::new(stream, side, buffers))
    }

    /// The connection, when it is a whole one.
    #[inline]
    pub fn h1(&mut self) -> Option<&mut H1> {
        match self {
            Link::H1(h1) => Some(h1),
            Link::Front(_) | Link::H2(_) => None,
        }
    }

    /// Whether it is one stream of several on a connection.
    pub fn is_stream(&self) -> bool {
        matches!(self, Link::Front(_) | Link::H2(_))
    }

    /// Whether the upstream has said that it wants this request by HTTP/1.1.
    pub fn wants_http1(&self) -> bool {
        matches!(self, Link::H2(h2) if h2.wants_http1())
    }

    /// Everything that follows is one body without frames, until the peer ends its half.
    pub fn expect_raw(&mut self) {
        match self {
            Link::H1(h1) => h1.expect_raw(),
            Link::Front(front) => front.expect_raw(),
            Link::H2(h2) => h2.expect_raw(),
        }
    }

    /// Says what will follow the head that was put into it: a new message begins.
    #[inline]
    pub fn promise_body(&mut self, framing: Framing) {
        match self {
            Link::H1(h1) => h1.promise_body(framing),
            Link::Front(front) => front.promise_body(framing),
            Link::H2(h2) => h2.promise_body(framing),
        }
    }

    /// Whether the message that is being read has been read to its end.
    #[inline]
    pub fn is_read(&self) -> bool {
        match self {
            Link::H1(h1) => h1.is_read(),
            Link::Front(front) => front.is_read(),
            Link::H2(h2) => h2.is_read(),
        }
    }

    /// How much is still to come, when that was declared.
    pub fn declared_left(&self) -> Option<u64> {
        match self {
            Link::H1(h1) => h1.declared_left(),
            Link::Front(front) => front.is_read().then_some(0),
            Link::H2(h2) => h2.is_read().then_some(0),
        }
    }

    /// Whether the message that is being read broke a rule, so that nothing after it may be read.
    pub fn is_broken(&self) -> bool {
        match self {
            Link::H1(h1) => h1.is_broken(),
            Link::Front(front) => front.is_broken(),
            Link::H2(h2) => h2.is_broken(),
        }
    }

    /// How much of the body has been announced and has not been taken: of the chunk, or of the whole.
    #[inline]
    pub fn announced(&self) -> u64 {
        match self {
            Link::H1(h1) => h1.announced(),
            Link::Front(_) | Link::H2(_) => 0,
        }
    }

    /// Whether a new message may be read: the last one is over and nothing came after it.
    #[inline]
    pub fn is_clean(&self) -> bool {
        match self {
            Link::H1(h1) => h1.is_clean(),
            Link::Front(front) => front.is_clean(),
            Link::H2(h2) => h2.is_clean(),
        }
    }

    /// Whether bytes are here already that nobody has asked for.
    #[inline]
    pub fn has_more(&self) -> bool {
        match self {
            Link::H1(h1) => h1.has_more(),
            Link::Front(front) => front.has_more(),
            Link::H2(h2) => h2.has_more(),
        }
    }

    /// Makes body bytes available in [`Link::data`]; `false` at the end of the body.
    #[inline]
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        match self {
            Link::H1(h1) => h1.poll_data(cx),
            Link::Front(front) => front.poll_data(cx),
            Link::H2(h2) => h2.poll_data(cx),
        }
    }

    /// Keeps body bytes together that come while [`Link::data`] is not taken.
    pub fn gather(&mut self, cx: &mut Context<'_>) {
        match self {
            Link::H1(_) => {}
            Link::Front(front) => front.gather(),
            Link::H2(h2) => h2.gather(cx),
        }
    }

    /// The body bytes that are here.
    #[inline]
    pub fn data(&self) -> &[u8] {
        match self {
            Link::H1(h1) => h1.data(),
            Link::Front(front) => front.data(),
            Link::H2(h2) => h2.data(),
        }
    }

    /// Takes `count` bytes of [`Link::data`] away.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        match self {
            Link::H1(h1) => h1.consume(count),
            Link::Front(front) => front.consume(count),
            Link::H2(h2) => h2.consume(count),
        }
    }

    /// Whether exactly these data end the body, so that they may leave together with what ends it.
    pub fn data_is_last(&self) -> bool {
        match self {
            Link::H1(h1) => h1.data_is_last(),
            Link::Front(front) => front.data_is_last(),
            Link::H2(h2) => h2.data_is_last(),
        }
    }

    /// Whether all that is still to be read of the message has come.
    #[inline]
    pub fn is_all_here(&mut self) -> bool {
        match self {
            Link::H1(_) => {}
            Link::Front(front) => front.look(),
            Link::H2(h2) => h2.look(),
        }
        self.is_read() || self.data_is_last()
    }

    /// The trailers that came behind the body, to be asked for when [`Link::poll_data`] has told of its end.
    #[inline]
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        match self {
            Link::H1(h1) => h1.take_trailers(),
            Link::Front(front) => front.take_trailers(),
            Link::H2(h2) => h2.take_trailers(),
        }
    }

    /// Puts body bytes in, framed as promised; says how many were taken.
    #[inline]
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        match self {
            Link::H1(h1) => h1.poll_send(cx, data),
            Link::Front(front) => front.poll_send(cx, data),
            Link::H2(h2) => h2.poll_send(cx, data),
        }
    }

    /// Ends the body that was promised; `trailers` follow it where the other side takes them. Fewer bytes than promised are an error,
    /// which must be seen by the peer (attack A45).
    #[inline]
    pub fn finish(&mut self, trailers: Option<Box<Fields>>) -> Result<(), Error> {
        match self {
            Link::H1(h1) => h1.finish(trailers.as_deref()),
            Link::Front(front) => front.finish(trailers.as_deref()),
            Link::H2(h2) => h2.finish(trailers.as_deref()),
        }
    }

    /// Whether not a byte of the message has left, its head included.
    pub fn nothing_sent(&self) -> bool {
        match self {
            Link::H1(h1) => h1.nothing_sent(),
            Link::Front(front) => front.nothing_sent(),
            Link::H2(h2) => h2.nothing_sent(),
        }
    }

    /// Takes back what waits, when not a byte of the message has left.
    pub fn take_back_output(&mut self) {
        match self {
            Link::H1(h1) => h1.take_back_output(),
            Link::Front(front) => front.take_back_output(),
            Link::H2(h2) => h2.take_back_output(),
        }
    }

    /// How many bytes wait to be sent.
    pub fn waiting(&self) -> usize {
        match self {
            Link::H1(h1) => h1.waiting(),
            Link::Front(_) => 0, // what was handed over is the connection's
            Link::H2(h2) => h2.waiting(),
        }
    }

    /// Bytes that are here on their way.
    pub fn held(&self) -> usize {
        match self {
            Link::H1(h1) => h1.held(),
            Link::Front(front) => front.held(),
            Link::H2(h2) => h2.held(),
        }
    }

    /// Writes what waits.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self {
            Link::H1(h1) => h1.poll_flush(cx),
            Link::Front(front) => front.poll_flush(),
            Link::H2(h2) => h2.poll_flush(cx),
        }
    }

    /// Ends our half.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Link::H1(h1) => h1.stream.poll_end(cx),
            Link::Front(front) => Poll::Ready(front.finish(None).map_err(io::Error::other)),
            Link::H2(h2) => Poll::Ready(h2.finish(None).map_err(io::Error::other)),
        }
    }

    /// Gives the buffers back that nothing is in.
    #[inline]
    pub fn rest(&mut self) {
        if let Link::H1(h1) = self {
            h1.rest();
        }
    }

    /// Makes its end look like the failure that it is, when it is dropped before the message that is being written is whole.
    pub fn reset_on_drop(&mut self) {
        if let Link::H1(h1) = self {
            h1.reset_on_drop();
        }
    }

    /// Forgets what waits to be sent, and what was read and not taken, where that means nothing any more (attack A41).
    pub fn forget(&mut self) {
        match self {
            Link::H1(h1) => h1.forget(),
            Link::Front(front) => front.forget(),
            Link::H2(h2) => h2.forget(),
        }
    }
}
