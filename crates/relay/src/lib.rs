//! The data plane: the verbs of a request, and the nouns they share.

pub mod args;
pub mod context;
pub mod dispatch;
pub mod entry;
pub mod filter;
pub mod hosts;
pub mod pick;
pub mod plan;
pub mod stats;
pub mod template;
pub mod values;
