//! arrows: who imports whom, and who may.

use super::Finding;
use crate::source::{File, find_word};
use std::collections::{BTreeMap, BTreeSet};

/// The crates in their order: each may use those before it.
const CRATES: &[&str] = &["message", "wire", "relay", "config", "control", "portunus"];

/// What every module of the relay may use: the nouns that do no I/O and know no time.
const NOUNS: &[&str] = &[
    "args",
    "candidates",
    "conduct",
    "context",
    "entry",
    "grpc",
    "hosts",
    "latency",
    "members",
    "plan",
    "silence",
    "standing",
    "stats",
    "template",
    "trouble",
    "values",
];

/// What else each module of the relay may use, from the bottom up. A module that is not here may use nothing: write its
/// row. For the nouns this is all they may use.
const RELAY: &[(&str, &[&str])] = &[
    ("values", &[]),
    ("stats", &[]),
    ("pressure", &[]),
    ("seats", &["net", "pressure"]),
    ("context", &[]),
    ("grpc", &["context"]),
    ("template", &["context", "values"]),
    ("plan", &["template", "values"]),
    ("entry", &["plan"]),
    ("args", &["entry", "plan", "template", "values"]),
    ("standing", &[]),
    ("conduct", &[]),
    ("latency", &[]),
    ("silence", &[]),
    ("trouble", &[]),
    ("hosts", &["conduct", "latency", "plan", "silence", "standing", "tls", "trouble"]),
    ("candidates", &["hosts", "standing"]),
    // what a worker has
    ("members", &["plan", "standing"]),
    ("clock", &[]),
    ("stock", &[]),
    ("buffers", &["stock"]),
    ("deadlines", &["clock"]),
    ("crowd", &[]),
    ("turnstile", &["clock", "crowd"]),
    ("cells", &[]),
    ("census", &[]),
    ("totals", &[]),
    ("net", &[]),
    ("tls", &["plan"]),
    ("challenges", &["tls"]),
    ("demands", &["plan"]),
    ("streams", &["net"]),
    ("link", &["buffers", "net", "streams"]),
    ("client", &["buffers", "clock", "crowd", "deadlines", "filter", "link", "net", "tls"]),
    // what decides, and does no I/O
    ("prefaces", &["filter"]),
    ("dispatch", &[]),
    ("filter", &[]),
    ("find", &[]),
    ("pick", &[]),
    ("breaker", &[]),
    ("eject", &[]),
    ("remembered", &[]),
    ("retry", &[]),
    ("canary", &[]),
    ("split", &["canary"]),
    ("sticky", &[]),
    (
        "snapshot",
        &[
            "breaker",
            "canary",
            "challenges",
            "demands",
            "dispatch",
            "eject",
            "filter",
            "mirror",
            "pick",
            "prefaces",
            "retry",
            "split",
            "sticky",
            "tls",
        ],
    ),
    ("asker", &["filter"]),
    ("mirror", &["cells", "clock", "deadlines", "link", "pool"]),
    ("pool", &["buffers", "cells", "clock", "deadlines", "link", "net", "tls"]),
    ("run", &["breaker", "buffers", "cells", "pool", "snapshot"]),
    (
        "worker",
        &[
            "asker",
            "buffers",
            "cells",
            "census",
            "client",
            "clock",
            "crowd",
            "deadlines",
            "net",
            "pool",
            "pressure",
            "run",
            "seats",
            "snapshot",
            "stock",
            "totals",
            "turnstile",
        ],
    ),
    ("call", &["client", "run", "worker"]),
    // the verbs that wait
    ("tally", &["canary", "cells", "eject", "pick", "pool", "run", "snapshot", "worker"]),
    ("pump", &["census", "client", "clock", "link", "net", "pressure", "worker"]),
    ("reply", &["client", "filter", "link", "worker"]),
    (
        "attempt",
        &[
            "breaker",
            "call",
            "client",
            "deadlines",
            "eject",
            "link",
            "mirror",
            "pick",
            "pool",
            "pressure",
            "pump",
            "retry",
            "run",
            "snapshot",
            "split",
            "sticky",
            "tally",
            "worker",
        ],
    ),
    (
        "serve",
        &[
            "attempt", "call", "client", "dispatch", "filter", "find", "pump", "reply", "run", "snapshot",
            "tally", "worker",
        ],
    ),
    (
        "decode",
        &[
            "call",
            "client",
            "deadlines",
            "link",
            "net",
            "pressure",
            "reply",
            "run",
            "serve",
            "streams",
            "tally",
            "tls",
            "worker",
        ],
    ),
    (
        "accept",
        &[
            "challenges",
            "client",
            "deadlines",
            "decode",
            "link",
            "net",
            "reply",
            "seats",
            "snapshot",
            "tally",
            "tls",
            "worker",
        ],
    ),
    ("doors", &["accept", "net", "worker"]),
    ("workers", &["accept", "clock", "deadlines", "doors", "net", "pressure", "snapshot", "worker"]),
];

