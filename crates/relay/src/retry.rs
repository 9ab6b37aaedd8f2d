//! retry: may a request be sent again? A rule that is a pure function, and a budget that all workers share.

use crate::grpc;
use crate::plan::{self, NonIdempotent, RetryOn};
use portunus_message::{Crime, Error, Known, Request, Response, Retry, Tick};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Seconds that the budget looks back.
const WINDOW: u64 = 10;
/// Further attempts that are allowed in each second, however few requests there are.
const LEAST: u64 = 3;

/// What is left, in percent of the requests, for those whose host has stopped to answer anybody.
const RESCUES_PERCENT: u32 = 50;

/// When a request may be sent again (RFC 9110 §9.2.2, RFC 9112 §9.3.1), as a pool wants it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// How many attempts a request may take in all.
    pub tries: u32,
    /// How long each may take.
    pub per_try: Option<Duration>,
    /// How many further ones there may be, in percent of the requests.
    pub budget_percent: u32,
    connect: bool,
    reset: bool,
    timeout: bool,
    statuses: [u16; 5],
    grpc_unavailable: bool,
    non_idempotent: NonIdempotent,
}

impl Rule {
    /// The rule that the operator wants.
    pub fn new(plan: &plan::Retry) -> Rule {
        let on = plan.on.as_deref();
        let has = |what, unless_written| on.map_or(unless_written, |list| list.contains(&what));
        let mut statuses = [0; 5];
        let wanted = on.unwrap_or(&[]).iter().filter_map(|what| what.status());
        statuses.iter_mut().zip(wanted).for_each(|(slot, status)| *slot = status);
        Rule {
            tries: plan.tries.max(1),
            per_try: plan.per_try,
            budget_percent: plan.budget_percent,
            connect: has(RetryOn::Connect, true),
            reset: has(RetryOn::Reset, true),
            timeout: has(RetryOn::Timeout, plan.per_try.is_some()),
            statuses,
            grpc_unavailable: has(RetryOn::GrpcUnavailable, false),
            non_idempotent: plan.non_idempotent,
        }
    }

    /// Whether `request` may be sent again although a host may have seen it.
    pub fn is_repeatable(&self, request: &Request) -> bool {
        if request.websocket {
            return false;
        }
        request.method.is_idempotent()
            || match self.non_idempotent {
                NonIdempotent::Off => false,
                NonIdempotent::Key => request.fields.has(Known::IDEMPOTENCY_KEY),
                NonIdempotent::On => true,
            }
    }

    /// Whether `request` may be sent again when nobody is there any more who could answer it.
    pub fn follows_silence(&self, request: &Request) -> bool {
        self.reset && self.is_repeatable(request)
    }

    /// How many further attempts there may be, in percent of the requests, of those whose host has been found to answer nobody any more: while it is stopped they do
    /// not come to it, and they come all at once.
    pub fn rescues_percent(&self) -> u32 {
        if self.budget_percent > 0 { self.budget_percent.max(RESCUES_PERCENT) } else { 0 }
    }

    /// Whether another host may be asked when there is no connection to the first one.
    pub fn changes_host(&self) -> bool {
        self.connect && self.tries > 1
    }

    /// Whether `request` may be sent again after this failure.
    pub fn follows(&self, error: &Error, request: &Request) -> bool {
        match (error.retry, error.crime) {
            (Retry::Never, Crime::FirstByteTimeout | Crime::TryTimeout) => {
                self.timeout && self.is_repeatable(request)
            }
            (Retry::Never, _) => false,
            (Retry::Untouched, Crime::ConnectFailed | Crime::ConnectTimeout | Crime::NoPort) => self.connect,
            // Another host would need one, too.
            (Retry::Untouched, Crime::NoDescriptor | Crime::LowMemory) => false,
            (Retry::Untouched, _) => self.reset,
            (Retry::IfIdempotent, _) => self.reset && self.is_repeatable(request),
        }
    }

    /// Whether `request` may be sent again although this answer came.
    pub fn follows_answer(&self, response: &Response, request: &Request) -> bool {
        let code = response.status.code();
        (code >= 429 && self.statuses.contains(&code) && self.is_repeatable(request))
            || (self.grpc_unavailable && grpc::is_call(request) && grpc::is_unavailable(response))
    }

