//! pools: hosts are added, removed, drained and weighted while the program runs.
//!
//! | request | body | |
//! |---|---|---|
//! | `GET /pools/POOL` | | the pool with its hosts, as in the status |
//! | `GET /pools/POOL/hosts/HOST` | | the member as it can be changed, with an `ETag` of that |
//! | `PUT /pools/POOL/hosts/HOST` | `{"weight": 1, "backup": false}` | it becomes a member |
//! | `PATCH /pools/POOL/hosts/HOST` | `{"weight": 5, "drain": true}` | what is named changes; `"weight": null` goes back to the one written |
//! | `DELETE /pools/POOL/hosts/HOST` | | it is a member no more |
//!
//! A change is made only of the state that `If-Match` and `If-None-Match` name, where they are there; it is 412 otherwise.
//! Names stand percent-encoded in the path. `"persist": true` in the body (`?persist=true` for DELETE) keeps the change for the next start.

use crate::described::OnlyIf;
use crate::wishes::{Change, What};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use serde::{Deserialize, Deserializer};

/// The pool and the host that a path names; none for other paths.
pub fn host_of(path: &str) -> Option<(String, String)> {
    let (pool, host) = path.strip_prefix("/pools/")?.split_once("/hosts/")?;
    let whole = |part: &str| !part.is_empty() && !part.contains('/');
    if !whole(pool) || !whole(host) {
        return None;
    }
    decoded(pool).zip(decoded(host))
}

/// The pool that a path names; none for other paths.
pub fn pool_of(path: &str) -> Option<String> {
    let pool = path.strip_prefix("/pools/").filter(|pool| !pool.is_empty() && !pool.contains('/'))?;
    decoded(pool)
}

/// What has to hold for a change, by its fields (RFC 9110 §13.1).
pub fn only_if(fields: &HeaderMap) -> OnlyIf {
    let list = |name: HeaderName| {
        let values = fields.get_all(&name).iter().filter_map(|value| value.to_str().ok());
        let tags: Vec<String> =
            values.flat_map(|list| list.split(',')).map(|tag| tag.trim().to_owned()).collect();
        fields.contains_key(name).then_some(tags)
    };
    OnlyIf { matches: list(IF_MATCH), none_matches: list(IF_NONE_MATCH) }
}

/// What a request asks for; none when the method is not for it.
pub fn change(
    method: &Method,
    (pool, host): (String, String),
    query: Option<&str>,
    body: &[u8],
    only_if: OnlyIf,
) -> Option<Result<Change, String>> {
    let change = match *method {
        Method::PUT => read::<Put>(body).map(|put| {
            let what = What::Add { weight: put.weight, backup: put.backup };
            Change { pool, host, what, persist: put.persist, only_if }
        }),
        Method::PATCH => read::<Patch>(body).and_then(|patch| match (patch.weight, patch.drain) {
            (None, None) => Err("neither `weight` nor `drain` is said".to_owned()),
            (weight, drain) => {
                let what = What::Adjust { weight, drain };
                Ok(Change { pool, host, what, persist: patch.persist, only_if })
            }
        }),
        Method::DELETE => {
            let persist = query.is_some_and(|query| query.split('&').any(|part| part == "persist=true"));
            Ok(Change { pool, host, what: What::Remove, persist, only_if })
        }
        _ => return None,
    };
    Some(change.and_then(|change| match change.what {
        What::Add { weight: Some(weight), .. } | What::Adjust { weight: Some(Some(weight)), .. }
            if weight > WEIGHT_MAX =>
        {
            Err(format!("a weight is a number from 0 to {WEIGHT_MAX}"))
        }
        _ => Ok(change),
    }))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Put {
    weight: Option<u32>,
    backup: bool,
    persist: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Patch {
    /// None when it is not there, `Some(None)` when it is `null`.
    #[serde(deserialize_with = "some")]
    weight: Option<Option<u32>>,
    drain: Option<bool>,
    persist: bool,
}

fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(from).map(Some)
}

fn read<'a, T: Deserialize<'a> + Default>(body: &'a [u8]) -> Result<T, String> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| format!("the body is not as it should be: {error}"))
}

/// Without percent-encoding; none when it is none, or not a text.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

const WEIGHT_MAX: u32 = 65535;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(method: Method, query: Option<&str>, body: &str) -> Result<Change, String> {
        change(&method, ("p".into(), "h".into()), query, body.as_bytes(), OnlyIf::default()).unwrap()
    }

    #[test]
    fn paths_name_a_pool_and_a_host() {
        let pair = |pool: &str, host: &str| Some((pool.to_owned(), host.to_owned()));
        assert_eq!(host_of("/pools/web/hosts/10.0.0.1:80"), pair("web", "10.0.0.1:80"));
        assert_eq!(
            (pool_of("/pools/a%20b"), pool_of("/pools/"), pool_of("/pools/a/b")),
            (Some("a b".into()), None, None)
        );
        assert_eq!(host_of("/pools/a%20b/hosts/unix:%2Frun%2Fx"), pair("a b", "unix:/run/x"));
        for bad in [
            "/pools",
            "/pools/web",
            "/pools//hosts/x",
            "/pools/a/hosts/",
            "/pools/a/hosts/b/c",
            "/pools/a/hosts/%2",
        ] {
            assert_eq!(host_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn bodies_are_read_strictly() {
        let adjust = |weight, drain| What::Adjust { weight, drain };
        assert_eq!(said(Method::PATCH, None, r#"{"weight":5}"#).unwrap().what, adjust(Some(Some(5)), None));
        assert_eq!(said(Method::PATCH, None, r#"{"weight":null}"#).unwrap().what, adjust(Some(None), None));
        assert_eq!(said(Method::PATCH, None, r#"{"drain":true}"#).unwrap().what, adjust(None, Some(true)));
        assert!(said(Method::PUT, None, "").is_ok() && said(Method::PUT, None, r#"{"backup":true}"#).is_ok());
        assert!(said(Method::DELETE, Some("persist=true"), "").unwrap().persist);
        for bad in
            ["", "{}", "[]", r#"{"weight":-1}"#, r#"{"weight":65536}"#, r#"{"wieght":1}"#, r#"{"drain":1}"#]
        {
            assert!(said(Method::PATCH, None, bad).is_err(), "{bad}");
        }
        assert!(change(&Method::POST, ("p".into(), "h".into()), None, b"", OnlyIf::default()).is_none());
    }
}
