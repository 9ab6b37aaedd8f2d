//! outgoing: what goes to the client, at the pace of its windows and of its socket.

use super::stream::Turn;
use super::{Inner, Stream, Streams};
use crate::net;
use portunus_message::{Fields, Status};
use portunus_wire::h2::frame::{self, Code, HEAD_BYTES, Kind};
use portunus_wire::h2::give::{self, Answer};
use portunus_wire::h2::hpack::Encoder;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What waits to be sent, and how much more may be.
pub(super) struct Outgoing {
    /// Frames that wait for the socket.
    pub(super) out: Vec<u8>,
    /// How much of them it has taken.
    sent: usize,
    encoder: Encoder,
    /// What may be sent on all streams together.
    pub(super) window: i64,
    /// What may be sent on a new stream.
    pub(super) window_each: i64,
    /// Streams that have something to send and no room: each sends some when it is its turn, and stands behind the others again.
    waiting: VecDeque<Rc<Stream>>,
    /// How many have been called and have not come yet.
    called: usize,
    /// The stream of the last frame with a head or a body, and where in `out` that frame begins: its flags may still be changed.
    last: Option<(u32, usize)>,
    /// The memory of a head.
    spare: Answer,
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing {
            out: Vec::new(),
            sent: 0,
            encoder: Encoder::new(),
            window: frame::WINDOW_USUAL,
            window_each: frame::WINDOW_USUAL,
            waiting: VecDeque::new(),
            called: 0,
            last: None,
            spare: Answer::default(),
        }
    }
}

impl Outgoing {
    /// Whether nothing waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The socket has taken so many bytes more.
    pub(super) fn has_taken(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.out.len() {
            self.out.clear();
            (self.sent, self.last) = (0, None);
        }
    }

    /// Lets go of what has been sent, where that is more than what waits: there is always something that waits for a client that reads
    /// more slowly than its answers come.
    pub(super) fn let_go(&mut self) {
        if self.sent > self.pending() {
            self.out.drain(..self.sent);
            self.last = self.last.and_then(|(id, at)| Some((id, at.checked_sub(self.sent)?)));
            self.sent = 0;
        }
    }

    /// How many streams wait for room.
    #[cfg(test)]
    pub(super) fn in_line(&self) -> usize {
        self.waiting.len()
    }

    /// How much waits for the socket.
    pub(super) fn pending(&self) -> usize {
        self.out.len() - self.sent
    }

    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.out = Vec::new();
            self.waiting = VecDeque::new();
            self.spare = Answer::default();
        }
    }

    /// The client's table of fields has another size.
    pub(super) fn resize_table(&mut self, bytes: u32) {
        self.encoder.resize(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// Calls those that wait, as many as there is room for; each calls the next when it leaves some.
    pub(super) fn wake_waiting(&mut self) {
        let room = BUFFERED_MAX.saturating_sub(self.pending());
        let room = if room < PIECE_MIN { 0 } else { room };
        let room = usize::try_from(self.window).unwrap_or(0).min(room);
        while self.called * TURN_MAX < room {
            let Some(stream) = self.waiting.pop_front() else { return };
            stream.turn.set(Turn::Called);
            self.called += 1;
            stream.wake();
        }
    }

    /// A stream that has been called is here; says whether it had been.
    fn has_come(&mut self, stream: &Stream) -> bool {
        let called = stream.turn.get() == Turn::Called;
        if called {
            stream.turn.set(Turn::None);
            self.called -= 1;
        }
        called
    }

    /// Whoever needs no room any more stands in nobody's way.
    fn leave_line(&mut self, stream: &Stream) {
        self.has_come(stream);
        if stream.turn.replace(Turn::None) == Turn::Waits {
            self.waiting.retain(|other| other.id != stream.id);
        }
    }

    /// Writes a frame with a block of fields; one that is too long for that goes in several.
    fn fields(&mut self, id: u32, end: bool, block: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; HEAD_BYTES]);
        block(&mut self.encoder, &mut self.out);
        let start = at + HEAD_BYTES;
        let length = self.out.len() - start;
        let ends = if end { frame::END_STREAM } else { 0 };
        self.last = Some((id, at));
        if length <= FRAME_MAX {
            return self.set_head(at, frame::head(length, Kind::Headers, ends | frame::END_HEADERS, id));
        }
        let rest = self.out.split_off(start + FRAME_MAX);
        self.set_head(at, frame::head(FRAME_MAX, Kind::Headers, ends, id));
        let count = rest.len().div_ceil(FRAME_MAX);
        for (number, piece) in rest.chunks(FRAME_MAX).enumerate() {
            let flags = if number + 1 == count { frame::END_HEADERS } else { 0 };
            self.out.extend_from_slice(&frame::head(piece.len(), Kind::Continuation, flags, id));
            self.out.extend_from_slice(piece);
        }
    }

    fn set_head(&mut self, at: usize, head: [u8; HEAD_BYTES]) {
        if let Some(place) = self.out.get_mut(at..at + HEAD_BYTES) {
            place.copy_from_slice(&head);
        }
    }

    /// Says of what was written last for a stream that it is the end, if that has not left.
    fn end_with_last(&mut self, id: u32) -> bool {
        let Some((_, at)) = self.last.filter(|&(of, at)| of == id && at >= self.sent) else { return false };
        match self.out.get_mut(at + FLAGS_AT) {
            Some(flags) => *flags |= frame::END_STREAM,
            None => return false,
        }
        true
    }
}

