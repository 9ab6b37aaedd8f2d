//! attack: payloads in tables, what must come out of each, and that nothing else comes out anywhere.

use crate::client::Client;
use crate::message::{Request, Response};
use crate::origin::{Answer, Origin};
use crate::proxy::{Proxy, site};
use crate::wire::Fault;

/// The bytes of one attack and what must become of them.
pub struct Payload {
    name: String,
    bytes: Vec<u8>,
    outcome: &'static str,
}

/// A payload. `outcome` says which answers must come: statuses in order, `close` for an end without an answer, several
/// possibilities divided by ` / `. After a status from 400 on the proxy must close by itself, unless `*` follows it.
pub fn payload(name: impl Into<String>, bytes: impl Into<Vec<u8>>, outcome: &'static str) -> Payload {
    Payload { name: name.into(), bytes: bytes.into(), outcome }
}

/// A proxy before an origin, and what was sent through it so far.
pub struct Ground {
    /// The proxy.
    pub proxy: Proxy,
    /// The origin; it answers every request with 200, `X-Origin` and what it saw.
    pub origin: Origin,
    fences: usize,
    mistakes: usize,
}

impl Ground {
    /// A proxy for one origin, with short deadlines.
    pub fn new() -> Ground {
        Ground::with("")
    }

    /// The same with further statements in the site.
    pub fn with(statements: &str) -> Ground {
        let origin = Origin::serve(|request| Answer::fields("X-Origin: 1\r\n", &seen(request)));
        let limits = "limits { header-time 2s; body-idle 2s; drain-time 500ms }\n";
        let proxy = Proxy::start(&format!("{limits}{}", site(&format!("{statements}\n    proxy {origin}"))));
        Ground { proxy, origin, fences: 0, mistakes: 0 }
    }

    /// Sends every payload on a connection of its own; reports all that came out wrong at once.
    #[track_caller]
    pub fn stands(&mut self, payloads: Vec<Payload>) {
        let mut wrong = Vec::new();
        for payload in &payloads {
            if let Err(reason) = self.stands_against(payload) {
                wrong.push(format!("{}: {reason}\n    sent {:?}", payload.name, start_of(&payload.bytes)));
            }
        }
        assert!(wrong.is_empty(), "{} of {} payloads:\n{}", wrong.len(), payloads.len(), wrong.join("\n"));
    }

    fn stands_against(&mut self, payload: &Payload) -> Result<(), String> {
        let before = self.origin.count();
        let mut client = Client::connect(self.proxy.address());
        let _ = client.try_send(&payload.bytes);
        let answers = answers(&mut client, payload)?;
        drop(client);
        let from_origin = answers.iter().filter(|answer| answer.fields.has("x-origin")).count();
        self.fence(before, from_origin)
    }

    /// Sends one good request: its answer must be its own, and the origin must have seen as many whole requests as it answered.
    fn fence(&mut self, before: usize, from_origin: usize) -> Result<(), String> {
        self.fences += 1;
        let target = format!("/fence?number={}", self.fences);
        let mut client = Client::connect(self.proxy.address());
        let _ = client.try_send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match client.try_response("GET") {
            Ok(answer) if answer.status == 200 && answer.text() == format!("GET {target} 0") => {}
            Ok(answer) => {
                return Err(format!("the next request was answered {} {:?}", answer.status, answer.text()));
            }
            Err(fault) => return Err(format!("the next request got no answer: {fault:?}")),
        }
        let requests: Vec<Request> = self.origin.requests().into_iter().skip(before).collect();
        let whole: Vec<&Request> =
            requests.iter().filter(|request| request.complete && request.target != target).collect();
        let broken = requests.iter().filter(|request| !request.complete).count();
        if whole.len() != from_origin || broken > 1 {
            let seen: Vec<String> = requests.iter().map(seen).collect();
            return Err(format!("the origin answered {from_origin}, but saw {seen:?}"));
        }
        if let Some(request) = requests.iter().find(|request| request.target.contains("smuggled")) {
            return Err(format!("smuggled: {}", seen(request)));
        }
        let mistakes = self.origin.mistakes();
        let new = mistakes.get(self.mistakes..).unwrap_or(&[]);
        self.mistakes = mistakes.len();
        if new.is_empty() { Ok(()) } else { Err(format!("malformed at the origin: {new:?}")) }
    }
}

impl Default for Ground {
    fn default() -> Ground {
        Ground::new()
    }
}

/// Reads until it is clear which of the possible outcomes came true.
fn answers(client: &mut Client, payload: &Payload) -> Result<Vec<Response>, String> {
    let possible: Vec<Vec<&str>> = payload.outcome.split(" / ").map(|one| one.split(' ').collect()).collect();
    let mut method = if payload.bytes.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
    let (mut answers, mut words) = (Vec::new(), Vec::new());
    let mut closing = false;
    loop {
        let may_go_on = possible.iter().any(|one| one.len() > words.len() && starts_with(one, &words));
        if !may_go_on && !closing {
            client.half_close();
            closing = true;
        }
        match client.try_response(method) {
            Ok(answer) => {
                words.push(answer.status.to_string());
                // A status from 400 on must be followed by the proxy's own closing.
                closing |= answer.status >= 400 && !open_is_fine(&possible, &words);
                answers.push(answer);
                method = "GET";
            }
            Err(Fault::Closed | Fault::Reset) => break,
            Err(Fault::Timeout) if closing => return Err(format!("not closed after {words:?}")),
            Err(Fault::Timeout) => {
                client.half_close();
                closing = true;
            }
            Err(fault) => return Err(format!("after {words:?}: {fault:?}")),
        }
    }
    if words.is_empty() {
        words.push("close".to_owned());
    }
    let came = |one: &Vec<&str>| one.len() == words.len() && starts_with(one, &words);
    if possible.iter().any(came) {
        Ok(answers)
    } else {
        Err(format!("{words:?} instead of {:?}", payload.outcome))
    }
}

fn starts_with(expected: &[&str], words: &[String]) -> bool {
    words.iter().zip(expected).all(|(word, expected)| word == expected.trim_end_matches('*'))
}

fn open_is_fine(possible: &[Vec<&str>], words: &[String]) -> bool {
    let at = words.len() - 1;
    possible.iter().any(|one| starts_with(one, words) && one.get(at).is_some_and(|word| word.ends_with('*')))
}

/// What the origin says it saw: method, target, length of the body.
fn seen(request: &Request) -> String {
    format!("{} {} {}", request.method, request.target, request.body.len())
}

fn start_of(bytes: &[u8]) -> String {
    let text: String = bytes.iter().take(400).map(|&byte| char::from(byte)).collect();
    if bytes.len() > 400 { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}
