//! runners: tasks that serve streams, one after the other; for each stream to be given a task of its own would cost more than its way through it.

use super::{Arrived, Running, stream};
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A task that serves a stream, or waits for one.
#[derive(Default)]
struct Runner {
    next: Cell<Option<(Arrived, Running)>>,
    waker: OnceCell<Waker>,
    /// Whether the task is over.
    gone: Cell<bool>,
}

thread_local! {
    /// Those of this thread that wait, the one that has waited least last.
    static WAITING: RefCell<Vec<Rc<Runner>>> = const { RefCell::new(Vec::new()) };
}

/// Serves a stream in a task.
pub(super) fn serve(arrived: Arrived, running: Running) {
    while let Some(runner) = WAITING.with_borrow_mut(Vec::pop) {
        // One that is gone belonged to a runtime that has ended.
        if let Some(waker) = runner.waker.get().filter(|_| !runner.gone.get()) {
            runner.next.set(Some((arrived, running)));
            waker.wake_by_ref();
            return;
        }
    }
    let runner = Rc::new(Runner::default());
    runner.next.set(Some((arrived, running)));
    tokio::task::spawn_local(run(runner));
}

async fn run(runner: Rc<Runner>) {
    let _end = End(&runner);
    loop {
        let (arrived, running) = poll_fn(|cx| runner.poll_next(cx)).await;
        stream(arrived, running).await;
        let waits = WAITING.with_borrow_mut(|waiting| {
            let has_room = waiting.len() < WAITING_MAX;
            if has_room {
                waiting.push(Rc::clone(&runner));
            }
            has_room
        });
        if !waits {
            return;
        }
    }
}

impl Runner {
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<(Arrived, Running)> {
        self.waker.get_or_init(|| cx.waker().clone()); // a task has the same one for as long as it lives
        self.next.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Says that the task is over, however it ends.
struct End<'a>(&'a Runner);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.gone.set(true);
    }
}

/// How many wait, at most; each holds the memory of an exchange under way.
const WAITING_MAX: usize = 64;
