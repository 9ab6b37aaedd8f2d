//! `rewrite` changes the path and the query of a request before it goes upstream.

use super::{Filter, Flow};
use crate::args::{Reader, regex, request_template};
use crate::context::{Context, Scope};
use crate::entry::{ArgMistake, At, Entry, Kind, Param, Place};
use crate::template::Template;
use portunus_message::{Crime, Error, Phase, Request, Target};
use regex::{Captures, Regex};

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "rewrite",
    manual: "Changes the path and the query of a request before it goes upstream; which route it takes is decided \
             already. `rewrite /new/path` sets the path. `rewrite ~PATTERN /new/$1` does so where the pattern finds a \
             match in the path; `$1` to `$9` are its groups, `$0` is the match. `rewrite strip=/prefix` takes whole \
             segments away from the front. A new path without `?` keeps the query, one with `?` replaces it, and `?` \
             at the end drops it. The result is put into normal form again; one that climbs (`/../`) is answered 400.",
    example: "rewrite ~^/v[0-9]+/(.*) /$1",
    params: PARAMS,
    answers: false,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let (first, second) = (reader.word("path"), reader.word("replacement"));
        Ok(Box::new(Rewrite { change: read(first, second, reader.option("strip"))? }))
    },
};

const PARAMS: &[Param] = &[
    Param {
        name: "path",
        place: Place::OptionalWord,
        kind: Kind::Text,
        manual: "The new path, with `${…}`; or `~` and a regular expression.",
    },
    Param {
        name: "replacement",
        place: Place::OptionalWord,
        kind: Kind::Text,
        manual: "The new path after a regular expression, with `${…}` and `$1`.",
    },
    Param {
        name: "strip",
        place: Place::Option,
        kind: Kind::Text,
        manual: "A prefix to take away; paths not below it stay as they are.",
    },
];

struct Rewrite {
    change: Change,
}

enum Change {
    Whole(Template),
    Matched { pattern: Regex, replacement: Vec<Piece> },
    Strip(Box<str>),
}

/// A part of a replacement.
enum Piece {
    Text(Template),
    Group(usize),
}

type Word<'a> = Option<(usize, &'a str)>;

fn read(first: Word<'_>, second: Word<'_>, strip: Option<&str>) -> Result<Change, ArgMistake> {
    match (first, second, strip) {
        (None, None, Some(prefix)) => read_prefix(prefix).map(Change::Strip),
        (Some((at, _)), _, Some(_)) => Err(ArgMistake::word(at, "cannot stand together with `strip=`")),
        (Some((at, text)), replacement, None) => match (text.strip_prefix('~'), replacement) {
            (Some(pattern), Some((to_at, to))) => {
                let pattern = regex(pattern, At::Word(at))?;
                must_be_a_path(to, to_at, &["/", "$", "?"])?;
                let replacement = read_pieces(to, to_at, pattern.captures_len())?;
                Ok(Change::Matched { pattern, replacement })
            }
            (Some(_), None) => Err(ArgMistake::whole("needs `replacement` after a regular expression")),
            (None, Some((at, _))) => {
                Err(ArgMistake::word(at, "is one word too many").hint("a regular expression begins with `~`"))
            }
            (None, None) => {
                must_be_a_path(text, at, &["/", "${path}", "${uri}"])?;
                request_template(text, At::Word(at)).map(Change::Whole)
            }
        },
        (None, _, _) => Err(ArgMistake::whole("needs `path` or `strip=`")),
    }
}

fn must_be_a_path(text: &str, at: usize, starts: &[&str]) -> Result<(), ArgMistake> {
    let fine = starts.iter().any(|start| text.starts_with(start));
    if fine { Ok(()) } else { Err(ArgMistake::word(at, "is not a path").hint("begin it with `/`")) }
}

fn read_prefix(prefix: &str) -> Result<Box<str>, ArgMistake> {
    let mut target = Target::new();
    let is_path = target.set_path(prefix.as_bytes()).is_ok();
    match target.compared_path().trim_end_matches('/') {
        path if is_path && path.len() > 1 && !prefix.contains('?') => Ok(path.into()),
        _ => Err(ArgMistake::option("strip", "is not a path").hint("write it as `/prefix`")),
    }
}

