//! again: what a pool does when a host fails or has no room, as the operator meant it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When a request is sent to another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Retry {
    /// How many attempts a request may take in all; 1 means: no second one.
    pub tries: u32,
    /// How long one attempt may take, from choosing the host to the head of its answer; none: no bound of its own.
    #[serde(with = "portunus_message::duration::optional")]
    #[schemars(with = "Option<String>")]
    pub per_try: Option<Duration>,
    /// Further attempts in percent of the pool's requests of the last ten seconds; three a second are always allowed.
    pub budget_percent: u32,
    /// What is tried again; none: `connect` and `reset`, and `timeout` where there is a bound for one attempt.
    pub on: Option<Vec<RetryOn>>,
    /// Whether requests that are not idempotent may be sent again, too.
    pub non_idempotent: NonIdempotent,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            tries: 2,
            per_try: None,
            budget_percent: 10,
            on: None,
            non_idempotent: NonIdempotent::default(),
        }
    }
}

/// What a route wants of trying again other than its pools do; whatever is none is as the pool has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct RetryChange {
    /// How many attempts a request may take in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<u32>,
    /// How long one attempt may take.
    #[serde(with = "portunus_message::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub per_try: Option<Duration>,
    /// Further attempts in percent of the pool's requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_percent: Option<u32>,
    /// What is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<RetryOn>>,
    /// Whether requests that are not idempotent may be sent again, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub non_idempotent: Option<NonIdempotent>,
}

impl RetryChange {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        *self == RetryChange::default()
    }

    /// What holds on a pool that has `retry` by itself.
    pub fn on(&self, retry: &Retry) -> Retry {
        Retry {
            tries: self.tries.unwrap_or(retry.tries),
            per_try: self.per_try.or(retry.per_try),
            budget_percent: self.budget_percent.unwrap_or(retry.budget_percent),
            on: self.on.clone().or_else(|| retry.on.clone()),
            non_idempotent: self.non_idempotent.unwrap_or(retry.non_idempotent),
        }
    }
}

/// What may lead to another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryOn {
    /// No connection could be made: nothing was sent.
    #[serde(rename = "connect")]
    Connect,
    /// The connection ended, or broke the grammar, before an answer had begun.
    #[serde(rename = "reset")]
    Reset,
    /// No answer came in time.
    #[serde(rename = "timeout")]
    Timeout,
    /// Too Many Requests.
    #[serde(rename = "429")]
    TooMany,
    /// Internal Server Error.
    #[serde(rename = "500")]
    Internal,
    /// Bad Gateway.
    #[serde(rename = "502")]
    BadGateway,
    /// Service Unavailable.
    #[serde(rename = "503")]
    Unavailable,
    /// Gateway Timeout.
    #[serde(rename = "504")]
    GatewayTimeout,
    /// `UNAVAILABLE`, of gRPC, before any message.
    #[serde(rename = "grpc-unavailable")]
    GrpcUnavailable,
}

impl RetryOn {
    /// All of them, with the words of the configuration.
    pub const ALL: &'static [(&'static str, RetryOn)] = &[
        ("connect", RetryOn::Connect),
        ("reset", RetryOn::Reset),
        ("timeout", RetryOn::Timeout),
        ("429", RetryOn::TooMany),
        ("500", RetryOn::Internal),
        ("502", RetryOn::BadGateway),
        ("503", RetryOn::Unavailable),
        ("504", RetryOn::GatewayTimeout),
        ("grpc-unavailable", RetryOn::GrpcUnavailable),
    ];

    /// The status it is for; none for what is no answer.
    pub fn status(self) -> Option<u16> {
        match self {
            RetryOn::Connect | RetryOn::Reset | RetryOn::Timeout | RetryOn::GrpcUnavailable => None,
            RetryOn::TooMany => Some(429),
            RetryOn::Internal => Some(500),
            RetryOn::BadGateway => Some(502),
            RetryOn::Unavailable => Some(503),
            RetryOn::GatewayTimeout => Some(504),
        }
    }
}

/// Whether requests that are not idempotent (POST, PATCH) may be sent again after a host may have seen them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NonIdempotent {
    /// Never.
    #[default]
    Off,
    /// Those with an `Idempotency-Key`.
    Key,
    /// All of them.
    On,
}

/// How many requests a pool has at one time, and what becomes of those that are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Queue {
    /// Requests on the pool at one time.
    pub max_in_flight: InFlight,
    /// Requests that may wait for room; none: a thousand, and with an adaptive bound up to 10,000 that are served in time.
    pub length: Option<u32>,
    /// How long each may wait; none: a second, and hardly at all while the queue does not get empty.
    #[serde(with = "portunus_message::duration::optional")]
    #[schemars(with = "Option<String>")]
    pub wait: Option<Duration>,
}

/// How many requests may be on a pool at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InFlight {
    /// As many as it answers without getting slower.
    #[default]
    Adaptive,
    /// As many as come.
    Unlimited,
    /// So many.
    Most(u32),
}

/// Whose requests wait first where a pool has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// After all others; and they give up their place to others when the queue is full.
    Low,
    /// Neither.
    #[default]
    Normal,
    /// Before all others, and never refused because a worker is late.
    High,
}

impl Urgency {
    /// Whether it is neither.
    pub fn is_normal(&self) -> bool {
        *self == Urgency::Normal
    }
}

/// What a route wants of asking a second host other than its pools do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RouteHedge {
    /// Never.
    Off,
    /// After so long.
    After(Hedge),
}

/// Asking a second host when the first one is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hedge {
    /// After the time within which this percentage of the pool's answers have come.
    pub percentile: u32,
    /// But never later than this.
    #[serde(with = "portunus_message::duration::optional", default)]
    #[schemars(with = "Option<String>")]
    pub max: Option<Duration>,
}
