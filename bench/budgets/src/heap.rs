//! heap: an allocator that counts what threads take that are not excused. Needs unsafe: an allocator is an unsafe trait.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static TAKEN: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static EXCUSED: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counted.
pub struct Counting;

/// From now on, what this thread takes is not counted.
pub fn excuse_this_thread() {
    EXCUSED.set(true);
}

/// How many times all other threads have taken memory.
pub fn taken() -> u64 {
    TAKEN.load(Relaxed)
}

fn count() {
    // a thread that is ending has no such flag any more; what it takes then is nobody's request
    if EXCUSED.try_with(|excused| !excused.get()).unwrap_or(false) {
        TAKEN.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(old, layout) }
    }
}
