//! How it is known that a server is well: `health`, and `eject`.

use crate::args::Scene;
use crate::draft::{Draft, Value};
use crate::outside::Wrong;
use crate::values;
use portunus_message::FieldValue;
use portunus_relay::entry::{Kind, Param, Place};
use portunus_relay::plan::{Check, Eject, GrpcCheck, Health, HttpCheck};
use portunus_relay::values::parse_share;
use std::collections::BTreeMap;
use std::time::Duration;

/// What `health` takes.
pub const HEALTH: &[Param] = &[
    param("what", Place::Word, Kind::Text, "A path, with its query; or `grpc`; or `tcp`; or `off`."),
    param("every", Place::Option, Kind::Duration, "How often, 5 seconds unless written."),
    param(
        "timeout",
        Place::Option,
        Kind::Duration,
        "How long an answer may take, 2 seconds unless written, and never longer than `every`.",
    ),
    param(
        "fails",
        Place::Option,
        Kind::Number,
        "After so many bad answers in a row a server is out, 3 unless written.",
    ),
    param(
        "passes",
        Place::Option,
        Kind::Number,
        "After so many good answers in a row it is in again, 2 unless written.",
    ),
    param(
        "status",
        Place::Option,
        Kind::Text,
        "The statuses that are good: `200-399` unless written, `200,204`.",
    ),
    param("body", Place::Option, Kind::Text, "What has to stand in the first 64 KiB of the body."),
    param(
        "service",
        Place::Option,
        Kind::Text,
        "For `grpc`: which service is asked after; without it, the server as a whole.",
    ),
    param(
        "header.NAME",
        Place::Option,
        Kind::Text,
        "A header field that the answer has to have, with this value; `*`: with any.",
    ),
    param(
        "send.NAME",
        Place::Option,
        Kind::Text,
        "A header field of the request. `Host` is the server's address unless it is written.",
    ),
];

/// What `eject` takes.
pub const EJECT: &[Param] = &[
    param("switch", Place::OptionalWord, Kind::OneOf(&["off"]), "No server is ever ejected."),
    param(
        "errors",
        Place::Option,
        Kind::Number,
        "After so many failures in a row, 5 unless written; 0: they do not count.",
    ),
    param(
        "rate",
        Place::Option,
        Kind::Text,
        "When such a share fails, `50%` unless written; `0%`: it does not count.",
    ),
    param("of", Place::Option, Kind::Number, "Of how many attempts, 20 unless written."),
    param("for", Place::Option, Kind::Duration, "For how long the first time, 10 seconds unless written."),
    param(
        "keep",
        Place::Option,
        Kind::Text,
        "The share of the servers that is kept whatever they do, `50%` unless written, and one in any case; those that refuse connections \
         go all the same.",
    ),
    param(
        "latency",
        Place::Option,
        Kind::Text,
        "`3x`: when its answers take three times as long as those of most others of the pool; `off` unless written.",
    ),
];

const fn param(name: &'static str, place: Place, kind: Kind, manual: &'static str) -> Param {
    Param { name, place, kind, manual }
}

/// `health WHAT …`.
pub fn read(draft: &Draft, health: &mut Option<Health>, scene: &mut Scene<'_, '_>) {
    let Some(what) = draft.words.first() else {
        scene
            .findings
            .error(draft.span, "`health` says nothing")
            .hint("write a path, `grpc`, `tcp` or `off`");
        return;
    };
    if let Some(more) = draft.words.get(1) {
        scene.findings.error(more.span, format!("{} is one word too many", more.shown()));
    }
    let before = scene.findings.errors();
    let mut options = Options::default();
    let mut seen = BTreeMap::new();
    for (key, value) in &draft.options {
        if seen.insert(&**key, value.span).is_some() {
            scene.findings.error(value.span, format!("`{key}=` stands here twice"));
        }
        options.read(draft, key, value, scene);
    }
    let check = match what.text.value.as_str() {
        "off" | "tcp" | "grpc" if options.http.is_some() => {
            let reason = format!("`health {}` has no answer that could be looked at", what.text.value);
            scene.findings.error(what.span, reason).hint("write the path of a request in its place");
            return;
        }
        "off" => {
            if let Some((_, value)) = draft.options.first() {
                scene.findings.error(value.span, "`health off` takes no options");
            }
            *health = None;
            return;
        }
        "grpc" => Check::Grpc(GrpcCheck { service: options.service.unwrap_or_default() }),
        _ if options.service.is_some() => {
            let reason = "`service=` is for `health grpc`";
            scene.findings.error(what.span, reason);
            return;
        }
        "tcp" => Check::Tcp,
        _ => {
            let mut http = options.http.unwrap_or_else(http_check);
            http.path = scene.parse(what, path).unwrap_or_default();
            Check::Http(http)
        }
    };
    let every = options.every.unwrap_or(EVERY);
    let timeout = options.timeout.unwrap_or(TIMEOUT.min(every));
    let (fails, passes) = (options.fails.unwrap_or(FAILS), options.passes.unwrap_or(PASSES));
    let new = Health { check, every, timeout, fails, passes };
    if scene.findings.errors() == before {
        if let Some(wrong) = mistake_in(&new) {
            scene.findings.error(draft.span, wrong);
        }
        *health = Some(new);
    }
}

