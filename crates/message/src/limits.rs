//! Limits: the bounds every layer must respect; docs/limits.md has a row for each field.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Every bound, with its default. The names of the fields, with `-` for `_`, are the names in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections at one time; 0 means: from the descriptor limit, with a tenth kept back.
    pub connections: usize,
    /// A PROXY header, from accept to its end.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub proxy_header_time: Duration,
    /// A PROXY header, with its extensions.
    pub proxy_header_bytes: usize,
    /// A TLS handshake with a client, from accept to its end.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub handshake_time: Duration,
    /// The same, while more than `handshakes` are under way.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub handshake_time_pressed: Duration,
    /// TLS handshakes under way at one time before each has less time.
    pub handshakes: usize,
    /// From accept, or from the first byte of a further request, to the end of its head.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub header_time: Duration,
    /// Names, values and 32 bytes for each field of a request.
    pub header_bytes: usize,
    /// One header line.
    pub header_line: usize,
    /// One header name.
    pub header_name: usize,
    /// Fields of a request, each cookie counted.
    pub header_count: usize,
    /// Names with an underscore that a request's fields may have; those with another one are dropped.
    pub underscores: Vec<Box<str>>,
    /// The request target.
    pub url_bytes: usize,
    /// A request's body.
    pub body_bytes: u64,
    /// A body kept so that it can be sent again.
    pub replay_bytes: usize,
    /// A request's body without progress.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub body_idle: Duration,
    /// Bytes a second that a body must reach, after `body_rate_after`.
    pub body_rate: u64,
    /// When `body_rate` begins to count.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub body_rate_after: Duration,
    /// An answer that the client does not read.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub response_idle: Duration,
    /// Bytes a second that a client must read, after `response_rate_after`.
    pub response_rate: u64,
    /// When `response_rate` begins to count.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub response_rate_after: Duration,
    /// A client connection between two requests.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub keep_alive: Duration,
    /// The same, while three quarters of all connections are used.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub keep_alive_pressed: Duration,
    /// Requests of one client connection.
    pub requests: u64,
    /// Requests that one HTTP/2 connection may have under way; 0: HTTP/2 is not spoken.
    pub streams: usize,
    /// The same, while the worker has more to do than it can, or memory is short: further ones wait.
    pub streams_pressed: usize,
    /// What a client may send of one body over HTTP/2 before any of it has been taken.
    pub stream_window: usize,
    /// The same for all bodies of a connection together.
    pub connection_window: usize,
    /// Requests of an HTTP/2 connection that a client may take back unanswered, in `resets_time`.
    pub resets: usize,
    /// In which time they are counted.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub resets_time: Duration,
    /// Those that are taken back later than this count for nothing.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub resets_early: Duration,
    /// Requests of an HTTP/2 connection that are so wrong that they are reset.
    pub resets_sent: usize,
    /// Frames of an HTTP/2 connection that carry nothing, in `idle_frames_time`.
    pub idle_frames: usize,
    /// In which time they are counted.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub idle_frames_time: Duration,
    /// Age of one client connection.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub age: Duration,
    /// What is read of a body that nobody wants, so that the connection can be kept.
    pub drain_bytes: usize,
    /// How long that may take.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub drain_time: Duration,
    /// How long a closed connection is still read, so that the answer is not lost.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub linger: Duration,
    /// Extensions on one chunk-size line.
    pub chunk_line: usize,
    /// Extensions of one body.
    pub chunk_extensions: usize,
    /// Informational answers to one request.
    pub informational: u32,
    /// Connecting to an upstream.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub connect: Duration,
    /// From the end of a request to the first byte of its answer.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub first_byte: Duration,
    /// An upstream's answer without progress.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub upstream_idle: Duration,
    /// HTTP/2 connections of one worker to one upstream.
    pub upstream_connections: usize,
    /// Streams at one time on each of them.
    pub upstream_streams: usize,
    /// Streams that an upstream makes us reset before its connection is closed.
    pub upstream_resets: usize,
    /// Silence on an HTTP/2 connection to an upstream with streams under way, until it is asked whether it is there.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub upstream_ping: Duration,
    /// How long the answer to that may take.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub upstream_ping_time: Duration,
    /// The fields of an upstream's answer.
    pub upstream_header_bytes: usize,
    /// How many of them.
    pub upstream_header_count: usize,
    /// Tunnels without a byte in either direction.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub tunnel_idle: Duration,
    /// How long a request may have to wait for its turn on a busy worker before requests and connections are refused; 0: however
    /// long.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub worker_lag: Duration,
    /// From the start of a new program to its being ready to take over.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub upgrade_time: Duration,
    /// The log queue, in bytes.
    pub log_queue: usize,
    /// One logged value, in bytes.
    pub log_field: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            connections: 0,
            proxy_header_time: seconds(3),
            proxy_header_bytes: 4 << 10,
            handshake_time: seconds(10),
            handshake_time_pressed: seconds(2),
            handshakes: 1000,
            header_time: seconds(10),
            header_bytes: 32 << 10,
            header_line: 16 << 10,
            header_name: 256,
            header_count: 100,
            underscores: Vec::new(),
            url_bytes: 8 << 10,
            body_bytes: 100 << 20,
            replay_bytes: 64 << 10,
            body_idle: seconds(30),
            body_rate: 500,
            body_rate_after: seconds(10),
            response_idle: seconds(30),
            response_rate: 500,
            response_rate_after: seconds(30),
            keep_alive: seconds(60),
            keep_alive_pressed: seconds(5),
            requests: 10_000,
            streams: 100,
            streams_pressed: 15,
            stream_window: 64 << 10,
            connection_window: 1 << 20,
            resets: 100,
            resets_time: seconds(30),
            resets_early: Duration::from_millis(100),
            resets_sent: 50,
            idle_frames: 100,
            idle_frames_time: seconds(10),
            age: seconds(3600),
            drain_bytes: 64 << 10,
            drain_time: seconds(1),
            linger: seconds(2),
            chunk_line: 256,
            chunk_extensions: 4 << 10,
            informational: 8,
            connect: seconds(2),
            first_byte: seconds(60),
            upstream_idle: seconds(60),
            upstream_connections: 8,
            upstream_streams: 100,
            upstream_resets: 1000,
            upstream_ping: seconds(10),
            upstream_ping_time: seconds(5),
            upstream_header_bytes: 64 << 10,
            upstream_header_count: 200,
            tunnel_idle: seconds(300),
            worker_lag: Duration::from_millis(100),
            upgrade_time: seconds(10),
            log_queue: 8 << 20,
            log_field: 2 << 10,
        }
    }
}