/// The longest frame that is sent. Longer ones, where a client takes them, make others wait longer and win nothing.
const FRAME_MAX: usize = frame::LENGTH_USUAL;
/// The flags' place in a frame's head.
const FLAGS_AT: usize = 4;
/// What a stream sends of its body until it is the next one's turn, where others wait: the less, the fairer, and the more often it is woken.
pub(super) const TURN_MAX: usize = 2 * FRAME_MAX;
/// How much may wait for the socket until no more of a body is taken.
const BUFFERED_MAX: usize = 64 << 10;
/// The least piece of a body that is worth a frame, where there is more of it.
const PIECE_MIN: usize = 2 << 10;

impl Streams {
    /// Sends an informational head at once.
    pub fn inform(&self, stream: &Stream, status: Status, fields: &Fields) {
        if !stream.done.get() {
            let Inner { outgoing, .. } = &mut *self.inner.borrow_mut();
            outgoing.fields(stream.id, false, |encoder, out| {
                give::informational(status, fields, encoder, out);
            });
            outgoing.last = None; // no stream ends with it
        }
        self.wake();
    }

    /// Sends the head of the answer.
    pub fn answer(&self, stream: &Stream, mut answer: Answer) {
        if !stream.done.get() {
            let Inner { outgoing, .. } = &mut *self.inner.borrow_mut();
            outgoing.fields(stream.id, false, |encoder, out| answer.give(encoder, out));
            answer.clear();
            outgoing.spare = answer;
        }
        self.wake();
    }

    /// The memory of the last head that was sent, for another one.
    pub fn spare(&self) -> Answer {
        std::mem::take(&mut self.inner.borrow_mut().outgoing.spare)
    }

    /// Takes some of a body over; says how much. Where nothing can be taken, or others wait for room, the stream is woken when it is
    /// its turn.
    pub fn poll_send(&self, cx: &Context<'_>, stream: &Rc<Stream>, data: &[u8]) -> Poll<usize> {
        let Inner { outgoing, .. } = &mut *self.inner.borrow_mut();
        let called = outgoing.has_come(stream);
        let others_wait = outgoing.called > 0 || !outgoing.waiting.is_empty();
        let most = match (others_wait, called) {
            (false, _) => data.len(),
            (true, true) => data.len().min(TURN_MAX),
            (true, false) => 0,
        };
        let mut taken = 0;
        while let Some(rest) = data.get(taken..most).filter(|rest| !rest.is_empty()) {
            let room = BUFFERED_MAX.saturating_sub(outgoing.pending());
            let window = stream.window_out.get().min(outgoing.window);
            let wanted = rest.len().min(FRAME_MAX);
            // Another small frame is not worth it while the socket has enough to do.
            let room = if room < wanted.min(PIECE_MIN) { 0 } else { room };
            let count = window.min(wanted.min(room) as i64);
            let Some(piece) = usize::try_from(count).ok().and_then(|count| rest.get(..count)) else { break };
            if piece.is_empty() {
                break;
            }
            let at = outgoing.out.len();
            outgoing.out.extend_from_slice(&frame::head(piece.len(), Kind::Data, 0, stream.id));
            outgoing.out.extend_from_slice(piece);
            outgoing.last = Some((stream.id, at));
            stream.window_out.set(stream.window_out.get() - count);
            outgoing.window -= count;
            taken += piece.len();
        }
        if taken == 0 && !data.is_empty() {
            stream.wakes(cx);
            if stream.window_out.get() <= 0 {
                // It is woken when its own window grows; if it was its turn, it is the next one's.
                outgoing.wake_waiting();
            } else if stream.turn.replace(Turn::Waits) == Turn::None {
                // Who was called and has found nothing is the first to be called again.
                let place = if called { 0 } else { outgoing.waiting.len() };
                outgoing.waiting.insert(place, Rc::clone(stream));
            }
            return Poll::Pending;
        }
        if !outgoing.waiting.is_empty() {
            outgoing.wake_waiting();
        }
        self.wake();
        Poll::Ready(taken)
    }

