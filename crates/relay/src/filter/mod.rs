//! What may look at an exchange, change it, or answer it: one file each, one list here.

use crate::context::{Answer, Context, Question};
use crate::entry::Entry;
use portunus_message::{Error, Request, Response};
use std::time::Duration;

mod access;
mod basic_auth;
mod body_limit;
pub mod chain;
mod cors;
pub mod forwarded;
mod grpc_web;
mod header;
mod hsts;
#[cfg(test)]
mod panics;
pub mod password;
mod redirect;
mod request_header;
mod respond;
mod response_header;
mod rewrite;
#[cfg(test)]
mod tests;
mod timeout;

/// The filters, in the order of the manual. A new one is a file and a line.
pub const LIST: &[Entry<dyn Filter>] = &[
    access::ENTRY,
    basic_auth::ENTRY,
    body_limit::ENTRY,
    cors::ENTRY,
    grpc_web::ENTRY,
    hsts::ENTRY,
    #[cfg(test)]
    panics::ENTRY,
    redirect::ENTRY,
    request_header::ENTRY,
    respond::ENTRY,
    response_header::ENTRY,
    rewrite::ENTRY,
    timeout::ENTRY,
];

/// Looks at a request, changes it or answers it, and may change its answer. Holds no request's state, does no I/O.
pub trait Filter: Send + Sync {
    /// Before the upstream. The order is the order written in the configuration.
    fn request(&self, _: &mut Request, _: &mut Context<'_>) -> Flow {
        Flow::Next
    }

    /// The answer to a question this filter asked.
    fn answered(&self, _: Answer, _: &mut Request, _: &mut Context<'_>) -> Flow {
        Flow::Next
    }

    /// After the upstream, in reverse order, only for filters whose `request` ran.
    fn response(&self, _: &mut Response, _: &Request, _: &mut Context<'_>) {}

    /// What it does, in a few words with its arguments, for `explain`.
    fn describe(&self) -> String;
}

/// What a filter wants next.
#[derive(Debug)]
pub enum Flow {
    /// Go on.
    Next,
    /// Find this out, then call `answered`.
    Ask(Question),
    /// Call `request` of the next filter after this time.
    Wait(Duration),
    /// Send this; the upstream is not asked.
    Answer(Box<Response>),
    /// End the exchange.
    Fail(Error),
}
