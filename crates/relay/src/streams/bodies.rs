//! bodies: what comes of the bodies of requests, held to the windows that were granted and the lengths that were declared (RFC 9113 §5.2, §6.1).

use super::incoming::{Data, State, take};
use super::{Inner, Stream, Wrong};
use portunus_wire::h2::frame::{self, Code, Head as FrameHead};
use std::rc::Rc;

/// A piece of a body begins.
pub(super) fn begin(inner: &mut Inner, head: &FrameHead) -> Result<(), Wrong> {
    inner.has_begun(head.stream)?;
    inner.incoming.window -= head.length as i64;
    if inner.incoming.window < 0 {
        return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
    }
    let stream = inner.find(head.stream).map(Rc::clone);
    if stream.is_none() && head.stream <= inner.last {
        swallow(inner, head)?;
    }
    inner.incoming.state = State::Data(Data {
        stream: None,
        padded: head.has(frame::PADDED),
        left: head.length,
        padding: 0,
        unused: 0,
        ends: head.has(frame::END_STREAM),
    });
    if head.has(frame::PADDED) && head.length == 0 {
        return Err(Wrong::Connection(Code::FRAME_SIZE_ERROR));
    }
    if let Some(stream) = stream {
        if stream.ended.get() {
            return Err(Wrong::Stream(stream.id, Code::STREAM_CLOSED));
        }
        stream.window_in.set(stream.window_in.get() - head.length as i64);
        if stream.window_in.get() < 0 && head.length > 0 {
            return Err(Wrong::Stream(stream.id, Code::FLOW_CONTROL_ERROR));
        }
        if let State::Data(data) = &mut inner.incoming.state {
            data.stream = Some(stream);
        }
    }
    if head.length == 0 {
        return end(inner);
    }
    Ok(())
}

/// A piece for a stream that is over: if we have ended it, the client may not have known.
fn swallow(inner: &mut Inner, head: &FrameHead) -> Result<(), Wrong> {
    let at = inner.find_given_up(head.stream);
    let Some((at, one)) = at.and_then(|at| Some((at, inner.given_up.get_mut(at)?))) else {
        return Err(Wrong::Connection(Code::STREAM_CLOSED));
    };
    one.window -= head.length as i64;
    if one.window < 0 {
        return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
    }
    if head.has(frame::END_STREAM) {
        inner.given_up.remove(at);
    }
    Ok(())
}

/// Takes over what has come of one. `empty` hears of one that is nothing but padding.
pub(super) fn go_on(inner: &mut Inner, bytes: &mut &[u8], empty: impl FnOnce()) -> Result<(), Wrong> {
    let State::Data(data) = &mut inner.incoming.state else { return Ok(()) };
    if std::mem::take(&mut data.padded) {
        data.padding = take(bytes, 1).first().copied().map_or(0, usize::from);
        data.left -= 1;
        data.unused += 1;
        if data.padding > data.left {
            return Err(Wrong::Connection(Code::PROTOCOL_ERROR)); // RFC 9113 §6.1
        }
        if data.padding == data.left && !data.ends {
            empty();
        }
    }
    let count = (data.left - data.padding).min(bytes.len());
    let piece = take(bytes, count);
    data.left -= count;
    match &data.stream {
        Some(stream) if stream.is_served() && !piece.is_empty() => {
            if let Some(owed) = stream.owed.get() {
                let Some(left) = owed.checked_sub(count as u64) else {
                    let id = stream.id;
                    data.unused += count;
                    data.stream = None;
                    return Err(Wrong::Stream(id, Code::PROTOCOL_ERROR)); // attack B1
                };
                stream.owed.set(Some(left));
            }
            stream.inbox.borrow_mut().extend_from_slice(piece);
        }
        _ => data.unused += count,
    }
    if data.left == data.padding {
        let skipped = data.left.min(bytes.len());
        take(bytes, skipped);
        data.unused += skipped;
        data.left -= skipped;
        data.padding -= skipped;
    }
    if data.left > 0 {
        if let Some(stream) = &data.stream {
            stream.wake();
        }
        return Ok(());
    }
    end(inner)
}

/// A piece of a body is whole.
fn end(inner: &mut Inner) -> Result<(), Wrong> {
    let State::Data(data) = std::mem::replace(&mut inner.incoming.state, State::Head) else { return Ok(()) };
    let out = &mut inner.outgoing.out;
    inner.incoming.credit(data.unused, out);
    let Some(stream) = data.stream.filter(|stream| stream.is_served()) else { return Ok(()) };
    if data.unused > 0 && !data.ends {
        inner.incoming.credit_stream(&stream, data.unused, out);
    }
    if data.ends {
        return end_stream(inner, &stream);
    }
    stream.wake();
    Ok(())
}

/// The client has ended its half.
pub(super) fn end_stream(inner: &mut Inner, stream: &Rc<Stream>) -> Result<(), Wrong> {
    if stream.owed.get().is_some_and(|owed| owed > 0) {
        return Err(Wrong::Stream(stream.id, Code::PROTOCOL_ERROR)); // attack B1
    }
    stream.ended.set(true);
    stream.wake();
    if stream.done.get() {
        inner.forget(stream.id, None);
    }
    Ok(())
}
