//! `cors` lets pages of other origins use a site: it answers their preflight requests and marks the answers.

use super::{Filter, Flow};
use crate::args::Reader;
use crate::context::Context;
use crate::entry::{ArgMistake, Entry, Kind, Param, Place};
use portunus_message::name::is_token_byte;
use portunus_message::{FieldName, FieldValue, Fields, Known, Method, Request, Response, Status};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "cors",
    manual: "Lets pages of other origins use a site. Preflight requests are answered 204 without asking the upstream; \
             every other answer is marked for the origin that asked, and what an upstream said about origins is \
             replaced. It guards nothing: a request from elsewhere is served, only its answer is kept from the page.",
    example: "cors origins=https://app.example.com,https://*.example.org methods=GET,POST max-age=1h credentials",
    params: PARAMS,
    answers: false,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let origins = read_origins(&reader)?;
        let credentials = reader.word("credentials").is_some();
        if credentials && matches!(origins, Origins::Any) {
            let mistake = ArgMistake::option("origins", "cannot be `*` together with `credentials`");
            return Err(
                mistake.hint("name the origins; a page of any other could act for a user who is logged in")
            );
        }
        let methods = match reader.option("methods") {
            Some(_) => read_methods(&reader)?,
            None => "GET, HEAD, POST".to_owned(),
        };
        let max_age = reader.duration("max-age")?.map(|age| age.as_secs().to_string());
        let expose = read_names(&reader, "expose")?;
        let headers = read_names(&reader, "headers")?;
        Ok(Box::new(Cors { origins, methods, headers, expose, max_age, credentials, names: Names::new()? }))
    },
};

const PARAMS: &[Param] = &[
    Param {
        name: "credentials",
        place: Place::OptionalWord,
        kind: Kind::OneOf(&["credentials"]),
        manual: "Pages may send cookies and passwords along.",
    },
    Param {
        name: "origins",
        place: Place::RequiredOption,
        kind: Kind::Text,
        manual: "Who may: origins as `https://app.example.com` or `https://*.example.com`, or `*`, separated by commas.",
    },
    Param {
        name: "methods",
        place: Place::Option,
        kind: Kind::Text,
        manual: "The methods they may use; `GET,HEAD,POST` when missing.",
    },
    Param {
        name: "headers",
        place: Place::Option,
        kind: Kind::Text,
        manual: "The request fields they may send, or `*` for those they ask for.",
    },
    Param {
        name: "expose",
        place: Place::Option,
        kind: Kind::Text,
        manual: "The answer's fields that they may read.",
    },
    Param {
        name: "max-age",
        place: Place::Option,
        kind: Kind::Duration,
        manual: "How long a browser may remember the answer to a preflight request.",
    },
];

struct Cors {
    origins: Origins,
    methods: String,
    headers: String,
    expose: String,
    max_age: Option<String>,
    credentials: bool,
    names: Names,
}

enum Origins {
    Any,
    These(Vec<Origin>),
}

enum Origin {
    Exact(Box<[u8]>),
    /// `https://` and `.example.com` with an optional port.
    Under(Box<[u8]>, Box<[u8]>),
}

/// The names that only this filter has to do with.
struct Names {
    credentials: FieldName,
    expose: FieldName,
    headers: FieldName,
    max_age: FieldName,
    methods: FieldName,
}

impl Names {
    fn new() -> Result<Names, ArgMistake> {
        let name = |text: &str| {
            FieldName::new(&format!("Access-Control-{text}"))
                .ok_or_else(|| ArgMistake::whole("cannot be built"))
        };
        Ok(Names {
            credentials: name("Allow-Credentials")?,
            expose: name("Expose-Headers")?,
            headers: name("Allow-Headers")?,
            max_age: name("Max-Age")?,
            methods: name("Allow-Methods")?,
        })
    }
}

fn read_origins(reader: &Reader<'_>) -> Result<Origins, ArgMistake> {
    let mut origins = Vec::new();
    for text in reader.list("origins") {
        if text == "*" {
            return Ok(Origins::Any);
        }
        let mistake = |reason: &str| {
            let mistake = ArgMistake::option("origins", format!("`{text}` {reason}"));
            Err(mistake.hint("write it as `https://app.example.com`, without a path"))
        };
        let text = text.to_ascii_lowercase();
        let Some((scheme, host)) = text.split_once("://") else { return mistake("is not an origin") };
        let bare = host.strip_prefix("*.").unwrap_or(host);
        let plain =
            !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        if scheme.is_empty() || !scheme.bytes().all(is_token_byte) || !plain {
            return mistake("is not an origin");
        }
        origins.push(if bare.len() < host.len() {
            Origin::Under(format!("{scheme}://").into_bytes().into(), format!(".{bare}").into_bytes().into())
        } else {
            Origin::Exact(text.into_bytes().into())
        });
    }
    if origins.is_empty() {
        Err(ArgMistake::option("origins", "names nobody"))
    } else {
        Ok(Origins::These(origins))
    }
}

