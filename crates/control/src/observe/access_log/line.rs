//! line: one exchange as one line, in JSON or in Apache's combined format.
//!
//! # JSON
//!
//! One object a line. Always there: `time` (when the exchange ended, RFC 3339 in UTC with milliseconds), `id`,
//! `client`, `status` (that of the reason when nothing was sent: 499 for a client that left; `null` without one), `bytes_up`, `bytes_down` (of bodies), `tries`, `total`.
//! There when known: `client_port` (absent behind a trusted proxy), `via` (the proxy that has told who the client is by a PROXY header), `method`, `host`, `path` (as asked, before any
//! rewriting), `protocol`, `websocket` (`true` only), `grpc_status` (of a call), `referer`, `user_agent`, `route`, `pool`, `upstream` (of the last attempt),
//! `retry` (`refused-by-budget` only), the timers `queue` (head complete → host chosen), `connect` (→ connection there), `first_byte` (→ head of the
//! answer there), and, when the exchange did not come to its natural end, `error` (the reason's word), `side`
//! (who is at fault), `phase` (what was being done) and, where no connection came about, `detail` (what is known of why). Timers are milliseconds with three decimals.
//!
//! A client that says something and with which no TLS comes about has an object with `time`, `client`, `client_port`, `via`, `host` (the name
//! that it asked for), `status` (`null`), `total`, `error` (as in `portunus_tls_handshakes_total`), `side`, `phase` (`tls`) and, where
//! the TLS library has words of its own, `detail`.
//!
//! # Combined
//!
//! `client - - [time] "method path protocol" status bytes "referer" "user-agent"`, the bytes being those of the
//! body. Without a status it is 000.
//!
//! # Both
//!
//! Each value is cut at limit `log-field`, then escaped, so that no value can end a line or a quotation (attack I1).

use portunus_message::{Error, Exchange, Known, Peer, Phase, Side};
use portunus_relay::stats::{Names, Unshaken};
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

/// Appends the exchange as a JSON object and a line end; `time` is its end in RFC 3339.
pub fn json(exchange: &Exchange, names: &Names<'_>, time: &[u8], value_bytes_max: usize, out: &mut Vec<u8>) {
    let request = &exchange.request;
    let times = &exchange.times;
    let mut object = Object { out, value_bytes_max };
    object.out.extend_from_slice(b"{\"time\":\"");
    object.out.extend_from_slice(time);
    object.out.extend_from_slice(b"\",\"id\":\"");
    hexadecimal(exchange.id.0, object.out);
    object.out.push(b'"');
    object.client(&exchange.peer, exchange.client_ip());
    let path = path(exchange);
    if !path.is_empty() {
        object.word("method", request.method.as_str());
        object.text("host", request.target.authority().as_bytes());
        object.text("path", path.as_bytes());
        object.word("protocol", exchange.protocol.as_str());
    }
    if request.websocket {
        object.raw("websocket", b"true");
    }
    match exchange.sent {
        Some(status) => object.number("status", status.code().into()),
        None => object.raw("status", b"null"),
    }
    if let Some(status) = exchange.call_status {
        object.number("grpc_status", status.into());
    }
    object.number("bytes_up", exchange.bytes_up);
    object.number("bytes_down", exchange.bytes_down);
    object.optional("referer", request.fields.get(Known::REFERER));
    object.optional("user_agent", request.fields.get(Known::USER_AGENT));
    object.optional("route", names.route.map(str::as_bytes));
    object.optional("pool", names.pool.map(str::as_bytes));
    object.optional("upstream", names.upstream.map(str::as_bytes));
    object.number("tries", exchange.tries.into());
    if exchange.refused_by_budget {
        object.word("retry", "refused-by-budget");
    }
    for (key, from, to) in [
        ("queue", times.head, times.picked),
        ("connect", times.picked, times.connected),
        ("first_byte", times.connected, times.first_byte),
        ("total", Some(times.began), times.ended.or(Some(times.began))),
    ] {
        if let (Some(from), Some(to)) = (from, to) {
            object.milliseconds(key, to.since(from));
        }
    }
    if let Some(error) = &exchange.error {
        object.word("error", error.crime.word());
        object.word("side", side_word(error.side));
        object.word("phase", phase_word(error));
        object.optional("detail", names.detail.as_deref().map(str::as_bytes));
    }
    object.out.extend_from_slice(b"}\n");
}

