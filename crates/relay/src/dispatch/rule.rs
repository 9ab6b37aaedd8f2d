//! Rule: what a route asks of a request beside its path.

use crate::args::REGEX_BYTES_MAX;
use crate::plan::{Matcher, ValueMatch, ValueTest};
use ipnet::IpNet;
use portunus_message::fields::trim;
use portunus_message::{FieldName, Known, Method, Request};
use regex::bytes::Regex;
use std::net::IpAddr;

/// A route's predicates, compiled. Most routes have none, or a method.
pub(super) struct Rule {
    route: u32,
    methods: Box<[Method]>,
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    headers: Vec<(FieldName, Test)>,
    queries: Vec<(Box<str>, Test)>,
    cookies: Vec<(Box<str>, Test)>,
    clients: Vec<IpNet>,
}

/// What a value must be.
enum Test {
    Present,
    Exact(Box<[u8]>),
    Pattern(Regex),
}

/// The first thing that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit<'a> {
    Method,
    Header(&'a str),
    Query(&'a str),
    Cookie(&'a str),
    Client,
}

impl Rule {
    /// Compiles what `matcher` asks for beside the path.
    pub(super) fn compile(matcher: &Matcher, route: u32) -> Result<Rule, String> {
        let method =
            |text: &String| Method::parse(text.as_bytes()).ok_or_else(|| format!("`{text}` is not a method"));
        let header = |wanted: &ValueMatch| match FieldName::new(&wanted.name) {
            Some(name) if name.known() == Known::HOST => {
                Err("the host is chosen by the name of the site, not by a header".to_owned())
            }
            Some(name) if !Request::keeps(name.known()) => {
                Err(format!("nothing is kept of `{}`, which concerns one connection", wanted.name))
            }
            Some(name) => Ok((name, Test::compile(&wanted.value)?)),
            None => Err(format!("`{}` is not the name of a header field", wanted.name)),
        };
        let named = |wanted: &ValueMatch| Ok((wanted.name.as_str().into(), Test::compile(&wanted.value)?));
        let more = More {
            headers: matcher.headers.iter().map(header).collect::<Result<_, String>>()?,
            queries: matcher.queries.iter().map(named).collect::<Result<_, String>>()?,
            cookies: matcher.cookies.iter().map(named).collect::<Result<_, String>>()?,
            clients: matcher.clients.clone(),
        };
        Ok(Rule {
            route,
            methods: matcher.methods.iter().map(method).collect::<Result<_, _>>()?,
            more: (!more.is_empty()).then(|| Box::new(more)),
        })
    }

    /// The index of the route.
    pub(super) fn route(&self) -> u32 {
        self.route
    }

    /// Whether everything fits.
    pub(super) fn fits(&self, request: &Request, client_ip: IpAddr) -> bool {
        self.misfit(request, client_ip).is_none()
    }

    /// The first thing that does not fit.
    pub(super) fn misfit(&self, request: &Request, client_ip: IpAddr) -> Option<Misfit<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(&request.method) {
            return Some(Misfit::Method);
        }
        self.more.as_ref()?.misfit(request, client_ip)
    }
}

impl More {
    fn is_empty(&self) -> bool {
        self.headers.is_empty()
            && self.queries.is_empty()
            && self.cookies.is_empty()
            && self.clients.is_empty()
    }

    /// Every value of a name is looked at, so that a doubled one cannot hide behind the first (attack F11).
    fn misfit(&self, request: &Request, client_ip: IpAddr) -> Option<Misfit<'_>> {
        for (name, test) in &self.headers {
            if !request.header(name).any(|value| test.fits(value)) {
                return Some(Misfit::Header(name.as_str()));
            }
        }
        for (name, test) in &self.queries {
            let mut pairs = request.target.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty());
            if !pairs.any(|pair| query_fits(pair.as_bytes(), name, test)) {
                return Some(Misfit::Query(name));
            }
        }
        for (name, test) in &self.cookies {
            let lines = request.fields.get_all(Known::COOKIE);
            let mut pairs = lines.flat_map(|line| line.split(|&byte| byte == b';')).map(trim);
            let value = |pair: &'_ [u8]| pair.iter().position(|&byte| byte == b'=');
            let fits = |pair: &[u8]| {
                let (key, rest) = pair.split_at(value(pair).unwrap_or(pair.len()));
                key == name.as_bytes() && rest.split_first().is_some_and(|(_, value)| test.fits(value))
            };
            if !pairs.any(fits) {
                return Some(Misfit::Cookie(name));
            }
        }
        let client = client_ip.to_canonical();
        let known = self.clients.is_empty() || self.clients.iter().any(|network| network.contains(&client));
        (!known).then_some(Misfit::Client)
    }
}

