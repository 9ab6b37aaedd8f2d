//! incoming: what comes from the client, frame by frame, however its bytes are cut (RFC 9113 §4–§6).

use super::{Fault, Inner, Over, Stream, Streams, Wrong, bodies, control};
use portunus_message::{Crime, Request, Scheme};
use portunus_wire::h2::frame::{self, Code, HEAD_BYTES, Head as FrameHead, Kind, PREFACE};
use portunus_wire::h2::hpack::Decoder;
use portunus_wire::h2::take::RequestHead;
use std::rc::Rc;

/// What is being read.
pub(super) struct Incoming {
    pub(super) state: State,
    /// The beginning of a frame's head.
    pub(super) head: [u8; HEAD_BYTES],
    pub(super) have: usize,
    /// The beginning of a frame that is looked at as a whole.
    pub(super) partial: Vec<u8>,
    /// A block of fields that comes in several frames.
    pub(super) block: Vec<u8>,
    pub(super) open: Option<Block>,
    pub(super) decoder: Decoder,
    /// Room for fields that have to be unpacked, and for cookies.
    pub(super) room: Vec<u8>,
    pub(super) cookies: Vec<u8>,
    /// What the client may still send on all streams together.
    pub(super) window: i64,
    pub(super) window_max: i64,
    /// What has been taken of it, and the client has not been told of.
    pub(super) credit: u32,
    /// The same for a new stream.
    pub(super) window_each: i64,
    /// What it is to be when the client has heard of it (RFC 9113 §6.9.3).
    pub(super) window_wanted: Option<i64>,
    /// How many blocks of fields and further frames have begun.
    pub(super) begun: u32,
}

#[derive(Debug)]
pub(super) enum State {
    /// So much of the preface has come.
    Preface(usize),
    /// The frame behind the preface: it has to be one with settings (RFC 9113 §3.4).
    First,
    Head,
    /// A frame that is looked at when it is whole.
    Whole(FrameHead),
    Data(Data),
}

/// A piece of a body on its way.
#[derive(Debug)]
pub(super) struct Data {
    /// Whom it is for; none: it is swallowed.
    pub(super) stream: Option<Rc<Stream>>,
    /// Whether the length of the padding is still to come.
    pub(super) padded: bool,
    pub(super) left: usize,
    pub(super) padding: usize,
    /// What of it counts for the windows, and nobody takes.
    pub(super) unused: usize,
    pub(super) ends: bool,
}

/// A block of fields that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) id: u32,
    pub(super) ends: bool,
    /// In how many frames it has come so far.
    pub(super) frames: usize,
}

/// What has come.
pub enum Event<P> {
    /// A request's head.
    Request(Head<P>),
    /// One that there is no room for.
    Refused,
    /// One that was so wrong that its stream was reset.
    Malformed,
}

/// Where a request is put.
pub trait Place {
    /// It is empty.
    fn request(&mut self) -> &mut Request;
}

/// The head of a request.
pub struct Head<P> {
    /// Its stream.
    pub stream: Rc<Stream>,
    /// Where it has been put.
    pub place: P,
    /// What is to be said of it, or what is wrong with it.
    pub taken: Result<RequestHead, Crime>,
}

impl Incoming {
    pub(super) fn new(window: i64, window_each: i64) -> Incoming {
        Incoming {
            state: State::Preface(0),
            head: [0; HEAD_BYTES],
            have: 0,
            partial: Vec::new(),
            block: Vec::new(),
            open: None,
            decoder: Decoder::new(TABLE_BYTES),
            room: Vec::new(),
            cookies: Vec::new(),
            window,
            window_max: window,
            credit: 0,
            window_each: window_each.max(frame::WINDOW_USUAL),
            window_wanted: Some(window_each).filter(|window| *window < frame::WINDOW_USUAL),
            begun: 0,
        }
    }

    /// The number of the block of fields, or the other frame that is kept until it is whole, that has begun.
    pub(super) fn in_block(&self) -> Option<u32> {
        (self.open.is_some() || matches!(self.state, State::Whole(_))).then_some(self.begun)
    }

    /// What the client may send, or will be told that it may.
    #[cfg(test)]
    pub(super) fn window_now(&self) -> i64 {
        self.window + i64::from(self.credit)
    }

    pub(super) fn rest(&mut self) {
        for room in [&mut self.partial, &mut self.block, &mut self.room, &mut self.cookies] {
            if room.is_empty() || !matches!(self.state, State::Whole(_)) && self.open.is_none() {
                *room = Vec::new();
            }
        }
    }

    /// As many bytes have been taken as were sent: tells the client, when that is worth a frame.
    pub(super) fn credit(&mut self, count: usize, out: &mut Vec<u8>) {
        self.credit += u32::try_from(count).unwrap_or(0);
        if i64::from(self.credit) * 2 >= self.window_max {
            frame::window_update(0, self.credit, out);
            self.window += i64::from(self.credit);
            self.credit = 0;
        }
    }

    /// The same for one stream.
    pub(super) fn credit_stream(&self, stream: &Stream, count: usize, out: &mut Vec<u8>) {
        let credit = stream.credit.get() + u32::try_from(count).unwrap_or(0);
        stream.credit.set(credit);
        if i64::from(credit) * 2 >= self.window_each {
            frame::window_update(stream.id, credit, out);
            stream.window_in.set(stream.window_in.get() + i64::from(credit));
            stream.credit.set(0);
        }
    }
}

/// What a request is begun with.
pub struct Begin<'a, P> {
    /// Gives a place for a request.
    pub take: &'a dyn Fn() -> P,
    /// Takes it back.
    pub give: &'a dyn Fn(P),
    /// How the connection is secured.
    pub scheme: Scheme,
    /// Whether there is room for another one.
    pub has_room: bool,
}

