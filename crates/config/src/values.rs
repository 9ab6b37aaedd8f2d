//! One word → a duration, a size, an address, a pattern …, or why it is none.

use crate::mistake::did_you_mean;
use crate::outside::Wrong;
use ipnet::IpNet;
use portunus_message::{FieldName, Known, Request, Target};
use portunus_relay::entry::{ArgMistake, At};
use portunus_relay::plan::{Address, Listen};
use portunus_relay::values::{ValueMistake, parse_duration, parse_network, parse_number, parse_size};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// One of these words.
pub fn one_of(text: &str, words: &[&str]) -> Result<(), Wrong> {
    if words.contains(&text) {
        return Ok(());
    }
    let all: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    let choice = match all.as_slice() {
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => "nothing".to_owned(),
    };
    let wrong = Wrong::new(format!("is not {choice}"));
    Err(Wrong { hint: did_you_mean(text, words.iter().copied()), ..wrong })
}

/// `250ms`, `5s`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    parse_duration(text).map_err(Wrong::from)
}

/// The most bytes that a size may have.
pub const SIZE_MAX: u64 = 1 << 50;

/// `64KiB`, `1GiB`, or a plain number of bytes.
pub fn size(text: &str) -> Result<u64, Wrong> {
    match parse_size(text)? {
        bytes if bytes <= SIZE_MAX => Ok(bytes),
        _ => Err(Wrong::new("is too large a size")),
    }
}

impl From<ValueMistake> for Wrong {
    fn from(mistake: ValueMistake) -> Wrong {
        Wrong::new(mistake.reason).hint(mistake.hint)
    }
}

/// A whole number in this range.
pub fn number(text: &str, least: u64, most: u64) -> Result<u64, Wrong> {
    match parse_number(text)? {
        number if number < least => Err(Wrong::new(format!("is too small; the least is {least}"))),
        number if number > most => Err(Wrong::new(format!("is too large; the most is {most}"))),
        number => Ok(number),
    }
}

/// `10.0.0.0/8`, `::1`.
pub fn network(text: &str) -> Result<IpNet, Wrong> {
    parse_network(text).map_err(Wrong::from)
}

/// A regular expression.
pub fn regex(text: &str) -> Result<(), Wrong> {
    let wrong = |mistake: ArgMistake| Wrong { reason: mistake.reason, hint: mistake.hint };
    portunus_relay::args::regex(text, At::Name).map(drop).map_err(wrong)
}

/// The name of a header field.
pub fn field_name(text: &str) -> Result<FieldName, Wrong> {
    FieldName::new(text).ok_or_else(|| Wrong::new("is not the name of a header field"))
}

/// The name of a header field that a route may ask for: any but the host's, which the name of the site is for, and those that are not kept.
pub fn asked_field(text: &str) -> Result<FieldName, Wrong> {
    match field_name(text)? {
        name if name.known() == Known::HOST => {
            Err(Wrong::new("cannot be asked for by a route: the host is chosen by the name of the site")
                .hint("write a `site` with that name"))
        }
        name if !Request::keeps(name.known()) => Err(Wrong::new(
            "cannot be asked for by a route: it concerns one connection, and nothing is kept of it",
        )),
        name => Ok(name),
    }
}

/// A host name or address in normal form, as a request's host is.
pub fn host(text: &str) -> Result<String, Wrong> {
    let wrong = || Wrong::new("is not a host name");
    if !text.is_ascii() {
        return Err(wrong().hint("write it in its ASCII form, which begins with `xn--`"));
    }
    let mut target = Target::new();
    target.set_authority(text.as_bytes()).map_err(|_| wrong())?;
    let host = target.host();
    let label = |label: &str| {
        label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let bracketed = host.starts_with('[');
    if target.port().is_some() || (!bracketed && (host.len() > 253 || !host.split('.').all(label))) {
        return Err(wrong());
    }
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(Wrong::new("is not an IPv4 address"));
    }
    Ok(host.to_owned())
}

/// A port, 1 to 65535, or 0 where the system may choose.
pub fn port(text: &str, least: u16) -> Result<u16, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u16>()
        .ok()
        .filter(|&port| digits && port >= least)
        .ok_or_else(|| Wrong::new(format!("has no valid port; a port is a number from {least} to 65535")))
}

