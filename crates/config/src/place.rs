//! Whether a statement may stand where it stands, and what it is there.

use crate::args::{Scene, usage};
use crate::directives::{self, Block, FORMS, Form, LATER, Scope};
use crate::draft::Draft;
use crate::findings::Span;
use crate::foreign;
use crate::mistake::did_you_mean;
use portunus_relay::entry::Entry;
use portunus_relay::filter::Filter;
use std::collections::HashMap;

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
        if self.findings.full() {
            // Only counted; a hint would take its time for nobody.
            self.findings.error(draft.span, "there is no such directive here");
            return;
        }
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
                self.findings.error(draft.span, format!("`{name}` is not supported yet"));
                return;
            }
            None => {
                let here = || did_you_mean(name, self.names(scope));
                let site =
                    || (scope == Scope::Top && draft.block.is_some()).then(|| foreign::site(name)).flatten();
                let near =
                    foreign::directive(name).map(str::to_owned).or_else(site).or_else(here).or_else(|| {
                        let all = [Scope::Top, Scope::Pool, Scope::Site, Scope::Route];
                        all.into_iter().find_map(|scope| did_you_mean(name, self.names(scope)))
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

/// The directives that a block has had already.
#[derive(Default)]
pub struct Seen(HashMap<&'static str, Span>);
