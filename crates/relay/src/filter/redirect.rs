//! `redirect` sends the client somewhere else.

use super::{Filter, Flow};
use crate::args::{Reader, request_template};
use crate::context::Context;
use crate::entry::{ArgMistake, At, Entry, Kind, Param, Place};
use crate::template::Template;
use portunus_message::{FieldValue, Known, Request, Response, Status};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "redirect",
    manual: "Sends the client somewhere else. The target is a path of the same site or a whole URL. What it takes from a \
             request is percent-encoded, but for `${path}`, `${query}`, `${uri}` and `${host}`, which are in the form \
             of a URL already; so nothing in a request can lead to another site, unless the host of the target is written with what a \
             request says (`https://${query.to}/`).",
    example: "redirect 308 https://www.example.com${uri}",
    params: PARAMS,
    answers: true,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let status = match reader.word("status").map(|(_, word)| word) {
            Some("301") => 301,
            Some("303") => 303,
            Some("307") => 307,
            Some("308") => 308,
            _ => 302,
        };
        let status = Status::new(status).unwrap_or(Status::INTERNAL);
        let (at, text) = reader.required_word("target")?;
        let target = request_template(text, At::Word(at))?;
        if !shows_where_it_leads(text) {
            let mistake = ArgMistake::word(at, "does not show where it leads");
            return Err(mistake.hint("begin it with `/`, `https://`, `${scheme}://`, `${path}` or `${uri}`"));
        }
        if let Some(variable) = chooses_the_host(text) {
            let mistake = ArgMistake::word(at, format!("lets `${{{variable}}}` choose the host"));
            return Err(mistake.hint("put a `/` before it"));
        }
        Ok(Box::new(Redirect { status, target }))
    },
};

const PARAMS: &[Param] = &[
    Param {
        name: "status",
        place: Place::OptionalWord,
        kind: Kind::OneOf(&["301", "302", "303", "307", "308"]),
        manual: "The status; 302 when missing. 307 and 308 keep the method.",
    },
    Param { name: "target", place: Place::Word, kind: Kind::Template, manual: "Where to." },
];

/// Whether a target begins so that no request can choose another site or scheme (attack F14).
fn shows_where_it_leads(target: &str) -> bool {
    let (scheme, rest) = target.split_once(':').unwrap_or_default();
    if matches!(scheme, "http" | "https") && !rest.starts_with("//") {
        return false;
    }
    // Two slashes would be made one: the host behind them would become a path.
    if target.strip_prefix("//").is_some_and(|host| host.starts_with(|c: char| c.is_ascii_alphanumeric())) {
        return false;
    }
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme || ["/", "${scheme}:", "${path}", "${uri}"].iter().any(|start| target.starts_with(start))
}

/// The first variable in the host of a target that may be anything: `.evil.example` behind the name of a host makes another one (attack F14).
fn chooses_the_host(target: &str) -> Option<&str> {
    let mut rest = target.split_once("://")?.1;
    while let Some(at) = rest.find(['/', '?', '#', '$']) {
        let name = rest.get(at..)?.strip_prefix("${")?.split_once('}')?.0;
        match name {
            "host" | "server.port" | "tls.sni" => rest = rest.get(at + name.len() + 3..)?,
            "path" | "uri" => return None, // they begin with a slash
            _ => return Some(name),
        }
    }
    None
}

struct Redirect {
    status: Status,
    target: Template,
}

impl Redirect {
    /// The target for this request. A relative one starts with exactly one slash: two would name a host (attack F14).
    fn location(&self, request: &Request, cx: &Context<'_>) -> Vec<u8> {
        let mut location = Vec::new();
        self.target.render_path(&cx.scope(request, None), &mut location);
        if location.first() == Some(&b'/') {
            let slashes = location.iter().take_while(|&&byte| byte == b'/').count();
            location.drain(..slashes - 1);
        }
        // The path of a server-wide OPTIONS is no place to go to.
        if request.target.path() == "*" && location.contains(&b'*') {
            location.retain(|&byte| byte != b'*');
            if !location.ends_with(b"/") {
                location.push(b'/');
            }
        }
        location
    }
}

