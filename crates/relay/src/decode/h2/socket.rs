//! socket: what lies between a client's stream and the `h2` crate: bytes pass, and are watched.

use super::watch::Watch;
use crate::net::Stream;
use crate::worker::Worker;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's stream, watched.
pub struct Socket {
    /// There until it is dropped.
    stream: Option<Stream>,
    /// What was read before it was known what is spoken.
    read: Vec<u8>,
    read_at: usize,
    watch: Rc<Watch>,
    worker: Rc<Worker>,
    /// Where the stream goes when this is dropped: the client may still have to hear the last words.
    left: Rc<Cell<Option<Stream>>>,
}

impl Socket {
    /// Over `stream`, of which `read` has come already.
    pub fn new(
        stream: Stream,
        read: Vec<u8>,
        watch: Rc<Watch>,
        worker: Rc<Worker>,
        left: Rc<Cell<Option<Stream>>>,
    ) -> Socket {
        Socket { stream: Some(stream), read, read_at: 0, watch, worker, left }
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or(io::ErrorKind::NotConnected.into())
    }

    fn sent(&self, done: &Poll<io::Result<usize>>) {
        let count = match done {
            Poll::Ready(Ok(count)) => Some(*count),
            Poll::Ready(Err(_)) => return,
            Poll::Pending => None,
        };
        self.watch.sent(count, self.worker.clock.now());
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(before) = self.read.get(self.read_at..).filter(|before| !before.is_empty()) {
            let count = before.len().min(buffer.remaining());
            let now = before.get(..count).unwrap_or(&[]);
            buffer.put_slice(now);
            self.watch.received(now, self.worker.clock.now());
            self.read_at += count;
            if self.read_at == self.read.len() {
                (self.read, self.read_at) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        let start = buffer.filled().len();
        let done = AsyncRead::poll_read(Pin::new(self.stream()?), cx, buffer);
        if done.is_ready() {
            let now = self.worker.clock.refresh();
            self.watch.received(buffer.filled().get(start..).unwrap_or(&[]), now);
        }
        done
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = self.stream()?.poll_write(cx, bytes);
        self.sent(&done);
        done
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = self.stream()?.poll_write_vectored(cx, pieces);
        self.sent(&done);
        done
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_end(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.left.set(self.stream.take());
    }
}