/// Appends a handshake that came to nothing as a JSON object and a line end; `time` is its end in RFC 3339.
pub fn unshaken(unshaken: &Unshaken<'_>, time: &[u8], value_bytes_max: usize, out: &mut Vec<u8>) {
    let mut object = Object { out, value_bytes_max };
    object.out.extend_from_slice(b"{\"time\":\"");
    object.out.extend_from_slice(time);
    object.out.push(b'"');
    object.client(&unshaken.peer, unshaken.peer.client.ip());
    object.optional("host", unshaken.name.map(str::as_bytes));
    object.raw("status", b"null");
    object.milliseconds("total", unshaken.lasted);
    object.word("error", unshaken.end.word());
    object.word("side", side_word(unshaken.end.side()));
    object.word("phase", "tls");
    object.optional("detail", unshaken.detail.map(str::as_bytes));
    object.out.extend_from_slice(b"}\n");
}

/// Appends the exchange in the combined format and a line end; `time` is its end as Apache writes it.
pub fn combined(exchange: &Exchange, time: &[u8], value_bytes_max: usize, out: &mut Vec<u8>) {
    let request = &exchange.request;
    let _ = write!(out, "{} - - [", exchange.client_ip().to_canonical());
    out.extend_from_slice(time);
    out.extend_from_slice(b"] \"");
    let path = path(exchange);
    if path.is_empty() {
        out.push(b'-');
    } else {
        out.extend_from_slice(request.method.as_str().as_bytes());
        out.push(b' ');
        escape_quoted(cut(path.as_bytes(), value_bytes_max), out);
        out.push(b' ');
        out.extend_from_slice(exchange.protocol.as_str().as_bytes());
    }
    let status = exchange.sent.or(exchange.error.map(|error| error.crime.status()));
    let _ = write!(out, "\" {:03} {}", status.map_or(0, |status| status.code()), exchange.bytes_down);
    for name in [Known::REFERER, Known::USER_AGENT] {
        out.extend_from_slice(b" \"");
        escape_quoted(cut(request.fields.get(name).unwrap_or(b"-"), value_bytes_max), out);
        out.push(b'"');
    }
    out.push(b'\n');
}

/// The path and query as asked; empty when no request could be made out.
fn path(exchange: &Exchange) -> &str {
    if exchange.asked.is_empty() { exchange.request.target.path_and_query() } else { &exchange.asked }
}

/// The members of a JSON object, after the first.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    value_bytes_max: usize,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(value);
    }

    fn number(&mut self, key: &str, value: u64) {
        self.raw(key, itoa::Buffer::new().format(value).as_bytes());
    }

    /// Who asks: as trusted proxies say, which is not always who is connected.
    fn client(&mut self, peer: &Peer, ip: IpAddr) {
        let ip = ip.to_canonical();
        self.key("client");
        let _ = write!(self.out, "\"{ip}\"");
        if peer.client.port() != 0 && ip == peer.client.ip().to_canonical() {
            self.number("client_port", peer.client.port().into());
        }
        if let Some(via) = peer.via {
            self.word("via", &via.to_canonical().to_string());
        }
    }

    fn milliseconds(&mut self, key: &str, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.number(key, micros / 1000);
        let rest = micros % 1000;
        let digit = |n: u64| b'0' + u8::try_from(n % 10).unwrap_or(0);
        self.out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }

    /// A word of our own, which needs no escaping.
    fn word(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        escape_json(cut(value, self.value_bytes_max), self.out);
        self.out.push(b'"');
    }

    fn optional(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }
}

/// At most `max` bytes from the start, without half a UTF-8 character at the end.
fn cut(value: &[u8], max: usize) -> &[u8] {
    let mut end = max;
    if value.len() <= max {
        return value;
    }
    while end > max.saturating_sub(3) && value.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    value.get(..end).unwrap_or(value)
}

/// Appends `value` as the inside of a JSON string (RFC 8259 §7). Control characters, C1 and the Unicode line and
/// paragraph separators included, are escaped; bytes that are no UTF-8 become U+FFFD.
fn escape_json(mut value: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = first_odd(value) {
        let (plain, rest) = value.split_at(at);
        out.extend_from_slice(plain);
        let used = match rest.first().copied().unwrap_or(0) {
            byte @ (b'"' | b'\\') => {
                out.extend_from_slice(&[b'\\', byte]);
                1
            }
            byte @ ..0x80 => {
                escape_unit(byte.into(), out);
                1
            }
            _ => escape_character(rest, out),
        };
        value = rest.get(used..).unwrap_or(&[]);
    }
    out.extend_from_slice(value);
}

