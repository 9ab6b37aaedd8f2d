//! canary: moves the share of each canary step by step, and takes it back when the new version does worse.

use crate::observe::metrics::CanaryFacts;
use portunus_message::Tick;
use portunus_relay::canary::{Canary, Condition, Live, Sample};
use portunus_relay::plan::{self, Share};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How far every canary has come, by its route.
#[derive(Debug, Default)]
pub struct Canaries {
    /// Guards what `status` reads and the task writes.
    all: Mutex<BTreeMap<String, Progress>>,
}

/// How far one canary has come.
#[derive(Debug)]
struct Progress {
    live: Arc<Live>,
    state: State,
    /// When its step began, and what had been seen by then.
    since: Tick,
    new: Sample,
    old: Sample,
    /// Whether it was said that the step lasts longer for want of requests.
    told: bool,
}

/// How far a canary has come, as plain data: for a program that takes the place of this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kept {
    /// Its route.
    pub route: String,
    /// What was asked; when something else is asked, it begins anew.
    plan: plan::Canary,
    share: Share,
    state: State,
}

/// What a canary does now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Its share grows.
    Rising,
    /// It has come to its last share and goes on being watched.
    Arrived,
    /// It was given up, for this reason.
    GivenUp(String),
}

/// What happened to a canary.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// It got another share.
    Moved(Share, Share),
    /// It has all that it was to get.
    Arrived,
    /// Its step lasts longer, because it had too few requests to be judged by.
    Waits(u64),
    /// It gets nothing any more.
    GivenUp(Share, String),
}

impl Canaries {
    /// Looks at these and forgets all others; what happened, as lines for the log, each with whether it is a
    /// warning.
    pub fn look<'a>(
        &self,
        canaries: impl Iterator<Item = (&'a str, &'a Canary)>,
        now: Tick,
    ) -> Vec<(bool, String)> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *all);
        let mut lines = Vec::new();
        for (route, canary) in canaries {
            let known = before.remove(route).filter(|known| Arc::ptr_eq(&known.live, &canary.live));
            let mut progress = known.unwrap_or_else(|| Progress::new(canary, now));
            let (new, old) = (canary.live.new.read(), canary.live.old.read());
            let (seen_new, seen_old) = (new.since(&progress.new), old.since(&progress.old));
            if let Some(step) = progress.look(&canary.plan, &canary.conditions, now, new, old) {
                let heard = figures(&seen_new, &seen_old);
                lines.push(line(route, &canary.plan.pool, &step, &heard));
            }
            all.insert(route.to_owned(), progress);
        }
        lines
    }

    /// How far these have come.
    pub fn kept<'a>(&self, canaries: impl Iterator<Item = (&'a str, &'a Canary)>) -> Vec<Kept> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(route, canary): (&str, &Canary)| {
            let progress = all.get(route).filter(|known| Arc::ptr_eq(&known.live, &canary.live))?;
            let (plan, share, state) = (canary.plan.clone(), canary.live.share(), progress.state.clone());
            Some(Kept { route: route.to_owned(), plan, share, state })
        };
        canaries.filter_map(one).collect()
    }

    /// Lets those of these that are asked for as they were go on where they had come to; the step they are at begins anew.
    pub fn go_on<'a>(
        &self,
        canaries: impl Iterator<Item = (&'a str, &'a Canary)>,
        kept: impl Iterator<Item = Kept>,
        now: Tick,
    ) {
        let kept: BTreeMap<String, Kept> = kept.map(|kept| (kept.route.clone(), kept)).collect();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for (route, canary) in canaries {
            if let Some(kept) = kept.get(route).filter(|kept| kept.plan == canary.plan) {
                canary.live.set_share(kept.share);
                let progress = Progress { state: kept.state.clone(), ..Progress::new(canary, now) };
                all.insert(route.to_owned(), progress);
            }
        }
    }

    /// What metrics tell of these.
    pub fn facts<'a>(&self, canaries: impl Iterator<Item = (&'a str, &'a Canary)>) -> Vec<CanaryFacts> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(route, canary): (&str, &Canary)| {
            let progress = all.get(route).filter(|known| Arc::ptr_eq(&known.live, &canary.live));
            CanaryFacts {
                route: route.to_owned(),
                pool: canary.plan.pool.clone(),
                share: f64::from(canary.live.share().0) / f64::from(Share::WHOLE.0),
                given_up: progress.is_some_and(|progress| matches!(progress.state, State::GivenUp(_))),
            }
        };
        canaries.map(one).collect()
    }

    /// What `status` tells of these.
    pub fn status<'a>(&self, canaries: impl Iterator<Item = (&'a str, &'a Canary)>) -> Vec<Value> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(route, canary): (&str, &Canary)| {
            let progress = all.get(route).filter(|known| Arc::ptr_eq(&known.live, &canary.live));
            let (state, reason) = match progress.map(|progress| &progress.state) {
                None | Some(State::Rising) => ("rising", None),
                Some(State::Arrived) => ("arrived", None),
                Some(State::GivenUp(reason)) => ("given up", Some(reason.clone())),
            };
            let (new, old) = (canary.live.new.read(), canary.live.old.read());
            json!({
                "route": route,
                "pool": canary.plan.pool,
                "share": canary.live.share().to_string(),
                "to": canary.plan.to.to_string(),
                "state": state,
                "reason": reason,
                "new": side(&new),
                "old": side(&old),
            })
        };
        canaries.map(one).collect()
    }
}

