//! h2_rules: a server whose HTTP/2 is judged rule by rule, and what a client may expect of it.

use crate::h2::{Frame, H2, Outcome, code, flag, head, kind};
use crate::origin::{Answer, Connection, Origin};
use crate::proxy::{Proxy, site};
use crate::wire::Fault;
use std::any::Any;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a rule says, and a client that puts the server to the test.
pub type Rule = (&'static str, fn(&mut H2));

/// A proxy before an origin, which answers `METHOD PATH LENGTH` and then those of some fields that it saw. `/wait` is never answered; a
/// request for `/bad` must never get there whole.
pub struct Court {
    /// The proxy.
    pub proxy: Proxy,
    /// The origin.
    pub origin: Origin,
}

impl Court {
    /// One with nothing special.
    pub fn new() -> Court {
        Court::with("")
    }

    /// The same with further statements before the site.
    pub fn with(statements: &str) -> Court {
        let origin = Origin::script(serve);
        let proxy = Proxy::start(&format!("{statements}\n{}", site(&format!("proxy {origin}"))));
        Court { proxy, origin }
    }

    /// A client that has told these settings.
    #[track_caller]
    pub fn client(&self, settings: &[(u16, u32)]) -> H2 {
        let stream = TcpStream::connect(self.proxy.address()).expect("a connection");
        let _ = stream.set_nodelay(true);
        H2::over(stream, settings)
    }

    /// Tries every rule on a connection of its own; reports all that are broken at once.
    #[track_caller]
    pub fn keeps(&self, rules: &[Rule]) {
        self.keeps_with(&[], rules);
    }

    /// The same for a client with these settings.
    #[track_caller]
    pub fn keeps_with(&self, settings: &[(u16, u32)], rules: &[Rule]) {
        let broken = rules.iter().filter_map(|(name, rule)| self.breaks(name, settings, rule));
        report(broken.collect(), rules.len());
    }

    /// Each of these requests, on a connection of its own, is malformed, and reset or answered with a status from 400 on.
    #[track_caller]
    pub fn refuses(&self, rule: &str, requests: &[Vec<(&str, &str)>]) {
        self.never_serves(rule, requests, H2::expect_refusal);
    }

    /// The same, but answers are not enough.
    #[track_caller]
    pub fn resets(&self, rule: &str, requests: &[Vec<(&str, &str)>]) {
        self.never_serves(rule, requests, |client, stream| {
            client.expect_reset(stream, &[code::PROTOCOL_ERROR])
        });
    }

    #[track_caller]
    fn never_serves(&self, rule: &str, requests: &[Vec<(&str, &str)>], judge: fn(&mut H2, u32)) {
        let broken = requests.iter().filter_map(|fields| {
            self.breaks(&format!("{rule}: {fields:?}"), &[], |client| {
                let stream = client.ask(fields, true);
                judge(client, stream);
            })
        });
        report(broken.collect(), requests.len());
    }

    /// What is wrong, if it is.
    fn breaks(&self, name: &str, settings: &[(u16, u32)], rule: impl FnOnce(&mut H2)) -> Option<String> {
        let before = self.got_through();
        let mut client = self.client(settings);
        let kept = catch_unwind(AssertUnwindSafe(|| rule(&mut client)));
        drop(client);
        let kept = kept.and_then(|()| catch_unwind(AssertUnwindSafe(|| self.serves_others_since(before))));
        kept.err().map(|reason| format!("{name}: {}", text(&*reason)))
    }

    /// Whatever one client does, another one is served, and nothing bad has got through.
    #[track_caller]
    pub fn serves_others(&self) {
        self.serves_others_since(0);
    }

    #[track_caller]
    fn serves_others_since(&self, before: usize) {
        self.client(&[]).get("/good").expect(200);
        assert_eq!(self.got_through(), before, "it got through");
    }

    /// How many requests have that must not.
    fn got_through(&self) -> usize {
        self.origin.complete().iter().filter(|request| request.target == "/bad").count()
    }
}

impl Default for Court {
    fn default() -> Court {
        Court::new()
    }
}

impl H2 {
    /// The connection ends, and it is said with one of these codes why (RFC 9113 §5.4.1).
    #[track_caller]
    pub fn expect_goaway(&mut self, codes: &[u32]) {
        let last = self.end();
        assert!(last.is_some_and(|code| codes.contains(&code)), "GOAWAY {last:?} instead of {codes:?}");
    }

    /// Nothing more comes but the end of the connection.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let end = self.next_frame();
        assert!(matches!(end, Err(Fault::Closed | Fault::Cut | Fault::Reset)), "{end:?}");
    }

    /// The stream is reset with one of these codes and the connection goes on; or all of it is ended with that code, as a server may choose
    /// (RFC 9113 §5.4.2).
    #[track_caller]
    pub fn expect_reset(&mut self, stream: u32, codes: &[u32]) {
        self.verdict(stream, codes, false);
    }

    /// A request that is malformed is not served (RFC 9113 §8.1.1): a PROTOCOL_ERROR, or an answer that says so
    /// (501: of a method that is none).
    #[track_caller]
    pub fn expect_refusal(&mut self, stream: u32) {
        self.verdict(stream, &[code::PROTOCOL_ERROR], true);
    }

    #[track_caller]
    fn verdict(&mut self, stream: u32, codes: &[u32], may_answer: bool) {
        let outcome = self.outcome(stream);
        match outcome {
            Outcome { reset: Some(code), .. } => assert!(codes.contains(&code), "reset {code} not {codes:?}"),
            Outcome { goaway: Some(code), closed: true, .. } => {
                assert!(codes.contains(&code), "GOAWAY {code} instead of {codes:?}");
                return;
            }
            Outcome { status: 400..=499 | 501, complete: true, .. } if may_answer => {}
            other => panic!("{codes:?} expected: {other:?}"),
        }
        if outcome.goaway.is_some() {
            self.expect_goaway(codes);
        } else {
            self.expect_service();
        }
    }

    /// The connection is as good as ever: a PING is answered, and so is a request.
    #[track_caller]
    pub fn expect_service(&mut self) {
        self.expect_ping_ack();
        let outcome = self.get("/good").expect(200);
        assert_eq!((&outcome.body[..], outcome.goaway), (&b"GET /good 0"[..], None));
    }

    /// The stream is answered, whole.
    #[track_caller]
    pub fn expect_answer(&mut self, stream: u32, status: u16) -> Outcome {
        self.outcome(stream).expect(status)
    }

    /// The stream is answered with this text.
    #[track_caller]
    pub fn expect_text(&mut self, stream: u32, text: &str) {
        let outcome = self.expect_answer(stream, 200);
        assert_eq!(String::from_utf8_lossy(&outcome.body), text);
    }

    /// A PING is answered with what it carried (RFC 9113 §6.7).
    #[track_caller]
    pub fn expect_ping_ack(&mut self) {
        self.frame(kind::PING, 0, 0, b"are you?");
        let pong = self.expect_frame(kind::PING, 0);
        assert_eq!((pong.flags, &pong.payload[..]), (flag::ACK, &b"are you?"[..]));
    }

    /// The next frame of this kind on this stream; other kinds and streams are passed over.
    #[track_caller]
    pub fn expect_frame(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            match self.next_frame() {
                Ok(frame) if (frame.kind, frame.stream) == (kind, stream) => return frame,
                Ok(frame) if frame.kind == kind::GOAWAY => panic!("GOAWAY {}", frame.code()),
                Ok(frame) if (frame.kind, frame.stream) == (kind::RST_STREAM, stream) => {
                    panic!("reset {}", frame.code())
                }
                Ok(_) => {}
                Err(Fault::Timeout) => panic!("no frame of kind {kind} on stream {stream}"),
                Err(fault) => panic!("no frame of kind {kind} on stream {stream}: {fault:?}"),
            }
        }
    }
}