/// Appends the first character of `bytes`, which is not ASCII; says how many bytes it takes.
fn escape_character(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let Some(chunk) = bytes.get(..bytes.len().min(4)).unwrap_or(bytes).utf8_chunks().next() else { return 1 };
    match chunk.valid().chars().next() {
        Some(character @ ('\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}')) => {
            escape_unit(character as u32, out);
            character.len_utf8()
        }
        Some(character) => {
            out.extend_from_slice(bytes.get(..character.len_utf8()).unwrap_or(&[]));
            character.len_utf8()
        }
        None => {
            escape_unit(0xfffd, out);
            chunk.invalid().len().max(1)
        }
    }
}

fn escape_unit(unit: u32, out: &mut Vec<u8>) {
    let _ = write!(out, "\\u{unit:04x}");
}

/// Appends `value` as Apache writes it between quotation marks: `\"`, `\\`, and `\xHH` for all that is not visible ASCII or space.
fn escape_quoted(mut value: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = first_odd(value) {
        let (plain, rest) = value.split_at(at);
        out.extend_from_slice(plain);
        match rest.first().copied().unwrap_or(0) {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
        value = rest.get(1..).unwrap_or(&[]);
    }
    out.extend_from_slice(value);
}

/// Where the first byte stands that has to be escaped. Sixteen are looked at in one go, without a branch for each.
fn first_odd(value: &[u8]) -> Option<usize> {
    let odd = |bytes: &[u8]| bytes.iter().position(|&byte| !is_plain(byte));
    let (chunks, rest) = value.as_chunks::<16>();
    for (at, chunk) in chunks.iter().enumerate() {
        if chunk.iter().fold(false, |any, &byte| any | !is_plain(byte)) {
            return odd(chunk).map(|within| at * 16 + within);
        }
    }
    odd(rest).map(|within| chunks.len() * 16 + within)
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn hexadecimal(number: u128, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
    for byte in number.to_be_bytes() {
        out.extend_from_slice(&[digit(byte >> 4), digit(byte)]);
    }
}

const fn side_word(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Upstream => "upstream",
        Side::Proxy => "proxy",
    }
}

const fn phase_word(error: &Error) -> &'static str {
    match error.phase {
        Phase::Accept => "accept",
        Phase::Head => "head",
        Phase::Filter => "filter",
        Phase::Pick => "pick",
        Phase::Connect => "connect",
        Phase::Send => "send",
        Phase::Wait => "wait",
        Phase::Body => "body",
        Phase::Tally => "tally",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_message::{Crime, FieldValue, Method, RequestId, Retry, Status, Tick};
    use portunus_relay::stats::Handshake;

    fn exchange() -> Exchange {
        let mut exchange = Exchange { id: RequestId(0xabc), ..Exchange::default() };
        exchange.peer.client = "192.0.2.7:4711".parse().unwrap();
        exchange.request.method = Method::POST;
        exchange.request.target.set_authority(b"api.example.com").unwrap();
        exchange.request.target.set_path(b"/rewritten").unwrap();
        exchange.asked.push_str("/users/7?q=\"1\"");
        exchange.request.fields.add(Known::USER_AGENT, FieldValue::new("curl/8 \u{fc}".as_bytes()).unwrap());
        exchange.sent = Some(Status::OK);
        exchange.bytes_up = 12;
        exchange.bytes_down = 3456;
        exchange.tries = 1;
        exchange.times.began = Tick(1_000_000);
        exchange.times.head = Some(Tick(1_000_010));
        exchange.times.picked = Some(Tick(1_000_015));
        exchange.times.connected = Some(Tick(1_000_115));
        exchange.times.first_byte = Some(Tick(1_003_115));
        exchange.times.ended = Some(Tick(1_004_000));
        exchange
    }

    const NAMES: Names<'static> = Names {
        route: Some("api.example.com/users/*"),
        pool: Some("users"),
        upstream: Some("10.0.0.11:8080"),
        detail: None,
    };

    fn json_line(exchange: &Exchange, names: &Names<'_>) -> String {
        let mut out = Vec::new();
        json(exchange, names, b"2026-01-31T23:59:59.123Z", 2048, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn combined_line(exchange: &Exchange) -> String {
        let mut out = Vec::new();
        combined(exchange, b"31/Jan/2026:23:59:59 +0000", 2048, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_has_all_there_is_to_say() {
        assert_eq!(
            json_line(&exchange(), &NAMES),
            concat!(
                r#"{"time":"2026-01-31T23:59:59.123Z","id":"00000000000000000000000000000abc","#,
                r#""client":"192.0.2.7","client_port":4711,"method":"POST","host":"api.example.com","#,
                r#""path":"/users/7?q=\"1\"","protocol":"HTTP/1.1","status":200,"bytes_up":12,"#,
                r#""bytes_down":3456,"user_agent":"curl/8 ü","route":"api.example.com/users/*","#,
                r#""pool":"users","upstream":"10.0.0.11:8080","tries":1,"queue":0.005,"connect":0.100,"#,
                r#""first_byte":3.000,"total":4.000}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_request_that_never_was_one_has_a_line_too() {
        let error = Some(Error::client(Phase::Head, Crime::MalformedHead));
        let mut exchange = Exchange { error, sent: Some(Status::BAD_REQUEST), ..Exchange::default() };
        assert_eq!(
            json_line(&exchange, &Names::default()),
            concat!(
                r#"{"time":"2026-01-31T23:59:59.123Z","id":"00000000000000000000000000000000","#,
                r#""client":"127.0.0.1","status":400,"bytes_up":0,"bytes_down":0,"tries":0,"total":0.000,"#,
                r#""error":"malformed-head","side":"client","phase":"head"}"#,
                "\n"
            )
        );
        exchange.sent = None;
        exchange.error = Some(Error::upstream(Phase::Wait, Crime::UpstreamClosed, Retry::Never));
        assert!(json_line(&exchange, &Names::default()).contains(r#""status":null"#));
        assert_eq!(
            combined_line(&exchange),
            "127.0.0.1 - - [31/Jan/2026:23:59:59 +0000] \"-\" 502 0 \"-\" \"-\"\n"
        );
    }

    #[test]
    fn a_handshake_that_came_to_nothing_has_a_line() {
        let peer = Peer { client: "[::ffff:192.0.2.7]:4711".parse().unwrap(), ..Peer::default() };
        let lasted = Duration::from_micros(1500);
        let end = Handshake::ClientCertificate;
        let mut failed = Unshaken { peer, name: Some("a\"b"), end, detail: Some("it \"expired\""), lasted };
        let line = |failed: &Unshaken<'_>| {
            let mut out = Vec::new();
            unshaken(failed, b"2026-01-31T23:59:59.123Z", 2048, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            line(&failed),
            concat!(
                r#"{"time":"2026-01-31T23:59:59.123Z","client":"192.0.2.7","client_port":4711,"host":"a\"b","#,
                r#""status":null,"total":1.500,"error":"client-certificate","side":"client","phase":"tls","#,
                r#""detail":"it \"expired\""}"#,
                "\n"
            )
        );
        failed = Unshaken { name: None, end: Handshake::NoCertificate, detail: None, ..failed };
        assert!(
            line(&failed).ends_with(",\"error\":\"no-certificate\",\"side\":\"proxy\",\"phase\":\"tls\"}\n")
        );
    }

    #[test]
    fn a_combined_line_is_apaches() {
        assert_eq!(
            combined_line(&exchange()),
            concat!(
                r#"192.0.2.7 - - [31/Jan/2026:23:59:59 +0000] "POST /users/7?q=\"1\" HTTP/1.1" 200 3456 "#,
                r#""-" "curl/8 \xc3\xbc""#,
                "\n"
            )
        );
    }

    #[test]
    fn i1_no_value_can_end_a_line_or_a_quotation() {
        let mut exchange = exchange();
        exchange.asked = "/a\r\n\u{1b}[31m\"\\\t\0\u{7f}\u{85}\u{2028}ok".to_owned();
        let line = json_line(&exchange, &NAMES);
        assert!(line.contains(r#""path":"/a\u000d\u000a\u001b[31m\"\\\u0009\u0000\u007f\u0085\u2028ok""#));
        assert_eq!(line.lines().count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["path"], exchange.asked.as_str());
        let line = combined_line(&exchange);
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains(r#"/a\x0d\x0a\x1b[31m\"\\\x09\x00\x7f\xc2\x85\xe2\x80\xa8ok HTTP"#));
    }

    #[test]
    fn i1_bytes_that_are_no_text_become_text() {
        let mut exchange = exchange();
        let value = FieldValue::new(b"a\xffb\xe2\x82c\xf0\x9f\x98\x80").unwrap();
        exchange.request.fields.set(Known::USER_AGENT, value);
        assert!(json_line(&exchange, &NAMES).contains(r#""user_agent":"a\ufffdb\ufffdc😀""#));
    }

    #[test]
    fn i1_values_are_cut() {
        let mut out = Vec::new();
        let mut exchange = exchange();
        exchange.asked = "/".repeat(100_000);
        json(&exchange, &NAMES, b"", 2048, &mut out);
        assert!(out.len() < 2048 + 600, "{}", out.len());
        assert_eq!(cut("aä".as_bytes(), 2), b"a");
        assert_eq!(cut("aä".as_bytes(), 3), "aä".as_bytes());
        assert_eq!(cut(b"abc", 0), b"");
    }
}