/// The modules of the relay that may name the grammars.
const RELAY_USING_WIRE: &[&str] =
    &["accept", "attempt", "client", "decode", "link", "mirror", "pool", "pump", "reply", "serve", "streams"];

/// A crate names only crates before it.
pub fn crates(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some((name, _)) = file.module() else { continue };
        let Some(rank) = CRATES.iter().position(|known| *known == name) else {
            findings.push(Finding::new(file, 0, format!("crate `{name}` is not in the line {CRATES:?}")));
            continue;
        };
        let code = file.code();
        for later in &CRATES[rank + 1..] {
            let word = if *later == "portunus" { "portunus".to_owned() } else { format!("portunus_{later}") };
            let uses = find_word(&code, &word).filter(|at| code[at + word.len()..].starts_with("::"));
            findings.extend(uses.map(|at| Finding::at(file, at, format!("`{name}` may not use `{later}`"))));
        }
    }
    findings
}

/// A module of the relay uses only what its row allows.
pub fn relay(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for import in imports(files).iter().filter(|import| import.of == "relay" && !import.from.is_empty()) {
        let Import { file, at, from, to, .. } = import;
        let allowed = match RELAY.iter().find(|(module, _)| module == from) {
            None => {
                findings.push(Finding::at(
                    file,
                    *at,
                    format!("module `{from}` has no row in xtask/src/tidy/arrows.rs"),
                ));
                continue;
            }
            Some((_, row)) => {
                row.contains(&to.as_str())
                    || (!NOUNS.contains(&from.as_str()) && NOUNS.contains(&to.as_str()))
            }
        };
        if !allowed {
            findings.push(Finding::at(file, *at, format!("`{from}` may not use `{to}`")));
        }
    }
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(("relay", parts)) = file.module() else { continue };
        let module = parts.first().copied().unwrap_or("");
        if RELAY_USING_WIRE.contains(&module) {
            continue;
        }
        let code = file.code();
        let uses = find_word(&code, "portunus_wire");
        findings.extend(
            uses.map(|at| Finding::at(file, at, format!("`{module}` may not use the grammars of `wire`"))),
        );
    }
    findings
}

/// No two modules of a crate import each other.
pub fn cycles(files: &[File]) -> Vec<Finding> {
    let imports = imports(files);
    let edges: BTreeSet<(&str, &str, &str)> =
        imports.iter().map(|import| (import.of.as_str(), import.from.as_str(), import.to.as_str())).collect();
    imports
        .iter()
        .filter(|import| !import.from.is_empty())
        .filter(|import| edges.contains(&(import.of.as_str(), import.to.as_str(), import.from.as_str())))
        .map(|Import { file, at, from, to, .. }| {
            Finding::at(file, *at, format!("`{from}` imports `{to}`, and `{to}` imports `{from}`"))
        })
        .collect()
}