fn read_methods(reader: &Reader<'_>) -> Result<String, ArgMistake> {
    let read = |text: &str| match Method::parse(text.as_bytes()) {
        Some(method) => Ok(method.as_str().to_owned()),
        None => Err(ArgMistake::option("methods", format!("`{text}` is not a method"))),
    };
    Ok(reader.list("methods").map(read).collect::<Result<Vec<_>, _>>()?.join(", "))
}

fn read_names(reader: &Reader<'_>, key: &str) -> Result<String, ArgMistake> {
    let read = |text: &str| match FieldName::new(text) {
        Some(name) => Ok(name.as_str().to_owned()),
        None => Err(ArgMistake::option(key, format!("`{text}` is not the name of a header field"))),
    };
    Ok(reader.list(key).map(read).collect::<Result<Vec<_>, _>>()?.join(", "))
}

impl Cors {
    fn lets(&self, origin: &[u8]) -> bool {
        let Origins::These(origins) = &self.origins else { return true };
        origins.iter().any(|known| match known {
            Origin::Exact(known) => origin.eq_ignore_ascii_case(known),
            Origin::Under(scheme, parent) => {
                let host = origin.get(scheme.len()..).unwrap_or(&[]);
                let label = host.len().checked_sub(parent.len());
                let (Some(label), Some(start)) = (label, origin.get(..scheme.len())) else { return false };
                let (label, end) = host.split_at(label);
                let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                start.eq_ignore_ascii_case(scheme)
                    && end.eq_ignore_ascii_case(parent)
                    && !label.is_empty()
                    && label.iter().all(plain)
            }
        })
    }

    fn preflight(&self, request: &Request) -> Response {
        let mut response = Response::new(Status::NO_CONTENT);
        let fields = &mut response.fields;
        fields.add(
            Known::VARY,
            FieldValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        if !request.fields.get(Known::ORIGIN).is_some_and(|origin| self.lets(origin)) {
            return response;
        }
        add(fields, &self.names.methods, self.methods.as_bytes());
        let asked = request.fields.get(Known::AC_REQUEST_HEADERS).unwrap_or(b"");
        let headers = if self.headers == "*" { asked } else { self.headers.as_bytes() };
        add(fields, &self.names.headers, headers);
        add(fields, &self.names.max_age, self.max_age.as_deref().unwrap_or("").as_bytes());
        response
    }
}

/// Adds a field unless its value is empty.
fn add(fields: &mut Fields, name: &FieldName, value: &[u8]) {
    if let Some(value) = FieldValue::new(value).filter(|value| !value.as_bytes().is_empty()) {
        fields.add(name, value);
    }
}

impl Filter for Cors {
    fn request(&self, request: &mut Request, _: &mut Context<'_>) -> Flow {
        let fields = &request.fields;
        let preflight = request.method == Method::OPTIONS
            && fields.has(Known::ORIGIN)
            && fields.has(Known::AC_REQUEST_METHOD);
        // The marks that all answers get are added on the way back.
        if preflight { Flow::Answer(Box::new(self.preflight(request))) } else { Flow::Next }
    }

    fn response(&self, response: &mut Response, request: &Request, _: &mut Context<'_>) {
        let fields = &mut response.fields;
        fields.remove(Known::AC_ALLOW_ORIGIN);
        fields.remove(&self.names.credentials);
        if matches!(self.origins, Origins::Any) {
            fields.add(Known::AC_ALLOW_ORIGIN, FieldValue::from_static("*"));
            fields.remove(&self.names.expose);
            add(fields, &self.names.expose, self.expose.as_bytes());
            return;
        }
        // The answer differs by origin also where there is none, so every cache has to know.
        if !fields.has_token(Known::VARY, "Origin") && !fields.has_token(Known::VARY, "*") {
            fields.add(Known::VARY, FieldValue::from_static("Origin"));
        }
        let origin = request.fields.get(Known::ORIGIN).filter(|origin| self.lets(origin));
        let Some(origin) = origin.and_then(FieldValue::new) else { return };
        fields.add(Known::AC_ALLOW_ORIGIN, origin);
        if self.credentials {
            fields.add(&self.names.credentials, FieldValue::from_static("true"));
        }
        fields.remove(&self.names.expose);
        add(fields, &self.names.expose, self.expose.as_bytes());
    }