/// `host:port` → host and port, brackets kept; a host without a port is `(host, None)`.
pub fn split_port(text: &str) -> Result<(&str, Option<&str>), Wrong> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or_else(|| Wrong::new("has no closing `]`"))? + 1;
        let (host, rest) = text.split_at(end);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(Wrong::new("is not an address")),
        };
    }
    match text.rsplit_once(':') {
        Some((host, port)) if host.contains(':') => {
            let wrong = Wrong::new("is an IPv6 address without brackets");
            Err(if host.parse::<Ipv6Addr>().is_ok() {
                wrong.hint(format!("write `[{host}]:{port}`"))
            } else if text.parse::<Ipv6Addr>().is_ok() {
                wrong.hint(format!("write `[{text}]:80`"))
            } else {
                Wrong::new("is not an address")
            })
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// What a server is written with, before its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`.
    Http,
    /// `https://`.
    Https,
    /// `h2c://`: HTTP/2 without TLS.
    H2c,
}

/// What a server is written with; none: with its address alone.
pub fn scheme(text: &str) -> Option<Scheme> {
    match text.split_once("://")?.0 {
        "https" => Some(Scheme::Https),
        "http" => Some(Scheme::Http),
        "h2c" => Some(Scheme::H2c),
        _ => None,
    }
}

/// Where a server is: `10.0.0.1:8080`, `name:8080`, `[::1]:8080`, `:8080`, `http://name`, `h2c://name`, `unix:/path`.
pub fn address(text: &str) -> Result<Address, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Address::Unix);
    }
    let mut rest = text;
    let mut default_port = None;
    if let Some((scheme, after)) = text.split_once("://") {
        match scheme {
            "http" | "h2c" => default_port = Some("80"),
            "https" => default_port = Some("443"),
            _ => {
                let hint = match scheme {
                    "grpc" => Some("gRPC goes by `h2c://`, or by `https://` with TLS".to_owned()),
                    "grpcs" => Some("gRPC with TLS goes by `https://`".to_owned()),
                    "ws" => Some("WebSockets go by `http://`; nothing has to be written for them".to_owned()),
                    "wss" => Some("WebSockets with TLS go by `https://`".to_owned()),
                    _ => did_you_mean(scheme, ["http", "https", "h2c", "unix"]),
                };
                return Err(Wrong { hint, ..Wrong::new(format!("has an unknown scheme, `{scheme}`")) });
            }
        }
        rest = after.strip_suffix('/').unwrap_or(after);
    }
    if rest.starts_with("srv:") {
        return srv(rest.trim_start_matches("srv:")).map(Address::Srv);
    }
    if let Some((target, _)) = rest.split_once('#').filter(|(target, _)| split_port(target).is_ok()) {
        let hint = format!("a comment has a space before its `#`: `{target} #…`");
        return Err(Wrong::new("has a `#` in it, which a target cannot have").hint(hint));
    }
    if rest.contains(['/', '?', '#']) {
        return Err(Wrong::new("has a path, which a target cannot have")
            .hint("`rewrite` changes the path on its way to the upstream"));
    }
    if rest.contains('@') {
        return Err(Wrong::new("has a user name, which a target cannot have")
            .hint("`request-header set Authorization …` sends a password"));
    }
    let (host, port) = split_port(rest)?;
    let Some(port_text) = port.or(default_port) else {
        return Err(Wrong::new("has no port").hint(format!("write `{host}:80`")));
    };
    let port = self::port(port_text, 1)?;
    if host.is_empty() && default_port.is_some() {
        return Err(Wrong::new("has no host").hint(format!("this machine is `:{port}`")));
    }
    if host.is_empty() {
        return Ok(Address::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    }
    let host = self::host(host)?;
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Ok(Address::Socket(SocketAddr::new(address, port))),
        Err(_) => Ok(Address::Name { host, port }),
    }
}

/// The name of SRV records: `_http._tcp.users.internal`.
fn srv(name: &str) -> Result<String, Wrong> {
    let wrong =
        || Wrong::new("is no name of SRV records").hint("write it like `srv:_http._tcp.users.internal`");
    let host = host(name).map_err(|_| wrong())?;
    let mut labels = host.split('.');
    let service = |label: Option<&str>| label.is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    let fits = service(labels.next()) && service(labels.next()) && labels.next().is_some();
    if fits { Ok(host) } else { Err(wrong()) }
}

