//! drive: one shared connection at work: frames in and out, and the question whether the peer is still there.

use super::{Bounds, Shared};
use crate::clock;
use crate::net::Stream;
use bytes::Bytes;
use h2::Ping;
use h2::client::{Builder, Connection};
use portunus_message::Tick;
use portunus_wire::h2::frame::{self, END_STREAM, Kind};
use portunus_wire::h2::passing::Passing;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// How much of one answer may come before it is passed on.
const STREAM_WINDOW: u32 = 64 << 10;
/// How much of a request's body may wait to be sent.
const SEND_BUFFER: usize = 64 << 10;
/// How many streams that were given up are remembered, and for how long: what still comes of them is swallowed. What comes of others that
/// there were is a rule broken, and the library ends the whole connection for a number of those.
const GIVEN_UP: usize = 2000;
const GIVEN_UP_FOR: Duration = Duration::from_secs(5);
/// What small pieces of answers that wait in the library may take besides their bytes, by its own account (256 bytes for each): the window
/// of a stream full of the smallest. Those of an answer whose client takes nothing are joined; before its head has been passed on, they are not.
const SMALL_PIECES: usize = 16 << 20;
/// After so many empty pieces of data a connection gets no further requests: at twice as many in its life the library ends it, whatever is
/// under way.
const EMPTY_MAX: usize = 50;
/// How many questions in a row, without anything else coming, are asked in short order. Servers of gRPC hang up on the third
/// that comes within five minutes of the one before.
const PINGS_QUICK: u32 = 3;
/// How far apart the others are.
const PING_SLOW: Duration = Duration::from_secs(330);

/// The library reads more than the largest as less than nothing, and no answer would go on after that.
fn connection_window(streams: usize) -> u32 {
    STREAM_WINDOW.saturating_mul(u32::try_from(streams).unwrap_or(u32::MAX)).min(frame::WINDOW_MAX as u32)
}

/// Begins to speak HTTP/2 over `stream`; none: the peer has gone already.
pub async fn begin(stream: Stream, bounds: &Bounds, keeps: bool, changed: Rc<Notify>) -> Option<Rc<Shared>> {
    let (heard, empty) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let stream = Rc::new(RefCell::new(stream));
    let io = Io {
        stream: Rc::clone(&stream),
        heard: Rc::clone(&heard),
        passing: Passing::default(),
        empty: Rc::clone(&empty),
    };
    let most = if keeps { bounds.streams } else { 1 };
    let connection = Builder::new()
        .enable_push(false)
        .max_concurrent_streams(0)
        .initial_window_size(STREAM_WINDOW)
        // One answer that nobody takes must not hold up the others.
        .initial_connection_window_size(connection_window(most))
        .initial_max_send_streams(most)
        .max_header_list_size(u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(GIVEN_UP)
        .reset_stream_duration(GIVEN_UP_FOR)
        .max_local_error_reset_streams(Some(bounds.resets))
        .data_frame_budget(SMALL_PIECES)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(io)
        .await;
    let (sender, connection) = connection.ok()?;
    let shared = Rc::new(Shared {
        sender: RefCell::new(Some(sender)),
        once: !keeps,
        open: Cell::new(0),
        most,
        opened: clock::read(),
        requests: Cell::new(0),
        idle_since: Cell::new(clock::read()),
        heard: Rc::clone(&heard),
        woken_at: Cell::new(u64::MAX),
        stream: RefCell::new(Some(stream)),
        settled: Cell::new(false),
        changed,
    });
    let watch = Watch::new(heard, empty, bounds);
    tokio::task::spawn_local(drive(connection, watch, Ended(Rc::clone(&shared))));
    Some(shared)
}

/// Says that a connection has ended, whatever the reason.
struct Ended(Rc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.retire();
        self.0.settled.set(true);
        self.0.changed.notify_waiters();
    }
}

/// Works on a connection until it ends, or the peer is not there any more.
async fn drive(mut connection: Connection<Io, Bytes>, mut watch: Watch, ended: Ended) {
    let mut pings = connection.ping_pong();
    let mut timer = pin!(tokio::time::sleep(watch.step));
    poll_fn(|cx| {
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if watch.empty.get() >= EMPTY_MAX {
            ended.0.retire();
        }
        // The peer's SETTINGS are the first that it sends (RFC 9113 §3.4).
        if watch.heard.get() > 0 && !ended.0.settled.replace(true) {
            ended.0.changed.notify_waiters();
        }
        let now = clock::read();
        if watch.outstanding
            && pings.as_mut().is_some_and(|it| matches!(it.poll_pong(cx), Poll::Ready(Ok(_))))
        {
            watch.outstanding = false;
            watch.answered(now);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let ask = || pings.as_mut().is_some_and(|it| it.send_ping(Ping::opaque()).is_ok());
            if watch.is_gone(now, ended.0.open.get() > 0, ask) {
                return Poll::Ready(());
            }
            let next = timer.deadline() + watch.step;
            timer.as_mut().reset(next);
        }
        Poll::Pending
    })
    .await;
}

