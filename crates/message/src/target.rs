//! Target: scheme, authority, path — parsed once, in one normal form.

use std::borrow::Cow;

/// How the client reached us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    #[default]
    Http,
    /// Under TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that need not be written.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Why a target or a host is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// Not one of the four forms of RFC 9112 §3.2, or a byte that may not stand in one.
    Malformed,
    /// NUL, control byte or backslash, plain or percent-encoded (attack F1).
    Forbidden,
    /// Dot segments that climb above the root.
    AboveRoot,
}

/// What a request asks for. Host in lower case without trailing dot; path in normal form: no dot segments, no `//`,
/// unreserved characters decoded, escapes in upper case. This form is authorised and forwarded; see [`Target::compared_path`].
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The scheme of the listener the request came in by.
    pub scheme: Scheme,
    /// Whether there is an authority: while there is none, `named` is what an earlier request had.
    has_authority: bool,
    named: Authority,
    path_and_query: String,
    path_len: usize,
}

/// Host and port in normal form, and the text they were made of: nearly every request of a connection names the
/// same, which is then not looked at again.
#[derive(Clone, Debug, Default)]
struct Authority {
    written: Vec<u8>,
    scheme: Scheme,
    text: String,
    host_len: usize,
    port: Option<u16>,
}

impl Target {
    /// An empty target; a parser fills it.
    pub fn new() -> Target {
        Target::default()
    }

    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.has_authority = false;
        self.path_and_query.clear();
        self.path_len = 0;
    }

    /// The host, in normal form; an IPv6 address with its brackets. Empty when an HTTP/1.0 client named none.
    pub fn host(&self) -> &str {
        self.authority().get(..self.named.host_len).unwrap_or("")
    }

    /// Host and port as they go upstream: the port only when the client wrote one that is not the scheme's own.
    pub fn authority(&self) -> &str {
        if self.has_authority { &self.named.text } else { "" }
    }

    /// The port the client wrote.
    pub fn port(&self) -> Option<u16> {
        self.named.port.filter(|_| self.has_authority)
    }

    /// The path in normal form; starts with `/`, or is `*` for a server-wide OPTIONS.
    pub fn path(&self) -> &str {
        self.path_and_query.get(..self.path_len).unwrap_or("")
    }

    /// The path as rules compare it: servers take `%24` for `$`, `%7B` for `{`, so a rule for one holds for the other (attack F1). What stands
    /// for `/`, `?`, `#` and `%` stays as it is, and so does what no path may hold otherwise.
    pub fn compared_path(&self) -> Cow<'_, str> {
        let path = self.path();
        let Some(first) = path.find('%') else { return Cow::Borrowed(path) };
        let (plain, mut rest) = path.split_at(first);
        let mut compared = plain.to_owned();
        while let Some(next) = rest.chars().next() {
            let value = (next == '%').then(|| escape(rest.as_bytes().get(1..3))).flatten();
            let decoded = value.filter(|value| value.is_ascii_graphic() && !b"/?#%".contains(value));
            compared.push(decoded.map_or(next, char::from));
            rest = rest.get(if decoded.is_some() { 3 } else { next.len_utf8() }..).unwrap_or("");
        }
        Cow::Owned(compared)
    }

    /// What follows the first `?`, as the client wrote it.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.get(self.path_len + 1..)
    }

    /// Path and query, as they go upstream.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The values of query parameter `name`, undecoded.
    pub fn query_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.query().unwrap_or("").split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (!pair.is_empty() && key == name).then_some(value)
        })
    }

    /// Takes over a host and port (the value of `Host`, or the authority of an absolute target), checked and in lower
    /// case (RFC 9110 §7.2; attacks A28, F13). User information, spaces, commas and empty ports are refused.
    pub fn set_authority(&mut self, text: &[u8]) -> Result<(), TargetError> {
        self.has_authority = false;
        let known = !text.is_empty() && self.named.written == text && self.named.scheme == self.scheme;
        if !known {
            self.named.take(text, self.scheme)?;
        }
        self.has_authority = true;
        Ok(())
    }

    /// Takes over a path and query as they stood on the wire, and puts the path into its normal form (attacks F1–F3).
    /// `text` starts with `/`, or is `*`, or is empty (then the path is `/`).
    pub fn set_path(&mut self, text: &[u8]) -> Result<(), TargetError> {
        self.path_and_query.clear();
        self.path_len = 0;
        // What is refused leaves nothing behind: half a path would only mislead whoever reads the log.
        let taken = self.take_path(text);
        if taken.is_err() {
            self.path_and_query.clear();
            self.path_len = 0;
        }
        taken
    }

    fn take_path(&mut self, text: &[u8]) -> Result<(), TargetError> {
        if text == b"*" {
            self.path_and_query.push('*');
            self.path_len = 1;
            return Ok(());
        }
        let (path, query) = match memchr_question(text) {
            Some(at) => (text.get(..at).unwrap_or(&[]), text.get(at + 1..)),
            None => (text, None),
        };
        if path.is_empty() {
            self.path_and_query.push('/');
        } else if path.first() != Some(&b'/') {
            return Err(TargetError::Malformed);
        } else {
            normalise(path, &mut self.path_and_query)?;
        }
        self.path_len = self.path_and_query.len();
        if let Some(query) = query {
            self.path_and_query.push('?');
            check_bytes(query)?;
            // Invariant: is_target_byte lets only ASCII through.
            self.path_and_query.push_str(std::str::from_utf8(query).map_err(|_| TargetError::Malformed)?);
        }
        Ok(())
    }
}

