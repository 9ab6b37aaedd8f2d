//! Error: which side, in which phase, what crime, may it be tried again.

use crate::Status;
use std::fmt;

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who asked.
    Client,
    /// Who was to answer.
    Upstream,
    /// We.
    Proxy,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Phase {
    Accept,
    Head,
    Filter,
    Pick,
    Connect,
    Send,
    Wait,
    Body,
    Tally,
}

/// May the request be tried again?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// No.
    Never,
    /// Nothing of it reached an upstream: anyone may have it.
    Untouched,
    /// It may have been seen: only when it is idempotent.
    IfIdempotent,
}

macro_rules! crimes {
    ($($(#[$doc:meta])* $id:ident $word:literal $status:literal,)+) => {
        /// What went wrong. Each has one word for logs and metrics and one status for the client.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Crime { $($(#[$doc])* $id,)+ }

        impl Crime {
            /// Every crime, in order.
            pub const ALL: &'static [Crime] = &[$(Crime::$id,)+];
            /// The word in logs and metrics.
            pub const fn word(self) -> &'static str { match self { $(Crime::$id => $word,)+ } }
            /// The status a client is answered with, while it can still be answered.
            pub const fn status(self) -> Status {
                match Status::new(match self { $(Crime::$id => $status,)+ }) { Some(status) => status, None => Status::INTERNAL }
            }
        }
    };
}

crimes! {
    /// A connection at a `listen … proxy-protocol` is from nobody who is believed (attack A47).
    UntrustedProxy "untrusted-proxy" 403,
    /// A PROXY header is missing, breaks the grammar, or is longer than limit `proxy-header-bytes` (attack A47).
    BadProxyHeader "bad-proxy-header" 400,
    /// Limit `proxy-header-time`: the PROXY header did not arrive in time.
    ProxyHeaderTimeout "proxy-header-timeout" 408,
    /// The head breaks the grammar of RFC 9112.
    MalformedHead "malformed-head" 400,
    /// The framing fields are contradictory, doubled or not understood (attacks A1–A7).
    BadFraming "bad-framing" 400,
    /// A transfer coding that is well-formed but not `chunked`.
    UnknownCoding "unknown-coding" 501,
    /// A chunk, its size or its extension breaks the grammar or a bound (attacks A13–A17).
    BadChunk "bad-chunk" 400,
    /// No `Host`, more than one, or a bad one (attack A28).
    BadHost "bad-host" 400,
    /// The target is malformed (attacks A26, A27).
    BadTarget "bad-target" 400,
    /// The target holds NUL, a control byte or a backslash, or climbs above the root (attack F1).
    ForbiddenPath "forbidden-path" 400,
    /// `Connection` names a field that must not be dropped (attack A29).
    BadConnection "bad-connection" 400,
    /// A field that may stand once stands twice (attack F11).
    DoubledField "doubled-field" 400,
    /// The body is not what its type says.
    BadBody "bad-body" 400,
    /// A trailer that must not be one (attack A34).
    BadTrailer "bad-trailer" 400,
    /// A websocket handshake that is none (attack J1).
    BadUpgrade "bad-upgrade" 400,
    /// `PRI * HTTP/2.0`, CONNECT or TRACE.
    MethodRefused "method-refused" 405,
    /// An extended CONNECT for anything but a websocket (attack B23).
    UnknownProtocol "unknown-protocol" 501,
    /// A method nobody registered.
    UnknownMethod "unknown-method" 501,
    /// Another major version of HTTP.
    BadVersion "bad-version" 505,
    /// `Expect` with anything but `100-continue`.
    BadExpect "bad-expect" 417,
    /// Limit `header-bytes`, `header-line`, `header-count` or `header-name`.
    HeadTooLarge "head-too-large" 431,
    /// Limit `url-bytes`.
    UrlTooLong "url-too-long" 414,
    /// Limit `body-bytes`.
    BodyTooLarge "body-too-large" 413,
    /// Limit `header-time`: the head did not arrive in time.
    HeadTimeout "head-timeout" 408,
    /// Limit `body-idle` or `body-rate`: the body does not get on.
    BodyTimeout "body-timeout" 408,
    /// Limit `response-idle` or `response-rate`: the client does not read.
    ClientStalled "client-stalled" 499,
    /// The client closed or reset its connection.
    ClientGone "client-gone" 499,
    /// Limit `keep-alive`: nothing came; no request was lost.
    Idle "idle" 408,
    /// What a client says over HTTP/2 breaks the protocol (attacks B8, B9, B15, B17).
    BadFrames "bad-frames" 400,
    /// Limit `resets`: a client takes its requests back (attack B7).
    TooManyResets "too-many-resets" 429,
    /// Limit `idle-frames`: frames that carry nothing (attack B13).
    TooManyFrames "too-many-frames" 429,
    /// Limit `streams`: more requests on one connection than it may have, counted until their work has stopped.
    TooManyStreams "too-many-streams" 429,
    /// No site has this host.
    NoSite "no-site" 421,
    /// The connection was secured for another host, whose site shakes hands in another way (attack D6).
    Misdirected "misdirected" 421,
    /// The site has no route for it.
    NoRoute "no-route" 404,
    /// A filter refused it.
    Refused "refused" 403,
    /// `basic-auth` does not know who asks.
    Unauthorized "unauthorized" 401,
    /// Limit `connections`.
    TooManyConnections "too-many-connections" 503,
    /// Memory is short: nothing new is begun, or what holds it for a client that does not take it is ended.
    LowMemory "low-memory" 503,
    /// The pool has no host that may be tried.
    NoHost "no-host" 503,
    /// The upstream refused the connection, or it could not be made.
    ConnectFailed "connect-failed" 502,
    /// The process has no descriptor left for a connection to the upstream (attack H7).
    NoDescriptor "no-descriptor" 503,
    /// No port of ours is left for a connection to the upstream (attack H8).
    NoPort "no-port" 503,
    /// The upstream's certificate is not good.
    UpstreamCertificate "upstream-certificate" 502,
    /// Hands could not be shaken with the upstream.
    UpstreamHandshake "upstream-handshake" 502,
    /// Limit `connect`.
    ConnectTimeout "connect-timeout" 504,
    /// The upstream closed or reset the connection before it answered.
    UpstreamClosed "upstream-closed" 502,
    /// The upstream reset the stream of the request (HTTP/2).
    UpstreamReset "upstream-reset" 502,
    /// Limit `first-byte`.
    FirstByteTimeout "first-byte-timeout" 504,
    /// `retry per-try`: one attempt has had its time.
    TryTimeout "try-timeout" 504,
    /// The pool has as many requests as it may have, and as many wait for it.
    QueueFull "queue-full" 503,
    /// No room on the pool within the time that a request may wait.
    QueueTimeout "queue-timeout" 503,
    /// The worker is so far behind that a further request would only come too late.
    Overloaded "overloaded" 503,
    /// Limit `upstream-idle`: the answer does not get on.
    UpstreamStalled "upstream-stalled" 504,
    /// The request's whole time is up.
    Deadline "deadline" 504,
    /// The upstream's head breaks the grammar or a bound (attack A40).
    BadResponse "bad-response" 502,
    /// The upstream switched protocols unasked, or to another one (attacks A31, A37).
    BadSwitch "bad-switch" 502,
    /// The upstream's answer ended too early (attack A45).
    Truncated "truncated" 502,
    /// The program is stopping, or the upstream is no longer part of the configuration.
    Stopping "stopping" 503,
    /// A tunnel was silent too long.
    TunnelIdle "tunnel-idle" 408,
    /// An exchange panicked; a bug of ours.
    Panic "panic" 500,
    /// Anything of ours that is not a peer's fault.
    Internal "internal" 500,
}

/// What ended an exchange before its natural end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Who is at fault.
    pub side: Side,
    /// What was being done.
    pub phase: Phase,
    /// What went wrong.
    pub crime: Crime,
    /// May it be tried again?
    pub retry: Retry,
}

impl Error {
    /// The client's fault.
    pub const fn client(phase: Phase, crime: Crime) -> Error {
        Error { side: Side::Client, phase, crime, retry: Retry::Never }
    }

    /// The upstream's fault.
    pub const fn upstream(phase: Phase, crime: Crime, retry: Retry) -> Error {
        Error { side: Side::Upstream, phase, crime, retry }
    }

    /// Our own.
    pub const fn proxy(phase: Phase, crime: Crime) -> Error {
        Error { side: Side::Proxy, phase, crime, retry: Retry::Never }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}: {}", self.side, self.phase, self.crime.word())
    }
}

impl std::error::Error for Error {}
