//! blocks: fields come in blocks, and become the head of a request, or trailers (RFC 9113 §6.2, §6.10, §8.1).

use super::incoming::{Begin, Block, Event, Head, Incoming, Place};
use super::{Fault, Going, Inner, Stream, Streams, Wrong, bodies, fields_max};
use portunus_wire::h2::frame::{self, Code, Head as FrameHead};
use portunus_wire::h2::take::{Taking, TakingTrailers};
use std::rc::Rc;

impl Streams {
    /// A frame that begins a block.
    pub(super) fn headers<P: Place>(
        &self,
        inner: &mut Inner,
        head: &FrameHead,
        payload: &[u8],
        begin: &Begin<'_, P>,
    ) -> Result<Option<Event<P>>, Wrong> {
        if head.stream == 0 {
            return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
        }
        let mut payload = unpadded(head, payload)?;
        if head.has(frame::PRIORITY) {
            // It may be the padding that reaches into them (RFC 9113 §6.2).
            let short = if head.has(frame::PADDED) { Code::PROTOCOL_ERROR } else { Code::FRAME_SIZE_ERROR };
            let Some((on, rest)) = payload.split_first_chunk::<4>().filter(|(_, rest)| !rest.is_empty())
            else {
                return Err(Wrong::Connection(short));
            };
            let rest = rest.get(1..).unwrap_or(&[]); // behind the weight
            if u32::from_be_bytes(*on) & frame::STREAM_MAX == head.stream {
                return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
            }
            payload = rest;
        }
        let block = Block { id: head.stream, ends: head.has(frame::END_STREAM), frames: 0 };
        if head.has(frame::END_HEADERS) {
            return self.fields(inner, block, payload, begin);
        }
        inner.incoming.block.clear();
        inner.incoming.open = Some(block);
        self.gather(inner, payload)?;
        Ok(None)
    }

    /// A frame that goes on with one.
    pub(super) fn continuation<P: Place>(
        &self,
        inner: &mut Inner,
        head: &FrameHead,
        payload: &[u8],
        begin: &Begin<'_, P>,
    ) -> Result<Option<Event<P>>, Wrong> {
        self.gather(inner, payload)?;
        if !head.has(frame::END_HEADERS) {
            return Ok(None);
        }
        let Some(block) = inner.incoming.open.take() else { return Ok(None) };
        let bytes = std::mem::take(&mut inner.incoming.block);
        self.fields(inner, block, &bytes, begin)
    }

    /// Keeps a part of a block; one that is too long, or in too many parts, ends the connection (attack B9).
    fn gather(&self, inner: &mut Inner, payload: &[u8]) -> Result<(), Wrong> {
        let Incoming { block, open, .. } = &mut inner.incoming;
        let frames = open.as_mut().map_or(0, |open| {
            open.frames += 1;
            open.frames
        });
        if block.len() + payload.len() > fields_max(&self.limits) * 2 || frames > BLOCK_FRAMES_MAX {
            return Err(Wrong::Connection(Code::ENHANCE_YOUR_CALM));
        }
        block.extend_from_slice(payload);
        Ok(())
    }

    /// A block of fields is whole.
    fn fields<P: Place>(
        &self,
        inner: &mut Inner,
        block: Block,
        bytes: &[u8],
        begin: &Begin<'_, P>,
    ) -> Result<Option<Event<P>>, Wrong> {
        if block.id > inner.last {
            return self.request(inner, block, bytes, begin);
        }
        if let Some(stream) = inner.find(block.id).map(Rc::clone) {
            return self.trailers(inner, &stream, block, bytes).map(|()| None);
        }
        if let Some(at) = inner.find_given_up(block.id) {
            inner.given_up.remove(at); // nothing comes behind trailers
            return inner.incoming.swallow(bytes).map(|()| None);
        }
        let was_open = inner.closed.contains(&block.id);
        Err(Wrong::Connection(if was_open { Code::STREAM_CLOSED } else { Code::PROTOCOL_ERROR }))
    }

