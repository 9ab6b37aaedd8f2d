//! The forwarding headers: who asks, believed from trusted proxies only; told to the upstream in the proxy's own words.

use ipnet::IpNet;
use portunus_message::fields::{is_value_byte, tokens, trim};
use portunus_message::name::{KnownSet, is_token_byte};
use portunus_message::{FieldValue, Fields, Known, Peer, Request, RequestId, Scheme};
use std::io::Write;
use std::net::IpAddr;

/// The peers whose forwarding headers are believed; nobody unless the operator says so (attack F10).
#[derive(Clone, Debug, Default)]
pub struct Trust {
    networks: Box<[IpNet]>,
}

impl Trust {
    /// Trusts these networks.
    pub fn new(networks: &[IpNet]) -> Trust {
        Trust { networks: networks.into() }
    }

    /// Whether `address` is believed.
    pub fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// What a client may not say of itself (attack F8). `Proxy` is taken from everybody (httpoxy, attack A46).
const CLAIMS: KnownSet = KnownSet::of(&[
    Known::FORWARDED,
    Known::PROXY,
    Known::X_FORWARDED_FOR,
    Known::X_FORWARDED_HOST,
    Known::X_FORWARDED_PORT,
    Known::X_FORWARDED_PREFIX,
    Known::X_FORWARDED_PROTO,
    Known::X_FORWARDED_SERVER,
    Known::X_MIDDLEWARE_SUBREQUEST,
    Known::X_ORIGINAL_URL,
    Known::X_REAL_IP,
    Known::X_REQUEST_ID,
    Known::X_REWRITE_URL,
]);

/// Longer request ids of a trusted peer are replaced.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Finds out who asks, and leaves in `request` exactly the forwarding headers that the upstream may believe:
/// `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` and `X-Request-Id`. A trusted peer's id becomes `id` when it is
/// 128 bits in hexadecimal, with or without dashes.
pub fn apply(request: &mut Request, peer: &Peer, trust: &Trust, id: &mut RequestId) -> IpAddr {
    let direct = peer.client.ip().to_canonical();
    if trust.has(direct) {
        return apply_trusted(request, direct, trust, id);
    }
    let Request { target, fields, .. } = request;
    fields.retain(|known, name, _| !(CLAIMS.has(known) || known == Known::OTHER && is_claim(name)));
    let host = target.authority().as_bytes();
    let mut line = Line::default();
    line.push_address(direct);
    add(fields, Known::X_FORWARDED_FOR, line.bytes());
    add_scheme(fields, target.scheme);
    add(fields, Known::X_FORWARDED_HOST, host);
    line.clear();
    line.push_element(direct, host, target.scheme.as_str().as_bytes());
    add(fields, Known::FORWARDED, line.bytes());
    line.clear();
    line.push_id(*id);
    add(fields, Known::X_REQUEST_ID, line.bytes());
    direct
}

/// A name outside the list of known ones that claims something about a client: any `X-Forwarded-…`, and the
/// certificate fields of RFC 9440.
fn is_claim(name: &[u8]) -> bool {
    let starts =
        |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    match name.first() {
        Some(b'x' | b'X') => starts(b"X-Forwarded-"),
        Some(b'c' | b'C') => starts(b"Client-Cert") && matches!(name.len(), 11 | 17),
        _ => false,
    }
}

/// The same for a peer that is trusted: what it says is kept and continued.
fn apply_trusted(request: &mut Request, direct: IpAddr, trust: &Trust, id: &mut RequestId) -> IpAddr {
    let Request { target, fields, .. } = request;
    fields.remove(Known::PROXY);
    let client = client_of(fields, direct, trust);
    let nearest = fields.get_all(Known::FORWARDED).last().and_then(|line| split(line, b',').last());
    let stated = |known: Known, parameter_name: &str| {
        let mut values = fields.get_all(known);
        match (values.next(), values.next()) {
            (Some(value), None) if !value.is_empty() => Some(value),
            (None, _) => nearest.and_then(|element| parameter(element, parameter_name)),
            _ => None,
        }
    };
    let scheme = match stated(Known::X_FORWARDED_PROTO, "proto") {
        Some(text) if text.eq_ignore_ascii_case(b"https") => Scheme::Https,
        Some(text) if text.eq_ignore_ascii_case(b"http") => Scheme::Http,
        _ => target.scheme,
    };
    let host = stated(Known::X_FORWARDED_HOST, "host").filter(|host| host.iter().all(|&b| is_host_byte(b)));
    let host = host.unwrap_or(target.authority().as_bytes()).to_vec();

    let mut chain = joined(fields, Known::X_FORWARDED_FOR);
    let mut forwarded = joined(fields, Known::FORWARDED);
    let mut line = Line::default();
    line.push_address(direct);
    chain.extend_from_slice(line.bytes());
    line.clear();
    // Without a chain to continue, the one element names who asks: the first of the list is who upstreams look at.
    let named = if forwarded.is_empty() { client } else { direct };
    line.push_element(named, &host, scheme.as_str().as_bytes());
    forwarded.extend_from_slice(line.bytes());
    set(fields, Known::X_FORWARDED_FOR, &chain);
    fields.remove(Known::X_FORWARDED_PROTO);
    add_scheme(fields, scheme);
    set(fields, Known::X_FORWARDED_HOST, &host);
    set(fields, Known::FORWARDED, &forwarded);
    keep_or_set_id(fields, id);
    client
}

/// Walks the addresses from right to left and stops at the first one that is not trusted (attack F10). They come from
/// `X-Forwarded-For`, and from `Forwarded` only when there is no `X-Forwarded-For`: the two are never mixed.
fn client_of(fields: &Fields, direct: IpAddr, trust: &Trust) -> IpAddr {
    let mut walk = Walk { trust, found: None };
    if fields.has(Known::X_FORWARDED_FOR) {
        for line in fields.get_all(Known::X_FORWARDED_FOR) {
            tokens(line).for_each(|text| walk.step(parse_address(text)));
        }
    } else {
        for line in fields.get_all(Known::FORWARDED) {
            let elements = split(line, b',').filter(|element| !element.is_empty());
            elements.for_each(|element| walk.step(parameter(element, "for").and_then(parse_address)));
        }
    }
    walk.found.map_or(direct, |(address, _)| address)
}

/// The walk from right to left, done from left to right in one go: the last untrusted address wins over all before
/// it, and what is no address cuts off everything to its left.
struct Walk<'a> {
    trust: &'a Trust,
    found: Option<(IpAddr, bool)>,
}

