//! "${client.ip}", compiled once: texts that are filled in for each request.

use crate::context::Scope;
use crate::values::nearest;
use escape::{Origin, escape_from};
use portunus_message::{FieldName, Request};
use std::io::Write;

mod escape;

pub use escape::Escape;

/// A compiled text. `${name}` is filled in, `$${` is a literal `${`, any other `$` stands for itself.
#[derive(Clone, Debug, Default)]
pub struct Template {
    written: Box<str>,
    parts: Box<[Part]>,
}

/// Why a text cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateMistake {
    /// Why, as a sentence of its own: "`${cleint.ip}` is not known".
    pub reason: String,
    /// The right spelling, where one is near.
    pub hint: Option<String>,
}

/// One thing that a template may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariableEntry {
    /// Its name; `NAME` stands for any name of a field, cookie or query parameter.
    pub name: &'static str,
    /// One sentence for the manual.
    pub manual: &'static str,
}

/// Everything a template may name, in the order of the manual.
pub const VARIABLES: &[VariableEntry] = &[
    entry("client.ip", "The client's address, after trusted proxies have been believed."),
    entry("client.port", "The port that the connection comes from."),
    entry("host", "The host asked for, in lower case, without port."),
    entry("path", "The path in its normal form."),
    entry("query", "What follows the `?`, as the client wrote it; empty when there is none."),
    entry("query.NAME", "The first query parameter of this name, as the client wrote it."),
    entry("uri", "Path and query."),
    entry(
        "header.NAME",
        "The request's header fields of this name, joined by `, `. Those that concern one connection (`Connection`, `Content-Length`, …) are not kept; `Upgrade` is, where it is `websocket`.",
    ),
    entry("cookie.NAME", "The first cookie of this name."),
    entry("method", "The request's method."),
    entry("scheme", "`http` or `https`."),
    entry("tls.version", "`TLSv1.3` or `TLSv1.2`; empty over plain HTTP."),
    entry("tls.sni", "The host that the client asked for when it shook hands."),
    entry(
        "tls.client.subject",
        "The subject of the client's certificate, `CN=app, O=Example`; empty without one.",
    ),
    entry(
        "tls.client.names",
        "The alternative names of the client's certificate, with their kinds: `DNS:app.internal,URI:spiffe://example/app`.",
    ),
    entry("request.id", "The request's number: 32 hexadecimal digits."),
    entry("server.port", "The port of ours that the connection reached."),
    entry("upstream.address", "The host that answered; only on the way back."),
    entry("response.status", "The answer's status; only on the way back."),
    entry(
        "response.header.NAME",
        "The answer's header fields of this name, joined by `, `; only on the way back.",
    ),
];

const fn entry(name: &'static str, manual: &'static str) -> VariableEntry {
    VariableEntry { name, manual }
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Box<[u8]>),
    Variable(Variable),
}

#[derive(Clone, Debug)]
enum Variable {
    ClientIp,
    ClientPort,
    Host,
    Path,
    Query,
    QueryValue(Box<str>),
    Uri,
    Header(FieldName),
    Cookie(Box<str>),
    Method,
    Scheme,
    RequestId,
    ServerPort,
    TlsVersion,
    TlsName,
    TlsSubject,
    TlsNames,
    UpstreamAddress,
    ResponseStatus,
    ResponseHeader(FieldName),
}

