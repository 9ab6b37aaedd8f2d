//! fault: what an origin does instead of answering well; `reset:17` in a query or as its manners.

use std::time::Duration;

/// One way of answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// As it should.
    #[default]
    None,
    /// Takes the request and says nothing, for ever.
    Silent,
    /// Sends so many bytes of the answer and resets.
    Reset(usize),
    /// Sends so many bytes of the answer and closes.
    Close(usize),
    /// Sends so many bytes of the answer and then nothing more.
    Stall(usize),
    /// Sends the answer a piece of 64 bytes at a time, with so much time between.
    Drip(Duration),
    /// Sends one of the heads that are no heads (`heads`), by its number.
    Garbage(usize),
    /// Answers as soon as the head of the request is there; its body is read afterwards.
    Early,
    /// Answers as soon as the head of the request is there, and closes without reading its body.
    EarlyClose,
    /// Says that the body has so many bytes more than come, and closes.
    Short(usize),
    /// Sends so many bytes after the end of the body.
    Long(usize),
    /// Answers as it should, in chunks, and resets after so many bytes.
    ChunkedReset(usize),
    /// Answers as it should, in chunks, and closes before the last one.
    ChunkedClose,
    /// Answers as it should, so much later.
    Slow(Duration),
    /// Answers with this status.
    Status(u16),
}

impl Fault {
    /// Reads `name` or `name:number`.
    pub fn read(text: &str) -> Option<Fault> {
        let (name, number) = text.split_once(':').unwrap_or((text, "0"));
        let number: usize = number.parse().ok()?;
        let millis = Duration::from_millis(number as u64);
        Some(match name {
            "well" => Fault::None,
            "silent" => Fault::Silent,
            "reset" => Fault::Reset(number),
            "close" => Fault::Close(number),
            "stall" => Fault::Stall(number),
            "drip" => Fault::Drip(millis),
            "garbage" => Fault::Garbage(number),
            "early" => Fault::Early,
            "early-close" => Fault::EarlyClose,
            "short" => Fault::Short(number),
            "long" => Fault::Long(number),
            "chunked-reset" => Fault::ChunkedReset(number),
            "chunked-close" => Fault::ChunkedClose,
            "slow" => Fault::Slow(millis),
            "status" => Fault::Status(u16::try_from(number).ok()?),
            _ => return None,
        })
    }
}

/// How an origin behaves: `well`, a fault, or `idle:40-60` (closes connections that were idle that long, in ms, at random
/// between the two), or `busy:8-10` (works on eight requests at a time, each for 10 ms; others wait; from the start only), also
/// several with `+` between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// What it does where the query says nothing else.
    pub fault: Fault,
    /// After how long an idle connection is closed, between these two.
    pub idle: Option<(Duration, Duration)>,
    /// How many requests it works on at a time, and for how long on each.
    pub busy: Option<(usize, Duration)>,
}

impl Manner {
    /// Reads it.
    pub fn read(text: &str) -> Option<Manner> {
        let mut manner = Manner::default();
        for part in text.split('+') {
            let millis = |text: &str| text.parse().ok().map(Duration::from_millis);
            if let Some(span) = part.strip_prefix("idle:") {
                let (least, most) = span.split_once('-')?;
                manner.idle = Some((millis(least)?, millis(most)?));
            } else if let Some(work) = part.strip_prefix("busy:") {
                let (at_a_time, time) = work.split_once('-')?;
                manner.busy = Some((at_a_time.parse().ok()?, millis(time)?));
            } else {
                manner.fault = Fault::read(part)?;
            }
        }
        Some(manner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manners_are_read() {
        let manner = Manner::read("idle:40-60+slow:5").expect("manners");
        assert_eq!(manner.idle, Some((Duration::from_millis(40), Duration::from_millis(60))));
        assert_eq!(manner.fault, Fault::Slow(Duration::from_millis(5)));
        assert_eq!(Manner::read("busy:8-10").expect("manners").busy, Some((8, Duration::from_millis(10))));
        assert_eq!(Manner::read("well"), Some(Manner::default()));
        assert_eq!(Manner::read("rude"), None);
        assert_eq!(Fault::read("reset:many"), None);
    }
}