/// Files with an `ENTRY` do not import each other.
pub fn siblings(files: &[File]) -> Vec<Finding> {
    let entries: BTreeSet<Vec<&str>> = files
        .iter()
        .filter(|file| file.is_rust() && file.code().contains("const ENTRY:"))
        .filter_map(|file| file.module().filter(|(name, _)| *name == "relay").map(|(_, parts)| parts))
        .collect();
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(("relay", here)) = file.module() else { continue };
        if !entries.contains(&here) {
            continue;
        }
        for (at, path) in paths(&file.code(), &here) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            if let Some(other) = entries.iter().find(|other| path.starts_with(other) && **other != here) {
                let (here, other) = (here.join("::"), other.join("::"));
                findings.push(Finding::at(
                    file,
                    at,
                    format!("`{here}` may not import `{other}`: share a noun instead"),
                ));
            }
        }
    }
    findings
}

/// One module's use of another module of the same crate.
struct Import<'a> {
    of: String,
    file: &'a File,
    at: usize,
    from: String,
    to: String,
}

/// Every use of one top-level module by another, in every crate.
fn imports(files: &[File]) -> Vec<Import<'_>> {
    let sources: Vec<&File> = files.iter().filter(|file| file.is_rust() && !file.is_test()).collect();
    let mut modules: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut exported: BTreeMap<(&str, String), String> = BTreeMap::new();
    for file in &sources {
        let Some((name, parts)) = file.module() else { continue };
        match parts.first() {
            Some(module) => _ = modules.entry(name).or_default().insert(module),
            None => exported
                .extend(reexports(&file.code()).into_iter().map(|(word, module)| ((name, word), module))),
        }
    }
    let mut imports = Vec::new();
    for file in &sources {
        let Some((name, here)) = file.module() else { continue };
        let from = here.first().copied().unwrap_or("");
        for (at, path) in paths(&file.code(), &here) {
            let Some(first) = path.first() else { continue };
            let to = exported.get(&(name, first.clone())).unwrap_or(first);
            let known = modules.get(name).is_some_and(|modules| modules.contains(to.as_str()));
            if known && to != from {
                imports.push(Import { of: name.to_owned(), file, at, from: from.to_owned(), to: to.clone() });
            }
        }
    }
    imports
}

/// The names that a crate's root hands on, with the module each comes from.
fn reexports(code: &str) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for at in find_word(code, "pub use") {
        let mut tree = Vec::new();
        let rest = &code[at + "pub use".len()..];
        read_tree(rest.strip_prefix(" crate::").unwrap_or(rest).trim_start(), &mut Vec::new(), &mut tree);
        names.extend(tree.into_iter().filter_map(|path| match path.as_slice() {
            [module, .., word] => Some((word.clone(), module.clone())),
            _ => None,
        }));
    }
    names
}

/// Every path in `code` that starts at `crate` or `super`, from the crate's root on, with where it stands. `here` is the
/// module that the code is in.
fn paths(code: &str, here: &[&str]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || matches!(before, '_' | ':' | '$') {
                continue;
            }
            let mut rest = &code[at..];
            let mut base: Vec<String> = match root {
                "crate::" => Vec::new(),
                _ => here.iter().map(|&part| part.to_owned()).collect(),
            };
            rest = rest.strip_prefix("crate::").unwrap_or(rest);
            while let Some(inner) = rest.strip_prefix("super::") {
                base.pop();
                rest = inner;
            }
            let mut tree = Vec::new();
            read_tree(rest, &mut base, &mut tree);
            found.extend(tree.into_iter().map(|path| (at, path)));
        }
    }
    found
}