impl Authority {
    /// Nothing is known of it until all of it has been checked.
    fn take(&mut self, written: &[u8], scheme: Scheme) -> Result<(), TargetError> {
        self.written.clear();
        self.text.clear();
        self.host_len = 0;
        self.port = None;
        let (host, port) = split_port(written)?;
        let bracketed = host.first() == Some(&b'[');
        if bracketed {
            let inner = host.get(1..host.len() - 1).unwrap_or(&[]);
            let inner = std::str::from_utf8(inner).map_err(|_| TargetError::Malformed)?;
            let address: std::net::Ipv6Addr = inner.parse().map_err(|_| TargetError::Malformed)?;
            use std::fmt::Write;
            let _ = write!(self.text, "[{address}]");
        } else {
            let host = host.strip_suffix(b".").unwrap_or(host);
            if host.is_empty() || host.len() > 255 {
                return Err(TargetError::Malformed);
            }
            if !host.iter().all(|&byte| is_host_byte(byte)) {
                return Err(TargetError::Malformed);
            }
            // Invariant: is_host_byte lets only ASCII through.
            self.text.push_str(std::str::from_utf8(host).map_err(|_| TargetError::Malformed)?);
            self.text.make_ascii_lowercase();
            let empty_label = |pair: (&u8, &u8)| pair == (&b'.', &b'.');
            if host.first() == Some(&b'.')
                || host.last() == Some(&b'.')
                || host.iter().zip(host.iter().skip(1)).any(empty_label)
            {
                return Err(TargetError::Malformed);
            }
        }
        self.host_len = self.text.len();
        self.port = port;
        if let Some(port) = port.filter(|&port| port != scheme.default_port()) {
            self.text.push(':');
            push_decimal(&mut self.text, port);
        }
        self.written.extend_from_slice(written);
        self.scheme = scheme;
        Ok(())
    }
}

/// RFC 3986 §3.2.2: bytes that may stand in a registered name, without escapes.
fn is_host_byte(byte: u8) -> bool {
    HOST_BYTES[usize::from(byte)]
}

const HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 0x80 {
        let mark = b"-._~!$&'()*+;=";
        let mut at = 0;
        while at < mark.len() {
            table[mark[at] as usize] = true;
            at += 1;
        }
        table[byte as usize] |= byte.is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// RFC 3986: bytes that may stand in a path or a query, with the few that every client sends and every server takes (`|`, `"`, `^`, `` ` ``, `{`, `}`, `<`, `>`, `[`, `]`).
const fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && byte != b'\\' && byte != b'#'
}

// What a byte of a path means to its normal form. A slash makes the next slash or dot worth a look: the product of
// `SLASH` and three is the set of both.
const BAD: u8 = 1;
const ESCAPE: u8 = 2;
const SLASH: u8 = 4;
const DOT: u8 = 8;
const CLASSES: [u8; 256] = {
    let mut table = [BAD; 256];
    let mut byte = 0u8;
    while byte < 0x80 {
        table[byte as usize] = match byte {
            b'%' => ESCAPE,
            b'/' => SLASH,
            b'.' => DOT,
            _ if is_target_byte(byte) => 0,
            _ => BAD,
        };
        byte += 1;
    }
    table
};

/// Which of `BAD`, `ESCAPE`, and `SLASH` or `DOT` after a slash, stand in `path`; 0 when it is in normal form.
fn oddities(path: &[u8]) -> u8 {
    let (mut found, mut after) = (0, 0);
    for &byte in path {
        let class = CLASSES[usize::from(byte)];
        found |= class & (BAD | ESCAPE | after);
        after = (class & SLASH) * 3;
    }
    found
}