impl Walk<'_> {
    fn step(&mut self, address: Option<IpAddr>) {
        match address {
            None => self.found = None,
            Some(address) if !self.trust.has(address) => self.found = Some((address, false)),
            Some(address) => {
                self.found.get_or_insert((address, true));
            }
        }
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`, also in quotes.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches('"');
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => address,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Splits at `separator` outside quotes (RFC 7239 §4) and trims.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let at_separator = move |&byte: &u8| {
        quoted ^= byte == b'"';
        byte == separator && !quoted
    };
    text.split(at_separator).map(trim)
}

/// The value of a parameter of one element of `Forwarded`, without its quotes.
fn parameter<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    split(element, b';').find_map(|pair| {
        let (key, value) = pair.split_at(pair.iter().position(|&byte| byte == b'=')?);
        let value = value.strip_prefix(b"=")?;
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        trim(key).eq_ignore_ascii_case(name.as_bytes()).then_some(bare)
    })
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte)
}

/// A trusted peer's id is kept when it is a token of bounded length, so that one request has one id everywhere.
fn keep_or_set_id(fields: &mut Fields, id: &mut RequestId) {
    let mut values = fields.get_all(Known::X_REQUEST_ID);
    if let (Some(given), None) = (values.next(), values.next())
        && (1..=REQUEST_ID_BYTES_MAX).contains(&given.len())
        && given.iter().all(|&byte| is_token_byte(byte))
    {
        if let Some(number) = parse_id(given) {
            *id = number;
        }
        return;
    }
    drop(values);
    let mut line = Line::default();
    line.push_id(*id);
    set(fields, Known::X_REQUEST_ID, line.bytes());
}

/// 32 hexadecimal digits, as we write them or with the dashes of a UUID.
fn parse_id(text: &[u8]) -> Option<RequestId> {
    let (mut number, mut digits) = (0u128, 0);
    for &byte in text.iter().filter(|&&byte| byte != b'-') {
        number = number.checked_shl(4)? | u128::from(char::from(byte).to_digit(16)?);
        digits += 1;
    }
    (digits == 32).then_some(RequestId(number))
}

fn add(fields: &mut Fields, name: Known, value: &[u8]) {
    if let Some(value) = FieldValue::new(value).filter(|value| !value.as_bytes().is_empty()) {
        fields.add(name, value);
    }
}

fn set(fields: &mut Fields, name: Known, value: &[u8]) {
    fields.remove(name);
    add(fields, name, value);
}

fn add_scheme(fields: &mut Fields, scheme: Scheme) {
    let value = match scheme {
        Scheme::Http => FieldValue::from_static("http"),
        Scheme::Https => FieldValue::from_static("https"),
    };
    fields.add(Known::X_FORWARDED_PROTO, value);
}

/// All values of a list field on one line, ready for one more.
fn joined(fields: &Fields, name: Known) -> Vec<u8> {
    let mut all = Vec::new();
    for value in fields.get_all(name).filter(|value| !value.is_empty()) {
        all.extend(value.iter().copied().filter(|&byte| is_value_byte(byte)));
        all.extend_from_slice(b", ");
    }
    all
}

/// A short line on the stack: this runs for every request, so nothing here may allocate.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

/// Room for an address, a host of 255 bytes with a port, and the words around them.
const LINE_BYTES: usize = 384;

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; LINE_BYTES], len: 0 }
    }
}

impl Line {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        // What does not fit is left out; a host longer than 255 bytes is refused by the parser.
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn push_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                for (at, octet) in address.octets().into_iter().enumerate() {
                    if at > 0 {
                        self.push(b".");
                    }
                    self.push(itoa::Buffer::new().format(octet).as_bytes());
                }
            }
            IpAddr::V6(address) => {
                let mut rest = self.bytes.get_mut(self.len..).unwrap_or(&mut []);
                let before = rest.len();
                // Writing fails only when there is no room; then the address is left out, as in `push`.
                if write!(rest, "{address}").is_ok() {
                    self.len += before - rest.len();
                }
            }
        }
    }

    /// One element of `Forwarded`; IPv6 addresses and hosts with a port have to be quoted (RFC 7239 §4, §6).
    fn push_element(&mut self, address: IpAddr, host: &[u8], scheme: &[u8]) {
        if address.is_ipv6() {
            self.push(b"for=\"[");
            self.push_address(address);
            self.push(b"]\"");
        } else {
            self.push(b"for=");
            self.push_address(address);
        }
        if !host.is_empty() {
            let plain = host.iter().all(|&byte| is_token_byte(byte));
            self.push(if plain { b";host=" } else { b";host=\"" });
            self.push(host);
            self.push(if plain { b"" } else { b"\"" });
        }
        self.push(b";proto=");
        self.push(scheme);
    }

    fn push_id(&mut self, RequestId(number): RequestId) {
        let mut digits = [0u8; 32];
        for (place, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            let digit = |bits: u8| HEX.get(usize::from(bits)).copied().unwrap_or(b'0');
            place.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        self.push(&digits);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::super::tests::Stage;
    use super::*;
    use proptest::prelude::*;

    fn peer(ip: &str) -> Peer {
        Peer { client: std::net::SocketAddr::new(ip.parse().unwrap(), 1234), ..Peer::default() }
    }

    fn trust() -> Trust {
        Trust::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
    }

    fn run(stage: &mut Stage, from: &str) -> (String, RequestId) {
        let mut id = RequestId(0xfeed);
        let client = apply(&mut stage.request, &peer(from), &trust(), &mut id);
        (client.to_string(), id)
    }

    const LIES: &[(&str, &str)] = &[
        ("X-Forwarded-For", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-User", "root"),
        ("Forwarded", "for=1.1.1.1"),
        ("X-Real-IP", "1.1.1.1"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-Middleware-Subrequest", "x"),
        ("X-Request-Id", "mine"),
        ("Client-Cert", ":x:"),
        ("Proxy", "http://evil"),
    ];

    #[test]
    fn f8_a_stranger_says_nothing_of_itself() {
        let mut stage = LIES
            .iter()
            .fold(Stage::get("/").field("Accept", "*/*"), |stage, (name, value)| stage.field(name, value));
        let (client, id) = run(&mut stage, "::ffff:192.0.2.7");
        assert_eq!((client.as_str(), id), ("192.0.2.7", RequestId(0xfeed)));
        let all: Vec<_> = stage
            .request
            .fields
            .iter()
            .map(|(_, n, v)| (n, v))
            .map(|(n, v)| format!("{}: {}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect();
        assert_eq!(
            all,
            [
                "Accept: */*",
                "X-Forwarded-For: 192.0.2.7",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: example.com",
                "Forwarded: for=192.0.2.7;host=example.com;proto=http",
                "X-Request-Id: 0000000000000000000000000000feed",
            ]
        );
    }

    #[test]
    fn f10_a_trusted_peer_is_believed_from_right_to_left() {
        for (chain, client) in [
            ("1.1.1.1, 2.2.2.2", "2.2.2.2"),
            ("1.1.1.1, 2.2.2.2, 10.9.9.9", "2.2.2.2"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("1.1.1.1, unknown, 10.2.2.2", "10.2.2.2"),
            ("1.1.1.1, garbage", "10.0.0.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1,, fd00::1", "2001:db8::1"),
            ("3.3.3.3:5555", "3.3.3.3"),
            ("::ffff:4.4.4.4", "4.4.4.4"),
            ("", "10.0.0.1"),
        ] {
            let mut stage = Stage::get("/").field("X-Forwarded-For", chain);
            assert_eq!(run(&mut stage, "10.0.0.1").0, client, "{chain}");
        }
        let mut lines =
            Stage::get("/").field("X-Forwarded-For", "1.1.1.1").field("X-Forwarded-For", "10.3.3.3");
        assert_eq!(run(&mut lines, "10.0.0.1").0, "1.1.1.1");
        assert_eq!(lines.sees("X-Forwarded-For"), "1.1.1.1, 10.3.3.3, 10.0.0.1");
        assert_eq!(lines.sees("Forwarded"), "for=1.1.1.1;host=example.com;proto=http");
        let mut both = Stage::get("/").field("X-Forwarded-For", "1.1.1.1").field("Forwarded", "for=2.2.2.2");
        assert_eq!(run(&mut both, "10.0.0.1").0, "1.1.1.1");
    }

    #[test]
    fn forwarded_is_read_and_continued() {
        let line = r#"for=9.9.9.9, For="[2001:db8::7]:99";Proto=https;host="a.example:8443";by="x,;y""#;
        let mut stage = Stage::get("/").field("Forwarded", line).field("Proxy", "http://evil");
        assert_eq!(run(&mut stage, "fd00::1").0, "2001:db8::7");
        assert_eq!(
            stage.sees("Forwarded"),
            format!("{line}, for=\"[fd00::1]\";host=\"a.example:8443\";proto=https")
        );
        assert_eq!(stage.sees("X-Forwarded-Proto"), "https");
        assert_eq!(stage.sees("X-Forwarded-Host"), "a.example:8443");
        assert_eq!(stage.sees("X-Forwarded-For"), "fd00::1");
        assert_eq!(stage.sees("Proxy"), "");
        for hidden in ["for=_secret", "for=unknown", "proto=https", "for=\"", "for"] {
            assert_eq!(
                run(&mut Stage::get("/").field("Forwarded", hidden), "10.0.0.1").0,
                "10.0.0.1",
                "{hidden}"
            );
        }
    }

    #[test]
    fn what_a_trusted_peer_states_is_kept() {
        let mut stage = Stage::get("/")
            .field("X-Forwarded-Proto", "https")
            .field("X-Forwarded-Host", "www.example.com")
            .field("X-Real-IP", "1.1.1.1")
            .field("X-Request-Id", "12345678-1234-5678-1234-567812345678");
        let (_, id) = run(&mut stage, "10.0.0.1");
        assert_eq!(id, RequestId(0x12345678_1234_5678_1234_567812345678));
        assert_eq!(stage.sees("X-Request-Id"), "12345678-1234-5678-1234-567812345678");
        assert_eq!(stage.sees("X-Forwarded-Proto"), "https");
        assert_eq!(stage.sees("X-Forwarded-Host"), "www.example.com");
        assert_eq!(stage.sees("X-Real-IP"), "1.1.1.1");
        let mut odd = Stage::get("/")
            .field("X-Forwarded-Proto", "gopher")
            .field("X-Forwarded-Host", "a\" b")
            .field("X-Request-Id", &"x".repeat(129));
        assert_eq!(run(&mut odd, "10.0.0.1").1, RequestId(0xfeed));
        assert_eq!(odd.sees("X-Request-Id"), "0000000000000000000000000000feed");
        assert_eq!(odd.sees("X-Forwarded-Proto"), "http");
        assert_eq!(odd.sees("X-Forwarded-Host"), "example.com");
    }

    #[test]
    fn hosts_and_addresses_are_quoted_where_they_must() {
        let mut stage = Stage::get("/");
        stage.request.target.set_authority(b"[2001:db8::2]:8080").unwrap();
        run(&mut stage, "2001:db8::1");
        assert_eq!(stage.sees("Forwarded"), "for=\"[2001:db8::1]\";host=\"[2001:db8::2]:8080\";proto=http");
        assert_eq!(stage.sees("X-Forwarded-Host"), "[2001:db8::2]:8080");
        let mut long = Stage::get("/");
        let host = format!("{}.example:65535", "a".repeat(247));
        long.request.target.set_authority(host.as_bytes()).unwrap();
        run(&mut long, "2001:db8:1111:2222:3333:4444:5555:6666");
        assert!(long.sees("Forwarded").ends_with(&format!(";host=\"{host}\";proto=http")));
    }

    proptest! {
        #[test]
        fn the_walk_agrees_with_walking_backwards(chain in proptest::collection::vec(0usize..5, 0..6)) {
            let words = ["1.1.1.1", "2.2.2.2", "10.0.0.5", "10.0.0.6", "junk"];
            let mut backwards = "10.0.0.1";
            for &word in chain.iter().rev() {
                if word == 4 { break; }
                backwards = words[word];
                if word < 2 { break; }
            }
            let line = chain.iter().map(|&word| words[word]).collect::<Vec<_>>().join(",");
            let mut stage = Stage::get("/").field("X-Forwarded-For", &line);
            prop_assert_eq!(run(&mut stage, "10.0.0.1").0, backwards);
        }

        #[test]
        fn nothing_that_is_said_breaks_anything(line in "[ -~]{0,60}") {
            for name in ["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Request-Id"] {
                run(&mut Stage::get("/").field(name, &line), "10.0.0.1");
                run(&mut Stage::get("/").field(name, &line), "11.0.0.1");
            }
        }
    }
}