/// Splits a replacement at its `$1`; what is between them are templates.
fn read_pieces(text: &str, at: usize, groups: usize) -> Result<Vec<Piece>, ArgMistake> {
    let mut pieces = Vec::new();
    let (mut from, mut look) = (0, 0);
    while let Some(found) = text.get(look..).and_then(|rest| rest.find('$')).map(|found| look + found) {
        let rest = text.get(found + 1..).unwrap_or("");
        match rest.bytes().next() {
            Some(digit @ b'0'..=b'9') => {
                let group = usize::from(digit - b'0');
                if group >= groups {
                    return Err(ArgMistake::word(
                        at,
                        format!("names ${group}, a group that the pattern does not have"),
                    ));
                }
                if let Some(before) = text.get(from..found).filter(|before| !before.is_empty()) {
                    pieces.push(Piece::Text(request_template(before, At::Word(at))?));
                }
                pieces.push(Piece::Group(group));
                (from, look) = (found + 2, found + 2);
            }
            // Past a whole `${…}`, so that a `$` in it is not looked at.
            Some(b'{') => look = rest.find('}').map_or(text.len(), |end| found + 1 + end),
            _ => look = found + 1,
        }
    }
    if let Some(left) = text.get(from..).filter(|left| !left.is_empty()) {
        pieces.push(Piece::Text(request_template(left, At::Word(at))?));
    }
    Ok(pieces)
}

impl Rewrite {
    /// The new path, perhaps with a query; `None` when this request stays as it is.
    fn rewritten(&self, request: &Request, scope: &Scope<'_>) -> Option<Vec<u8>> {
        let path = request.target.path();
        let mut new = Vec::with_capacity(path.len() + 64);
        match &self.change {
            Change::Whole(template) => template.render_path(scope, &mut new),
            Change::Matched { pattern, replacement } => {
                let captures: Captures<'_> = pattern.captures(path)?;
                for piece in replacement {
                    match piece {
                        Piece::Text(template) => template.render_path(scope, &mut new),
                        Piece::Group(group) => {
                            new.extend_from_slice(captures.get(*group).map_or("", |m| m.as_str()).as_bytes());
                        }
                    }
                }
            }
            Change::Strip(prefix) => {
                let compared = request.target.compared_path();
                let rest = compared.strip_prefix(&**prefix)?;
                if !rest.is_empty() && !rest.starts_with('/') {
                    return None;
                }
                // The same segments, as they stand there.
                let mut ends = path.match_indices('/').map(|(at, _)| at);
                let at = ends.nth(prefix.matches('/').count()).unwrap_or(path.len());
                new.extend_from_slice(path.get(at..).unwrap_or("").as_bytes());
            }
        }
        if new.first() != Some(&b'/') {
            new.insert(0, b'/');
        }
        match (new.iter().position(|&byte| byte == b'?'), request.target.query()) {
            (Some(at), _) if at + 1 == new.len() => new.truncate(at),
            (None, Some(query)) => {
                new.push(b'?');
                new.extend_from_slice(query.as_bytes());
            }
            _ => {}
        }
        Some(new)
    }
}

/// Whether a path has a segment `.` or `..`, in any spelling: a rewritten one that has climbs somewhere nobody meant
/// it to go (attack F4).
fn climbs(path_and_query: &[u8]) -> bool {
    let path = path_and_query.split(|&byte| byte == b'?').next().unwrap_or(&[]);
    path.split(|&byte| byte == b'/').any(|segment| {
        let mut rest = segment;
        let mut dots = 0;
        while let Some(after) = rest
            .strip_prefix(b".")
            .or_else(|| rest.strip_prefix(b"%2E"))
            .or_else(|| rest.strip_prefix(b"%2e"))
        {
            (rest, dots) = (after, dots + 1);
        }
        rest.is_empty() && (dots == 1 || dots == 2)
    })
}

impl Filter for Rewrite {
    fn request(&self, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        if request.target.path() == "*" {
            return Flow::Next;
        }
        let Some(new) = self.rewritten(request, &cx.scope(request, None)) else { return Flow::Next };
        if climbs(&new) || request.target.set_path(&new).is_err() {
            return Flow::Fail(Error::client(Phase::Filter, Crime::ForbiddenPath));
        }
        Flow::Next
    }

