//! passing: what passes in one direction of a connection, seen from the heads of its frames; for counting only, another reads them.

use super::frame::{HEAD_BYTES, Head};

/// Follows one direction of a connection, from its first frame on.
#[derive(Clone, Debug, Default)]
pub struct Passing {
    head: [u8; HEAD_BYTES],
    have: usize,
    /// How much of the frame is still to come behind its head.
    left: usize,
}

impl Passing {
    /// Hears that `bytes` have passed, and tells of each frame whose head they end.
    pub fn advance(&mut self, mut bytes: &[u8], mut see: impl FnMut(Head)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or(&[]);
            if bytes.is_empty() {
                return;
            }
            let take = (HEAD_BYTES - self.have).min(bytes.len());
            let (now, rest) = bytes.split_at(take);
            if let Some(room) = self.head.get_mut(self.have..self.have + take) {
                room.copy_from_slice(now);
            }
            self.have += take;
            bytes = rest;
            if self.have == HEAD_BYTES {
                let head = Head::read(self.head);
                (self.have, self.left) = (0, head.length);
                see(head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::frame::{self, Kind};

    #[test]
    fn frames_are_seen_however_they_are_cut() {
        let mut bytes = Vec::new();
        for (length, kind, stream) in
            [(0, Kind::Settings, 0), (3, Kind::Headers, 1), (5000, Kind::Data, 1), (8, Kind::Ping, 0)]
        {
            bytes.extend(frame::head(length, kind, 1, stream));
            bytes.resize(bytes.len() + length, b'x');
        }
        for step in [1, 2, 3, 7, 100, 1 << 20] {
            let (mut passing, mut all) = (Passing::default(), Vec::new());
            for piece in bytes.chunks(step) {
                passing.advance(piece, |head| all.push((head.kind, head.length)));
            }
            let told = [(Kind::Settings, 0), (Kind::Headers, 3), (Kind::Data, 5000), (Kind::Ping, 8)];
            assert_eq!(all, told, "{step}");
        }
    }
}
