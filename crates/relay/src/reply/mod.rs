//! The answer turns back: through the filters in reverse, then its head goes to the client.

pub mod own;

use crate::client::Client;
use crate::link::Link;
use crate::worker::Worker;
use portunus_message::{Exchange, FieldName, FieldValue, Fields, Method, Status};
use portunus_wire::h1::emit::{self, Connection};
use portunus_wire::h1::{Framing, Version};

/// Adds the fields that filters wanted on the answer whatever it would be.
pub fn add_later(x: &mut Exchange, later: &Fields) {
    for (known, name, value) in later.iter() {
        let name = std::str::from_utf8(name).ok().and_then(FieldName::new);
        if let (Some(name), Some(value)) = (name, FieldValue::new(value)) {
            if known == portunus_message::Known::VARY {
                x.response.fields.add(&name, value);
            } else {
                x.response.fields.set(&name, value);
            }
        }
    }
}

/// Puts the head of the answer into the client's link and says how its body is framed.
pub fn head(x: &mut Exchange, client: &mut Client, worker: &Worker) -> Framing {
    // RFC 9110 §8.6: no length with 1xx and 204; with 304 only the one the upstream declared.
    let length = match x.response.status {
        Status::NOT_MODIFIED => x.response.body.length.filter(|&length| length > 0),
        status if status.is_bodiless() => None,
        _ => x.response.body.final_length(),
    };
    let bodiless = x.request.method == Method::HEAD || x.response.status.is_bodiless();
    let framing = match length {
        Some(length) => Framing::Length(length),
        None if bodiless => Framing::None,
        None if client.version == Version::Http11 => Framing::Chunked,
        None => Framing::UntilClose,
    };
    let switched = x.response.status == Status::SWITCHING_PROTOCOLS;
    if framing == Framing::UntilClose || !may_go_on(client, worker) {
        client.keep_alive = false;
    } else if client.keep_alive && client.stood_in_line {
        client.aside = worker.lets_go();
        client.keep_alive = client.aside.is_none();
    }
    let connection = match (switched, client.keep_alive) {
        (true, _) => Connection::Upgrade,
        (false, true) => Connection::KeepAlive,
        (false, false) => Connection::Close,
    };
    let version = client.version;
    match &mut client.link {
        Link::H1(link) => {
            let output = link.begin_output();
            worker.clock.with_date(|date| {
                emit::response_head(&x.response, framing, connection, version, Some(date), output)
            });
            if connection == Connection::Close {
                link.end_with_this();
            }
        }
        Link::Front(link) => worker.clock.with_date(|date| link.answer(&x.response, length, date)),
        Link::H2(_) => {} // that is none of a client
    }
    client.answered = true;
    x.sent = Some(x.response.status);
    let framing = if bodiless { Framing::None } else { framing };
    client.link.promise_body(framing);
    framing
}

/// Whether the connection may have another request: not when it is old, has had many, or the worker is stopping.
fn may_go_on(client: &Client, worker: &Worker) -> bool {
    let limits = worker.limits();
    client.keep_alive
        && !worker.is_draining()
        && client.requests < limits.requests
        && worker.clock.now().since(client.opened) < limits.age
}
