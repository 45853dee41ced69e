//! The Learning Plane as a state machine: measurements and answers in, moves and questions out.
//!
//! A move, from its decision on:
//! ```text
//!             Act                 accepted, or unclear
//! (decided) ------> Calling ------------------------------> Waiting <--> Asking     (what has become of it? asked by its key)
//!                      |  refused, or not recorded                         | done, failed, unknown
//!                      +----------------------> (closed) <-----------------+
//! ```
//! `Act` is carried out in this order: the intent is made durable, then the actuator is called, once. A move that is found open after
//! a restart begins at Waiting: it is asked about, never called again.

use std::collections::BTreeMap;
use std::time::Duration;

use ids::Name;

use super::decide::{Case, Then, Verdict};
use super::diary::Diary;
use super::ledger::{Closing, Intent, Ledger};
use super::policy::ANALYZE;
use super::policy::syntax::When;
use super::score::Forecast;
use super::tally::Tally;
use super::view::View;
use super::watch::{Likes, Moment, Sites, Watch};
use crate::config::Config;
use crate::decision::{Decision, Outcome, Target};
use crate::error::Error;
use crate::seam::{ActError, MoveStatus, Observation, TargetId, Time};

/// Sites that are followed.
const SITES_MAX: usize = 4096;
/// How long to wait before asking again about a move.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Record the intent, then call the actuator.
    Act(Box<Intent>),
    /// Ask the actuator about the move with this key.
    Ask(String),
    /// Record what became of it.
    Close(Closing),
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// The intent could not be recorded, or handed on; the actuator was not called.
    NotCalled(String),
    Called(Result<(), ActError>),
    Observed(MoveStatus),
}

#[derive(Debug)]
pub(crate) struct Plane {
    config: Config,
    watches: BTreeMap<TargetId, Watch>,
    diaries: BTreeMap<TargetId, Diary>,
    sites: Sites,
    /// By key.
    actions: BTreeMap<String, Action>,
    next_number: u64,
    n_decisions: u64,
    pub(crate) tally: Tally,
}

#[derive(Debug)]
struct Action {
    target: TargetId,
    from: Name,
    to: Name,
    stage: Stage,
    /// Since when it is in this stage.
    since: Time,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Calling,
    Waiting { ask_at: Time },
    Asking,
}

impl Plane {
    /// With the moves that earlier lives have made.
    pub(crate) fn new(config: Config, ledger: Ledger, now: Time) -> Self {
        let mut plane = Self {
            config,
            watches: BTreeMap::new(),
            diaries: BTreeMap::new(),
            sites: Sites::new(),
            actions: BTreeMap::new(),
            next_number: ledger.next_number,
            n_decisions: 0,
            tally: Tally::default(),
        };
        for (intent, closing) in ledger.closed {
            let mut decision = intent.decision.clone();
            decision.outcome = closing.outcome;
            plane.remember(&intent, decision, closing.at);
        }
        for (key, intent) in ledger.open {
            let mut decision = intent.decision.clone();
            decision.outcome = Outcome::Pending("found after a restart".to_owned());
            plane.remember(&intent, decision, intent.decision.at);
            let action = Action {
                target: intent.target,
                from: intent.from,
                to: intent.to,
                stage: Stage::Waiting { ask_at: now },
                since: now,
            };
            plane.actions.insert(key, action);
        }
        plane
    }

    fn remember(&mut self, intent: &Intent, decision: Decision, at: Time) {
        let diary = self.diaries.entry(intent.target.clone()).or_default();
        diary.note_move(intent.from.clone(), intent.to.clone(), at);
        diary.add(decision, Duration::ZERO, self.config.decisions_max);
    }

    /// Watches a target, or watches it in another way. To say the same again, as callers do all the time, changes nothing.
    pub(crate) fn apply(&mut self, target: Target) -> Result<(), Error> {
        if target.policy.uses_kpi() && target.kpi_max.is_none() {
            let message = "the policy speaks of kpi_max, but the block has no KPI: give it kpi.max";
            return Err(Error::Invalid(message.to_owned()));
        }
        if target
            .kpi_max
            .is_some_and(|max| !max.is_finite() || max <= 0.0)
        {
            return Err(Error::Invalid(
                "the KPI must be a time longer than zero".to_owned(),
            ));
        }
        let id = target.id.clone();
        if self.watches.get(&id).is_some_and(|w| w.target == target) {
            return Ok(());
        }
        let watch = match self.watches.remove(&id) {
            Some(watch) => watch.renew(target),
            None if self.watches.len() >= self.config.targets_max => {
                return Err(Error::TooMany(self.config.targets_max));
            }
            None => Watch::new(target),
        };
        self.diaries.entry(id.clone()).or_default();
        self.watches.insert(id, watch);
        Ok(())
    }

    /// A move that is under way is still followed to its end.
    pub(crate) fn remove(&mut self, id: &TargetId) {
        self.watches.remove(id);
        if !self.is_moving(id) {
            self.diaries.remove(id);
        }
    }