impl Streams {
    /// Takes over what has come, up to the next request; `bytes` is what is left then. Nothing more is looked at once the connection is over.
    pub fn receive<P: Place>(&self, bytes: &mut &[u8], begin: &Begin<'_, P>) -> Option<Event<P>> {
        let inner = &mut *self.inner.borrow_mut();
        let before = inner.outgoing.out.len();
        let mut event = None;
        while event.is_none() && !bytes.is_empty() && inner.over.is_none() {
            match self.step(inner, bytes, begin) {
                Ok(found) => event = found,
                Err(Wrong::Stream(id, code)) => {
                    if let Some(stream) = inner.find(id).map(Rc::clone) {
                        inner.fail(&stream, Fault::Wrong(Crime::BadFraming));
                    }
                    inner.reset(id, code, self.now.get());
                    event = Some(Event::Malformed);
                }
                Err(Wrong::Connection(code)) => inner.end(code, Over::Wrong),
            }
        }
        if inner.outgoing.out.len() != before {
            self.wake();
        }
        event
    }

    /// Takes one thing over.
    #[inline]
    fn step<P: Place>(
        &self,
        inner: &mut Inner,
        bytes: &mut &[u8],
        begin: &Begin<'_, P>,
    ) -> Result<Option<Event<P>>, Wrong> {
        let incoming = &mut inner.incoming;
        match &mut incoming.state {
            State::Preface(have) => {
                let wanted = PREFACE.get(*have..).unwrap_or(&[]);
                let count = wanted.len().min(bytes.len());
                if take(bytes, count) != wanted.get(..count).unwrap_or(&[]) {
                    return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
                }
                *have += count;
                if *have == PREFACE.len() {
                    incoming.state = State::First;
                }
                Ok(None)
            }
            State::First | State::Head => {
                let count = (HEAD_BYTES - incoming.have).min(bytes.len());
                if let Some(room) = incoming.head.get_mut(incoming.have..incoming.have + count) {
                    room.copy_from_slice(take(bytes, count));
                }
                incoming.have += count;
                if incoming.have < HEAD_BYTES {
                    return Ok(None);
                }
                incoming.have = 0;
                let head = FrameHead::read(incoming.head);
                self.begin_frame(inner, head)?;
                // One that has come whole is not copied.
                if let State::Whole(head) = inner.incoming.state
                    && bytes.len() >= head.length
                {
                    inner.incoming.state = State::Head;
                    return self.frame(inner, &head, take(bytes, head.length), begin);
                }
                Ok(None)
            }
            State::Whole(head) => {
                let head = *head;
                let count = (head.length - incoming.partial.len()).min(bytes.len());
                incoming.partial.extend_from_slice(take(bytes, count));
                if incoming.partial.len() < head.length {
                    return Ok(None);
                }
                incoming.state = State::Head;
                let mut payload = std::mem::take(&mut incoming.partial);
                let done = self.frame(inner, &head, &payload, begin);
                payload.clear();
                inner.incoming.partial = payload;
                done
            }
            State::Data(_) => {
                bodies::go_on(inner, bytes, || self.watch.count_idle(self.now.get())).map(|()| None)
            }
        }
    }

    /// A frame's head has come.
    fn begin_frame(&self, inner: &mut Inner, head: FrameHead) -> Result<(), Wrong> {
        let incoming = &mut inner.incoming;
        if matches!(incoming.state, State::First) && (head.kind != Kind::Settings || head.has(frame::ACK)) {
            return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
        }
        if head.length > frame::LENGTH_USUAL {
            return Err(Wrong::Connection(Code::FRAME_SIZE_ERROR));
        }
        // Nothing may come between the frames of a block (RFC 9113 §6.10).
        let goes_on =
            incoming.open.is_some_and(|block| head.kind == Kind::Continuation && head.stream == block.id);
        if goes_on != (incoming.open.is_some() || head.kind == Kind::Continuation) {
            return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
        }
        self.watch.see(&head, self.now.get());
        if head.kind == Kind::Data {
            return bodies::begin(inner, &head);
        }
        incoming.begun = incoming.begun.wrapping_add(u32::from(!goes_on));
        incoming.state = State::Whole(head);
        Ok(())
    }

    /// A frame without a body is whole.
    fn frame<P: Place>(
        &self,
        inner: &mut Inner,
        head: &FrameHead,
        payload: &[u8],
        begin: &Begin<'_, P>,
    ) -> Result<Option<Event<P>>, Wrong> {
        match head.kind {
            Kind::Headers => return self.headers(inner, head, payload, begin),
            Kind::Continuation => return self.continuation(inner, head, payload, begin),
            Kind::Priority => control::priority(inner, head, payload)?,
            Kind::Reset => control::reset(inner, head, payload)?,
            Kind::Settings => control::settings(inner, head, payload)?,
            Kind::Ping => control::ping(inner, head, payload)?,
            Kind::GoAway => control::go_away(inner, head, payload)?,
            Kind::WindowUpdate => control::window_update(inner, head, payload)?,
            Kind::PushPromise => return Err(Wrong::Connection(Code::PROTOCOL_ERROR)), // RFC 9113 §8.4
            Kind::Data | Kind::Unknown => {}
        }
        Ok(None)
    }
}

/// Takes the first `count` bytes away.
#[inline]
pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (first, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
    *bytes = rest;
    first
}

/// The table that a client's fields may refer to.
const TABLE_BYTES: usize = 4 << 10;
