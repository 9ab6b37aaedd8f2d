//! custom: which fields are added to the table, because they come again, and which are spelled out, because they change or are secret.

use super::statics::{FIELDS, STATICS};
use portunus_message::Known;

/// What becomes of a field that is not in the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Custom {
    /// It is added: the next message will have the same value.
    Add,
    /// It is added if nothing of this name was, or if it comes for the second time: there are many values, of which some
    /// come often.
    AddAgain,
    /// It is a cookie: `AddAgain` for those of requests, `Pass` for those of answers, and `Hide` for short ones.
    Cookie,
    /// It is spelled out: the next message will have another value.
    Pass,
    /// It is spelled out, for nobody ever to add (RFC 7541 §7.1.3).
    Hide,
}

/// What every known name is written by.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// The name's index in the static table, or 0.
    pub(super) index: u8,
    pub(super) custom: Custom,
}

/// By the number of the name.
pub(super) static ROWS: [Row; 128] = rows();

/// They differ from message to message.
const PASSING: &[Known] = &[
    Known::AGE,
    Known::CONTENT_DISPOSITION,
    Known::CONTENT_LENGTH,
    Known::CONTENT_LOCATION,
    Known::CONTENT_RANGE,
    Known::ETAG,
    Known::EXPIRES,
    Known::IDEMPOTENCY_KEY,
    Known::IF_MATCH,
    Known::IF_MODIFIED_SINCE,
    Known::IF_NONE_MATCH,
    Known::IF_RANGE,
    Known::IF_UNMODIFIED_SINCE,
    Known::LAST_MODIFIED,
    Known::LOCATION,
    Known::RANGE,
    Known::RETRY_AFTER,
    Known::SEC_WEBSOCKET_ACCEPT,
    Known::SEC_WEBSOCKET_KEY,
    Known::X_ACCEL_REDIRECT,
    Known::X_ORIGINAL_URL,
    Known::X_REQUEST_ID,
    Known::X_REWRITE_URL,
    Known::X_SENDFILE,
];
/// They differ from client to client, or from page to page.
const VARIED: &[Known] =
    &[Known::COOKIE, Known::FORWARDED, Known::LINK, Known::REFERER, Known::X_FORWARDED_FOR, Known::X_REAL_IP];
const COOKIES: &[Known] = &[Known::COOKIE, Known::SET_COOKIE];
const SECRET: &[Known] = &[Known::AUTHORIZATION, Known::PROXY_AUTHORIZATION];

const fn rows() -> [Row; 128] {
    let mut rows = [Row { index: 0, custom: Custom::Add }; 128];
    let mut at = STATICS;
    while at > 0 {
        at -= 1;
        rows[FIELDS[at].known.number() as usize].index = at as u8 + 1;
    }
    // The first row is that of all names that are not known.
    rows[0] = Row { index: 0, custom: Custom::AddAgain };
    let rows = customs(rows, VARIED, Custom::AddAgain);
    let rows = customs(rows, COOKIES, Custom::Cookie);
    customs(customs(rows, PASSING, Custom::Pass), SECRET, Custom::Hide)
}

const fn customs(mut rows: [Row; 128], names: &[Known], custom: Custom) -> [Row; 128] {
    let mut at = 0;
    while at < names.len() {
        rows[names[at].number() as usize].custom = custom;
        at += 1;
    }
    rows
}