    pub(crate) fn targets(&self) -> Vec<TargetId> {
        self.watches.keys().cloned().collect()
    }

    pub(crate) fn n_open(&self) -> usize {
        self.actions.len()
    }

    /// Newest first.
    pub(crate) fn decisions(&self, id: &TargetId) -> Vec<Decision> {
        let diary = self.diaries.get(id).into_iter();
        diary.flat_map(Diary::decisions).cloned().collect()
    }

    fn is_moving(&self, id: &TargetId) -> bool {
        self.actions.values().any(|action| action.target == *id)
    }

    /// The newest measurements: learn, then decide.
    pub(crate) fn observe(&mut self, now: Time, observation: Observation) -> Vec<Effect> {
        let sites = observation.sites.into_iter().take(SITES_MAX);
        self.sites = sites.map(|sample| (sample.site.clone(), sample)).collect();
        let mut blocks: BTreeMap<_, _> = observation
            .blocks
            .into_iter()
            .map(|b| (b.target.clone(), b))
            .collect();
        for (id, watch) in &mut self.watches {
            let Some(block) = blocks.remove(id) else {
                watch.lost();
                continue;
            };
            let moment = Moment {
                now,
                sites: &self.sites,
                config: &self.config,
            };
            let change = watch.observe(moment, block, &mut self.tally);
            let diary = self.diaries.entry(id.clone()).or_default();
            if let Some((from, to)) = change.moved {
                diary.note_move(from, to, now);
            }
            if let Some(at) = change.violated_at {
                diary.note_violation(at);
            }
        }
        let likes = self.likes(now);
        self.tally.speaking = Default::default();
        let mut effects = Vec::new();
        for id in self.targets() {
            effects.extend(self.decide(now, &id, &likes, None).1);
        }
        effects.extend(self.ask(now));
        effects
    }

    /// Runs the rules for `path` now. Returns what they decide, in their order: one at least.
    pub(crate) fn request(
        &mut self,
        now: Time,
        id: &TargetId,
        path: &str,
    ) -> Result<(Vec<Decision>, Vec<Effect>), Error> {
        if !self.watches.contains_key(id) {
            return Err(Error::NotFound(id.clone()));
        }
        let likes = self.likes(now);
        let (decisions, effects) = self.decide(now, id, &likes, Some(path));
        if decisions.is_empty() {
            return Err(Error::NoSuchPath {
                target: id.clone(),
                path: path.chars().take(100).collect(),
            });
        }
        Ok((decisions, effects))
    }

    fn likes(&self, now: Time) -> Likes {
        let mut likes = Likes::new();
        for watch in self.watches.values() {
            for (site, summary) in watch.summaries(now, &self.config) {
                let key = watch.like_at(site);
                let newest = likes.entry(key).or_insert(summary);
                if summary.at > newest.at {
                    *newest = summary;
                }
            }
        }
        likes
    }

    /// Applies the rules of a target that are due: those for `path`, or else those of this moment.
    fn decide(
        &mut self,
        now: Time,
        id: &TargetId,
        likes: &Likes,
        path: Option<&str>,
    ) -> (Vec<Decision>, Vec<Effect>) {
        let Some(mut watch) = self.watches.remove(id) else {
            return (Vec::new(), Vec::new());
        };
        let moment = Moment {
            now,
            sites: &self.sites,
            config: &self.config,
        };
        let diary = self.diaries.entry(id.clone()).or_default();
        let view = View::of(&watch, moment, likes, diary);
        watch.note_conditions(&view.facts);
        if let (Some(forecast), None) = (&view.forecast, path) {
            self.tally.speaking[forecast.model] += 1;
        }
        let rules = 0..watch.target.policy.items.len();
        let mut due = Vec::new();
        for rule in rules.clone() {
            let is_due = match (&watch.target.policy.items[rule].when, path) {
                (When::Request(wanted), Some(path)) => wanted == path,
                (When::Always, None) => true,
                (When::Interval(_), None) => watch.is_due(rule, now),
                _ => false,
            };
            due.extend(is_due.then_some(rule));
        }
        let mut decisions = Vec::new();
        let mut effects = Vec::new();
        let mut has_analyzed = false;
        let mut next = 0;
        while let Some(rule) = due.get(next).copied() {
            next += 1;
            let is_moving = self.is_moving(id);
            let case = Case {
                now,
                watch: &watch,
                view: &view,
                diary: self.diaries.entry(id.clone()).or_default(),
                is_moving,
            };
            let verdict = case.apply(rule);
            if verdict.then == Then::Predicted && !has_analyzed {
                has_analyzed = true;
                let asked = |rule: &usize| matches!(&watch.target.policy.items[*rule].when, When::Request(path) if path == ANALYZE);
                due.extend(rules.clone().filter(asked));
            }
            decisions.push(self.settle(now, &watch.target, &view, verdict, &mut effects));
        }
        self.watches.insert(id.clone(), watch);
        (decisions, effects)
    }

