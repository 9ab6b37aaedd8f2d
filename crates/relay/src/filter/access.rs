//! `access` lets clients in or keeps them out, by address.

use super::{Filter, Flow};
use crate::args::{self, Reader};
use crate::context::Context;
use crate::entry::{ArgMistake, At, Entry, Kind, Param, Place};
use ipnet::IpNet;
use portunus_message::{Crime, Error, Identity, Phase, Request};
use regex::Regex;

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "access",
    manual: "Lets clients in or keeps them out, by address, and by the certificate they have shown (see `client-auth`). The first `access` statement that names a client decides: an \
             `allow` lets it pass all that follow, a `deny` answers 403; a client that none names is let in, so a list \
             of `allow` ends with `access deny all`. Statements of an outer block stand before those of an inner one.",
    example: "access allow 10.0.0.0/8 192.168.0.0/16",
    params: PARAMS,
    answers: false,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let allow = reader.required_word("verb")?.1 == "allow";
        let networks = reader.networks("network")?.into();
        let pattern =
            |key: &'static str| reader.option(key).map(|text| of_certificate(text, key)).transpose();
        Ok(Box::new(Access { allow, networks, subject: pattern("subject")?, name: pattern("san")? }))
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
    Param {
        name: "subject",
        place: Place::Option,
        kind: Kind::Text,
        manual: "Only those whose certificate has this subject, as `${tls.client.subject}` shows it; `~…`: a regular expression fits the whole of it.",
    },
    Param {
        name: "san",
        place: Place::Option,
        kind: Kind::Text,
        manual: "Only those whose certificate has this alternative name, with its kind: `URI:spiffe://example/app`; or `~…`.",
    },
];

struct Access {
    allow: bool,
    networks: Box<[IpNet]>,
    subject: Option<Regex>,
    name: Option<Regex>,
}

impl Access {
    /// Whether it names this client; who has shown no certificate is not named by one.
    fn names(&self, cx: &Context<'_>) -> bool {
        let client = cx.client_ip.to_canonical();
        let identity = cx.proof.and_then(|proof| proof.client.as_ref());
        let by = |wanted: &Option<Regex>, fits: &dyn Fn(&Regex, &Identity) -> bool| match (wanted, identity) {
            (None, _) => true,
            (Some(wanted), Some(identity)) => fits(wanted, identity),
            (Some(_), None) => false,
        };
        self.networks.iter().any(|network| network.contains(&client))
            && by(&self.subject, &|wanted, identity| wanted.is_match(&identity.subject))
            && by(&self.name, &|wanted, identity| identity.names.iter().any(|name| wanted.is_match(name)))
    }
}

/// What a text of a certificate has to be, as a whole.
fn of_certificate(text: &str, key: &'static str) -> Result<Regex, ArgMistake> {
    let at = At::Option(key.into());
    match text.strip_prefix('~') {
        Some(pattern) => args::regex(&format!("^(?:{pattern})$"), at),
        None => args::regex(&format!("^{}$", regex::escape(text)), at),
    }
}

impl Filter for Access {
    fn request(&self, _: &mut Request, cx: &mut Context<'_>) -> Flow {
        if cx.access_granted || !self.names(cx) {
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
        let mut text = format!("access {verb} {}", networks.join(" "));
        for (key, wanted) in [("subject", &self.subject), ("san", &self.name)] {
            if let Some(wanted) = wanted {
                text.push_str(&format!(" {key}=~{wanted}"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build};
    use super::*;
    use crate::args::tests::args as args_of;
    use crate::plan::Text;
    use portunus_message::Proof;

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
    fn certificates_are_named_by_subject_and_by_name() {
        let build = |word: &str, option: (&str, &str)| {
            let mut args = args_of(&[word, "all"]);
            args.options.insert(option.0.to_owned(), Text::plain(option.1));
            (ENTRY.build)(&args).map_err(|mistake| mistake.reason)
        };
        let names = vec!["DNS:c.test".to_owned(), "URI:spiffe://x/c".to_owned()];
        let client = Some(Identity { subject: "CN=c, O=x".to_owned(), names });
        for (key, value, named) in [
            ("subject", "CN=c, O=x", true),
            ("subject", "CN=c", false),
            ("subject", "~CN=c, .*", true),
            ("subject", "~CN", false),
            ("san", "URI:spiffe://x/c", true),
            ("san", "DNS:cxtest", false),
            ("san", "~URI:spiffe://x/.*", true),
        ] {
            let deny = build("deny", (key, value)).unwrap();
            let mut stage = Stage::get("/");
            assert!(matches!(stage.run(&*deny), Flow::Next), "who shows nothing is not named");
            stage.proof = Some(Proof { client: client.clone(), ..Proof::default() });
            assert_eq!(matches!(stage.run(&*deny), Flow::Fail(_)), named, "{key}={value}");
        }
        assert!(build("allow", ("subject", "~(")).is_err());
    }

    #[test]
    fn mistakes_are_refused() {
        assert!(build("access", &["allow"]).is_err());
        assert!(build("access", &["permit", "all"]).is_err());
        assert!(build("access", &["allow", "localhost"]).is_err());
    }
}