    fn describe(&self) -> String {
        match &self.change {
            Change::Whole(template) => format!("rewrite {}", template.as_str()),
            Change::Strip(prefix) => format!("rewrite strip={prefix}"),
            Change::Matched { pattern, replacement } => {
                let piece = |piece: &Piece| match piece {
                    Piece::Text(template) => template.as_str().to_owned(),
                    Piece::Group(group) => format!("${group}"),
                };
                format!("rewrite ~{pattern} {}", replacement.iter().map(piece).collect::<String>())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build};
    use super::*;
    use proptest::prelude::*;

    fn run(words: &[&str], path: &str) -> String {
        let mut stage = Stage::get(path).field("X-T", "a/b ?c");
        match stage.run(&*build("rewrite", words).unwrap()) {
            Flow::Next => stage.request.target.path_and_query().to_owned(),
            Flow::Fail(error) => error.crime.word().to_owned(),
            _ => "?".to_owned(),
        }
    }

    #[test]
    fn paths_are_rewritten() {
        for (words, path, new) in [
            (&["/new"][..], "/old?q=1", "/new?q=1"),
            (&["/new?"], "/old?q=1", "/new"),
            (&["/new?a=${query.q}"], "/old?q=1", "/new?a=1"),
            (&["/t/${header.x-t}${path}"], "/old", "/t/a%2Fb%20%3Fc/old"),
            (&["${uri}"], "/old?q=1", "/old?q=1"),
            (&["~^/v[0-9]+/(.*)", "/$1"], "/v12/users//7?q", "/users/7?q"),
            (&["~^/v[0-9]+/(.*)", "/$1"], "/w/users", "/w/users"),
            (&["~^/v[0-9]+/(.*)", "$1"], "/v1/users", "/users"),
            (&["~^/(a+)(b)?/(c)", "/$3/$2/$1/$0?x=${host}"], "/aa/c", "/c/aa/aa/c?x=example.com"),
            (&["~/old", "/new"], "/x/old/y", "/new"),
            (&["strip=/api"], "/api/users?q=1", "/users?q=1"),
            (&["strip=/api/"], "/api", "/"),
            (&["strip=/api"], "/apix", "/apix"),
            (&["strip=/api"], "/api/%2Fx", "/%2Fx"),
            (&["/new"], "*", "*"),
        ] {
            assert_eq!(run(words, path), new, "{words:?} {path}");
        }
    }

    #[test]
    fn f4_a_result_that_climbs_is_refused() {
        assert_eq!(run(&["~^/api(.*)", "/x/$1"], "/api../secret"), "forbidden-path");
        assert_eq!(run(&["~^/api/(.*)$", "/x/.$1"], "/api/.?q"), "forbidden-path");
        assert_eq!(run(&["~^/a/(.)", "/$1$1/b"], "/a/.x"), "forbidden-path");
        assert_eq!(run(&["~^/a/(.)", "/x/$1"], "/a/.x"), "forbidden-path");
        assert_eq!(run(&["~^/a/(.*)", "/x/$1"], "/a/...x"), "/x/...x");
    }

    #[test]
    fn mistakes_are_refused() {
        for wrong in [
            &[][..],
            &["new"],
            &["~(", "/x"],
            &["~x"],
            &["/a", "/b"],
            &["~(x)", "/$2"],
            &["~x", "new"],
            &["/a", "strip=/b"],
            &["strip=b"],
            &["strip=/"],
            &["strip=/a?b"],
            &["/${nope}"],
            &["/${response.status}"],
        ] {
            assert!(build("rewrite", wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn f15_rewriting_agrees_with_a_model(a in "[a-z.%]{0,6}", b in "[a-z./]{0,8}") {
            let path = format!("/{a}/{b}");
            let mut target = Target::new();
            if target.set_path(path.as_bytes()).is_err() {
                return Ok(());
            }
            let normal = target.path().to_owned();
            let model = match normal.strip_prefix('/').and_then(|rest| rest.split_once('/')) {
                None => normal.clone(),
                Some((first, rest)) => {
                    let joined = format!("/{rest}/{first}{first}");
                    if joined.split('/').any(|s| s == "." || s == "..") {
                        "forbidden-path".to_owned()
                    } else {
                        let mut target = Target::new();
                        match target.set_path(joined.as_bytes()) {
                            Ok(()) => target.path().to_owned(),
                            Err(_) => "forbidden-path".to_owned(),
                        }
                    }
                }
            };
            prop_assert_eq!(run(&["~^/([^/]*)/(.*)$", "/$2/$1$1"], &normal), model);
        }
    }
}