    /// Makes a decision of a verdict, and sets out to do it.
    fn settle(
        &mut self,
        now: Time,
        target: &Target,
        view: &View,
        verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) -> Decision {
        self.n_decisions += 1;
        let mut decision = Decision {
            id: format!("decision-{}-{}", now.0, self.n_decisions),
            at: now,
            mode: target.mode,
            inputs: verdict.inputs,
            forecast: view.forecast.as_ref().map(Forecast::told),
            branch: verdict.branch,
            action: verdict.action,
            alternatives: verdict.alternatives,
            outcome: verdict.outcome,
            times: 1,
            violated_at: None,
        };
        let diary = self.diaries.entry(target.id.clone()).or_default();
        if let Then::Move { from, to } = verdict.then {
            decision.id = format!("learning-{}-{}", now.0, self.next_number);
            diary.note_move(from.clone(), to.clone(), now);
            let intent = Intent {
                number: self.next_number,
                target: target.id.clone(),
                from: from.clone(),
                to: to.clone(),
                decision: decision.clone(),
            };
            self.next_number += 1;
            let action = Action {
                target: target.id.clone(),
                from,
                to,
                stage: Stage::Calling,
                since: now,
            };
            self.actions.insert(decision.id.clone(), action);
            effects.push(Effect::Act(Box::new(intent)));
        }
        let kind = decision.outcome.kind();
        if diary.add(decision.clone(), verdict.dwell, self.config.decisions_max) {
            self.tally.outcomes.push(kind);
        }
        decision
    }

    /// Asks about the moves that it is time to ask about, and shows which ones nothing is heard of.
    fn ask(&mut self, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (key, action) in &mut self.actions {
            match action.stage {
                Stage::Waiting { ask_at } if ask_at <= now => {
                    action.stage = Stage::Asking;
                    action.since = now;
                    effects.push(Effect::Ask(key.clone()));
                }
                Stage::Calling | Stage::Asking
                    if now.since(action.since) > self.config.silence_max =>
                {
                    let silence = now.since(action.since).as_secs();
                    let diary = self.diaries.get_mut(&action.target);
                    if let Some(decision) = diary.and_then(|diary| diary.find(key)) {
                        let why = format!("the actuator has not answered for {silence} s");
                        decision.outcome = Outcome::Pending(why);
                    }
                }
                _ => {}
            }
        }
        effects
    }

    /// Takes what came of an effect. What is not waited for, such as an answer that comes twice, is ignored.
    pub(crate) fn answer(&mut self, now: Time, key: &str, answer: Answer) -> Vec<Effect> {
        let Some(action) = self.actions.get_mut(key) else {
            return Vec::new();
        };
        let wait = |ask_at| Stage::Waiting { ask_at };
        let later = wait(now.plus(ASK_EVERY));
        let (stage, told) = match (action.stage, answer) {
            (Stage::Calling, Answer::NotCalled(why)) => {
                return self.close(now, key, Outcome::Failed(why));
            }
            (Stage::Calling, Answer::Called(Err(ActError::Refused(why)))) => {
                return self.close(now, key, Outcome::Failed(format!("refused: {why}")));
            }
            (Stage::Calling, Answer::Called(Ok(()))) => (later, "accepted".to_owned()),
            (Stage::Calling, Answer::Called(Err(error @ ActError::Unclear(_)))) => {
                (wait(now), error.to_string())
            }
            (Stage::Asking, Answer::NotCalled(why)) => (later, why),
            (Stage::Asking, Answer::Observed(status)) => match status {
                MoveStatus::Running => (later, "under way".to_owned()),
                MoveStatus::Unreachable => (later, "the actuator cannot be reached".to_owned()),
                MoveStatus::Done => return self.close(now, key, Outcome::Done),
                MoveStatus::Failed(why) => return self.close(now, key, Outcome::Failed(why)),
                MoveStatus::Unknown => {
                    let why = "it never reached the actuator".to_owned();
                    return self.close(now, key, Outcome::Failed(why));
                }
            },
            _ => return Vec::new(),
        };
        action.stage = stage;
        action.since = now;
        let diary = self.diaries.get_mut(&action.target);
        if let Some(decision) = diary.and_then(|diary| diary.find(key)) {
            decision.outcome = Outcome::Pending(told);
        }
        Vec::new()
    }

    fn close(&mut self, now: Time, key: &str, outcome: Outcome) -> Vec<Effect> {
        let Some(action) = self.actions.remove(key) else {
            return Vec::new();
        };
        self.tally.outcomes.push(outcome.kind());
        let diary = self.diaries.entry(action.target.clone()).or_default();
        // Rest is counted from its end, whether it went well or not.
        diary.note_move(action.from, action.to, now);
        if let Some(decision) = diary.find(key) {
            decision.outcome = outcome.clone();
        }
        if !self.watches.contains_key(&action.target) && !self.is_moving(&action.target) {
            self.diaries.remove(&action.target);
        }
        vec![Effect::Close(Closing {
            key: key.to_owned(),
            at: now,
            outcome,
        })]
    }
}