/// The four fields that every request has, and further ones.
pub fn with<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    head(method, path).iter().chain(more).copied().collect()
}

#[track_caller]
fn report(broken: Vec<String>, of: usize) {
    assert!(broken.is_empty(), "{} of {of} rules:\n{}", broken.len(), broken.join("\n"));
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// What the origin does.
fn serve(connection: &mut Connection) {
    while let Some(mut request) = connection.head() {
        if request.target == "/wait" {
            connection.until_closed();
            return;
        }
        if !connection.body(&mut request) {
            return;
        }
        let mut seen = format!("{} {} {}", request.method, request.target, request.body.len());
        for name in ["cookie", "x-a", "custom-key"] {
            request.fields.all(name).iter().for_each(|value| seen.push_str(&format!(" {name}={value}")));
        }
        let length = format!("Content-Length: {}", seen.len());
        let answer = match request.target.as_str() {
            _ if request.method == "HEAD" => Answer::raw(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n")),
            "/none" => Answer::raw("HTTP/1.1 204 X\r\n\r\n"),
            "/same" => Answer::raw("HTTP/1.1 304 X\r\nETag: \"a\"\r\n\r\n"),
            "/empty" => Answer::text(""),
            "/chunks" => Answer::chunked(&["one", "two"]),
            "/large" => Answer::body(&[b'x'; LARGE]),
            "/hints" => {
                let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(2);
                Answer::raw(format!("{hints}HTTP/1.1 200 OK\r\n{length}\r\n\r\n{seen}"))
            }
            "/fields" => Answer::fields(&format!("X-Many: {}\r\n", "x".repeat(20_000)), &seen),
            "/trailers" => Answer::raw(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n\
                 5\r\nworld\r\n0\r\nX-Answer: 8\r\n\r\n",
            ),
            target if target.starts_with("/vary") => {
                let (long, short) = ("x".repeat(target.len() * 10), target.len() % 3);
                Answer::fields(&format!("X-Vary: {target}\r\nX-Same: {short}\r\nX-Long: {long}\r\n"), &seen)
            }
            _ => Answer::text(&seen),
        };
        if !connection.answer(answer) {
            return;
        }
    }
}

/// How long the body of `/large` is: several frames and several windows.
pub const LARGE: usize = 200_000;
