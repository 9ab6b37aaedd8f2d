//! Body: what comes with a head — nothing, our own bytes, or what still stands on the connection it came by.

use std::fmt;

/// The content of a message. Data that comes from a peer is never held here: it stays on its connection
/// (`Source::Incoming`) and the pump moves it at the pace of the slower side, through the `stages`.
#[derive(Default)]
pub struct Body {
    /// Where the bytes are.
    pub source: Source,
    /// How many bytes there will be; `None` when only the end will tell. Describes the source, before any stage.
    pub length: Option<u64>,
    /// What changes the bytes on their way, first stage first; nearly always empty.
    pub stages: Vec<Box<dyn Stage>>,
}

/// Where a body's bytes are.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// There are none.
    #[default]
    Empty,
    /// Here.
    Bytes(Vec<u8>),
    /// Still to come, on the connection that the head came by.
    Incoming,
}

/// Something that changes a body as it passes: bytes in, bytes out, no I/O. It may hold back what it needs, within a bound.
pub trait Stage {
    /// Takes `input` and appends what may go on to `out`. An error ends the exchange.
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), crate::Error>;
    /// What stands behind the body, told before [`Stage::finish`]; what is given back goes on.
    fn trailers(&mut self, trailers: Option<Box<crate::Fields>>) -> Option<Box<crate::Fields>> {
        trailers
    }
    /// The source has ended: appends what was held back.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), crate::Error>;
    /// The length after this stage when `input` bytes go in, if it can be told.
    fn length(&self, input: u64) -> Option<u64>;
}

impl Body {
    /// No content.
    pub const fn empty() -> Body {
        Body { source: Source::Empty, length: Some(0), stages: Vec::new() }
    }

    /// Content of our own.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Body {
        let bytes = bytes.into();
        let length = u64::try_from(bytes.len()).ok();
        Body { source: Source::Bytes(bytes), length, stages: Vec::new() }
    }

    /// Content still to come, of known or unknown length.
    pub const fn incoming(length: Option<u64>) -> Body {
        Body { source: Source::Incoming, length, stages: Vec::new() }
    }

    /// Becomes one without content.
    pub fn clear(&mut self) {
        self.source = Source::Empty;
        self.length = Some(0);
        self.stages.clear();
    }

    /// Becomes one whose content is still to come.
    pub fn will_come(&mut self, length: Option<u64>) {
        self.source = Source::Incoming;
        self.length = length;
        self.stages.clear();
    }

    /// Whether there is certainly nothing.
    pub fn is_empty(&self) -> bool {
        self.source == Source::Empty || (self.length == Some(0) && self.stages.is_empty())
    }

    /// Adds a stage after those that are there.
    pub fn through(&mut self, stage: impl Stage + 'static) {
        self.stages.push(Box::new(stage));
    }

    /// The length after all stages, if it can be told.
    pub fn final_length(&self) -> Option<u64> {
        self.stages.iter().try_fold(self.length?, |length, stage| stage.length(length))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?}, {:?}, {} stages)", self.source, self.length, self.stages.len())
    }
}