fn check_bytes(text: &[u8]) -> Result<(), TargetError> {
    match text.iter().find(|&&byte| CLASSES[usize::from(byte)] == BAD) {
        Some(&byte) => Err(refusal(byte)),
        None => Ok(()),
    }
}

fn refusal(byte: u8) -> TargetError {
    if byte < b' ' || byte == 0x7f || byte == b'\\' { TargetError::Forbidden } else { TargetError::Malformed }
}

fn memchr_question(text: &[u8]) -> Option<usize> {
    text.iter().position(|&b| b == b'?')
}

/// Appends the normal form of `path`. Most paths are already normal and take the first loop only.
fn normalise(path: &[u8], out: &mut String) -> Result<(), TargetError> {
    let mut at = 0;
    let oddities = oddities(path);
    if oddities == 0 {
        // Invariant: what is not BAD is ASCII.
        out.push_str(std::str::from_utf8(path).map_err(|_| TargetError::Malformed)?);
        return Ok(());
    }
    if oddities & BAD != 0 {
        return check_bytes(path);
    }
    let floor = out.len();
    while at < path.len() {
        let byte = path.get(at).copied().unwrap_or(0);
        if byte == b'%' {
            let value = escape(path.get(at + 1..at + 3)).ok_or(TargetError::Malformed)?;
            if value < b' ' || value == 0x7f || value == b'\\' {
                return Err(TargetError::Forbidden);
            }
            if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
                out.push(char::from(value));
            } else {
                out.push('%');
                out.push(char::from(HEX[usize::from(value >> 4)]));
                out.push(char::from(HEX[usize::from(value & 15)]));
            }
            at += 3;
        } else if byte == b'/' {
            end_segment(out, floor)?;
            if !out.ends_with('/') || out.len() == floor {
                out.push('/');
            }
            at += 1;
        } else {
            out.push(char::from(byte));
            at += 1;
        }
    }
    end_segment(out, floor)?;
    if out.len() == floor {
        out.push('/');
    }
    Ok(())
}