    /// Whether the body of `request` is worth keeping.
    pub fn keeps_body(&self, request: &Request) -> bool {
        self.is_repeatable(request) || (self.grpc_unavailable && grpc::is_call(request))
    }
}

/// How many further attempts a pool has had, against how many requests: a total outage must never be multiplied.
/// Attempts that met nobody (no connection could be made) do not count: they cost no host anything.
#[derive(Debug, Default)]
pub struct Budget {
    seconds: [Second; WINDOW as usize],
}

/// What came to pass in one second. Slots are used in turn, so an old second is cleared by whoever needs its slot.
#[derive(Debug, Default)]
struct Second {
    number: AtomicU64,
    requests: AtomicU32,
    attempts: AtomicU32,
}

impl Budget {
    /// Hears of requests. A worker tells them together, once in a while.
    pub fn requests(&self, many: u32, now: Tick) {
        if many > 0
            && let Some(second) = self.second(now)
        {
            second.requests.fetch_add(many, Relaxed);
        }
    }

    /// Whether a further attempt is left in the budget.
    pub fn has_left(&self, percent: u32, now: Tick) -> bool {
        let (requests, attempts) = self.sums(now);
        let allowed = (requests * u64::from(percent) / 100).max(if percent > 0 { LEAST * WINDOW } else { 0 });
        attempts < allowed
    }

    /// Takes one further attempt out of the budget, if one is left in it.
    pub fn take(&self, percent: u32, now: Tick) -> bool {
        if !self.has_left(percent, now) {
            return false;
        }
        if let Some(second) = self.second(now) {
            second.attempts.fetch_add(1, Relaxed);
        }
        true
    }

    /// Requests and further attempts within the window.
    fn sums(&self, now: Tick) -> (u64, u64) {
        let oldest = number_of(now).saturating_sub(WINDOW - 1);
        let recent = self.seconds.iter().filter(|second| second.number.load(Relaxed) >= oldest);
        recent.fold((0, 0), |(requests, attempts), second| {
            let more = (second.requests.load(Relaxed), second.attempts.load(Relaxed));
            (requests + u64::from(more.0), attempts + u64::from(more.1))
        })
    }

    fn second(&self, now: Tick) -> Option<&Second> {
        let number = number_of(now);
        let second = self.seconds.get((number % WINDOW) as usize)?;
        let before = second.number.load(Relaxed);
        // Two workers that meet here may lose a count of the other; a budget can bear that.
        if before < number && second.number.compare_exchange(before, number, Relaxed, Relaxed).is_ok() {
            second.requests.store(0, Relaxed);
            second.attempts.store(0, Relaxed);
        }
        Some(second)
    }
}