impl Template {
    /// Compiles `text`; an unknown name is a mistake.
    pub fn compile(text: &str) -> Result<Template, TemplateMistake> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            literal.extend_from_slice(before.as_bytes());
            if let Some(after) = from.strip_prefix("$${") {
                literal.extend_from_slice(b"${");
                rest = after;
            } else if let Some(after) = from.strip_prefix("${") {
                let (name, after) = after.split_once('}').ok_or_else(unclosed)?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Variable(Variable::find(name)?));
                rest = after;
            } else {
                literal.push(b'$');
                rest = from.get(1..).unwrap_or("");
            }
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Ok(Template { written: text.into(), parts: parts.into() })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The whole text, when nothing has to be filled in.
    pub fn literal(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The text before the first variable; with it a target shows where it leads.
    pub fn leading_literal(&self) -> &[u8] {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => b"",
        }
    }

    /// Whether the first thing in it is the request's own path or URI.
    pub fn begins_with_path(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Variable(Variable::Path | Variable::Uri)))
    }

    /// Whether it names something that is known only on the way back.
    pub fn looks_back(&self) -> bool {
        self.parts.iter().any(|part| {
            use Variable::{ResponseHeader, ResponseStatus, UpstreamAddress};
            matches!(part, Part::Variable(UpstreamAddress | ResponseStatus | ResponseHeader(_)))
        })
    }

    /// Appends the text for this request.
    pub fn render(&self, scope: &Scope<'_>, out: &mut Vec<u8>) {
        self.render_as(Escape::Raw, scope, out);
    }

    /// Appends the text for a header field: what it adds holds no byte that a field may not hold (attack A42).
    pub fn render_value(&self, scope: &Scope<'_>, out: &mut Vec<u8>) {
        self.render_as(Escape::Value, scope, out);
    }

    /// Appends the text for a path, a query or a redirect's target: CR and LF can never be in it (attack A42).
    pub fn render_path(&self, scope: &Scope<'_>, out: &mut Vec<u8>) {
        self.render_as(Escape::Path, scope, out);
    }

    /// Appends the text, each variable escaped for where it will stand.
    pub fn render_as(&self, escape: Escape, scope: &Scope<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            let start = out.len();
            let origin = match part {
                Part::Literal(text) => {
                    out.extend_from_slice(text);
                    Origin::Literal
                }
                Part::Variable(variable) => {
                    variable.append(scope, out);
                    variable.origin()
                }
            };
            escape_from(out, start, escape, origin);
        }
    }
}

fn unclosed() -> TemplateMistake {
    TemplateMistake {
        reason: "`${` has no `}`".to_owned(),
        hint: Some("write `$${` for a literal `${`".to_owned()),
    }
}

impl Variable {
    fn find(name: &str) -> Result<Variable, TemplateMistake> {
        let plain = match name {
            "client.ip" => Some(Variable::ClientIp),
            "client.port" => Some(Variable::ClientPort),
            "host" => Some(Variable::Host),
            "path" => Some(Variable::Path),
            "query" => Some(Variable::Query),
            "uri" => Some(Variable::Uri),
            "method" => Some(Variable::Method),
            "scheme" => Some(Variable::Scheme),
            "tls.version" => Some(Variable::TlsVersion),
            "tls.sni" => Some(Variable::TlsName),
            "tls.client.subject" => Some(Variable::TlsSubject),
            "tls.client.names" => Some(Variable::TlsNames),
            "request.id" => Some(Variable::RequestId),
            "server.port" => Some(Variable::ServerPort),
            "upstream.address" => Some(Variable::UpstreamAddress),
            "response.status" => Some(Variable::ResponseStatus),
            _ => None,
        };
        if let Some(variable) = plain {
            return Ok(variable);
        }
        let field = |name: &str| {
            FieldName::new(name).ok_or_else(|| TemplateMistake {
                reason: format!("`{name}` cannot be the name of a header field"),
                hint: None,
            })
        };
        let unknown =
            || TemplateMistake { reason: format!("`${{{name}}}` is not known"), hint: hint_for(name) };
        if let Some(header) = name.strip_prefix("response.header.") {
            return field(header).map(Variable::ResponseHeader);
        }
        match name.split_once('.') {
            Some(("header", header)) => match field(header)? {
                name if Request::keeps(name.known()) => Ok(Variable::Header(name)),
                _ => Err(TemplateMistake {
                    reason: format!(
                        "`${{{name}}}` is always empty: that field concerns one connection, and is not kept"
                    ),
                    hint: Some("what is passed on to servers is there, and `host` and `upgrade`".to_owned()),
                }),
            },
            Some(("cookie", cookie)) if !cookie.is_empty() => Ok(Variable::Cookie(cookie.into())),
            Some(("query", key)) if !key.is_empty() => Ok(Variable::QueryValue(key.into())),
            _ => Err(unknown()),
        }
    }