impl Filter for Redirect {
    fn request(&self, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        let mut response = Response::new(self.status);
        if let Some(location) = FieldValue::new(&self.location(request, cx)) {
            response.fields.add(Known::LOCATION, location);
        }
        Flow::Answer(Box::new(response))
    }

    fn describe(&self) -> String {
        format!("redirect {} {}", self.status, self.target.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build, joined};
    use super::*;
    use proptest::prelude::*;

    fn location(words: &[&str], stage: &mut Stage) -> (u16, String) {
        let Flow::Answer(response) = stage.run(&*build("redirect", words).unwrap()) else { panic!() };
        (response.status.code(), joined(&response.fields, "Location"))
    }

    #[test]
    fn it_sends_elsewhere() {
        let mut stage = Stage::get("/a%2Fb?q=1&r=%2F");
        for (words, status, to) in [
            (&["/new"][..], 302, "/new"),
            (&["308", "https://www.example.com${uri}"], 308, "https://www.example.com/a%2Fb?q=1&r=%2F"),
            (&["301", "${scheme}://${host}:8443${path}"], 301, "http://example.com:8443/a%2Fb"),
            (&["/s?to=${query.r}"], 302, "/s?to=%2F"),
            (&["/x/${uri}"], 302, "/x//a%2Fb?q=1&r=%2F"),
            (&["mailto:a@b"], 302, "mailto:a@b"),
        ] {
            assert_eq!(location(words, &mut stage), (status, to.to_owned()), "{words:?}");
        }
    }

    #[test]
    fn f14_a_relative_target_starts_with_one_slash() {
        let mut stage = Stage::get("/evil.com/?to=//evil.com&h=%5C%5Cevil.com");
        stage = stage.field("X-To", "/\\evil.com\t");
        for target in
            ["/${path}", "//${path}", "/${uri}", "/${query.to}", "/${header.x-to}", "/${query.h}", "${uri}"]
        {
            let (_, to) = location(&[target], &mut stage);
            assert!(to.starts_with('/') && !to.starts_with("//") && !to.contains('\\'), "{target}: {to}");
        }
        let glued =
            ["https://a.test${query.to}", "https://a.test:${header.x}/", "${scheme}://${host}${query}"];
        for wrong in
            ["${query.to}", "${header.x-to}", "new", "${host}/x", "", "?x", "//a.test/x", "http:/a.test"]
                .into_iter()
                .chain(glued)
        {
            assert!(build("redirect", &[wrong]).is_err(), "{wrong}");
        }
        assert!(build("redirect", &["304", "/x"]).is_err());
    }

    #[test]
    fn a_server_wide_request_is_sent_to_the_root() {
        let mut stage = Stage::get("/");
        stage.request.target.set_path(b"*").unwrap();
        for (target, to) in [
            ("${uri}", "/"),
            ("/x", "/x"),
            ("https://a.test${uri}", "https://a.test/"),
            ("https://a.test:8443${path}", "https://a.test:8443/"),
        ] {
            assert_eq!(location(&["308", target], &mut stage).1, to);
        }
    }

    proptest! {
        #[test]
        fn a42_f14_no_request_chooses_another_site(query in "[!-\"$-\\[\\]-~]{0,20}", value in "[ -~]{0,20}") {
            let mut stage = Stage::get(&format!("/x?q={query}")).field("X-V", &value);
            for target in ["/${query.q}", "/${header.x-v}/x", "${uri}", "/${header.x-v}${uri}"] {
                let (_, to) = location(&[target], &mut stage);
                prop_assert!(to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n', '\t', ' ']));
            }
            let (_, to) = location(&["https://example.com/${query.q}${header.x-v}"], &mut stage);
            prop_assert!(to.starts_with("https://example.com/"));
        }
    }
}