/// Where a site listens: `127.0.0.1:8080`, `:8080` (every address, IPv4 and IPv6), `[::1]:8080`, `unix:/path`.
pub fn listen(text: &str) -> Result<Listen, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Listen::Unix);
    }
    let wrong = || Wrong::new("is not an address to listen on");
    if text.contains('/') {
        return Err(wrong().hint("write it like `127.0.0.1:8080`, `:8080` or `unix:/run/portunus/web.sock`"));
    }
    if port(text, 0).is_ok() {
        return Err(wrong().hint(format!("write `:{text}`")));
    }
    let (host, port) = split_port(text)?;
    let Some(port) = port else {
        return Err(wrong().hint(format!("write it with a port: `{host}:80`")));
    };
    let port = self::port(port, 0)?;
    if host.is_empty() {
        return Ok(every_address(port));
    }
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Ok(Listen::Tcp(SocketAddr::new(address, port))),
        Err(_) if host == "localhost" => {
            Err(wrong().hint(format!("write `127.0.0.1:{port}` or `[::1]:{port}`")))
        }
        Err(_) if host == "*" => Err(wrong().hint(format!("write `:{port}`"))),
        Err(_) => Err(wrong().hint("a listener stands at an address of this machine, not at a name")),
    }
}

/// Every address of the machine: the IPv6 wildcard, which the socket layer opens for IPv4, too.
pub fn every_address(port: u16) -> Listen {
    Listen::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
}

/// The path of a unix socket, which the system bounds to about a hundred bytes.
pub fn unix_path(path: &str) -> Result<PathBuf, Wrong> {
    match path.len() {
        0 => Err(Wrong::new("has no path").hint("write it like `unix:/run/app.sock`")),
        1..=107 if path.contains('\0') => Err(Wrong::new("has a NUL in its path")),
        1..=107 => Ok(PathBuf::from(path)),
        _ => Err(Wrong::new("is too long a path for a unix socket; the most is 107 bytes")),
    }
}

/// Whether no CA of the internet can know to whom this host belongs (RFC 6761, RFC 6762, RFC 8375).
pub fn is_private(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || (address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64) // RFC 6598
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
        Err(_) => {
            let last = host.rsplit('.').next().unwrap_or(host);
            !host.contains('.')
                || matches!(last, "localhost" | "local" | "internal")
                || host.ends_with(".home.arpa")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (written, means) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            (":3000", "127.0.0.1:3000"),
            ("App.Internal:80", "app.internal:80"),
            ("http://app", "app:80"),
            ("http://app:81/", "app:81"),
            ("h2c://app", "app:80"),
            ("h2c://app:50051", "app:50051"),
            ("unix:/run/x", "unix:/run/x"),
            ("srv:_http._tcp.Users.internal", "srv:_http._tcp.users.internal"),
        ] {
            assert_eq!(address(written).map(|address| address.to_string()), Ok(means.to_owned()));
        }
        for bad in [
            "",
            "app",
            "https://app/x",
            "h2://app",
            "ftp://app:1",
            "app:0",
            "app:65536",
            "app:x",
            "::1",
            "::1:80",
            "10.0.0.256:80",
            "a b:80",
            "http://app/x",
            "http://",
            "https:///",
            "h2c://:80",
            "u@app:80",
            "unix:",
            "a..b:80",
            "[::1",
            "srv:http.tcp.x",
            "srv:_http._tcp",
            "srv:_http._tcp.x:80",
            "app:+80",
            "\u{fc}ber:80",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listen_addresses_are_read() {
        for (written, means) in
            [(":80", "[::]:80"), ("0.0.0.0:0", "0.0.0.0:0"), ("[::1]:80", "[::1]:80"), ("unix:x", "unix:x")]
        {
            assert_eq!(listen(written).map(|listen| listen.to_string()), Ok(means.to_owned()));
        }
        for bad in
            ["80", "localhost:80", "*:80", "example.com:80", "127.0.0.1", "", "127.0.0.1:", "http://x:1"]
        {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_that_no_ca_knows() {
        for host in [
            "localhost",
            "x.localhost",
            "printer.local",
            "a.internal",
            "nas",
            "10.1.2.3",
            "[::1]",
            "100.64.0.1",
            "x.home.arpa",
        ] {
            assert!(is_private(host), "{host}");
        }
        for host in [
            "example.com",
            "x.test",
            "local.example",
            "8.8.8.8",
            "[2001:db8::1]",
            "100.128.0.1",
            "home.arpa.example",
        ] {
            assert!(!is_private(host), "{host}");
        }
    }
}