impl Progress {
    fn new(canary: &Canary, now: Tick) -> Progress {
        Progress {
            live: Arc::clone(&canary.live),
            state: State::Rising,
            since: now,
            new: canary.live.new.read(),
            old: canary.live.old.read(),
            told: false,
        }
    }

    /// Decides by what was seen since the step began, and moves the share.
    fn look(
        &mut self,
        plan: &plan::Canary,
        conditions: &[Condition],
        now: Tick,
        new: Sample,
        old: Sample,
    ) -> Option<Step> {
        if matches!(self.state, State::GivenUp(_)) {
            return None;
        }
        let share = self.live.share();
        let (seen_new, seen_old) = (new.since(&self.new), old.since(&self.old));
        if seen_new.requests >= plan.requests {
            let broken: Vec<String> = conditions
                .iter()
                .filter_map(|one| one.broken_by(&seen_new, &seen_old, plan.requests))
                .collect();
            if !broken.is_empty() {
                let reason = broken.join(" and ");
                self.live.set_share(Share(0));
                self.state = State::GivenUp(reason.clone());
                return Some(Step::GivenUp(share, reason));
            }
        }
        if now.since(self.since) < plan.every {
            return None;
        }
        if seen_new.requests < plan.requests {
            let first = !std::mem::replace(&mut self.told, true);
            return (first && self.state == State::Rising).then_some(Step::Waits(seen_new.requests));
        }
        (self.since, self.new, self.old, self.told) = (now, new, old, false);
        match self.state {
            State::Rising if share >= plan.to => {
                self.state = State::Arrived;
                Some(Step::Arrived)
            }
            State::Rising => {
                let next = Share(share.0.saturating_add(plan.step.0)).min(plan.to);
                self.live.set_share(next);
                Some(Step::Moved(share, next))
            }
            State::Arrived | State::GivenUp(_) => None,
        }
    }
}

fn line(route: &str, pool: &str, step: &Step, figures: &str) -> (bool, String) {
    match step {
        Step::Moved(from, to) => {
            (false, format!("canary {pool} of {route}: {to} of the requests after {from}; {figures}"))
        }
        Step::Arrived => (false, format!("canary {pool} of {route}: stays at its last share; {figures}")),
        Step::Waits(requests) => (
            false,
            format!("canary {pool} of {route}: waits, {requests} requests are too few to judge it by"),
        ),
        Step::GivenUp(from, reason) => {
            (true, format!("canary {pool} of {route}: given up at {from}: {reason}; {figures}"))
        }
    }
}

fn figures(new: &Sample, old: &Sample) -> String {
    let one = |sample: &Sample| {
        let p99 = sample.percentile(0.99).as_secs_f64() * 1000.0;
        format!("{} requests, {} errors, p99 {p99:.1} ms", sample.requests, sample.errors)
    };
    format!("it had {}, the others {}", one(new), one(old))
}