/// Whether the peer is still there.
struct Watch {
    /// Bytes that have come.
    heard: Rc<Cell<u64>>,
    /// Frames of data without any that have come, and did not end anything.
    empty: Rc<Cell<usize>>,
    seen: u64,
    /// Since when nothing has come.
    quiet_since: Tick,
    /// When it was asked.
    asked: Option<Tick>,
    /// Whether the answer to a ping has not come yet; something else may have, and there is one at a time.
    outstanding: bool,
    /// How many times, without anything but answers to that.
    in_a_row: u32,
    after: Duration,
    time: Duration,
    step: Duration,
}

impl Watch {
    fn new(heard: Rc<Cell<u64>>, empty: Rc<Cell<usize>>, bounds: &Bounds) -> Watch {
        let step = (bounds.ping.min(bounds.ping_time) / 4).max(Duration::from_millis(10));
        Watch {
            heard,
            empty,
            seen: 0,
            quiet_since: clock::read(),
            asked: None,
            outstanding: false,
            in_a_row: 0,
            after: bounds.ping,
            time: bounds.ping_time,
            step,
        }
    }

    /// Hears that it has answered.
    fn answered(&mut self, now: Tick) {
        self.seen = self.heard.get();
        self.asked = None;
        self.quiet_since = now;
    }

    /// Whether it has not answered in time; asks it, when it has been quiet for long with streams under way.
    fn is_gone(&mut self, now: Tick, busy: bool, ask: impl FnOnce() -> bool) -> bool {
        if self.seen != self.heard.get() {
            self.answered(now);
            self.in_a_row = 0;
        }
        if let Some(asked) = self.asked {
            return now.since(asked) >= self.time;
        }
        if !busy {
            self.quiet_since = now;
            return false;
        }
        let after = match self.in_a_row {
            row @ 0..PINGS_QUICK => self.after.saturating_mul(1 << row),
            _ => self.after.max(PING_SLOW),
        };
        if now.since(self.quiet_since) >= after && (self.outstanding || ask()) {
            self.outstanding = true;
            self.asked = Some(now);
            self.in_a_row += 1;
        }
        false
    }
}

/// The connection below, which counts what comes.
struct Io {
    /// Shared with those who ask whether something stands there; nobody holds it while he waits.
    stream: Rc<RefCell<Stream>>,
    heard: Rc<Cell<u64>>,
    passing: Passing,
    empty: Rc<Cell<usize>>,
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Io { stream, heard, passing, empty } = self.get_mut();
        let room = buffer.initialize_unfilled();
        let count = match ready!(stream.borrow_mut().poll_read(cx, room)) {
            Ok(count) => count,
            Err(error) => return Poll::Ready(Err(error)),
        };
        heard.set(heard.get().wrapping_add(count as u64));
        passing.advance(room.get(..count).unwrap_or(&[]), |frame| {
            let is_empty = frame.kind == Kind::Data && frame.length == 0 && !frame.has(END_STREAM);
            empty.set(empty.get() + usize::from(is_empty));
        });
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().stream.borrow_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream.borrow_mut().poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.borrow_mut().poll_end(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_wire::h2::frame::WINDOW_MAX;

    #[test]
    fn a_peer_that_answers_no_ping_is_found_gone_when_it_falls_silent_after_something_else() {
        let heard = Rc::new(Cell::new(0));
        let second = Duration::from_secs(1);
        let mut watch = Watch {
            heard: Rc::clone(&heard),
            empty: Rc::default(),
            seen: 0,
            quiet_since: Tick(0),
            asked: None,
            outstanding: false,
            in_a_row: 0,
            after: second * 10,
            time: second * 5,
            step: second,
        };
        let mut asked = 0;
        let mut is_gone = |watch: &mut Watch, at: u32| {
            watch.is_gone(Tick(0) + second * at, true, || {
                asked += 1;
                asked == 1 // the library sends no second one while the first has no answer
            })
        };
        assert!((1..=10).all(|at| !is_gone(&mut watch, at)));
        assert!(watch.asked.is_some());
        heard.set(1);
        assert!(!is_gone(&mut watch, 11) && watch.asked.is_none());
        assert_eq!(
            (12..60).find(|&at| is_gone(&mut watch, at)),
            Some(26),
            "ten seconds and five after it was heard"
        );
    }

    #[test]
    fn a_connection_has_room_for_all_its_streams_as_far_as_there_is_a_number_for_it() {
        assert_eq!(connection_window(100), 100 * STREAM_WINDOW);
        assert_eq!(connection_window(32_767), 32_767 * STREAM_WINDOW);
        for many in [32_768, 65_536, 1 << 32, usize::MAX] {
            assert_eq!(i64::from(connection_window(many)), WINDOW_MAX);
        }
    }
}
