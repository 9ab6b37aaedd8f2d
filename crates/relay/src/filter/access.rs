//! `access` lets clients in or keeps them out, by address.

use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::{Entry, Kind, Param, Place};
use ipnet::IpNet;
use portunus_message::{Crime, Error, Phase, Request};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "access",
    manual: "Lets clients in or keeps them out, by address. The first `access` statement that names a client decides: an \
             `allow` lets it pass all that follow, a `deny` answers 403; a client that none names is let in, so a list \
             of `allow` ends with `access deny all`. Statements of an outer block stand before those of an inner one.",
    example: "access allow 10.0.0.0/8 192.168.0.0/16",
    params: PARAMS,
    answers: false,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let allow = reader.required_word("verb")?.1 == "allow";
        Ok(Box::new(Access { allow, networks: reader.networks("network")?.into() }))
    },
};

const PARAMS: &[Param] = &[
    Param {
        name: "verb",
        place: Place::Word,
        kind: Kind::OneOf(&["allow", "deny"]),
        manual: "What happens to them.",
    },
    Param {
        name: "network",
        place: Place::Rest,
        kind: Kind::Network,
        manual: "Whom it names: addresses, networks, or `all`.",
    },
];

struct Access {
    allow: bool,
    networks: Box<[IpNet]>,
}

impl Filter for Access {
    fn request(&self, _: &mut Request, cx: &mut Context<'_>) -> Flow {
        let client = cx.client_ip.to_canonical();
        if cx.access_granted || !self.networks.iter().any(|network| network.contains(&client)) {
            return Flow::Next;
        }
        if self.allow {
            cx.access_granted = true;
            return Flow::Next;
        }
        Flow::Fail(Error::client(Phase::Filter, Crime::Refused))
    }

    fn describe(&self) -> String {
        let verb = if self.allow { "allow" } else { "deny" };
        let networks: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        format!("access {verb} {}", networks.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build};
    use super::*;

    fn passes(ip: &str, statements: &[&[&str]]) -> bool {
        let mut stage = Stage::get("/");
        stage.client_ip = ip.parse().unwrap();
        statements.iter().all(|words| matches!(stage.run(&*build("access", words).unwrap()), Flow::Next))
    }

    #[test]
    fn the_first_statement_that_names_a_client_decides() {
        let list: &[&[&str]] =
            &[&["deny", "10.0.0.13"], &["allow", "10.0.0.0/8", "2001:db8::/32"], &["deny", "all"]];
        assert!(passes("10.0.0.1", list));
        assert!(passes("::ffff:10.0.0.1", list));
        assert!(passes("2001:db8::1", list));
        assert!(!passes("10.0.0.13", list));
        assert!(!passes("::ffff:10.0.0.13", list));
        assert!(!passes("11.0.0.1", list));
        assert!(!passes("::1", list));
        assert!(passes("11.0.0.1", &[&["deny", "10.0.0.0/8"]]));
    }

    #[test]
    fn mistakes_are_refused() {
        assert!(build("access", &["allow"]).is_err());
        assert!(build("access", &["permit", "all"]).is_err());
        assert!(build("access", &["allow", "localhost"]).is_err());
    }
}