/// The first second is number 1, so that no slot looks used before it is.
fn number_of(now: Tick) -> u64 {
    now.0 / 1_000_000 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_message::{FieldValue, Method, Phase, Status};

    fn rule(change: impl FnOnce(&mut plan::Retry)) -> Rule {
        let mut plan = plan::Retry::default();
        change(&mut plan);
        Rule::new(&plan)
    }

    fn request(method: Method) -> Request {
        Request { method, ..Request::default() }
    }

    fn failed(crime: Crime, retry: Retry) -> Error {
        Error::upstream(Phase::Wait, crime, retry)
    }

    #[test]
    fn what_was_never_sent_may_go_to_anyone() {
        let refused = failed(Crime::ConnectFailed, Retry::Untouched);
        for method in [Method::GET, Method::POST, Method::PATCH] {
            assert!(rule(|_| ()).follows(&refused, &request(method)));
        }
        let rule = rule(|plan| plan.on = Some(vec![RetryOn::Reset]));
        assert!(!rule.follows(&refused, &request(Method::GET)));
    }

    #[test]
    fn what_may_have_been_seen_is_repeated_only_when_it_is_idempotent() {
        let closed = failed(Crime::UpstreamClosed, Retry::IfIdempotent);
        for (method, may) in [(Method::GET, true), (Method::PUT, true), (Method::POST, false)] {
            assert_eq!(rule(|_| ()).follows(&closed, &request(method)), may);
        }
        let mut handshake = request(Method::GET);
        handshake.websocket = true;
        assert!(!rule(|_| ()).follows(&closed, &handshake));
    }

    #[test]
    fn a_timeout_is_repeated_when_the_pool_bounds_each_attempt_or_says_so() {
        let late = failed(Crime::FirstByteTimeout, Retry::Never);
        let get = request(Method::GET);
        assert!(!rule(|_| ()).follows(&late, &get));
        let bounded = rule(|plan| plan.per_try = Some(Duration::from_secs(1)));
        assert!(bounded.follows(&late, &get) && !bounded.follows(&late, &request(Method::POST)));
        assert!(rule(|plan| plan.on = Some(vec![RetryOn::Timeout])).follows(&late, &get));
    }

    #[test]
    fn an_answer_is_followed_only_when_its_status_is_named() {
        let unavailable = &Response::new(Status::UNAVAILABLE);
        assert!(!rule(|_| ()).follows_answer(unavailable, &request(Method::GET)));
        let rule = rule(|plan| plan.on = Some(vec![RetryOn::Unavailable]));
        assert!(rule.follows_answer(unavailable, &request(Method::GET)));
        assert!(!rule.follows_answer(unavailable, &request(Method::POST)));
        assert!(!rule.follows_answer(&Response::new(Status::INTERNAL), &request(Method::GET)));
    }

    #[test]
    fn a_call_that_nobody_took_is_made_again_where_that_is_wanted() {
        let mut answer = Response::new(Status::OK);
        answer.fields.push(Known::OTHER, b"grpc-status", FieldValue::from_static("14"));
        let mut call = request(Method::POST);
        call.fields.add(Known::CONTENT_TYPE, FieldValue::from_static("application/grpc"));
        let rule = rule(|plan| plan.on = Some(vec![RetryOn::GrpcUnavailable]));
        assert!(rule.follows_answer(&answer, &call) && rule.keeps_body(&call));
        assert!(!rule.follows_answer(&answer, &request(Method::POST)));
        answer.body.will_come(None); // it had begun to answer
        assert!(!rule.follows_answer(&answer, &call));
        assert!(!Rule::new(&plan::Retry::default()).keeps_body(&call));
    }

    #[test]
    fn a_post_needs_a_word_of_the_operator_and_a_key_where_he_wants_one() {
        let closed = failed(Crime::UpstreamClosed, Retry::IfIdempotent);
        let mut post = request(Method::POST);
        let key = rule(|plan| plan.non_idempotent = NonIdempotent::Key);
        assert!(!key.follows(&closed, &post));
        assert!(rule(|plan| plan.non_idempotent = NonIdempotent::On).follows(&closed, &post));
        post.fields.add(Known::IDEMPOTENCY_KEY, FieldValue::from_static("7"));
        assert!(key.follows(&closed, &post) && !rule(|_| ()).follows(&closed, &post));
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn an_outage_is_multiplied_by_a_tenth_at_most() {
        let budget = Budget::default();
        let (mut requests, mut attempts) = (0u64, 0u64);
        for at in (0..60 * SECOND).step_by(1000) {
            budget.requests(1, Tick(at));
            requests += 1;
            attempts += u64::from(budget.take(10, Tick(at)));
        }
        assert!(attempts <= requests / 10, "{attempts} of {requests}");
        assert!(attempts >= requests * 9 / 100, "{attempts} of {requests}");
    }

    #[test]
    fn three_a_second_are_always_allowed_unless_there_is_no_budget() {
        let budget = Budget::default();
        let allowed = |at: u64, percent| (0..1000).filter(|_| budget.take(percent, Tick(at))).count();
        assert_eq!(allowed(0, 0), 0);
        assert_eq!(allowed(0, 10), 30);
        assert_eq!(allowed(5 * SECOND, 10), 0);
        assert_eq!(allowed(10 * SECOND, 10), 30);
    }

    #[test]
    fn old_seconds_are_forgotten() {
        let budget = Budget::default();
        budget.requests(10_000, Tick(0));
        assert_eq!(budget.sums(Tick(9 * SECOND)), (10_000, 0));
        assert_eq!(budget.sums(Tick(10 * SECOND)), (0, 0));
        budget.requests(5, Tick(10 * SECOND));
        assert_eq!(budget.sums(Tick(10 * SECOND)), (5, 0));
    }
}
