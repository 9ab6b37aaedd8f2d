//! `request-header` sets, adds or removes a header field of the request.

use super::header::{Edit, PARAMS, Verb};
use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::{ArgMistake, Entry};
use portunus_message::{Crime, Error, Known, Phase, Request};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "request-header",
    manual: "Sets, adds or removes a header field of the request before it goes upstream. `set Host` changes the host \
             that the upstream sees. Fields that belong to the connection (`Connection`, `Content-Length`, …) are \
             written by the proxy itself and cannot be changed.",
    example: "request-header set X-Client ${client.ip}",
    params: PARAMS,
    answers: false,
    build: |args| {
        let edit = Edit::read(&Reader::new(PARAMS, args)?)?;
        edit.refuse_looking_back()?;
        match (edit.name.known(), edit.verb()) {
            (Known::HOST, Verb::Add | Verb::Remove) => {
                Err(ArgMistake::word(0, "cannot be done to Host, which every request has once")
                    .hint("use `set`"))
            }
            (Known::HOST, Verb::Set) => Ok(Box::new(SetHost(edit))),
            _ => Ok(Box::new(RequestHeader(edit))),
        }
    },
};

struct RequestHeader(Edit);

impl Filter for RequestHeader {
    fn request(&self, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        match self.0.literal() {
            Some(value) => self.0.apply(&mut request.fields, value),
            None => {
                let value = self.0.render(&cx.scope(request, None));
                self.0.apply(&mut request.fields, &value);
            }
        }
        Flow::Next
    }

    fn describe(&self) -> String {
        self.0.describe(ENTRY.name)
    }
}

/// Host is no field here: it is the authority of the target.
struct SetHost(Edit);

impl Filter for SetHost {
    fn request(&self, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        let value = self.0.render(&cx.scope(request, None));
        match request.target.set_authority(&value) {
            Ok(()) => Flow::Next,
            Err(_) => Flow::Fail(Error::client(Phase::Filter, Crime::BadHost)),
        }
    }

    fn describe(&self) -> String {
        self.0.describe(ENTRY.name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build};
    use super::*;

    fn run(words: &[&str], stage: &mut Stage) -> Flow {
        stage.run(&*build("request-header", words).unwrap())
    }

    #[test]
    fn fields_are_set_added_and_removed() {
        let mut stage = Stage::get("/p?q=1").field("X-A", "1").field("x-a", "2").field("X-B", "b");
        run(&["add", "X-A", "3"], &mut stage);
        assert_eq!(stage.sees("X-A"), "1|2|3");
        run(&["set", "X-A", "${method} ${header.x-b}${uri}"], &mut stage);
        assert_eq!(stage.sees("X-A"), "GET b/p?q=1");
        run(&["remove", "x-A"], &mut stage);
        assert_eq!(stage.sees("X-A"), "");
    }

    #[test]
    fn host_is_the_authority() {
        let mut stage = Stage::get("/").field("X-To", "Other.Example:81");
        run(&["set", "Host", "${header.x-to}"], &mut stage);
        assert_eq!(stage.request.target.authority(), "other.example:81");
        assert_eq!(stage.sees("Host"), "");
        let flow = run(&["set", "Host", "${header.x-none}"], &mut stage);
        assert!(matches!(flow, Flow::Fail(Error { crime: Crime::BadHost, .. })));
        assert!(build("request-header", &["remove", "host"]).is_err());
    }

    #[test]
    fn a_secret_is_not_shown() {
        let mut args = crate::args::tests::args(&["set", "X-Key"]);
        let secret = crate::plan::Text { value: "hush".to_owned(), written: Some("${env.KEY}".to_owned()) };
        args.words.push(secret);
        let filter = (ENTRY.build)(&args).unwrap();
        assert_eq!(filter.describe(), "request-header set X-Key \"${env.KEY}\"");
        let mut stage = Stage::get("/");
        stage.run(&*filter);
        assert_eq!(stage.sees("X-Key"), "hush");
    }

    #[test]
    fn a29_fields_of_the_connection_are_refused() {
        for name in
            ["connection", "Content-Length", "Transfer-Encoding", "Upgrade", "TE", "Trailer", "Keep-Alive"]
        {
            assert!(build("request-header", &["set", name, "x"]).is_err(), "{name}");
        }
        for wrong in [&["set", "X-A"][..], &["remove", "X-A", "x"], &["set", "X-A", "${response.status}"]] {
            assert!(build("request-header", wrong).is_err(), "{wrong:?}");
        }
        assert!(build("request-header", &["set", "X-A", "a\r\nb"]).is_err());
    }
}
