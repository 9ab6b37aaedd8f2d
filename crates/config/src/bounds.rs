//! `limits { … }`: every field of `Limits` by its name, and which of them a site or a route may set.

use crate::args::Scene;
use crate::directives::Scope;
use crate::draft::Draft;
use crate::findings::Span;
use crate::mistake::did_you_mean;
use crate::outside::Wrong;
use crate::values;
use portunus_message::name::is_claim;
use portunus_message::{FieldName, Known, Limits, duration};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Those that are known to be needed only when the route of a request is known.
const BY_ROUTE: &[&str] = &[
    "body-bytes",
    "body-idle",
    "body-rate",
    "body-rate-after",
    "drain-bytes",
    "drain-time",
    "first-byte",
    "informational",
    "replay-bytes",
    "response-idle",
    "response-rate",
    "response-rate-after",
    "tunnel-idle",
    "upstream-header-bytes",
    "upstream-header-count",
    "upstream-idle",
];

/// Numbers that count something else than bytes.
const COUNTS: &[&str] = &[
    "connections",
    "handshakes",
    "header-count",
    "idle-frames",
    "informational",
    "requests",
    "resets",
    "resets-sent",
    "streams",
    "streams-pressed",
    "upstream-connections",
    "upstream-header-count",
    "upstream-resets",
    "upstream-streams",
];

/// Those that may be 0, because that means something: none, at once, or never.
const ZERO: &[&str] = &[
    "body-bytes",
    "body-rate",
    "body-rate-after",
    "chunk-extensions",
    "chunk-line",
    "connections",
    "drain-bytes",
    "drain-time",
    "informational",
    "linger",
    "log-queue",
    "replay-bytes",
    "response-rate",
    "response-rate-after",
    "streams",
    "worker-lag",
];

/// The most that may be counted.
const COUNT_MAX: u64 = 1 << 32;

/// One of them, for the manual.
pub struct Bound {
    /// Its name.
    pub name: String,
    /// What it bounds.
    pub manual: String,
    /// What it is unless written, as it would be written.
    pub default: String,
    /// Whether a site or a route may set it.
    pub by_route: bool,
}

/// Every limit, by name.
pub fn all() -> Vec<Bound> {
    let schema = schemars::schema_for!(Limits);
    let described = |name: &str| {
        let text =
            schema.get("properties").and_then(|all| all.get(name)).and_then(|one| one.get("description"));
        text.and_then(Value::as_str).unwrap_or("").replace('\n', " ")
    };
    let bound = |(name, value): (String, Value)| Bound {
        manual: described(&name),
        default: written(&name, &value),
        by_route: BY_ROUTE.contains(&name.as_str()),
        name,
    };
    fields(&Limits::default()).into_iter().map(bound).collect()
}

/// Applies the statements of `limits { … }` to `limits`.
pub fn read(draft: &Draft, scope: Scope, limits: &mut Limits, scene: &mut Scene<'_, '_>) {
    let mut fields = fields(limits);
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for draft in draft.block.as_deref().unwrap_or(&[]) {
        let name = &*draft.name;
        let Some(old) = fields.get(name) else {
            let hint = did_you_mean(name, fields.keys().map(String::as_str));
            scene.findings.error(draft.span, format!("there is no limit `{name}`")).maybe_hint(hint);
            continue;
        };
        if scope != Scope::Top && !BY_ROUTE.contains(&name) {
            let reason = format!(
                "`{name}` cannot be set {}: it acts before a request's route is known",
                scope.spoken()
            );
            scene.findings.error(draft.span, reason).hint("set it in `limits` outside every block");
            continue;
        }
        if let Some(first) = seen.insert(name, draft.span) {
            scene.twice(draft.span, &format!("`{name}`"), first);
        }
        let old = old.clone();
        if let Some(new) = value(draft, &old, scene) {
            fields.insert(name.to_owned(), new);
        }
    }
    // Invariant: every value has the type of the one it replaces.
    if let Ok(new) = serde_json::from_value(Value::Object(fields)) {
        *limits = new;
    }
}