/// What is written as `key=value`.
#[derive(Default)]
struct Options {
    every: Option<Duration>,
    timeout: Option<Duration>,
    fails: Option<u32>,
    passes: Option<u32>,
    http: Option<HttpCheck>,
    service: Option<String>,
}

impl Options {
    fn read(&mut self, draft: &Draft, key: &str, value: &Value, scene: &mut Scene<'_, '_>) {
        match key {
            "every" => self.every = scene.parse(value, values::duration),
            "timeout" => self.timeout = scene.parse(value, values::duration),
            "fails" => self.fails = scene.parse(value, |text| count(text, 1, COUNT_MAX)),
            "passes" => self.passes = scene.parse(value, |text| count(text, 1, COUNT_MAX)),
            "status" => {
                if let Some(status) = scene.parse(value, statuses) {
                    self.http.get_or_insert_with(http_check).status = status;
                }
            }
            "service" => self.service = scene.parse(value, service),
            "body" => self.http.get_or_insert_with(http_check).body = Some(value.text.value.clone()),
            _ => match key.split_once('.') {
                Some((part @ ("header" | "send"), name)) => {
                    if let Err(wrong) = values::field_name(name) {
                        scene.findings.error(value.span, format!("`{name}` {}", wrong.reason));
                    }
                    let http = self.http.get_or_insert_with(http_check);
                    if part == "send" {
                        http.send.insert(name.to_owned(), value.text.clone());
                    } else {
                        let any = value.text.value == "*";
                        let wanted = if any { None } else { Some(value.text.value.clone()) };
                        http.headers.insert(name.to_owned(), wanted);
                    }
                }
                _ => scene.unknown_option(draft, key, value, HEALTH),
            },
        }
    }
}

fn http_check() -> HttpCheck {
    let (send, headers) = (BTreeMap::new(), BTreeMap::new());
    HttpCheck { path: "/".into(), send, status: vec![(200, 399)], body: None, headers }
}

/// The name of a service of gRPC: `package.Service`.
fn service(text: &str) -> Result<String, Wrong> {
    match is_service(text) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new("is not the name of a service").hint("write it like `helloworld.Greeter`")),
    }
}