    /// Ends our half, with `trailers` where there are some.
    pub fn finish(&self, stream: &Stream, trailers: Option<&Fields>) {
        if stream.done.replace(true) {
            return;
        }
        let inner = &mut *self.inner.borrow_mut();
        let outgoing = &mut inner.outgoing;
        if stream.turn.get() != Turn::None {
            outgoing.leave_line(stream);
            outgoing.wake_waiting();
        }
        match trailers {
            Some(trailers) => outgoing.fields(stream.id, true, |encoder, out| {
                give::trailers(trailers, encoder, out);
            }),
            None if outgoing.end_with_last(stream.id) => {}
            None => {
                outgoing.out.extend_from_slice(&frame::head(0, Kind::Data, frame::END_STREAM, stream.id));
            }
        }
        if stream.ended.get() {
            inner.forget(stream.id, None);
        }
        self.wake();
    }

    /// Nobody serves the stream any more; `unread` bytes were taken of it and not used. If our half is not over, it is reset; if the
    /// client's is not, the rest of it is not wanted (RFC 9113 §8.1).
    pub fn leave(&self, stream: &Stream, unread: usize, code: Code) {
        if stream.left.replace(true) {
            return;
        }
        let inner = &mut *self.inner.borrow_mut();
        let before = inner.outgoing.out.len();
        let left = stream.inbox.take().len() + unread;
        inner.incoming.credit(left, &mut inner.outgoing.out);
        if stream.fault().is_none() {
            match (stream.done.replace(true), stream.ended.get()) {
                (true, true) => {}
                (true, false) => inner.reset(stream.id, Code::NO_ERROR, self.now.get()),
                (false, _) => inner.reset(stream.id, code, self.now.get()),
            }
        }
        inner.outgoing.leave_line(stream);
        inner.outgoing.wake_waiting();
        if inner.outgoing.out.len() != before {
            self.wake();
        }
    }

    /// Says that `count` bytes of a stream's body have been taken: the client may send as many more.
    pub fn taken(&self, stream: &Stream, count: usize) {
        let Inner { incoming, outgoing, .. } = &mut *self.inner.borrow_mut();
        let before = outgoing.out.len();
        incoming.credit(count, &mut outgoing.out);
        if !stream.ended.get() && stream.fault().is_none() {
            incoming.credit_stream(stream, count, &mut outgoing.out);
        }
        if outgoing.out.len() != before {
            self.wake();
        }
    }

    /// Sends what waits. `Ready`: it has all gone.
    pub fn poll_flush(&self, cx: &mut Context<'_>, socket: &mut net::Stream) -> Poll<io::Result<()>> {
        let now = self.now.get();
        let outgoing = &mut self.inner.borrow_mut().outgoing;
        while let Some(rest) = outgoing.out.get(outgoing.sent..).filter(|rest| !rest.is_empty()) {
            match socket.poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    outgoing.has_taken(count);
                    self.watch.sent(Some(count), now);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.watch.sent(None, now);
                    outgoing.let_go();
                    outgoing.wake_waiting();
                    return Poll::Pending;
                }
            }
        }
        outgoing.wake_waiting();
        match socket.poll_flush(cx) {
            Poll::Pending => {
                self.watch.sent(None, now);
                Poll::Pending
            }
            done => {
                self.watch.sent(Some(0), now);
                done
            }
        }
    }

    /// Whether so much waits for the socket that the client, which takes nothing, is not listened to.
    pub fn is_full(&self) -> bool {
        self.inner.borrow().outgoing.pending() > BUFFERED_MAX * 2
    }
}