/// Reads a use tree, `a::{b, c::d}`, or a path; returns what follows it.
fn read_tree<'a>(code: &'a str, base: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() || rest.starts_with('}') {
                return rest.get(1..).unwrap_or("");
            }
            let before = rest.len();
            rest = read_tree(rest, base, found).trim_start();
            if let Some(renamed) = rest.strip_prefix("as ") {
                rest = renamed
                    .trim_start()
                    .trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
                    .trim_start();
            }
            rest = rest.strip_prefix(',').unwrap_or(rest);
            if rest.len() == before {
                return "";
            }
        }
    }
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(code.len());
    let (word, rest) = code.split_at(end);
    if word.is_empty() {
        return rest;
    }
    let leaf = word == "self" || word == "*";
    if !leaf {
        base.push(word.to_owned());
    }
    let rest = match rest.strip_prefix("::") {
        Some(deeper) if deeper.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '{' | '*')) => {
            read_tree(deeper, base, found)
        }
        _ => {
            found.push(base.clone());
            rest
        }
    };
    if !leaf {
        base.pop();
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: fn(&[File]) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text)).collect();
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn trees_are_read_to_their_leaves() {
        let mut all = Vec::new();
        let rest = read_tree("a::{self, b::{C, D as E}, f::*, G}, x", &mut Vec::new(), &mut all);
        let all: Vec<String> = all.iter().map(|path| path.join("::")).collect();
        assert_eq!(all, ["a", "a::b::C", "a::b::D", "a::f", "a::G"]);
        assert_eq!(rest, ", x");
    }

    #[test]
    fn a_crate_uses_only_those_before_it() {
        let good = ("crates/relay/src/a.rs", "use portunus_message::Limits; // portunus_config::x\n");
        let bad = ("crates/wire/src/a.rs", "\nfn f() { portunus_relay::g() }\n");
        assert_eq!(found(crates, &[good, bad]), ["crates/wire/src/a.rs:2: `wire` may not use `relay`"]);
        assert!(found(crates, &[("crates/extra/src/lib.rs", "")])[0].contains("not in the line"));
    }

    #[test]
    fn decode_and_pool_never_meet() {
        let pool = ("crates/relay/src/pool/mod.rs", "use crate::{net::Stream, hosts};\n");
        let nouns = [("crates/relay/src/net.rs", ""), ("crates/relay/src/hosts.rs", "")];
        assert!(found(relay, &[pool, nouns[0], nouns[1]]).is_empty());
        let decode = ("crates/relay/src/decode/h1.rs", "use crate::pool::Lease;\n");
        assert_eq!(
            found(relay, &[pool, decode]),
            ["crates/relay/src/decode/h1.rs:1: `decode` may not use `pool`"]
        );
        let stranger = ("crates/relay/src/helper.rs", "use crate::pool::Lease;\n");
        assert!(found(relay, &[pool, stranger])[0].contains("has no row"));
        let wire = ("crates/relay/src/filter/cors.rs", "use portunus_wire::h1;\n");
        assert!(found(relay, &[wire])[0].contains("grammars"));
    }

    #[test]
    fn two_modules_may_not_import_each_other_even_by_reexport() {
        let root = ("crates/message/src/lib.rs", "pub mod a;\npub mod b;\npub use b::{Bee, self as c};\n");
        let a = ("crates/message/src/a.rs", "use crate::Bee;\n");
        assert!(found(cycles, &[root, a, ("crates/message/src/b.rs", "")]).is_empty());
        let b = (
            "crates/message/src/b.rs",
            "fn f(_: &super::a::A) {}\n#[cfg(test)]\nmod tests { use crate::x; }\n",
        );
        assert_eq!(found(cycles, &[root, a, b]).len(), 2);
    }

    #[test]
    fn a_filter_imports_no_filter() {
        let cors =
            ("crates/relay/src/filter/cors.rs", "pub const ENTRY: Entry = x;\nuse super::rewrite::Rule;\n");
        let rewrite =
            ("crates/relay/src/filter/rewrite.rs", "use crate::filter::Flow;\npub const ENTRY: Entry = x;\n");
        assert_eq!(found(siblings, &[cors, rewrite]).len(), 1);
        let shared = ("crates/relay/src/filter/rewrite.rs", "pub struct Rule;\n");
        assert!(found(siblings, &[cors, shared]).is_empty());
    }
}
