//! Buffers: a worker's stock of read buffers; whoever waits for nothing holds none.

use std::cell::RefCell;

/// A read buffer.
pub type Bytes = Box<[u8]>;

/// What a head is read into.
pub const SMALL: usize = 16 << 10;
/// What a long body is read into.
pub const LARGE: usize = 64 << 10;

/// A worker's stock. It keeps what comes back, up to a bound; the rest is freed.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Bytes>>,
    large: RefCell<Vec<Bytes>>,
    outputs: RefCell<Vec<Vec<u8>>>,
}

const SMALL_KEPT: usize = 128;
const LARGE_KEPT: usize = 32;
const OUTPUTS_KEPT: usize = 512;

impl Buffers {
    /// A buffer of [`SMALL`] bytes.
    pub fn small(&self) -> Bytes {
        self.small.borrow_mut().pop().unwrap_or_else(|| vec![0; SMALL].into_boxed_slice())
    }

    /// A buffer of [`LARGE`] bytes.
    pub fn large(&self) -> Bytes {
        self.large.borrow_mut().pop().unwrap_or_else(|| vec![0; LARGE].into_boxed_slice())
    }

    /// An empty vector with room for a head and a small body.
    pub fn output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2 << 10))
    }

    /// Takes back what [`Buffers::output`] gave.
    pub fn give_output(&self, mut output: Vec<u8>) {
        let mut stock = self.outputs.borrow_mut();
        if output.capacity() > 0 && output.capacity() <= SMALL && stock.len() < OUTPUTS_KEPT {
            output.clear();
            stock.push(output);
        }
    }

    /// Frees all that is in stock.
    pub fn empty(&self) {
        self.small.take();
        self.large.take();
        self.outputs.take();
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: Bytes) {
        let (stock, kept) = match buffer.len() {
            SMALL => (&self.small, SMALL_KEPT),
            LARGE => (&self.large, LARGE_KEPT),
            _ => return,
        };
        let mut stock = stock.borrow_mut();
        if stock.len() < kept {
            stock.push(buffer);
        }
    }
}