    fn append(&self, scope: &Scope<'_>, out: &mut Vec<u8>) {
        let request = scope.request;
        let response = scope.response;
        let client = scope.proof.and_then(|proof| proof.client.as_ref());
        let text = match self {
            Variable::ClientIp => return write(out, format_args!("{}", scope.client_ip)),
            Variable::ClientPort => return write(out, format_args!("{}", scope.peer.client.port())),
            Variable::ServerPort => return write(out, format_args!("{}", scope.peer.ours.port())),
            Variable::RequestId => return write(out, format_args!("{}", scope.id)),
            Variable::ResponseStatus => {
                return response.map_or((), |response| write(out, format_args!("{}", response.status)));
            }
            Variable::Header(name) => return join(request.header(name), out),
            Variable::ResponseHeader(name) => {
                return response.map_or((), |response| join(response.fields.get_all(name), out));
            }
            Variable::TlsNames => {
                return client.map_or((), |client| out.extend_from_slice(client.names.join(",").as_bytes()));
            }
            Variable::TlsSubject => client.map_or("", |client| &client.subject).as_bytes(),
            Variable::TlsVersion => scope.proof.map_or("", |proof| proof.version).as_bytes(),
            Variable::TlsName => scope.proof.and_then(|proof| proof.name.as_deref()).unwrap_or("").as_bytes(),
            Variable::Host => request.target.host().as_bytes(),
            Variable::Path => request.target.path().as_bytes(),
            Variable::Query => request.target.query().unwrap_or("").as_bytes(),
            Variable::QueryValue(key) => request.target.query_values(key).next().unwrap_or("").as_bytes(),
            Variable::Uri => request.target.path_and_query().as_bytes(),
            Variable::Cookie(name) => request.cookie(name).unwrap_or(b""),
            Variable::Method => request.method.as_str().as_bytes(),
            Variable::Scheme => request.target.scheme.as_str().as_bytes(),
            Variable::UpstreamAddress => scope.upstream.unwrap_or("").as_bytes(),
        };
        out.extend_from_slice(text);
    }

    /// How much of its text may be taken for URI syntax.
    fn origin(&self) -> Origin {
        match self {
            Variable::Path | Variable::Query | Variable::Uri | Variable::Host => Origin::Uri,
            Variable::QueryValue(_) => Origin::Escaped,
            _ => Origin::Foreign,
        }
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

fn join<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(value);
    }
}

