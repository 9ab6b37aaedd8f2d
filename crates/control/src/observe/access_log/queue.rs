//! queue: blocks of lines on their way from the workers to the writer; bounded, and never waited for.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Some whole lines.
#[derive(Debug, Default)]
pub struct Block {
    /// The lines, each with its end.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub lines: u64,
}

/// The queue between workers and writer. What does not fit is dropped and counted.
#[derive(Debug)]
pub struct Queue {
    /// Guards all that is below it; held for a copy of one block at most, never for I/O.
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Block>,
    /// Memory of the blocks that wait and of the one being written.
    bytes: usize,
    bytes_max: usize,
    spare: Vec<Vec<u8>>,
    dropped: u64,
    /// Lines of the block that is being written.
    writing: u64,
    closed: bool,
    woken: bool,
}

/// What the writer is to do next.
#[derive(Debug)]
pub enum Next {
    /// Write this.
    Block(Block),
    /// Somebody called [`Queue::wake`], or the time is over.
    Nothing,
    /// All is written and no more will come.
    Closed,
}

impl Queue {
    /// An empty queue for at most `bytes_max` bytes, but two blocks at least.
    pub fn new(bytes_max: usize) -> Queue {
        let state = State { bytes_max: bytes_max.max(BYTES_MIN), ..State::default() };
        Queue { state: Mutex::new(state), arrived: Condvar::new() }
    }

    /// Takes the lines of `block` and leaves it empty, with memory for the next ones. When they do not fit, they are dropped and counted.
    pub fn push(&self, block: &mut Block) {
        if block.lines == 0 {
            return;
        }
        let mut state = self.lock();
        state.take(block);
        block.bytes.clear();
        block.lines = 0;
        drop(state);
        self.arrived.notify_one();
    }

    /// The next block, when there is one within `wait`. The caller gives it back with [`Queue::done`].
    pub fn pop(&self, wait: Duration) -> Next {
        let state = self.lock();
        let (mut state, _) = self
            .arrived
            .wait_timeout_while(state, wait, |s| s.waiting.is_empty() && !s.closed && !s.woken)
            .unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
        match state.waiting.pop_front() {
            Some(block) => {
                state.writing = block.lines;
                Next::Block(block)
            }
            None if state.closed => Next::Closed,
            None => Next::Nothing,
        }
    }

    /// Takes back the memory of a block that has been written.
    pub fn done(&self, mut block: Block) {
        let mut state = self.lock();
        state.writing = 0;
        state.bytes = state.bytes.saturating_sub(block.bytes.capacity());
        if state.spare.len() < SPARE_MAX && block.bytes.capacity() <= 2 * BLOCK_BYTES {
            block.bytes.clear();
            state.spare.push(block.bytes);
        }
    }

    /// Counts lines that could not be written.
    pub fn drop_lines(&self, lines: u64) {
        self.lock().dropped += lines;
    }

    /// Counts the last lines of the block that is being written, which will not be.
    pub fn give_up(&self, lines: u64) {
        let mut state = self.lock();
        state.dropped += lines;
        state.writing = 0;
    }

    /// How many lines were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// How many lines wait.
    pub fn waiting(&self) -> u64 {
        self.lock().waiting()
    }

    /// How many lines would be lost if nothing were written any more: those of a block that is half written count as lost.
    pub fn unwritten(&self) -> u64 {
        let state = self.lock();
        state.dropped + state.writing + state.waiting()
    }

    /// From now on the queue holds at most `bytes_max`, but two blocks at least.
    pub fn set_bound(&self, bytes_max: usize) {
        self.lock().bytes_max = bytes_max.max(BYTES_MIN);
    }

    /// Lets the writer look around.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.arrived.notify_one();
    }

    /// Nothing will come any more; the writer ends when it has written what waits.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Whether [`Queue::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn waiting(&self) -> u64 {
        self.waiting.iter().map(|block| block.lines).sum()
    }

    /// Appends to the last block where there is room, so that many small pushes do not take a whole block each.
    fn take(&mut self, block: &mut Block) {
        if let Some(last) = self.waiting.back_mut()
            && last.bytes.capacity() - last.bytes.len() >= block.bytes.len()
        {
            last.bytes.extend_from_slice(&block.bytes);
            last.lines += block.lines;
            return;
        }
        let bytes = self.bytes + block.bytes.capacity();
        if bytes > self.bytes_max {
            self.dropped += block.lines;
            return;
        }
        self.bytes = bytes;
        let fresh = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES + LINE_ROOM));
        let full = Block { bytes: std::mem::replace(&mut block.bytes, fresh), lines: block.lines };
        self.waiting.push_back(full);
    }
}

/// When a block is full.
pub const BLOCK_BYTES: usize = 64 << 10;

/// Room for the line that fills a block.
pub const LINE_ROOM: usize = 16 << 10;

const BYTES_MIN: usize = 2 * (BLOCK_BYTES + LINE_ROOM);

const SPARE_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Block {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES + LINE_ROOM);
        bytes.extend_from_slice(text.as_bytes());
        Block { bytes, lines: text.lines().count() as u64 }
    }

    fn pop(queue: &Queue) -> Option<Block> {
        match queue.pop(Duration::ZERO) {
            Next::Block(block) => Some(block),
            Next::Nothing | Next::Closed => None,
        }
    }

    #[test]
    fn small_pushes_share_a_block() {
        let queue = Queue::new(1 << 20);
        for _ in 0..1000 {
            queue.push(&mut block("a\nb\n"));
        }
        assert_eq!(queue.waiting(), 2000);
        let first = pop(&queue).unwrap();
        assert_eq!(first.lines, 2000);
        queue.done(first);
        assert!(pop(&queue).is_none());
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn t35_what_does_not_fit_is_dropped_and_counted_exactly() {
        let queue = Queue::new(3 * (BLOCK_BYTES + LINE_ROOM));
        let text = "x".repeat(79).to_owned() + "\n";
        let full = text.repeat(1000);
        for _ in 0..10 {
            let mut full = block(&full);
            queue.push(&mut full);
            assert_eq!((full.lines, full.bytes.len()), (0, 0));
        }
        assert_eq!(queue.dropped(), 7000);
        assert_eq!(queue.waiting(), 3000);
        let one = pop(&queue).unwrap();
        queue.push(&mut block(&full));
        assert_eq!(queue.dropped(), 8000, "what is being written counts too");
        assert_eq!(queue.unwritten(), 8000 + 1000 + 2000);
        queue.give_up(400);
        assert_eq!(queue.unwritten(), 8400 + 2000);
        queue.done(one);
        queue.push(&mut block(&full));
        assert_eq!(queue.dropped(), 8400);
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let queue = Queue::new(1 << 20);
        queue.push(&mut block("a\n"));
        queue.close();
        assert!(pop(&queue).is_some());
        assert!(matches!(queue.pop(Duration::from_secs(60)), Next::Closed));
    }
}