    fn describe(&self) -> String {
        let origins = match &self.origins {
            Origins::Any => "*".to_owned(),
            Origins::These(origins) => {
                let text = |origin: &Origin| match origin {
                    Origin::Exact(origin) => String::from_utf8_lossy(origin).into_owned(),
                    Origin::Under(scheme, parent) => {
                        format!("{}*{}", String::from_utf8_lossy(scheme), String::from_utf8_lossy(parent))
                    }
                };
                origins.iter().map(text).collect::<Vec<_>>().join(",")
            }
        };
        let credentials = if self.credentials { " credentials" } else { "" };
        format!("cors origins={origins} methods={}{credentials}", self.methods.replace(", ", ","))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build, joined};
    use super::*;

    const APP: &[&str] = &[
        "credentials",
        "origins=https://app.example.com,https://*.Example.org",
        "methods=GET,PUT",
        "headers=X-A,X-B",
        "expose=ETag",
        "max-age=10m",
    ];

    fn back(words: &[&str], origin: &str, upstream: &[(&str, &str)]) -> Fields {
        let mut stage = Stage::get("/").field("Origin", origin);
        let mut response = Response::default();
        for (name, value) in upstream {
            response.fields.add(&FieldName::new(name).unwrap(), FieldValue::new(value.as_bytes()).unwrap());
        }
        stage.back(&*build("cors", words).unwrap(), &mut response);
        response.fields
    }

    #[test]
    fn answers_are_marked_for_known_origins() {
        for origin in ["https://app.example.com", "https://a.example.org", "https://a.b.example.org"] {
            let fields = back(APP, origin, &[("Access-Control-Allow-Origin", "*"), ("Vary", "Accept")]);
            assert_eq!(joined(&fields, "Access-Control-Allow-Origin"), origin);
            assert_eq!(joined(&fields, "Access-Control-Allow-Credentials"), "true");
            assert_eq!(joined(&fields, "Access-Control-Expose-Headers"), "ETag");
            assert_eq!(joined(&fields, "Vary"), "Accept|Origin");
        }
    }

    #[test]
    fn strangers_are_not() {
        for origin in [
            "https://example.com",
            "http://app.example.com",
            "https://app.example.com.evil",
            "https://example.org",
            "https://.example.org",
            "https://evil/.example.org",
            "https://evil#.example.org",
            "https://app.example.com:8443",
            "null",
        ] {
            let fields = back(APP, origin, &[("Access-Control-Allow-Origin", "*")]);
            assert_eq!(joined(&fields, "Access-Control-Allow-Origin"), "", "{origin}");
            assert_eq!(joined(&fields, "Vary"), "Origin", "{origin}");
        }
        let any = back(&["origins=*"], "https://x", &[]);
        assert_eq!(joined(&any, "Access-Control-Allow-Origin"), "*");
        assert_eq!(joined(&any, "Vary"), "");
    }

    #[test]
    fn preflight_requests_are_answered() {
        let filter = build("cors", APP).unwrap();
        let mut stage = Stage::get("/").field("Origin", "https://app.example.com");
        stage.request.method = Method::OPTIONS;
        assert!(matches!(stage.run(&*filter), Flow::Next));
        let mut stage = stage.field("Access-Control-Request-Method", "PUT");
        let Flow::Answer(mut response) = stage.run(&*filter) else { panic!() };
        stage.back(&*filter, &mut response);
        assert_eq!(response.status, Status::NO_CONTENT);
        for (name, value) in [
            ("Access-Control-Allow-Origin", "https://app.example.com"),
            ("Access-Control-Allow-Methods", "GET, PUT"),
            ("Access-Control-Allow-Headers", "X-A, X-B"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Max-Age", "600"),
            ("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers|Origin"),
        ] {
            assert_eq!(joined(&response.fields, name), value, "{name}");
        }
        let mut stage =
            Stage::get("/").field("Origin", "https://x").field("Access-Control-Request-Method", "PUT");
        stage.request.method = Method::OPTIONS;
        let Flow::Answer(response) = stage.run(&*filter) else { panic!() };
        assert_eq!(joined(&response.fields, "Access-Control-Allow-Methods"), "");
    }

    #[test]
    fn mistakes_are_refused() {
        for wrong in [
            &["origins=*", "credentials"][..],
            &[],
            &["origins="],
            &["origins=null"],
            &["origins=app.example.com"],
            &["origins=https://a/b"],
            &["origins=*", "methods=get"],
            &["origins=*", "headers=a b"],
        ] {
            assert!(build("cors", wrong).is_err(), "{wrong:?}");
        }
    }
}
