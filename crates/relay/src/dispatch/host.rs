//! Which site a host belongs to: its own name first, then the longest `*.name` it stands under, then any.

use crate::plan::HostPattern;
use foldhash::fast::FixedState;
use std::collections::HashMap;

/// The hosts of one listener. Its keys are the operator's, so nobody can make them collide.
#[derive(Default)]
pub(super) struct HostTable {
    exact: HashMap<Box<str>, u32, FixedState>,
    under: HashMap<Box<str>, u32, FixedState>,
    any: Option<u32>,
}

impl HostTable {
    /// Adds a pattern in normal form; `false` when it is there already.
    pub(super) fn insert(&mut self, pattern: &HostPattern, site: u32) -> bool {
        match pattern {
            HostPattern::Exact(name) => self.exact.insert(name.as_str().into(), site).is_none(),
            HostPattern::Under(name) => self.under.insert(name.as_str().into(), site).is_none(),
            HostPattern::Any => self.any.replace(site).is_none(),
        }
    }

    /// The site for `host`, which is in normal form, or empty when a client named none.
    pub(super) fn find(&self, host: &str) -> Option<u32> {
        if let Some(&site) = self.exact.get(host) {
            return Some(site);
        }
        if !self.under.is_empty() {
            // A host has at most 255 bytes, so at most 127 labels are asked for.
            let mut rest = host;
            while let Some((label, parent)) = rest.split_once('.') {
                if let Some(&site) = self.under.get(parent).filter(|_| !label.is_empty()) {
                    return Some(site);
                }
                rest = parent;
            }
        }
        self.any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f12_the_nearest_name_wins_and_nobody_falls_in() {
        let mut table = HostTable::default();
        let exact = |name: &str| HostPattern::Exact(name.to_owned());
        let under = |name: &str| HostPattern::Under(name.to_owned());
        assert!(table.insert(&exact("a.example.com"), 0));
        assert!(table.insert(&under("example.com"), 1));
        assert!(table.insert(&under("b.example.com"), 2));
        assert!(!table.insert(&exact("a.example.com"), 3));
        table.insert(&exact("a.example.com"), 0);
        assert_eq!(table.find("a.example.com"), Some(0));
        assert_eq!(table.find("x.example.com"), Some(1));
        assert_eq!(table.find("x.y.example.com"), Some(1));
        assert_eq!(table.find("x.b.example.com"), Some(2));
        assert_eq!(table.find("b.example.com"), Some(1));
        for stranger in ["example.com", "xexample.com", "com", "", "[::1]", "a.example.com.evil"] {
            assert_eq!(table.find(stranger), None, "{stranger}");
        }
        assert!(table.insert(&HostPattern::Any, 9));
        assert_eq!(table.find("anything"), Some(9));
        assert_eq!(table.find(""), Some(9));
    }
}
