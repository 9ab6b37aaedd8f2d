//! vain: filters that come to nothing because of those before them.

use crate::findings::{Findings, Span};
use portunus_relay::plan::Directive;

/// Those that stand in a block once: of two only one would do something, or both would have to be satisfied.
const ONCE: &[&str] = &["basic-auth", "body-limit", "cors", "grpc-web", "hsts"];

/// Tells of `new`, which stands at `span` behind `before`, when it comes to nothing there; the first `outer` of those stand in an outer block.
pub fn look(before: &[Directive], outer: usize, new: &Directive, span: Span, findings: &mut Findings) {
    let mut alike = before.iter().enumerate().filter(|(_, one)| one.name == new.name);
    match &*new.name {
        "access" if alike.any(|(_, one)| names_all(one)) => {
            findings
                .warning(span, "no client gets here: an `access` before it names them all")
                .hint("the first that names a client decides; those of an outer block stand before these");
        }
        "response-header" => {
            let undone = alike
                .find(|(_, one)| word(one, 0) != "add" && word(one, 1).eq_ignore_ascii_case(word(new, 1)));
            if let Some((at, one)) = undone {
                let place = if at < outer { " of an outer block" } else { "" };
                let reason = format!(
                    "this comes to nothing: the `response-header {} {}`{place} before it has the last word",
                    word(one, 0),
                    word(one, 1)
                );
                findings
                    .warning(span, reason)
                    .hint("on the way back the first filter is the last to see the answer");
            }
        }
        name if ONCE.contains(&name) => match alike.next_back() {
            Some((at, _)) if at >= outer => {
                let finding = findings.error(span, format!("`{name}` is there twice"));
                if name == "basic-auth" {
                    finding.hint(
                        "all accounts stand in one: in its `file=`, or in one `user=\"A:HASH B:HASH\"`",
                    );
                }
            }
            Some(_) if name == "cors" => {
                findings.warning(span, "this comes to nothing: the `cors` of an outer block answers first");
            }
            _ => {}
        },
        _ => {}
    }
}

/// The spans of the filters of a block, to tell at its end of an `access allow` behind which nobody is kept out.
#[derive(Default)]
pub struct Allowing(Option<Span>);

impl Allowing {
    /// One more filter, at `span`, behind `before`.
    pub fn next(&mut self, before: &[Directive], filter: &Directive, span: Span) {
        let is_reached = !before.iter().any(|one| one.name == "access" && names_all(one));
        if filter.name == "access" && is_reached {
            self.0 = (word(filter, 0) == "allow" && !names_all(filter)).then_some(span);
        }
    }

    /// There are no more.
    pub fn end(self, findings: &mut Findings) {
        if let Some(span) = self.0 {
            findings
                .warning(span, "everybody else is let in, too: no `access deny` stands behind it")
                .hint("end the list with `access deny all`");
        }
    }
}

/// Whether an `access` decides for every client.
fn names_all(access: &Directive) -> bool {
    let has = |network: &str| access.args.words.iter().any(|word| word.value == network);
    access.args.options.is_empty() && (has("all") || has("0.0.0.0/0") && has("::/0"))
}

fn word(filter: &Directive, at: usize) -> &str {
    filter.args.words.get(at).map_or("", |word| &word.value)
}
