//! control: frames about a stream or the connection that carry no part of a message (RFC 9113 §6.3–§6.9).

use super::{Fault, GOODBYE, Going, Inner, Wrong};
use portunus_wire::h2::frame::{self, Code, Head as FrameHead, setting};
use std::rc::Rc;

impl Inner {
    /// A frame that no stream may have before it has begun (RFC 9113 §5.1).
    pub(super) fn has_begun(&self, id: u32) -> Result<(), Wrong> {
        let is_ignored = id > self.last && self.going == Going::Last;
        let is_idle = id == 0 || id > self.last && !is_ignored || id.is_multiple_of(2);
        if is_idle { Err(Wrong::Connection(Code::PROTOCOL_ERROR)) } else { Ok(()) }
    }

    /// The client knows how large the windows are that we want: those that are smaller than what all begin with hold now.
    fn hold_to_window(&mut self) {
        let Some(wanted) = self.incoming.window_wanted.take() else { return };
        let less = self.incoming.window_each - wanted;
        self.incoming.window_each = wanted;
        for stream in &self.open {
            stream.window_in.set(stream.window_in.get() - less);
        }
    }
}

/// The client takes a request back.
pub(super) fn reset(inner: &mut Inner, head: &FrameHead, payload: &[u8]) -> Result<(), Wrong> {
    if payload.len() != 4 {
        return Err(Wrong::Connection(Code::FRAME_SIZE_ERROR));
    }
    inner.has_begun(head.stream)?;
    if let Some(stream) = inner.find(head.stream).map(Rc::clone) {
        inner.forget(stream.id, None);
        inner.fail(&stream, Fault::Reset);
    }
    Ok(())
}

pub(super) fn priority(inner: &Inner, head: &FrameHead, payload: &[u8]) -> Result<(), Wrong> {
    let wrong = |code| match inner.find(head.stream) {
        Some(stream) => Wrong::Stream(stream.id, code),
        None => Wrong::Connection(code),
    };
    let Some(on) = payload.first_chunk::<4>().filter(|_| payload.len() == 5) else {
        return Err(wrong(Code::FRAME_SIZE_ERROR));
    };
    if head.stream == 0 || u32::from_be_bytes(*on) & frame::STREAM_MAX == head.stream {
        return Err(wrong(Code::PROTOCOL_ERROR));
    }
    Ok(())
}

pub(super) fn settings(inner: &mut Inner, head: &FrameHead, payload: &[u8]) -> Result<(), Wrong> {
    if head.stream != 0 {
        return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
    }
    if !payload.len().is_multiple_of(6) || (head.has(frame::ACK) && !payload.is_empty()) {
        return Err(Wrong::Connection(Code::FRAME_SIZE_ERROR));
    }
    if head.has(frame::ACK) {
        inner.hold_to_window();
        return Ok(());
    }
    let before = inner.outgoing.window_each;
    for one in payload.chunks_exact(6) {
        let &[a, b, c, d, e, f] = one else { continue };
        apply(inner, u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))?;
    }
    // Once, however often it stands there: there may be many streams.
    move_windows(inner, inner.outgoing.window_each - before)?;
    frame::settings_ack(&mut inner.outgoing.out);
    inner.outgoing.wake_waiting();
    Ok(())
}

/// What may be sent on the streams that are open is so much more, or less; it may be owed (RFC 9113 §6.9.2).
fn move_windows(inner: &Inner, more: i64) -> Result<(), Wrong> {
    for stream in inner.open.iter().filter(|_| more != 0) {
        let window = stream.window_out.get() + more;
        if window > frame::WINDOW_MAX {
            return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
        }
        stream.window_out.set(window);
        if more > 0 {
            stream.wake();
        }
    }
    Ok(())
}

/// One of the client's settings holds from now on (RFC 9113 §6.5.2).
fn apply(inner: &mut Inner, name: u16, value: u32) -> Result<(), Wrong> {
    let protocol_error = Err(Wrong::Connection(Code::PROTOCOL_ERROR));
    match name {
        setting::HEADER_TABLE_SIZE => inner.outgoing.resize_table(value),
        setting::ENABLE_PUSH | setting::ENABLE_CONNECT_PROTOCOL if value > 1 => return protocol_error,
        setting::INITIAL_WINDOW_SIZE => {
            if i64::from(value) > frame::WINDOW_MAX {
                return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
            }
            inner.outgoing.window_each = value.into();
        }
        setting::MAX_FRAME_SIZE => {
            let size = usize::try_from(value).unwrap_or(usize::MAX);
            if !(frame::LENGTH_USUAL..=frame::LENGTH_MAX).contains(&size) {
                return protocol_error;
            }
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn ping(inner: &mut Inner, head: &FrameHead, payload: &[u8]) -> Result<(), Wrong> {
    if head.stream != 0 {
        return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
    }
    let Ok(payload) = <[u8; 8]>::try_from(payload) else {
        return Err(Wrong::Connection(Code::FRAME_SIZE_ERROR));
    };
    if !head.has(frame::ACK) {
        frame::ping(frame::ACK, payload, &mut inner.outgoing.out);
    } else if payload == GOODBYE && inner.going == Going::Told {
        inner.say_last();
    }
    Ok(())
}

pub(super) fn window_update(inner: &mut Inner, head: &FrameHead, payload: &[u8]) -> Result<(), Wrong> {
    let Ok(more) = <[u8; 4]>::try_from(payload) else {
        return Err(Wrong::Connection(Code::FRAME_SIZE_ERROR));
    };
    let more = i64::from(u32::from_be_bytes(more) & frame::STREAM_MAX);
    if head.stream == 0 {
        if more == 0 {
            return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
        }
        inner.outgoing.window += more;
        if inner.outgoing.window > frame::WINDOW_MAX {
            return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
        }
        inner.outgoing.wake_waiting();
        return Ok(());
    }
    inner.has_begun(head.stream)?;
    let Some(stream) = inner.find(head.stream) else { return Ok(()) };
    let window = stream.window_out.get() + more;
    if more == 0 {
        return Err(Wrong::Stream(stream.id, Code::PROTOCOL_ERROR));
    }
    if window > frame::WINDOW_MAX {
        return Err(Wrong::Stream(stream.id, Code::FLOW_CONTROL_ERROR));
    }
    let could = stream.window_out.replace(window) > 0;
    if !could {
        stream.wake();
    }
    Ok(())
}

/// The client begins no more.
pub(super) fn go_away(inner: &mut Inner, head: &FrameHead, payload: &[u8]) -> Result<(), Wrong> {
    if head.stream != 0 {
        return Err(Wrong::Connection(Code::PROTOCOL_ERROR));
    }
    if payload.len() < 8 {
        return Err(Wrong::Connection(Code::FRAME_SIZE_ERROR));
    }
    inner.client_goes = true;
    Ok(())
}