fn side(sample: &Sample) -> Value {
    let ms = |part: f64| (sample.percentile(part).as_secs_f64() * 1e6).round() / 1000.0;
    json!({
        "requests": sample.requests,
        "errors": sample.errors,
        "p50_ms": ms(0.50),
        "p99_ms": ms(0.99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_config::{Environment, load_text};
    use portunus_relay::canary::conditions;
    use portunus_relay::snapshot::Snapshot;
    use std::time::Duration;

    /// A canary that goes 1 %, 6 %, 10 %, every ten seconds.
    fn canary() -> Canary {
        let plan = plan::Canary {
            pool: "next".into(),
            from: Share(1_000),
            to: Share(10_000),
            step: Share(5_000),
            every: Duration::from_secs(10),
            abort: "errors > 1% or p99 > 1.5x".into(),
            requests: 20,
        };
        Canary::new(&plan, 1, None).unwrap()
    }

    /// Puts requests on both sides: how many, how many of them fail, how long they take.
    fn traffic(canary: &Canary, new: (u32, u32, u64), old: (u32, u32, u64)) {
        for (seen, (requests, errors, ms)) in [(&canary.live.new, new), (&canary.live.old, old)] {
            (0..requests).for_each(|at| seen.count(Duration::from_millis(ms), at < errors));
        }
    }

    /// Looks once a second of virtual time; what was said, with the second.
    fn watch(
        canary: &Canary,
        canaries: &Canaries,
        seconds: std::ops::Range<u64>,
        each: impl Fn(u64),
    ) -> Vec<(u64, bool, String)> {
        let mut said = Vec::new();
        for second in seconds {
            each(second);
            let now = Tick(second * 1_000_000);
            let lines = canaries.look([("a/*", canary)].into_iter(), now);
            said.extend(lines.into_iter().map(|(warn, text)| (second, warn, text)));
        }
        said
    }

    #[test]
    fn a_good_version_comes_to_its_last_share() {
        let (canary, canaries) = (canary(), Canaries::default());
        let said = watch(&canary, &canaries, 0..60, |_| traffic(&canary, (10, 0, 20), (100, 0, 20)));
        let seconds: Vec<u64> = said.iter().map(|(second, _, _)| *second).collect();
        assert_eq!(seconds, [10, 20, 30], "{said:?}");
        assert!(
            said[0].2.starts_with("canary next of a/*: 6% of the requests after 1%; it had 100 requests")
        );
        assert!(said[1].2.contains("10% of the requests after 6%") && said[2].2.contains("stays"));
        assert_eq!(canary.live.share(), Share(10_000));
        let status = canaries.status([("a/*", &canary)].into_iter());
        assert_eq!((&status[0]["state"], &status[0]["share"]), (&json!("arrived"), &json!("10%")));
    }

    #[test]
    fn errors_take_it_back_before_its_step_is_over() {
        let (canary, canaries) = (canary(), Canaries::default());
        let said = watch(&canary, &canaries, 0..40, |second| {
            traffic(&canary, (10, u32::from(second >= 13), 20), (100, 0, 20));
        });
        let (second, warn, text) = said.last().unwrap();
        assert!((13..17).contains(second) && *warn, "{said:?}");
        assert!(text.contains("given up at 6%: errors"), "{text}");
        assert_eq!(canary.live.share(), Share(0));
        let status = canaries.status([("a/*", &canary)].into_iter());
        assert_eq!(status[0]["state"], "given up");
        let facts = &canaries.facts([("a/*", &canary)].into_iter())[0];
        assert_eq!((facts.share, facts.given_up), (0.0, true));
        assert!(status[0]["reason"].as_str().unwrap().starts_with("errors"));
    }

    #[test]
    fn slowness_takes_it_back_even_at_the_last_share() {
        let (canary, canaries) = (canary(), Canaries::default());
        let said = watch(&canary, &canaries, 0..80, |second| {
            traffic(&canary, (10, 0, if second < 60 { 20 } else { 80 }), (100, 0, 20));
        });
        let (second, _, text) = said.last().unwrap();
        assert!((60..64).contains(second) && text.contains("p99"), "{said:?}");
        assert_eq!(canary.live.share(), Share(0));
    }

    #[test]
    fn what_is_as_slow_as_the_others_goes_on() {
        let (canary, canaries) = (canary(), Canaries::default());
        let said = watch(&canary, &canaries, 0..40, |second| {
            let ms = if second < 15 { 20 } else { 90 };
            traffic(&canary, (10, 0, ms), (100, 0, ms));
        });
        assert!(said.iter().all(|(_, warn, _)| !warn) && said.len() == 3, "{said:?}");
    }

    #[test]
    fn too_few_requests_move_nothing() {
        let (canary, canaries) = (canary(), Canaries::default());
        let said = watch(&canary, &canaries, 0..60, |second| {
            traffic(&canary, (u32::from(second % 20 == 0), 1, 20), (1, 0, 20));
        });
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].2.contains("too few"));
        assert_eq!(canary.live.share(), Share(1_000));
    }

    #[test]
    fn a_reload_that_changes_it_begins_anew_and_another_does_not() {
        let (first, canaries) = (canary(), Canaries::default());
        watch(&first, &canaries, 0..12, |_| traffic(&first, (10, 0, 20), (10, 0, 20)));
        assert_eq!(first.live.share(), Share(6_000));
        let same = Canary::new(&first.plan, 1, Some(&first)).unwrap();
        assert!(watch(&same, &canaries, 12..20, |_| traffic(&same, (10, 0, 20), (10, 0, 20))).is_empty());
        let plan = plan::Canary { to: Share(50_000), ..first.plan.clone() };
        let other = Canary::new(&plan, 1, Some(&same)).unwrap();
        assert_eq!(other.live.share(), Share(1_000));
        let said = watch(&other, &canaries, 20..31, |_| traffic(&other, (10, 0, 20), (10, 0, 20)));
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(conditions(&plan.abort).unwrap(), other.conditions);
    }

    #[test]
    fn another_program_goes_on_where_this_one_was() {
        let (first, canaries) = (canary(), Canaries::default());
        watch(&first, &canaries, 0..12, |_| traffic(&first, (10, 0, 20), (10, 0, 20)));
        let kept = canaries.kept([("a/*", &first)].into_iter());
        let text = serde_json::to_string(&kept).unwrap();
        let told: Vec<Kept> = serde_json::from_str(&text).unwrap();
        assert_eq!((told.len(), told[0].share), (1, Share(6_000)));

        let (second, theirs) = (canary(), Canaries::default());
        theirs.go_on([("a/*", &second)].into_iter(), told.clone().into_iter(), Tick(0));
        assert_eq!(second.live.share(), Share(6_000));
        let said = watch(&second, &theirs, 0..12, |_| traffic(&second, (10, 0, 20), (10, 0, 20)));
        assert!(said.len() == 1 && said[0].2.contains("10% of the requests after 6%"), "{said:?}");

        let plan = plan::Canary { to: Share(50_000), ..first.plan.clone() };
        let (other, anew) = (Canary::new(&plan, 1, None).unwrap(), Canaries::default());
        anew.go_on([("a/*", &other)].into_iter(), told.into_iter(), Tick(0));
        assert_eq!(other.live.share(), Share(1_000));
    }

    #[test]
    fn one_that_was_given_up_stays_so_with_another_program() {
        let (first, canaries) = (canary(), Canaries::default());
        watch(&first, &canaries, 0..40, |_| traffic(&first, (10, 5, 20), (100, 0, 20)));
        let kept = canaries.kept([("a/*", &first)].into_iter());
        let (second, theirs) = (canary(), Canaries::default());
        theirs.go_on([("a/*", &second)].into_iter(), kept.into_iter(), Tick(0));
        watch(&second, &theirs, 0..40, |_| traffic(&second, (10, 0, 20), (10, 0, 20)));
        assert_eq!(second.live.share(), Share(0));
        assert_eq!(theirs.status([("a/*", &second)].into_iter())[0]["state"], "given up");
    }

    #[test]
    fn a_new_snapshot_goes_on_where_the_old_one_was() {
        let compile = |weight: u32, before: Option<&Snapshot>| {
            let text = format!(
                "pool a {{ server :1; server :2 weight={weight} }}\npool b {{ server :3 }}\n\
                 site :80 {{\n route /x {{ canary b 1%..50%; proxy a }}\n proxy a\n }}"
            );
            let loaded =
                load_text("t", &text, &Environment { variable: &|_| None, has_providers: true }).unwrap();
            Snapshot::compile(&loaded.plan, before).unwrap()
        };
        let first = compile(1, None);
        let (route, canary) = first.canaries().next().unwrap();
        assert_eq!((route, canary.live.share()), (":80/x", Share(1_000)));
        canary.live.set_share(Share(26_000));
        let second = compile(2, Some(&first));
        assert_eq!(second.canaries().next().unwrap().1.live.share(), Share(26_000));
        assert_eq!(second.canaries().count(), 1);
    }
}
