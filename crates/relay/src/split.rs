//! Split: which of a route's pools a request goes to — by weight, by chance or by what it brings, and by the canary's share.

use crate::canary::Canary;
use crate::plan;
use portunus_message::fields::FieldValue;
use portunus_message::{FieldName, Known, Request, Response};
use std::sync::Arc;

/// How a route's requests are shared between pools.
#[derive(Debug, Default)]
pub struct Split {
    /// The pools by weight: index, and the sum of the weights up to and with this one.
    pub forward: Vec<(u32, u64)>,
    /// By what a request stays with its part.
    pub by: Option<By>,
    /// The pool whose share moves by itself.
    pub canary: Option<Arc<Canary>>,
}

/// By what a request stays with its part.
#[derive(Debug)]
pub enum By {
    /// By this cookie, which is set where it is missing; and what stands behind its value.
    Cookie(Box<str>, Box<str>),
    /// By this header field.
    Header(FieldName),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The index of the pool.
    pub pool: u32,
    /// The value of the cookie that the client has to be given.
    pub cookie: Option<u64>,
}

impl By {
    /// As planned, or why it cannot be.
    pub fn new(plan: &plan::Split) -> Result<By, String> {
        match plan {
            plan::Split::Cookie { name, ttl } => {
                let age = ttl.map(|ttl| format!("; Max-Age={}", ttl.as_secs())).unwrap_or_default();
                Ok(By::Cookie(name.as_str().into(), format!("; Path=/; HttpOnly; SameSite=Lax{age}").into()))
            }
            plan::Split::Header(name) => {
                let field = FieldName::new(name).ok_or_else(|| format!("`{name}` is no header field"))?;
                Ok(By::Header(field))
            }
        }
    }
}

impl Split {
    /// Where `request` goes; `random` decides where nothing else does.
    pub fn place(&self, request: &Request, random: u64) -> Option<Place> {
        if let ([(only, _)], None) = (self.forward.as_slice(), &self.canary) {
            return Some(Place { pool: *only, cookie: None });
        }
        let (number, cookie) = self.number(request, random);
        let pool = match &self.canary {
            Some(canary) if canary.live.share().has(number) => canary.pool,
            // Drawn anew, so that the canary takes from all of them alike.
            Some(_) => self.by_weight(spread(&number.to_be_bytes()))?,
            None => self.by_weight(number)?,
        };
        Some(Place { pool, cookie })
    }

    /// The pool at `number` of the way through the weights. A pool that gets more weight takes from its neighbours in the
    /// list, so who had it keeps it.
    fn by_weight(&self, number: u64) -> Option<u32> {
        let sum = self.forward.last().map_or(0, |(_, sum)| *sum);
        let point = u64::try_from((u128::from(number) * u128::from(sum)) >> 64).ok()?;
        self.forward.iter().find(|(_, upto)| point < *upto).map(|(pool, _)| *pool)
    }

    /// The number that decides, and the cookie to set.
    fn number(&self, request: &Request, random: u64) -> (u64, Option<u64>) {
        match &self.by {
            None => (random, None),
            Some(By::Header(name)) => (request.fields.get(name).map_or(random, spread), None),
            Some(By::Cookie(name, _)) => match request.cookie(name) {
                Some(value) => (spread(value), None),
                None => (spread(text(random).as_bytes()), Some(random)),
            },
        }
    }

    /// Gives the client the cookie that brings it back to the same part.
    pub fn mark(&self, place: Place, response: &mut Response) {
        if let (Some(random), Some(By::Cookie(name, behind))) = (place.cookie, &self.by) {
            let field = format!("{name}={}{behind}", text(random));
            if let Some(field) = FieldValue::new(field.as_bytes()) {
                response.fields.add(Known::SET_COOKIE, field);
            }
        }
    }
}

fn text(random: u64) -> String {
    format!("{random:016x}")
}

