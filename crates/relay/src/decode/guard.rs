//! guard: what is run for one exchange costs nobody else anything: it is ended when it panics, or when its time is over.

use crate::worker::Worker;
use std::future::Future;
use std::ops::DerefMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs a future, and ends it when it panics or its time is over.
pub struct Guarded<'a, F> {
    /// What is run.
    pub future: Pin<F>,
    /// Who runs it.
    pub worker: &'a Worker,
    /// Its deadline.
    pub key: usize,
}

/// How a guarded future has ended.
pub enum End<T> {
    /// By itself.
    Done(T),
    /// By a bug of ours.
    Panicked,
    /// It has had all its time.
    Cut,
}

impl<T, F> Future for Guarded<'_, F>
where
    F: DerefMut<Target: Future<Output = T>> + Unpin,
{
    type Output = End<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End<T>> {
        if self.worker.is_draining() && self.worker.deadlines.is_cut(self.key, self.worker.clock.refresh()) {
            return Poll::Ready(End::Cut);
        }
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(End::Done(output)),
            Err(_) => Poll::Ready(End::Panicked),
        }
    }
}
