//! Draft → Plan: names resolved, defaults filled, every filter built once to prove that it can be.

use crate::args::{Registry, Scene, usage};
use crate::directives::{self, Block, FORMS, Form, LATER, Scope};
use crate::draft::Draft;
use crate::findings::{Findings, Span};
use crate::mistake::did_you_mean;
use crate::outside::Outside;
use crate::pool::Pools;
use crate::site::{SiteDefaults, Sites};
use crate::{pool, settings, site};
use portunus_relay::entry::Entry;
use portunus_relay::filter::Filter;
use portunus_relay::plan::Plan;
use std::collections::HashMap;

/// The plan that `drafts` ask for. It may be run only when `findings` holds no error.
pub fn check(
    drafts: &[Draft],
    registry: Registry,
    outside: &mut Outside<'_>,
    findings: &mut Findings,
) -> Plan {
    let mut scene = Scene { registry, outside, findings };
    let top = scene.known(drafts, Scope::Top);
    let settings = settings::read(&top, &mut scene);

    // Defaults hold wherever they are written, and names may be used before they are given: so defaults first, then pools, then sites.
    let mut pool_defaults = pool::PoolSettings::new(&settings.limits);
    let mut site_defaults = SiteDefaults::new(&settings.limits);
    for block in blocks(&top, "defaults") {
        for (draft, _) in scene.known(block, Scope::Defaults) {
            unnamed(draft, &mut scene);
            let inner = draft.block.as_deref().unwrap_or(&[]);
            match &*draft.name {
                "pool" => pool_defaults.read(inner, Scope::DefaultPool, &mut scene),
                _ => site_defaults.read(inner, &mut scene),
            }
        }
    }
    let mut pools = Pools::new(pool_defaults);
    for (draft, _) in top.iter().filter(|(draft, _)| &*draft.name == "pool") {
        pools.define(draft, &mut scene);
    }
    let mut sites = Sites::default();
    for (draft, _) in top.iter().filter(|(draft, _)| &*draft.name == "site") {
        let plan = site::read(draft, &site_defaults, &mut pools, &mut scene);
        sites.add(plan, draft, &mut scene);
    }
    if sites.list.is_empty() && !scene.findings.any_error() {
        scene.findings.warning(Span::whole(0), "there is no `site`, so nothing would be served");
    }
    pools.warn_unused(&mut scene);
    Plan { settings, pools: pools.into_plans(), sites: sites.into_plans() }
}

fn blocks<'d>(top: &[(&'d Draft, &'static Form)], name: &str) -> impl Iterator<Item = &'d [Draft]> {
    top.iter().filter(move |(draft, _)| &*draft.name == name).filter_map(|(draft, _)| draft.block.as_deref())
}

/// In `defaults`, `pool` and `site` have no name.
fn unnamed(draft: &Draft, scene: &mut Scene<'_, '_>) {
    if let Some(word) = draft.words.first() {
        let reason = format!("the `{}` of `defaults` has no name: it holds for all", draft.name);
        scene.findings.error(word.span, reason);
    }
}

/// A statement that may stand where it stands.
pub enum Found {
    /// One of our own directives.
    Form(&'static Form),
    /// A filter.
    Filter(&'static Entry<dyn Filter>),
    /// Neither; that has been told.
    Nothing,
}

impl Scene<'_, '_> {
    /// Those of `drafts` that are our own directives, in their place and with the arguments they want; the rest is told.
    pub fn known<'d>(&mut self, drafts: &'d [Draft], scope: Scope) -> Vec<(&'d Draft, &'static Form)> {
        let mut seen = Seen::default();
        let known = drafts.iter().filter_map(|draft| match self.find(draft, scope, &mut seen) {
            Found::Form(form) => Some((draft, form)),
            Found::Filter(_) | Found::Nothing => None,
        });
        known.collect()
    }

    /// What `draft` is in `scope`; its arguments are checked unless they are `open`, and so is its block.
    pub fn find(&mut self, draft: &Draft, scope: Scope, seen: &mut Seen) -> Found {
        if let Some(form) = directives::find(&draft.name, scope) {
            let first = if form.repeats { None } else { seen.0.insert(form.name, draft.span) };
            if let Some(first) = first {
                self.twice(draft.span, &format!("`{}`", form.name), first);
            }
            match (form.block, &draft.block) {
                (Block::None, Some(_)) => {
                    self.findings.error(draft.span, format!("`{}` takes no block", form.name));
                }
                (Block::Required, None) => {
                    let reason = format!("`{}` needs a block", form.name);
                    let usage = usage(form.name, form.params);
                    self.findings.error(draft.span, reason).hint(format!("it is written `{usage} {{ … }}`"));
                }
                _ => {}
            }
            if scope != Scope::Defaults && !form.open {
                self.arguments(draft, form.params);
            }
            return Found::Form(form);
        }
        let filter = self.registry.filters.iter().find(|entry| entry.name == &*draft.name);
        if let Some(entry) = filter.filter(|_| scope.has_filters()) {
            return Found::Filter(entry);
        }
        self.misplaced(draft, scope, filter.is_some());
        Found::Nothing
    }

    /// Tells that there is no such directive, or not here.
    fn misplaced(&mut self, draft: &Draft, scope: Scope, is_filter: bool) {
        let name = &*draft.name;
        let elsewhere = FORMS.iter().find(|form| form.name == name);
        if scope == Scope::Route && name == "route" {
            let reason = "a `route` cannot stand in a `route`";
            self.findings.error(draft.span, reason).hint("write both side by side, each with its whole path");
            return;
        }
        let places = match elsewhere {
            Some(form) => form.scopes.iter().map(|scope| scope.spoken()).collect::<Vec<_>>().join(", "),
            None if is_filter => format!("{}, {}", Scope::Site.spoken(), Scope::Route.spoken()),
            None if LATER.contains(&name) => {
                let finding = self.findings.error(draft.span, later_reason(name));
                if name == "tls" {
                    finding.hint("write `http://` before the site's names, or a plain `listen :80`");
                }
                return;
            }
            None => {
                let near = did_you_mean(name, self.names(scope)).or_else(|| {
                    let all = [Scope::Top, Scope::Pool, Scope::Site, Scope::Route];
                    let near = all.into_iter().find_map(|scope| did_you_mean(name, self.names(scope)));
                    near.filter(|_| !self.findings.full())
                });
                self.findings.error(draft.span, format!("there is no directive `{name}`")).maybe_hint(near);
                return;
            }
        };
        let reason = format!("`{name}` cannot stand {}", scope.spoken());
        self.findings.error(draft.span, reason).hint(format!("it stands {places}"));
    }

    /// The names that may stand in `scope`.
    fn names(&self, scope: Scope) -> impl Iterator<Item = &'static str> {
        let own = FORMS.iter().filter(move |form| form.scopes.contains(&scope)).map(|form| form.name);
        let filters = self.registry.filters.iter().filter(move |_| scope.has_filters());
        own.chain(filters.map(|entry| entry.name))
    }
}

fn later_reason(name: &str) -> String {
    match name {
        "tls" => "TLS is not supported yet".to_owned(),
        _ => format!("`{name}` is not supported yet"),
    }
}

/// The directives that a block has had already.
#[derive(Default)]
pub struct Seen(HashMap<&'static str, Span>);
