//! A rule of a policy, applied: which branch, what it wants, and whether that may be done.

use std::collections::BTreeMap;
use std::time::Duration;

use ids::Name;

use super::conformal::MEDIAN;
use super::diary::Diary;
use super::policy::eval;
use super::policy::syntax::{Act, Branch, Expr, Margin, Options};
use super::sites::Outlook;
use super::view::View;
use super::watch::Watch;
use crate::decision::{Alternative, Mode, Outcome};
use crate::seam::Time;

/// Alternatives that are told.
const TOLD_MAX: usize = 16;

/// What a rule comes to.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The line that decided.
    pub branch: String,
    /// What it looked at, in words.
    pub inputs: BTreeMap<String, String>,
    pub action: String,
    pub outcome: Outcome,
    pub alternatives: Vec<Alternative>,
    pub then: Then,
    /// How long the same is not decided again, in shadow mode.
    pub dwell: Duration,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Then {
    Nothing,
    /// The forecasts are made: who is interested in them comes next.
    Predicted,
    Move {
        from: Name,
        to: Name,
    },
}

/// Everything that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub now: Time,
    pub watch: &'a Watch,
    pub view: &'a View,
    pub diary: &'a Diary,
    /// A move of the target is under way.
    pub is_moving: bool,
}

/// Where to, or why not.
type Destination = Result<Name, String>;