    fn request<P: Place>(
        &self,
        inner: &mut Inner,
        block: Block,
        bytes: &[u8],
        begin: &Begin<'_, P>,
    ) -> Result<Option<Event<P>>, Wrong> {
        if block.id.is_multiple_of(2) {
            return Err(Wrong::Connection(Code::PROTOCOL_ERROR)); // RFC 9113 §5.1.1
        }
        if inner.going == Going::Last {
            return inner.incoming.swallow(bytes).map(|()| None);
        }
        inner.last = block.id;
        if !begin.has_room {
            inner.incoming.swallow(bytes)?;
            // The client may ask again: nothing was done (RFC 9113 §8.7).
            frame::reset(block.id, Code::REFUSED_STREAM, &mut inner.outgoing.out);
            if !block.ends {
                inner.give_up(block.id, inner.incoming.window_each, self.now.get());
            }
            return Ok(Some(Event::Refused));
        }
        let mut place = (begin.take)();
        let incoming = &mut inner.incoming;
        let Incoming { decoder, room, cookies, .. } = incoming;
        let mut taking = Taking::new(begin.scheme, place.request(), cookies, &self.limits);
        if decoder.decode(bytes, room, STRING_MAX, |field| taking.field(&field)).is_err() {
            (begin.give)(place);
            return Err(Wrong::Connection(Code::COMPRESSION_ERROR));
        }
        let cost = taking.cost();
        let taken = taking.finish(block.ends);
        let window_in = incoming.window_each;
        let stream = Rc::new(Stream::new(block.id, block.ends, window_in, inner.outgoing.window_each));
        let request = place.request();
        stream.owed.set(request.body.length.filter(|_| !block.ends && !request.websocket));
        stream.head_cost.set(cost);
        inner.open.push(Rc::clone(&stream));
        Ok(Some(Event::Request(Head { stream, place, taken })))
    }

    fn trailers(
        &self,
        inner: &mut Inner,
        stream: &Rc<Stream>,
        block: Block,
        bytes: &[u8],
    ) -> Result<(), Wrong> {
        let Incoming { decoder, room, .. } = &mut inner.incoming;
        let mut taking = TakingTrailers::new(stream.head_cost.get(), &self.limits);
        decoder
            .decode(bytes, room, STRING_MAX, |field| taking.field(&field))
            .map_err(|_| Wrong::Connection(Code::COMPRESSION_ERROR))?;
        if stream.ended.get() {
            return Err(Wrong::Stream(stream.id, Code::STREAM_CLOSED));
        }
        if !block.ends {
            return Err(Wrong::Stream(stream.id, Code::PROTOCOL_ERROR)); // RFC 9113 §8.1
        }
        match taking.finish() {
            Ok(fields) if fields.is_empty() => {}
            Ok(fields) => *stream.trailers.borrow_mut() = Some(Box::new(fields)),
            Err(crime) => {
                inner.fail(stream, Fault::Wrong(crime));
                inner.reset(stream.id, Code::PROTOCOL_ERROR, self.now.get());
                self.watch.was_wrong();
                return Ok(());
            }
        }
        bodies::end_stream(inner, stream)
    }
}

impl Incoming {
    /// Reads a block that nobody wants: the peers' common table has to stay in step.
    fn swallow(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        self.decoder
            .decode(bytes, &mut self.room, STRING_MAX, |_| {})
            .map_err(|_| Wrong::Connection(Code::COMPRESSION_ERROR))
    }
}

/// The payload without its padding (RFC 9113 §6.2).
fn unpadded<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<&'a [u8], Wrong> {
    if !head.has(frame::PADDED) {
        return Ok(payload);
    }
    let Some((padding, rest)) = payload.split_first() else {
        return Err(Wrong::Connection(Code::FRAME_SIZE_ERROR));
    };
    let Some(length) = rest.len().checked_sub(usize::from(*padding)) else {
        return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
    };
    Ok(rest.get(..length).unwrap_or(rest))
}

/// A name or a value may be as long as its block, which is bounded: what is too long is answered, not an error of the connection.
const STRING_MAX: usize = 1 << 30;
/// In how many frames a block may come.
const BLOCK_FRAMES_MAX: usize = 8;
