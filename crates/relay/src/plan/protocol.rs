//! protocol: which version of HTTP the hosts of a pool are spoken with in, as the operator meant it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which version of HTTP the hosts of a pool are spoken with in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Over TLS what the host chooses (ALPN), HTTP/2 if it can; plainly HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: over TLS nothing else is offered, plainly it is known beforehand (RFC 9113 §3.3).
    Http2,
}

impl Protocol {
    /// Whether nothing was written.
    pub fn is_auto(&self) -> bool {
        *self == Protocol::Auto
    }
}
