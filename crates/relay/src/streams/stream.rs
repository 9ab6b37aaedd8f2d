//! stream: one stream, as the task that serves it and the one that drives the connection see it.

use portunus_message::{Crime, Fields};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::task::{Context, Waker};

/// One stream.
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What has come of its body and has not been taken.
    pub(super) inbox: RefCell<Vec<u8>>,
    pub(super) trailers: RefCell<Option<Box<Fields>>>,
    /// Whether the client has ended its half.
    pub(super) ended: Cell<bool>,
    /// How much of the body is still to come, where that was declared.
    pub(super) owed: Cell<Option<u64>>,
    /// How many fields the request's head had, and what they cost: those behind its body count with them.
    pub(super) head_cost: Cell<(usize, usize)>,
    /// What the client may still send.
    pub(super) window_in: Cell<i64>,
    /// What has been taken, and the client has not been told of.
    pub(super) credit: Cell<u32>,
    /// What we may still send.
    pub(super) window_out: Cell<i64>,
    /// Whether our half is over.
    pub(super) done: Cell<bool>,
    /// Whether nobody serves it any more.
    pub(super) left: Cell<bool>,
    /// Where it stands in the line for room to send in.
    pub(super) turn: Cell<Turn>,
    fault: Cell<Option<Fault>>,
    waker: RefCell<Option<Waker>>,
}

/// Where a stream stands that has something to send and no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not in the line.
    #[default]
    None,
    /// In the line.
    Waits,
    /// It has been called, and may send.
    Called,
}

/// What has ended a stream before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client has taken it back.
    Reset,
    /// The connection is over.
    Gone,
    /// The client has broken a rule.
    Wrong(Crime),
}

impl Stream {
    pub(super) fn new(id: u32, ended: bool, window_in: i64, window_out: i64) -> Stream {
        Stream {
            id,
            inbox: RefCell::default(),
            trailers: RefCell::default(),
            ended: Cell::new(ended),
            owed: Cell::default(),
            head_cost: Cell::default(),
            window_in: Cell::new(window_in),
            credit: Cell::default(),
            window_out: Cell::new(window_out),
            done: Cell::default(),
            left: Cell::default(),
            turn: Cell::default(),
            fault: Cell::default(),
            waker: RefCell::default(),
        }
    }

    /// What has ended it before its time.
    #[inline]
    pub fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// Whether somebody takes what comes.
    pub(super) fn is_served(&self) -> bool {
        self.fault.get().is_none() && !self.left.get()
    }

    /// Whether nothing more comes: all has been said, though some may not have been taken.
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether all that has come has been taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.inbox.borrow().is_empty() && self.trailers.borrow().is_none()
    }

    /// Gives what has come of the body, for an empty vector.
    #[inline]
    pub fn take(&self, empty: &mut Vec<u8>) {
        std::mem::swap(&mut *self.inbox.borrow_mut(), empty);
    }

    /// Appends what has come to what was taken before.
    pub fn take_more(&self, data: &mut Vec<u8>) {
        data.append(&mut self.inbox.borrow_mut());
    }

    /// The trailers that stood behind the body.
    #[inline]
    pub fn take_trailers(&self) -> Option<Box<Fields>> {
        self.trailers.borrow_mut().take()
    }

    /// Whom to wake when something has come, or there is room.
    #[inline]
    pub fn wakes(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// It is over before its time.
    pub(super) fn fail(&self, fault: Fault) {
        if self.fault.get().is_none() {
            self.fault.set(Some(fault));
        }
        self.done.set(true);
        self.wake();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({}, ended: {}, done: {})", self.id, self.ended.get(), self.done.get())
    }
}
