//! mutate: makes new inputs out of old ones, the same for the same seed.

/// Inputs do not grow beyond this.
const INPUT_BYTES_MAX: usize = 4096;
/// How many of its own inputs a mutator builds on.
const KEPT: usize = 256;

/// A stream of inputs.
pub struct Mutator {
    random: Random,
    pool: Vec<Vec<u8>>,
    seeds: usize,
    words: &'static [&'static [u8]],
    input: Vec<u8>,
}

impl Mutator {
    /// A stream that begins with `seeds` and likes to put in `words`.
    pub fn new(seed: u64, seeds: &[&[u8]], words: &'static [&'static [u8]]) -> Mutator {
        let pool = seeds.iter().map(|seed| seed.to_vec()).collect();
        Mutator { random: Random::new(seed), pool, seeds: seeds.len(), words, input: Vec::new() }
    }

    /// The next input.
    pub fn next_input(&mut self) -> &[u8] {
        // Mostly from a seed: inputs that were changed many times are all refused at their first byte.
        let from = if self.random.below(4) == 0 { self.pool.len() } else { self.seeds };
        let from = self.random.below(from);
        self.input.clear();
        self.input.extend_from_slice(&self.pool[from]);
        let most = 1 + self.random.below(4);
        for _ in 0..=self.random.below(most) {
            self.change();
        }
        self.input.truncate(INPUT_BYTES_MAX);
        if self.random.below(16) == 0 {
            self.keep();
        }
        &self.input
    }

    fn keep(&mut self) {
        if self.pool.len() < self.seeds + KEPT {
            self.pool.push(self.input.clone());
        } else {
            let place = self.seeds + self.random.below(KEPT);
            self.pool[place].clone_from(&self.input);
        }
    }

    fn change(&mut self) {
        let at = self.place();
        let end = (at + 1 + self.random.below(16)).min(self.input.len()).max(at);
        match self.random.below(9) {
            0 if at < self.input.len() => self.input[at] ^= 1 << self.random.below(8),
            1 if at < self.input.len() => self.input[at] = self.random.byte(),
            2 => {
                self.input.drain(at..end);
            }
            3 => {
                let piece = self.input[at..end].to_vec();
                let place = self.random.below(self.input.len() + 1);
                self.insert(place, &piece);
            }
            4 | 5 => {
                let word = self.words[self.random.below(self.words.len())];
                self.insert(at, word);
            }
            6 => {
                // Splices: the rest comes from another input.
                let other = self.random.below(self.pool.len());
                let cut = self.random.below(self.pool[other].len() + 1);
                self.input.truncate(at);
                self.input.extend_from_slice(&self.pool[other][cut..]);
            }
            7 => {
                let count = 1 + self.random.below(300);
                let byte = self.input.get(at).copied().unwrap_or(b'a');
                self.insert(at, &vec![byte; count]);
            }
            _ => {
                let byte = self.random.byte();
                self.insert(at, &[byte]);
            }
        }
    }

    /// Anywhere, or as often where a line begins.
    fn place(&mut self) -> usize {
        let at = self.random.below(self.input.len() + 1);
        if self.random.below(2) == 0 {
            return at;
        }
        self.input[at..].windows(2).position(|two| two == b"\r\n").map_or(at, |end| at + end + 2)
    }

    fn insert(&mut self, at: usize, piece: &[u8]) {
        if self.input.len() + piece.len() <= INPUT_BYTES_MAX {
            self.input.splice(at..at, piece.iter().copied());
        }
    }
}

/// xorshift64*: small, fast, good enough to choose inputs.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to `bound` - 1; `bound` is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 32) as usize % bound
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }
}