impl Test {
    fn compile(wanted: &ValueTest) -> Result<Test, String> {
        Ok(match wanted {
            ValueTest::Present => Test::Present,
            ValueTest::Exact(value) => Test::Exact(value.as_bytes().into()),
            ValueTest::Pattern(pattern) => {
                // Anchored at both ends (attack F6).
                let built = regex::bytes::RegexBuilder::new(&format!("^(?:{pattern})$"))
                    .size_limit(REGEX_BYTES_MAX)
                    .build();
                Test::Pattern(
                    built.map_err(|error| format!("`{pattern}` is not a regular expression: {error}"))?,
                )
            }
        })
    }

    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Test::Present => true,
            Test::Exact(wanted) => **wanted == *value,
            Test::Pattern(pattern) => pattern.is_match(value),
        }
    }
}

/// Whether one `name=value` of a query fits. Names and values are compared decoded, once: `%61` is `a` here as it
/// will be for the application.
fn query_fits(pair: &[u8], name: &str, test: &Test) -> bool {
    let at = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
    let (key, value) = pair.split_at(at);
    let value = value.get(1..).unwrap_or(&[]);
    if !decoded(key).eq(name.bytes()) {
        return false;
    }
    match test {
        Test::Present => true,
        Test::Exact(wanted) => decoded(value).eq(wanted.iter().copied()),
        Test::Pattern(pattern) if memchr::memchr2(b'%', b'+', value).is_none() => pattern.is_match(value),
        Test::Pattern(pattern) => pattern.is_match(&decoded(value).collect::<Vec<u8>>()),
    }
}

/// The bytes that form-encoded `text` stands for; an escape that is none stands for itself.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match (byte, after) {
            (b'+', _) => Some(b' '),
            (b'%', [high, low, after @ ..]) => match digit(*high).zip(digit(*low)) {
                Some((high, low)) => {
                    rest = after;
                    Some(high << 4 | low)
                }
                None => Some(b'%'),
            },
            _ => Some(byte),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_message::FieldValue;

    fn wanted(name: &str, value: ValueTest) -> Vec<ValueMatch> {
        vec![ValueMatch { name: name.to_owned(), value }]
    }

    fn fits(matcher: &Matcher) -> bool {
        let mut request = Request::default();
        request.target.set_path(b"/?a=1&%62=%78+y&c").unwrap();
        let field = FieldName::new("X-Version").unwrap();
        request.fields.add(&field, FieldValue::new(b"1").unwrap());
        request.fields.add(&field, FieldValue::new(b"v22").unwrap());
        request.fields.add(Known::COOKIE, FieldValue::new(b"a=1; srv=w2; a=3").unwrap());
        Rule::compile(matcher, 0).unwrap().fits(&request, "10.1.2.3".parse().unwrap())
    }

    #[test]
    fn f11_every_value_is_looked_at() {
        let exact = |text: &str| ValueTest::Exact(text.to_owned());
        let pattern = |text: &str| ValueTest::Pattern(text.to_owned());
        let header = |value| fits(&Matcher { headers: wanted("x-version", value), ..Matcher::default() });
        assert!(header(exact("1")) && header(exact("v22")) && header(ValueTest::Present));
        assert!(header(pattern("v[0-9]+")) && !header(pattern("v[0-9]")) && !header(exact("2")));
        let query = |name, value| fits(&Matcher { queries: wanted(name, value), ..Matcher::default() });
        assert!(query("a", exact("1")) && query("b", exact("x y")) && query("c", exact("")));
        assert!(query("b", pattern("x y")) && !query("b", exact("x+y")) && !query("d", ValueTest::Present));
        let cookie = |name, value| fits(&Matcher { cookies: wanted(name, value), ..Matcher::default() });
        assert!(cookie("a", exact("1")) && cookie("a", exact("3")) && cookie("srv", pattern("w.")));
        assert!(!cookie("b", ValueTest::Present) && !cookie("s", ValueTest::Present));
    }

    #[test]
    fn methods_and_clients() {
        let methods = |list: &[&str]| {
            fits(&Matcher { methods: list.iter().map(|m| (*m).to_owned()).collect(), ..Matcher::default() })
        };
        assert!(methods(&[]) && methods(&["POST", "GET"]) && !methods(&["HEAD"]));
        let clients =
            |net: &str| fits(&Matcher { clients: vec![net.parse().unwrap()], ..Matcher::default() });
        assert!(clients("10.0.0.0/8") && !clients("10.2.0.0/16") && !clients("::/0"));
        assert!(Rule::compile(&Matcher { methods: vec!["get".into()], ..Matcher::default() }, 0).is_err());
        assert!(
            Rule::compile(&Matcher { headers: wanted("Host", ValueTest::Present), ..Matcher::default() }, 0)
                .is_err()
        );
    }
}
