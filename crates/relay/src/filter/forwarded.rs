//! The forwarding headers: who asks, believed from trusted proxies only; told to the upstream in the proxy's own words.

use ipnet::IpNet;
use portunus_message::fields::{is_value_byte, tokens, trim};
use portunus_message::name::{is_claim, is_token_byte};
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

/// Longer request ids of a trusted peer are replaced.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Finds out who asks, and leaves in `request` exactly the forwarding headers that the upstream may believe:
/// `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` and `X-Request-Id`. A trusted peer's id becomes `id` when it is
/// 128 bits in hexadecimal, with or without dashes.
pub fn apply(
    request: &mut Request,
    peer: &Peer,
    trust: &Trust,
    told: &mut Told,
    id: &mut RequestId,
) -> IpAddr {
    let direct = peer.client.ip().to_canonical();
    if trust.has(direct) {
        return apply_trusted(request, direct, trust, id);
    }
    let Request { target, fields, .. } = request;
    fields.retain(|known, name, _| !is_claim(known, name));
    fields.append(told.of(direct, target.authority().as_bytes(), target.scheme));
    add(fields, Known::X_REQUEST_ID, &digits(*id));
    direct
}

/// What was told of a client last: nearly every request of a connection names the same host, so the same is told again.
#[derive(Debug, Default)]
pub struct Told {
    client: Option<IpAddr>,
    host: Vec<u8>,
    scheme: Scheme,
    fields: Fields,
}

impl Told {
    /// The fields that tell of this client.
    fn of(&mut self, client: IpAddr, host: &[u8], scheme: Scheme) -> &Fields {
        if self.client != Some(client) || self.scheme != scheme || self.host != host {
            self.client = Some(client);
            self.scheme = scheme;
            self.host.clear();
            self.host.extend_from_slice(host);
            self.write(client);
        }
        &self.fields
    }

    fn write(&mut self, client: IpAddr) {
        let Told { host, scheme, fields, .. } = self;
        fields.clear();
        let mut address = Line::<ADDRESS_BYTES>::new();
        address.push_address(client);
        add(fields, Known::X_FORWARDED_FOR, address.bytes());
        add_scheme(fields, *scheme);
        add(fields, Known::X_FORWARDED_HOST, host);
        let element = Line::element(&address, client.is_ipv6(), host, *scheme);
        add(fields, Known::FORWARDED, element.bytes());
    }
}

/// The same for a peer that is trusted: what it says is kept and continued.
fn apply_trusted(request: &mut Request, direct: IpAddr, trust: &Trust, id: &mut RequestId) -> IpAddr {
    let Request { target, fields, .. } = request;
    fields.remove(Known::PROXY);
    if is_contradicted(fields) {
        fields.remove(Known::FORWARDED);
    }
    let client = client_of(fields, direct, trust);
    let nearest = fields.get_all(Known::FORWARDED).next_back().and_then(|line| split(line, b',').next());
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
    // Whoever comes next might read a list with a quote that stays open otherwise than we do.
    let is_read_alike = fields.get_all(Known::FORWARDED).all(is_whole);
    let mut forwarded = if is_read_alike { joined(fields, Known::FORWARDED) } else { Vec::new() };
    let mut address = Line::<ADDRESS_BYTES>::new();
    if chain.is_empty() && client != direct {
        address.push_address(client);
        address.push(b", ");
    }
    address.push_address(direct);
    chain.extend_from_slice(address.bytes());
    // Without a chain to continue, the one element names who asks: the first of the list is who upstreams look at.
    let named = if forwarded.is_empty() { client } else { direct };
    address.clear();
    address.push_address(named);
    forwarded.extend_from_slice(Line::element(&address, named.is_ipv6(), &host, scheme).bytes());
    set(fields, Known::X_FORWARDED_FOR, &chain);
    fields.remove(Known::X_FORWARDED_PROTO);
    add_scheme(fields, scheme);
    set(fields, Known::X_FORWARDED_HOST, &host);
    set(fields, Known::FORWARDED, &forwarded);
    keep_or_set_id(fields, id);
    client
}

/// Whether `Forwarded` says something else of the last who asked than the fields that came before it. A peer that writes only the latter
/// passes on what its client said in the former, so that is what is not believed.
fn is_contradicted(fields: &Fields) -> bool {
    let last = |known| fields.get_all(known).next_back();
    let (Some(chain), Some(forwarded)) = (last(Known::X_FORWARDED_FOR), last(Known::FORWARDED)) else {
        return false;
    };
    let nearest = split(forwarded, b',').next();
    let said = |name: &str| nearest.and_then(|element| parameter(element, name));
    let differs = |known: Known, name: &str| {
        last(known).zip(said(name)).is_some_and(|(one, other)| !one.eq_ignore_ascii_case(other))
    };
    said("for").and_then(parse_address) != tokens(chain).next_back().and_then(parse_address)
        || differs(Known::X_FORWARDED_HOST, "host")
        || differs(Known::X_FORWARDED_PROTO, "proto")
}