fn hint_for(name: &str) -> Option<String> {
    if name.starts_with("env.") || name.starts_with("file.") {
        return Some("it is filled in when the configuration is loaded, not here".to_owned());
    }
    let (whole, prefixes): (Vec<&str>, Vec<&str>) =
        VARIABLES.iter().map(|v| v.name).partition(|known| !known.ends_with(".NAME"));
    let near = nearest(name, whole).map(|near| format!("${{{near}}}"));
    let prefixed = || {
        let (prefix, rest) = name.rsplit_once('.')?;
        let known = prefixes.iter().filter_map(|known| known.strip_suffix(".NAME"));
        nearest(prefix, known).map(|near| format!("${{{near}.{rest}}}"))
    };
    near.or_else(prefixed).map(|near| format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_message::fields::is_value_byte;
    use portunus_message::{
        FieldValue, Identity, Known as Name, Peer, Proof, Request, RequestId, Response, Status,
    };
    use proptest::prelude::*;

    fn request() -> Request {
        let mut request = Request::default();
        request.target.set_authority(b"Example.com:8080").unwrap();
        request.target.set_path(b"/a%2Fb/c?x=1&y=%2Fz:/&x=2").unwrap();
        request.websocket = true;
        request.fields.add(Name::COOKIE, FieldValue::new(b"a=1; srv=two").unwrap());
        let name = FieldName::new("X-Odd").unwrap();
        request.fields.add(&name, FieldValue::new(b"one").unwrap());
        request.fields.add(&name, FieldValue::new(b"t/w <o>\"\xc3\xa4").unwrap());
        request
    }

    fn fill(text: &str, escape: Escape) -> String {
        let request = request();
        let mut response = Response::new(Status::NOT_FOUND);
        response.fields.add(Name::ETAG, FieldValue::new(b"\"e\"").unwrap());
        let mut peer = Peer::default();
        peer.client.set_port(5);
        let names = vec!["DNS:c.test".to_owned(), "URI:spiffe://x/c".to_owned()];
        let client = Some(Identity { subject: "CN=c".to_owned(), names });
        let proof = Proof { name: Some("a.test".into()), version: "TLSv1.3", client };
        let scope = Scope {
            request: &request,
            response: Some(&response),
            peer,
            proof: Some(&proof),
            client_ip: "192.0.2.7".parse().unwrap(),
            id: RequestId(0xab),
            upstream: Some("10.0.0.1:80"),
        };
        let mut out = b"#".to_vec();
        Template::compile(text).unwrap().render_as(escape, &scope, &mut out);
        String::from_utf8(out).unwrap().split_off(1)
    }

    #[test]
    fn every_variable_is_filled_in() {
        for (text, filled) in [
            ("${client.ip}:${client.port}", "192.0.2.7:5"),
            ("${tls.version} ${tls.sni}", "TLSv1.3 a.test"),
            ("${tls.client.subject} ${tls.client.names}", "CN=c DNS:c.test,URI:spiffe://x/c"),
            ("${scheme}://${host}${uri}", "http://example.com/a%2Fb/c?x=1&y=%2Fz:/&x=2"),
            ("${path}|${query}|${query.x}|${query.none}", "/a%2Fb/c|x=1&y=%2Fz:/&x=2|1|"),
            ("${header.host} ${header.upgrade}", "example.com:8080 websocket"),
            ("${header.x-odd}", "one, t/w <o>\"ä"),
            ("${cookie.srv}${cookie.none}", "two"),
            ("${method} ${server.port}", "GET 0"),
            ("${request.id}", "000000000000000000000000000000ab"),
            ("${upstream.address} ${response.status} ${response.header.ETag}", "10.0.0.1:80 404 \"e\""),
            ("no $ at $all $${host} $", "no $ at $all ${host} $"),
            ("", ""),
        ] {
            assert_eq!(fill(text, Escape::Raw), filled, "{text}");
        }
        for variable in VARIABLES {
            let text = format!("${{{}}}", variable.name.replace("NAME", "x"));
            assert!(Template::compile(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn mistakes_name_the_right_spelling() {
        for (text, reason, hint) in [
            ("${cleint.ip}", "`${cleint.ip}` is not known", Some("did you mean `${client.ip}`?")),
            ("${haeder.x-a}", "`${haeder.x-a}` is not known", Some("did you mean `${header.x-a}`?")),
            ("${zzzzz}", "`${zzzzz}` is not known", None),
            ("${host", "`${` has no `}`", Some("write `$${` for a literal `${`")),
            ("${header.a b}", "`a b` cannot be the name of a header field", None),
            (
                "${env.X}",
                "`${env.X}` is not known",
                Some("it is filled in when the configuration is loaded, not here"),
            ),
        ] {
            let mistake = Template::compile(text).unwrap_err();
            assert_eq!((mistake.reason.as_str(), mistake.hint.as_deref()), (reason, hint), "{text}");
        }
        assert!(Template::compile("${query.}").is_err() && Template::compile("${cookie.}").is_err());
    }

    #[test]
    fn literals_need_no_filling_in() {
        assert_eq!(Template::compile("a$b").unwrap().literal(), Some(&b"a$b"[..]));
        assert_eq!(Template::compile("").unwrap().literal(), Some(&b""[..]));
        assert_eq!(Template::compile("${host}").unwrap().literal(), None);
        assert!(Template::compile("${response.status}").unwrap().looks_back());
        assert!(!Template::compile("${host}").unwrap().looks_back());
    }

    #[test]
    fn a42_escapes_fit_the_place() {
        assert_eq!(fill("/x/${header.x-odd}", Escape::Path), "/x/one%2C%20t%2Fw%20%3Co%3E%22%C3%A4");
        assert_eq!(fill("/x${uri}", Escape::Path), "/x/a%2Fb/c?x=1&y=%2Fz:/&x=2");
        assert_eq!(fill("${query.y}", Escape::Path), "%2Fz%3A%2F");
        assert_eq!(fill("/a b\r\n\\#?x", Escape::Path), "/a%20b%0D%0A%5C%23?x");
        assert_eq!(fill("<b>${header.x-odd}", Escape::Html), "<b>one, t/w &lt;o&gt;&quot;ä");
        assert_eq!(fill("\"${header.x-odd}\"", Escape::Json), "\"one, t/w \\u003co\\u003e\\\"ä\"");
        assert_eq!(fill("a\r\nb\0\tc", Escape::Value), "ab\tc");
    }

    proptest! {
        #[test]
        fn a42_no_template_makes_cr_lf(text in "[ -~\r\n\0]{0,30}") {
            if let Ok(template) = Template::compile(&text) {
                let request = request();
                let scope = Scope {
                    request: &request, response: None, peer: Peer::default(), proof: None,
                    client_ip: "::1".parse().unwrap(), id: RequestId(1), upstream: None,
                };
                let (mut value, mut path) = (Vec::new(), Vec::new());
                template.render_value(&scope, &mut value);
                template.render_path(&scope, &mut path);
                prop_assert!(value.iter().all(|&b| is_value_byte(b)));
                prop_assert!(path.iter().all(|&b| b > b' ' && b < 0x7f && b != b'\\'));
            }
        }
    }
}