/// When the segment that just ended is `.` or `..`, takes it back, and for `..` the one before it (RFC 3986 §5.2.4).
fn end_segment(out: &mut String, floor: usize) -> Result<(), TargetError> {
    let written = out.get(floor..).unwrap_or("");
    if written.ends_with("/.") {
        out.truncate(out.len() - 1);
    } else if written.ends_with("/..") {
        let parent = written.get(..written.len() - 3).unwrap_or("");
        if parent.is_empty() {
            return Err(TargetError::AboveRoot);
        }
        let keep = parent.rfind('/').map_or(0, |at| at + 1);
        out.truncate(floor + keep);
    }
    Ok(())
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn escape(digits: Option<&[u8]>) -> Option<u8> {
    let [high, low] = digits? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

/// The digits of `number`, without the formatting machinery: this runs for every request to an odd port.
fn push_decimal(out: &mut String, number: u16) {
    let mut divisor = 10_000;
    while divisor > 1 && number < divisor {
        divisor /= 10;
    }
    while divisor > 0 {
        out.push(char::from(b'0' + u8::try_from(number / divisor % 10).unwrap_or(0)));
        divisor /= 10;
    }
}

fn split_port(text: &[u8]) -> Result<(&[u8], Option<u16>), TargetError> {
    let end_of_host = match text.first() {
        Some(b'[') => text.iter().position(|&b| b == b']').map(|at| at + 1).ok_or(TargetError::Malformed)?,
        _ => text.iter().position(|&b| b == b':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end_of_host);
    match rest {
        [] => Ok((host, None)),
        [b':', digits @ ..]
            if !digits.is_empty() && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) =>
        {
            let number = digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
            let port = u16::try_from(number).map_err(|_| TargetError::Malformed)?;
            if port == 0 { Err(TargetError::Malformed) } else { Ok((host, Some(port))) }
        }
        _ => Err(TargetError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String, TargetError> {
        let mut target = Target::new();
        target.set_path(text.as_bytes()).map(|()| target.path_and_query().to_owned())
    }

    #[test]
    fn what_an_earlier_request_named_does_not_shine_through() {
        let mut target = Target::new();
        for _ in 0..2 {
            target.clear();
            assert_eq!((target.authority(), target.host(), target.port()), ("", "", None));
            target.set_authority(b"A.example:81").unwrap();
            assert_eq!(
                (target.authority(), target.host(), target.port()),
                ("a.example:81", "a.example", Some(81))
            );
        }
        assert!(target.set_authority(b"a@b").is_err());
        assert_eq!((target.authority(), target.host(), target.port()), ("", "", None));
        assert!(target.set_authority(b"").is_err());
        target.set_authority(b"a:443").unwrap();
        assert_eq!(target.authority(), "a:443");
        target.scheme = Scheme::Https;
        target.set_authority(b"a:443").unwrap();
        assert_eq!(target.authority(), "a");
    }

    #[test]
    fn f1_paths_are_compared_in_one_form() {
        for (written, compared) in [
            ("/a/b", "/a/b"),
            ("/%24meta/x", "/$meta/x"),
            ("/%40fs%3A/%7bx%7D", "/@fs:/{x}"),
            ("/a%2Fb%3fc%23d%25e%20f%c3%a4", "/a%2Fb%3Fc%23d%25e%20f%C3%A4"),
            ("/%2524", "/%2524"),
            ("*", "*"),
        ] {
            let mut target = Target::new();
            target.set_path(written.as_bytes()).unwrap();
            assert_eq!(target.compared_path(), compared, "{written}");
        }
    }

    #[test]
    fn f1_f2_f3_paths_have_one_form() {
        for (written, normal) in [
            ("/", "/"),
            ("", "/"),
            ("?a", "/?a"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a/b"),
            ("//a", "/a"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/%2e%2e/a", ""),
            ("/a/%2E%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/%41", "/A"),
            ("/%2f", "/%2F"),
            ("/a%2fb/..", "/"),
            ("/%252e", "/%252e"),
            ("/..;/x", "/..;/x"),
            ("/a;/x", "/a;/x"),
            ("/a?../..//", "/a?../..//"),
            ("/.a/..b", "/.a/..b"),
            ("/...", "/..."),
            ("/%7e", "/~"),
            ("/%c3%a4", "/%C3%A4"),
            ("/a/../../b", ""),
            ("/.", "/"),
            ("/..", ""),
            ("///", "/"),
            ("/a/..", "/"),
        ] {
            match path(written) {
                Ok(got) => assert_eq!(got, normal, "{written}"),
                Err(error) => {
                    assert!(normal.is_empty() && error == TargetError::AboveRoot, "{written} {error:?}")
                }
            }
        }
        for bad in ["/%00", "/a\\b", "/%5c", "/%0d%0a", "/%7f", "/a\u{7f}", "/\u{1}"] {
            assert_eq!(path(bad), Err(TargetError::Forbidden), "{bad}");
        }
        for bad in ["a", "/a b", "/a#b", "/%", "/%4", "/%zz", "/\u{e4}", "/a?b c", "/a?\u{e4}"] {
            assert_eq!(path(bad), Err(TargetError::Malformed), "{bad}");
        }
    }

    #[test]
    fn normal_form_is_stable() {
        for text in ["/a/%2e./b", "/%2f..%2f/./x", "/a/b/../c//d/.", "/%25%32%65"] {
            if let Ok(once) = path(text) {
                assert_eq!(path(&once).as_ref(), Ok(&once), "{text}");
            }
        }
    }

    #[test]
    fn a28_f13_hosts_have_one_form() {
        let authority = |text: &str| {
            let mut target = Target::new();
            target
                .set_authority(text.as_bytes())
                .map(|()| (target.host().to_owned(), target.authority().to_owned()))
        };
        let pair = |host: &str, authority: &str| Ok((host.to_owned(), authority.to_owned()));
        assert_eq!(authority("Example.COM"), pair("example.com", "example.com"));
        assert_eq!(authority("example.com."), pair("example.com", "example.com"));
        assert_eq!(authority("example.com:80"), pair("example.com", "example.com"));
        assert_eq!(authority("example.com:8080"), pair("example.com", "example.com:8080"));
        assert_eq!(authority("[::0001]:8080"), pair("[::1]", "[::1]:8080"));
        for bad in [
            "",
            "a b",
            "a,b",
            "u@a",
            "a/b",
            "a:",
            "a:x",
            "a:0",
            "a:65536",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "a..b",
            ".a",
            ".",
            "a\\b",
            "a\0",
        ] {
            assert!(authority(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn query_values_are_found() {
        let mut target = Target::new();
        target.set_path(b"/x?a=1&b&a=2&&c=").unwrap();
        assert_eq!(target.query_values("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(target.query_values("b").collect::<Vec<_>>(), [""]);
        assert_eq!(target.query_values("d").count(), 0);
        assert_eq!(target.query(), Some("a=1&b&a=2&&c="));
    }
}
