//! Buffers: a worker's stock of read buffers; whoever waits for nothing holds none.

use crate::stock::Stock;

/// A read buffer.
pub type Bytes = Box<[u8]>;

/// What a head is read into.
pub const SMALL: usize = 16 << 10;
/// What a long body is read into.
pub const LARGE: usize = 64 << 10;

/// A worker's stock. It keeps what comes back, up to a bound; the rest is freed.
#[derive(Debug)]
pub struct Buffers {
    small: Stock<Bytes>,
    large: Stock<Bytes>,
    outputs: Stock<Vec<u8>>,
}

const SMALL_KEPT: usize = 128;
const LARGE_KEPT: usize = 32;
const OUTPUTS_KEPT: usize = 512;

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers {
            small: Stock::new(SMALL_KEPT),
            large: Stock::new(LARGE_KEPT),
            outputs: Stock::new(OUTPUTS_KEPT),
        }
    }
}

impl Buffers {
    /// A buffer of [`SMALL`] bytes.
    pub fn small(&self) -> Bytes {
        self.small.take().unwrap_or_else(|| vec![0; SMALL].into_boxed_slice())
    }

    /// A buffer of [`LARGE`] bytes.
    pub fn large(&self) -> Bytes {
        self.large.take().unwrap_or_else(|| vec![0; LARGE].into_boxed_slice())
    }

    /// An empty vector with room for a head and a small body.
    pub fn output(&self) -> Vec<u8> {
        self.outputs.take().unwrap_or_else(|| Vec::with_capacity(2 << 10))
    }

    /// Takes back what [`Buffers::output`] gave.
    pub fn give_output(&self, mut output: Vec<u8>) {
        if output.capacity() > 0 && output.capacity() <= SMALL {
            output.clear();
            self.outputs.give(output);
        }
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: Bytes) {
        match buffer.len() {
            SMALL => self.small.give(buffer),
            LARGE => self.large.give(buffer),
            _ => {}
        }
    }

    /// Frees half of what nobody has needed since the last time.
    pub fn trim(&self) {
        self.small.trim();
        self.large.trim();
        self.outputs.trim();
    }

    /// Frees all that is in stock.
    pub fn empty(&self) {
        self.small.empty();
        self.large.empty();
        self.outputs.empty();
    }
}
