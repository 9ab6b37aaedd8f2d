//! The operator's words: text ⇄ Plan. Reads configuration files and nothing else.

pub mod directives;
pub mod mistake;

mod acme;
mod again;
mod args;
mod bounds;
mod canary;
mod check;
mod choosing;
mod circle;
mod draft;
mod findings;
mod fmt;
mod foreign;
mod handshake;
mod health;
mod json;
mod opened;
mod outside;
mod place;
mod pool;
mod protocol;
mod providers;
mod redact;
mod reference;
mod route;
mod settings;
mod shadow;
mod site;
mod text;
mod tls;
mod vain;
mod values;

pub use args::Registry;
pub use fmt::format;
pub use json::{adapt, schema};
pub use mistake::{Mistake, Mistakes};
pub use opened::open;
pub use outside::{Environment, is_meant};
pub use providers::{PROVIDERS, SECRETS};
pub use redact::Redaction;
pub use reference::reference;
pub use tls::{FILE_BYTES_MAX as CERTIFICATE_BYTES_MAX, untimely};

use findings::{Findings, Sources, Span};
use outside::{Outside, Wrong};
use portunus_relay::plan::{Address, Plan, PoolPlan};
use portunus_relay::tls::Certificates;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A configuration without mistakes.
#[derive(Debug)]
pub struct Loaded {
    /// What it asks for.
    pub plan: Arc<Plan>,
    /// What had better not be.
    pub warnings: Vec<Mistake>,
    /// Every file that was read, for whoever watches them.
    pub files: Vec<PathBuf>,
    /// Which files it would have read, too, had they been there: a directory with a pattern for names in it.
    pub patterns: Vec<PathBuf>,
    /// The certificates of its sites, read.
    pub certificates: Certificates,
    /// What the names of their files are relative to.
    pub directory: PathBuf,
    /// What was filled in from outside, which must not be shown.
    pub redaction: Redaction,
}

/// The address of a server, as it would be written in a pool.
pub fn address(text: &str) -> Result<Address, String> {
    values::address(text).map_err(|wrong| told(text, wrong))
}

/// The address of a server that comes to `pool` while it is in use. A scheme, where one is written, is the pool's own.
pub fn server(text: &str, pool: &PoolPlan) -> Result<Address, String> {
    pool::newcomer(text, pool).map_err(|wrong| told(text, wrong))
}

fn told(text: &str, wrong: Wrong) -> String {
    match wrong.hint {
        Some(hint) => format!("`{text}` {}; {hint}", wrong.reason),
        None => format!("`{text}` {}", wrong.reason),
    }
}

/// Loads a configuration file: in the block language, or, when it begins with `{`, a plan in JSON. It may be a pipe, which is waited
/// for.
pub fn load(path: &Path, environment: &Environment<'_>) -> Result<Loaded, Mistakes> {
    load_file(path, environment, Outside::read_stream)
}

/// The same for a program that runs already: it waits for nobody, and what could be read only once is gone.
pub fn load_again(path: &Path, environment: &Environment<'_>) -> Result<Loaded, Mistakes> {
    load_file(path, environment, Outside::read)
}

fn load_file<'e>(
    path: &Path,
    environment: &Environment<'e>,
    read: impl FnOnce(&mut Outside<'e>, &Path, usize) -> Result<String, Wrong>,
) -> Result<Loaded, Mistakes> {
    let mut outside = Outside::new(*environment);
    let name = path.display().to_string();
    match read(&mut outside, path, text::FILE_BYTES_MAX) {
        Ok(text) => load_into(&name, &text, Registry::default(), outside),
        Err(wrong) => Err(Mistakes(vec![Mistake::of_file(&name, wrong.reason)])),
    }
}

/// The same for a text that was read already; what it includes is relative to the directory of `name`.
pub fn load_text(name: &str, text: &str, environment: &Environment<'_>) -> Result<Loaded, Mistakes> {
    load_into(name, text, Registry::default(), Outside::new(*environment))
}

fn load_into(
    name: &str,
    text: &str,
    registry: Registry,
    mut outside: Outside<'_>,
) -> Result<Loaded, Mistakes> {
    let mut sources = Sources::default();
    let mut findings = Findings::default();
    if is_json(text) {
        let plan = json::read(name, text, registry, &mut sources, &mut outside, &mut findings);
        return finish(plan, sources, outside, findings);
    }
    let drafts = draft::read(name, text.to_owned(), &mut sources, &mut outside, &mut findings);
    let plan = match findings.structure {
        true => Plan::default(),
        false => check::check(&drafts, registry, &mut outside, &mut findings),
    };
    finish(plan, sources, outside, findings)
}

/// Whether `text` is a plan in JSON, and not in the block language.
pub fn is_json(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with('{')
}

fn finish(
    plan: Plan,
    sources: Sources,
    outside: Outside<'_>,
    mut findings: Findings,
) -> Result<Loaded, Mistakes> {
    if plan.sites.is_empty() && !findings.any_error() {
        // A file that is just being written is empty for a moment; it must not end what runs.
        let hint = "write what is served where, like `site :8080 { proxy 127.0.0.1:3000 }`";
        findings.error(Span::whole(0), "there is no `site`, so nothing would be served").hint(hint);
    }
    let any = findings.any_error();
    let (errors, warnings) = findings.sort_out(&sources);
    let redacted = |list: Vec<Mistake>| list.into_iter().map(|one| outside.redaction.mistake(one)).collect();
    let (mut errors, mut warnings): (Vec<_>, Vec<_>) = (redacted(errors), redacted(warnings));
    if any {
        errors.append(&mut warnings);
        return Err(Mistakes(errors));
    }
    let (files, patterns, directory) = (outside.files(), outside.patterns(), outside.directory().to_owned());
    let Outside { certificates, redaction, .. } = outside;
    Ok(Loaded { plan: Arc::new(plan), warnings, files, patterns, certificates, directory, redaction })
}

#[cfg(test)]
mod tests;
