//! count: from the results of checks to a state; it takes several of one kind to change it.

use portunus_relay::plan::Health;
use portunus_relay::standing::Probe;

/// A state, and how many results in a row speak against it.
#[derive(Debug)]
pub struct Count {
    probe: Probe,
    against: u32,
}

impl Count {
    /// Begins with what was known before.
    pub fn new(probe: Probe) -> Count {
        Count { probe, against: 0 }
    }

    /// Hears of a result; the new state when it has changed. The first good answer of an unknown host is enough.
    pub fn heard(&mut self, passed: bool, plan: &Health) -> Option<Probe> {
        let (fits, needed) = match self.probe {
            Probe::Unknown if passed => (false, 1),
            Probe::Unknown | Probe::Passing => (passed, plan.fails),
            Probe::Failing => (!passed, plan.passes),
        };
        self.against = if fits { 0 } else { self.against + 1 };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.probe = if passed { Probe::Passing } else { Probe::Failing };
        Some(self.probe)
    }

    /// Whether the next results may change it.
    pub fn in_doubt(&self) -> bool {
        self.against > 0 || self.probe == Probe::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_relay::plan::Check;
    use std::time::Duration;

    fn states(results: &str) -> String {
        let every = Duration::from_secs(1);
        let plan = Health { check: Check::Tcp, every, timeout: every, fails: 3, passes: 2 };
        let mut count = Count::new(Probe::Unknown);
        let one = |result: char| match count.heard(result == '+', &plan) {
            Some(Probe::Passing) => 'P',
            Some(Probe::Failing) => 'F',
            _ if count.in_doubt() => '?',
            _ => '.',
        };
        results.chars().map(one).collect()
    }

    #[test]
    fn it_takes_several_of_one_kind() {
        assert_eq!(states("++++"), "P...");
        assert_eq!(states("---+"), "??F?");
        assert_eq!(states("+--+--+---"), "P??.??.??F");
        assert_eq!(states("----+-+-++-"), "??F.?.?.?P?");
    }
}