/// A number for a text, the same for ever, and spread over all numbers (FNV-1a with a last mix).
fn spread(text: &[u8]) -> u64 {
    let folded = text.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = (folded ^ (folded >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Share;
    use std::time::Duration;

    fn request(field: Option<(Known, &str)>) -> Request {
        let mut request = Request::default();
        if let Some((name, value)) = field {
            request.fields.add(name, FieldValue::new(value.as_bytes()).unwrap());
        }
        request
    }

    fn split(weights: [u64; 2], by: Option<By>) -> Split {
        Split { forward: vec![(0, weights[0]), (1, weights[0] + weights[1])], by, canary: None }
    }

    fn cookie() -> Option<By> {
        By::new(&plan::Split::Cookie { name: "part".into(), ttl: Some(Duration::from_secs(60)) }).ok()
    }

    #[test]
    fn a_client_stays_with_its_part_and_shares_are_kept() {
        let by_user = By::new(&plan::Split::Header("User-Agent".into())).ok();
        let (split, wider) = (split([95, 5], by_user), split([90, 10], cookie()));
        assert!(wider.by.is_some());
        let of = |user: u32, split: &Split| {
            let request = request(Some((Known::USER_AGENT, &format!("user-{user}"))));
            let places: Vec<_> =
                (0..3u64).map(|random| split.place(&request, random << 60).unwrap()).collect();
            assert!(places.iter().all(|place| *place == places[0]));
            places[0].pool
        };
        let second = (0..20_000).filter(|&user| of(user, &split) == 1).count();
        assert!((900..1_100).contains(&second), "{second}");
    }

    #[test]
    fn who_was_in_the_smaller_part_stays_when_it_grows() {
        let value = |user: u32| request(Some((Known::COOKIE, &format!("part={user}"))));
        let (narrow, wide) = (split([95, 5], cookie()), split([80, 20], cookie()));
        for user in 0..5_000 {
            let pool = |split: &Split| split.place(&value(user), 0).unwrap().pool;
            assert!(pool(&narrow) == 0 || pool(&wide) == 1);
        }
    }

    #[test]
    fn a_client_without_the_cookie_is_given_one_that_brings_it_back() {
        let split = split([50, 50], cookie());
        for random in (0..64u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let place = split.place(&request(None), random).unwrap();
            let mut response = Response::default();
            split.mark(place, &mut response);
            let set = response.fields.get(Known::SET_COOKIE).unwrap();
            let text = std::str::from_utf8(set).unwrap();
            assert!(text.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"), "{text}");
            let back = request(Some((Known::COOKIE, text.split(';').next().unwrap())));
            assert_eq!(split.place(&back, 1).unwrap(), Place { cookie: None, ..place });
        }
    }

    #[test]
    fn a_canary_takes_its_share_from_all() {
        let plan = plan::Canary {
            pool: "next".into(),
            from: Share(10_000),
            to: Share(50_000),
            step: Share(5_000),
            every: Duration::from_secs(1),
            abort: "errors > 1%".into(),
            requests: 1,
        };
        let canary = Arc::new(Canary::new(&plan, 7, None).unwrap());
        let split = Split { canary: Some(Arc::clone(&canary)), ..split([1, 1], None) };
        let mut numbers = (0..10_000u64).map(|at| at << 50 | at);
        let count = |split: &Split, numbers: &mut dyn Iterator<Item = u64>| {
            numbers.filter(|&random| split.place(&request(None), random).unwrap().pool == 7).count()
        };
        let spread = || (0..10_000u64).map(|at| (at << 50).wrapping_mul(0x9e37_79b9));
        assert!((900..1_100).contains(&count(&split, &mut spread())));
        canary.live.set_share(Share(0));
        assert_eq!(count(&split, &mut numbers), 0);
        canary.live.set_share(Share::WHOLE);
        assert_eq!(count(&split, &mut spread()), 10_000);
    }
}
