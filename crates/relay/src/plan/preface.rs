//! preface: where PROXY headers are believed and where they are sent, as the operator meant it.

use super::Listen;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An address where every connection begins with a PROXY header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Prefaced {
    /// Where.
    pub listen: Listen,
    /// Who is believed; empty: the trusted proxies. At a unix socket it is whoever may open it.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub from: Vec<IpNet>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PrefaceVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}