fn is_service(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn path(text: &str) -> Result<String, Wrong> {
    let wrong = Wrong::new("is no path to ask for");
    match text {
        _ if is_path(text) => Ok(text.to_owned()),
        _ if text.starts_with("http://") || text.starts_with("https://") => {
            Err(wrong.hint("write the path alone: every server is asked itself"))
        }
        _ if text.starts_with('/') => Err(wrong.hint("percent-encode what is not a letter of a path")),
        _ => Err(wrong.hint("write a path, as `/healthz`, or `grpc`, or `tcp`, or `off`")),
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 2048
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// `200`, `200-399`, `200,204,300-399`.
fn statuses(text: &str) -> Result<Vec<(u16, u16)>, Wrong> {
    let one = |part: &str| {
        let number = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        number(first).zip(number(last)).filter(|(first, last)| first <= last)
    };
    let all: Option<Vec<_>> = text.split(',').map(one).collect();
    all.ok_or_else(|| Wrong::new("is no list of statuses").hint("write it like `200-399` or `200,204`"))
}

fn count(text: &str, least: u64, most: u64) -> Result<u32, Wrong> {
    values::number(text, least, most).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// Why such checks cannot be; the same for a plan in JSON.
pub fn mistake_in(health: &Health) -> Option<String> {
    if health.every < EVERY_MIN {
        return Some("`every` is too short: a server would do little else; the least is 100ms".into());
    }
    if health.timeout.is_zero() {
        return Some("`timeout` leaves no time at all".into());
    }
    if health.timeout > health.every {
        return Some("`timeout` is longer than `every`: one check would run into the next".into());
    }
    if !(1..=100).contains(&health.fails) || !(1..=100).contains(&health.passes) {
        return Some("`fails` and `passes` are numbers from 1 to 100".into());
    }
    if let Check::Grpc(check) = &health.check
        && !check.service.is_empty()
        && !is_service(&check.service)
    {
        return Some(format!("`{}` is not the name of a service", check.service));
    }
    let Check::Http(check) = &health.check else { return None };
    if !is_path(&check.path) {
        return Some(format!("`{}` is no path to ask for", check.path));
    }
    let good = |&(first, last): &(u16, u16)| first <= last && (100..=599).contains(&first) && last <= 599;
    if check.status.is_empty() || !check.status.iter().all(good) {
        return Some("`status` is no list of statuses".into());
    }
    if check.body.as_ref().is_some_and(|body| body.is_empty() || body.len() > 4096) {
        return Some("`body` is empty, or longer than 4 KiB".into());
    }
    let has_no_body = |&(first, last): &(u16, u16)| first == last && matches!(first, 204 | 304);
    if check.body.is_some() && check.status.iter().all(has_no_body) {
        return Some("an answer of this `status` has no body, and `body` wants something in it".into());
    }
    if let Some(name) = check.headers.keys().find(|name| values::field_name(name).is_err()) {
        return Some(format!("`{name}` is not the name of a header field"));
    }
    for (name, value) in &check.send {
        let known = values::field_name(name).ok();
        if known.is_none() || FieldValue::new(value.value.as_bytes()).is_none() {
            return Some(format!("`{name}` and its value are no header field"));
        }
        if FRAMING.iter().any(|framing| framing.eq_ignore_ascii_case(name)) {
            return Some(format!("`{name}` is not for a check to set"));
        }
    }
    None
}

/// `eject …`.
pub fn read_eject(draft: &Draft, eject: &mut Eject, scene: &mut Scene<'_, '_>) {
    let option = |key: &str| draft.options.iter().find(|(name, _)| &**name == key).map(|(_, value)| value);
    if let Some(off) = draft.words.first() {
        eject.on = false;
        if let Some((_, value)) = draft.options.first() {
            scene.findings.error(value.span, "`eject off` takes no options").earlier(off.span);
        }
        return;
    }
    if draft.options.is_empty() {
        let hint = "write what differs from the defaults, or `off`";
        scene.findings.error(draft.span, "`eject` says nothing").hint(hint);
    }
    eject.on = true;
    if let Some(errors) = option("errors").and_then(|v| scene.parse(v, |text| count(text, 0, ERRORS_MAX))) {
        eject.errors = errors;
    }
    if let Some(rate) = option("rate").and_then(|value| scene.parse(value, percent)) {
        eject.rate_percent = rate;
    }
    if let Some(of) = option("of").and_then(|v| scene.parse(v, |text| count(text, 1, ERRORS_MAX))) {
        eject.of = of;
    }
    if let Some(time) = option("for").and_then(|value| scene.parse(value, values::duration)) {
        eject.time = time;
    }
    if let Some(keep) = option("keep").and_then(|value| scene.parse(value, percent)) {
        eject.keep_percent = keep;
    }
    if let Some(latency) = option("latency").and_then(|value| scene.parse(value, times)) {
        eject.latency_percent = latency;
    }
    if let Some(wrong) = mistake_in_eject(eject) {
        scene.findings.error(draft.span, wrong);
    }
}

/// Why hosts cannot be ejected so; the same for a plan in JSON.
pub fn mistake_in_eject(eject: &Eject) -> Option<String> {
    if eject.time.is_zero() || eject.time > TIME_MAX {
        return Some("`for` is a time up to one hour".into());
    }
    if u64::from(eject.errors) > ERRORS_MAX || !(1..=ERRORS_MAX).contains(&eject.of.into()) {
        return Some("`errors` and `of` are numbers up to 10000".into());
    }
    if eject.rate_percent > 100 || eject.keep_percent > 100 {
        return Some("a share is at most 100%".into());
    }
    let latency = eject.latency_percent.is_none_or(|percent| (110..=100_000).contains(&percent));
    (!latency).then(|| "`latency` is at least 1.1x and at most 1000x".into())
}

/// `50%`, in whole percents.
fn percent(text: &str) -> Result<u32, Wrong> {
    match parse_share(text)? {
        share if share.is_multiple_of(1000) => Ok(share / 1000),
        _ => Err(Wrong::new("is finer than it can be used").hint("write whole percents")),
    }
}

/// `off`, `3x`, `1.5x`, as hundredths.
fn times(text: &str) -> Result<Option<u32>, Wrong> {
    let wrong = || Wrong::new("is no multiple").hint("write it like `3x`, `1.5x`, or `off`");
    if text == "off" {
        return Ok(None);
    }
    let number = text.strip_suffix('x').ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 2 || number.ends_with('.') {
        return Err(wrong());
    }
    let hundredths = format!("{whole}{part:0<2}").parse::<u32>().map_err(|_| wrong())?;
    Ok(Some(hundredths))
}

const EVERY: Duration = Duration::from_secs(5);
const EVERY_MIN: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(2);
const FAILS: u32 = 3;
const PASSES: u32 = 2;
const COUNT_MAX: u64 = 100;
const ERRORS_MAX: u64 = 10_000;
const TIME_MAX: Duration = Duration::from_secs(3600);
const FRAMING: &[&str] =
    &["Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "TE", "Trailer"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read() {
        assert_eq!(statuses("200-399").ok(), Some(vec![(200, 399)]));
        assert_eq!(statuses("200,204,300-302").ok(), Some(vec![(200, 200), (204, 204), (300, 302)]));
        for bad in ["", "2xx", "99", "600", "399-200", "200-", "-200", "200,", "200-300-400"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn multiples_are_read() {
        assert_eq!(times("3x").ok(), Some(Some(300)));
        assert_eq!(times("1.5x").ok(), Some(Some(150)));
        assert_eq!(times("1.25x").ok(), Some(Some(125)));
        assert_eq!(times("off").ok(), Some(None));
        for bad in ["", "x", "3", "3.x", ".5x", "-3x", "1.125x", "99999999999x"] {
            assert!(times(bad).is_err(), "{bad}");
        }
    }
}
