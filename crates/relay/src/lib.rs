//! The data plane: the verbs of a request, and the nouns they share.

pub mod context;
pub mod dispatch;
pub mod entry;
pub mod filter;
pub mod hosts;
pub mod net;
pub mod pick;
pub mod plan;
pub mod snapshot;
pub mod stats;
pub mod template;
pub mod worker;