/// Walks the addresses from right to left and stops at the first one that is not trusted (attack F10), and before what is no address. They
/// come from `X-Forwarded-For`, and from `Forwarded` only when there is no `X-Forwarded-For`: the two are never mixed.
fn client_of(fields: &Fields, direct: IpAddr, trust: &Trust) -> IpAddr {
    if fields.has(Known::X_FORWARDED_FOR) {
        let all = fields.get_all(Known::X_FORWARDED_FOR).rev().flat_map(|line| tokens(line).rev());
        walk(all.map(parse_address), direct, trust)
    } else {
        let all = fields.get_all(Known::FORWARDED).rev().flat_map(|line| split(line, b','));
        let named = all.filter(|element| !element.is_empty()).map(|element| parameter(element, "for"));
        walk(named.map(|name| name.and_then(parse_address)), direct, trust)
    }
}

fn walk(mut from_right: impl Iterator<Item = Option<IpAddr>>, direct: IpAddr, trust: &Trust) -> IpAddr {
    let mut client = direct;
    while trust.has(client)
        && let Some(Some(next)) = from_right.next()
    {
        client = next;
    }
    client
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

/// Splits at `separator` outside quotes (RFC 7239 §4) and trims, from the right: what a peer has appended is not swallowed by a quote that
/// its client has opened and never closed.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let all = rest?;
        let mut quoted = false;
        let is_separator = |&(at, &byte): &(usize, &u8)| {
            quoted ^= byte == b'"' && !is_escaped(all, at);
            byte == separator && !quoted
        };
        let at = all.iter().enumerate().rev().find(is_separator).map(|(at, _)| at);
        let (left, part) = match at {
            Some(at) => (all.get(..at), all.get(at + 1..).unwrap_or(&[])),
            None => (None, all),
        };
        rest = left;
        Some(trim(part))
    })
}

/// Whether an odd number of backslashes stands before the byte at `at`.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.iter().take(at).rev();
    before.take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// Whether every quote is closed.
fn is_whole(text: &[u8]) -> bool {
    let quotes = text.iter().enumerate().filter(|&(at, &byte)| byte == b'"' && !is_escaped(text, at));
    quotes.count() % 2 == 0
}

/// The value of a parameter of one element of `Forwarded`, without its quotes; one that is there twice is not there (RFC 7239 §4).
fn parameter<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut values = split(element, b';').filter_map(|pair| {
        let (key, value) = pair.split_at(pair.iter().position(|&byte| byte == b'=')?);
        let value = value.strip_prefix(b"=")?;
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        trim(key).eq_ignore_ascii_case(name.as_bytes()).then_some(bare)
    });
    values.next().filter(|_| values.next().is_none())
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
    set(fields, Known::X_REQUEST_ID, &digits(*id));
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
    const HTTP: FieldValue<'static> = FieldValue::from_static("http");
    const HTTPS: FieldValue<'static> = FieldValue::from_static("https");
    fields.add(Known::X_FORWARDED_PROTO, if scheme == Scheme::Https { HTTPS } else { HTTP });
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
struct Line<const SIZE: usize> {
    bytes: [u8; SIZE],
    len: usize,
}

/// Room for an IPv6 address with an IPv4 tail.
const ADDRESS_BYTES: usize = 48;
/// Room for an address, a host of 255 bytes with a port, and the words around them.
const ELEMENT_BYTES: usize = 384;

impl Line<ELEMENT_BYTES> {
    /// One element of `Forwarded`; what is no token has to be quoted: IPv6 addresses, hosts with a port, those with a `;` (RFC 7239 §4, §6).
    fn element(address: &Line<ADDRESS_BYTES>, is_ipv6: bool, host: &[u8], scheme: Scheme) -> Self {
        let mut line = Line::new();
        line.push(if is_ipv6 { b"for=\"[" } else { b"for=" });
        line.push(address.bytes());
        line.push(if is_ipv6 { b"]\"" } else { b"" });
        if !host.is_empty() {
            let quoted = !host.iter().all(|&byte| is_token_byte(byte));
            line.push(if quoted { b";host=\"" } else { b";host=" });
            line.push(host);
            line.push(if quoted { b"\"" } else { b"" });
        }
        line.push(b";proto=");
        line.push(scheme.as_str().as_bytes());
        line
    }
}

impl<const SIZE: usize> Line<SIZE> {
    fn new() -> Self {
        Line { bytes: [0; SIZE], len: 0 }
    }

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
}

/// The 32 hexadecimal digits of a request's number.
fn digits(RequestId(number): RequestId) -> [u8; 32] {
    let mut digits = [0u8; 32];
    for (place, part) in digits.chunks_exact_mut(8).zip([96, 64, 32, 0]) {
        place.copy_from_slice(&eight_digits((number >> part) as u32));
    }
    digits
}

/// All eight at once: half-bytes are spread over the bytes of a word, and those above nine moved to the letters.
fn eight_digits(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::MAX / 255;
    let mut word = u64::from(number);
    word = (word << 16 | word) & 0x0000_ffff_0000_ffff;
    word = (word << 8 | word) & 0x00ff_00ff_00ff_00ff;
    word = (word << 4 | word) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (word + ONES * 6) >> 4 & ONES;
    (word + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests;