/// The new value of a limit, of the same type as the old one.
fn value(draft: &Draft, old: &Value, scene: &mut Scene<'_, '_>) -> Option<Value> {
    if let Some((_, option)) = draft.options.first() {
        scene.findings.error(option.span, format!("`{}` takes one value and no options", draft.name));
        return None;
    }
    if draft.block.is_some() {
        scene.findings.error(draft.span, format!("`{}` takes no block", draft.name));
        return None;
    }
    if old.is_array() {
        return names(draft, scene);
    }
    let [word] = draft.words.as_slice() else {
        let span = draft.words.get(1).map_or(draft.span, |second| second.span);
        let example = written(&draft.name, old);
        let reason = format!("`{}` takes one value", draft.name);
        scene.findings.error(span, reason).hint(format!("write it like `{} {example}`", draft.name));
        return None;
    };
    let new = if old.is_string() {
        let time = scene.parse(word, values::duration)?;
        Value::from(duration::text(time))
    } else {
        let count = COUNTS.contains(&&*draft.name);
        let parse = |text: &str| if count { values::number(text, 0, COUNT_MAX) } else { values::size(text) };
        Value::from(scene.parse(word, parse)?)
    };
    if let Some(reason) = mistake(&draft.name, &new) {
        scene.findings.error(word.span, reason);
        return None;
    }
    Some(new)
}

/// A limit that is a list of names.
fn names(draft: &Draft, scene: &mut Scene<'_, '_>) -> Option<Value> {
    if draft.words.is_empty() {
        let reason = format!("`{}` takes one or more names", draft.name);
        scene.findings.error(draft.span, reason).hint(format!("write it like `{} tenant_id`", draft.name));
        return None;
    }
    let name =
        |text: &str| name_mistake(text).map_or_else(|| Ok(Value::from(text)), |wrong| Err(Wrong::new(wrong)));
    let names: Vec<Option<Value>> = draft.words.iter().map(|word| scene.parse(word, name)).collect();
    names.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
}

/// Why a field of this name cannot be let through with its underscore.
fn name_mistake(name: &str) -> Option<String> {
    if FieldName::new(name).is_none() {
        return Some(format!("`{name}` is not a field name"));
    }
    if !name.contains('_') {
        return Some(format!("`{name}` has no underscore, and passes in any case"));
    }
    let twin = name.replace('_', "-");
    let known = Known::find(twin.as_bytes());
    let has_meaning = known != Known::OTHER || is_claim(known, twin.as_bytes());
    has_meaning.then(|| format!("`{name}` cannot pass: many servers take it for `{twin}`"))
}

/// What is wrong with some limits.
pub fn mistakes(limits: &Limits) -> Vec<String> {
    fields(limits).iter().filter_map(|(name, value)| mistake(name, value)).collect()
}

/// Why a limit cannot be that.
fn mistake(name: &str, value: &Value) -> Option<String> {
    let most = if COUNTS.contains(&name) { COUNT_MAX } else { values::SIZE_MAX };
    match value {
        _ if ZERO.contains(&name) => {}
        Value::String(time) if values::duration(time).is_ok_and(|time| time.is_zero()) => {
            return nothing(name);
        }
        value if value.as_u64() == Some(0) => return nothing(name),
        Value::Array(names) => return names.iter().filter_map(Value::as_str).find_map(name_mistake),
        _ => {}
    }
    value
        .as_u64()
        .filter(|number| *number > most)
        .map(|_| format!("`{name}` is too large; the most is {most}"))
}

fn nothing(name: &str) -> Option<String> {
    Some(format!("`{name}` cannot be 0: nothing would get through"))
}

fn fields(limits: &Limits) -> Map<String, Value> {
    match serde_json::to_value(limits) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// A limit's value as it would be written.
fn written(name: &str, value: &Value) -> String {
    if let Some(names) = value.as_array() {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        return if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    }
    let Some(number) = value.as_u64() else { return value.as_str().unwrap_or("").to_owned() };
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| number > 0 && number % (1 << shift) == 0);
    match unit.filter(|_| !COUNTS.contains(&name)) {
        Some((unit, shift)) => format!("{}{unit}", number >> shift),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_names_limits_that_there_are() {
        let fields = fields(&Limits::default());
        for name in [BY_ROUTE, COUNTS, ZERO].concat() {
            assert!(fields.contains_key(name), "{name}");
        }
        assert!(all().iter().all(|bound| bound.manual.ends_with('.') || bound.manual.ends_with('"')));
    }
}