impl Case<'_> {
    /// Applies rule number `rule`: the first branch whose condition holds acts.
    pub(crate) fn apply(&self, rule: usize) -> Verdict {
        let policy = &self.watch.target.policy;
        let item = &policy.items[rule];
        for (idx, branch) in item.branches.iter().enumerate() {
            match eval::holds(branch, &policy.lets, &self.view.facts) {
                Ok(true) => return self.act(rule, idx, branch),
                Ok(false) => {}
                Err(why) => {
                    let line = policy.line(branch.at);
                    let outcome = Outcome::Held(format!("the condition is unknown: {why}"));
                    return self.verdict(line, &branch.options, "Nothing_to_do", outcome);
                }
            }
        }
        let line = format!("{} (no branch holds)", policy.line(item.at));
        self.verdict(line, &Options::default(), "Nothing_to_do", Outcome::Done)
    }

    fn verdict(
        &self,
        branch: String,
        options: &Options,
        action: &str,
        outcome: Outcome,
    ) -> Verdict {
        let cooldown = self.view.facts.cooldown(options);
        Verdict {
            branch,
            inputs: self.view.inputs(options),
            action: action.to_owned(),
            outcome,
            alternatives: self.alternatives(&Err(String::new()), cooldown),
            then: Then::Nothing,
            dwell: cooldown,
        }
    }

    fn act(&self, rule: usize, idx: usize, branch: &Branch) -> Verdict {
        let line = self.watch.target.policy.line(branch.at);
        let options = &branch.options;
        match &branch.act {
            Act::Nothing => self.verdict(line, options, "Nothing_to_do", Outcome::Done),
            Act::Predict => {
                let action = "runWorkflow prediction-pipeline";
                match &self.view.facts.predicted_qos {
                    Ok(_) => Verdict {
                        then: Then::Predicted,
                        ..self.verdict(line, options, action, Outcome::Done)
                    },
                    Err(why) => self.verdict(line, options, action, Outcome::Failed(why.clone())),
                }
            }
            Act::Migrate(wanted) => {
                let to = self.destination(wanted.as_ref(), options);
                let is_allowed = self.may_move(rule, idx, options);
                let mut verdict = self.verdict(line, options, "", Outcome::Done);
                verdict.alternatives = self.alternatives(&to, verdict.dwell);
                (verdict.action, verdict.outcome, verdict.then) = self.weigh(to, is_allowed);
                verdict
            }
        }
    }

    fn weigh(&self, to: Destination, is_allowed: Result<(), String>) -> (String, Outcome, Then) {
        let from = self.view.site.clone().ok_or("it does not run in one place");
        let (from, to) = match (from, to) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(why), _) => return held("migrate_service".to_owned(), why.to_owned()),
            (_, Err(why)) => return held("migrate_service".to_owned(), why),
        };
        let action = format!("migrate_service to {to}");
        match (is_allowed, self.watch.target.mode) {
            (Err(why), _) => held(action, why),
            (Ok(()), Mode::Shadow) => (action, Outcome::Shadow, Then::Nothing),
            (Ok(()), Mode::Active) => (
                action,
                Outcome::Pending(String::new()),
                Then::Move { from, to },
            ),
        }
    }

    /// What the options of the branch, and the moves before, have against a move now.
    fn may_move(&self, rule: usize, idx: usize, options: &Options) -> Result<(), String> {
        if self.is_moving {
            return Err("a move is under way".to_owned());
        }
        let (m, n) = options.held;
        let held = self.watch.held(rule, idx, n);
        if held < m {
            return Err(format!(
                "the condition held at {held} of the last {n} samples, not yet at {m}"
            ));
        }
        let cooldown = self.view.facts.cooldown(options);
        if let Some(ago) = self.diary.since_last_move(self.now)
            && ago < cooldown
        {
            let (ago, cooldown) = (ago.as_secs(), cooldown.as_secs());
            return Err(format!(
                "the last move was {ago} s ago, within the cooldown of {cooldown} s"
            ));
        }
        if let Some((moves, period)) = options.budget {
            let n = self.diary.moves_within(period, self.now);
            if u32::try_from(n).is_ok_and(|n| n >= moves) {
                return Err(format!(
                    "the budget of {moves} moves in {} s is spent",
                    period.as_secs()
                ));
            }
        }
        Ok(())
    }

    fn destination(&self, wanted: Option<&Expr>, options: &Options) -> Destination {
        let (outlook, margin) = match wanted {
            Some(expr) => (self.said_site(expr, options)?, options.margin),
            None => {
                let margin = options.margin.unwrap_or(Options::MARGIN);
                (self.view.facts.best_site(options)?, Some(margin))
            }
        };
        let predicted = outlook.predicted.ok_or("it is unknown")?;
        if let Some(margin) = margin {
            let staying = self.staying()?;
            let limit = match margin {
                Margin::Ratio(ratio) => staying * (1.0 - ratio),
                Margin::Seconds(seconds) => staying - seconds,
            };
            if predicted > limit {
                return Err(format!(
                    "{} is predicted to take {predicted:.4} s, which is not better than staying ({staying:.4} s) by the margin",
                    outlook.site
                ));
            }
        }
        Ok(outlook.site.clone())
    }

    /// The site that the policy names, if it can be moved to.
    fn said_site(&self, said: &Expr, options: &Options) -> Result<&Outlook, String> {
        let facts = &self.view.facts;
        let said = eval::text(said, options, &self.watch.target.policy.lets, facts)?;
        if self
            .view
            .site
            .as_ref()
            .is_some_and(|site| site.as_str() == said)
        {
            return Err(format!("it is at {said} already"));
        }
        let found = facts.others.iter().find(|o| o.site.as_str() == said);
        let found =
            found.ok_or_else(|| format!("it may not be at {said}, or there is no such site"))?;
        if found.predicted.is_none() {
            return Err(format!("{said} is {}", found.why));
        }
        match found.left_lately(facts.cooldown(options)) {
            Some(ago) => Err(back(&found.site, ago)),
            None => Ok(found),
        }
    }

    /// What an iteration will take if nothing is done.
    fn staying(&self) -> Result<f64, String> {
        let facts = &self.view.facts;
        let predicted = facts
            .predicted_qos
            .clone()
            .map(|quantiles| quantiles[MEDIAN]);
        predicted.or_else(|_| facts.current_qos.clone())
    }

    fn alternatives(&self, to: &Destination, cooldown: Duration) -> Vec<Alternative> {
        let mut told = Vec::new();
        if let Some(site) = &self.view.site {
            told.push(Alternative {
                site: site.clone(),
                predicted: self.staying().ok(),
                why: "it is here".to_owned(),
            });
        }
        let mut others: Vec<_> = self.view.facts.others.iter().collect();
        let known = |o: &Outlook| o.predicted.unwrap_or(f64::INFINITY);
        others.sort_by(|a, b| known(a).total_cmp(&known(b)));
        told.extend(others.into_iter().take(TOLD_MAX).map(|outlook| {
            let left = outlook.left_lately(cooldown);
            let why = match (to, left) {
                (Ok(to), _) if *to == outlook.site => format!("chosen: {}", outlook.why),
                (_, Some(ago)) => back(&outlook.site, ago),
                _ => outlook.why.clone(),
            };
            Alternative {
                site: outlook.site.clone(),
                predicted: outlook.predicted,
                why,
            }
        }));
        told
    }
}

fn back(site: &Name, ago: Duration) -> String {
    format!(
        "it left {site} only {} s ago, and does not go back and forth",
        ago.as_secs()
    )
}

fn held(action: String, why: String) -> (String, Outcome, Then) {
    (action, Outcome::Held(why), Then::Nothing)
}
