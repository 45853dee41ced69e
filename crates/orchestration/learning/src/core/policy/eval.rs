//! Conditions over facts.
//!
//! A value that is not known is an error that says why; a condition over it is unknown too, unless the rest decides it (`false AND
//! unknown` is false). An unknown condition stops its rule.

use std::time::Duration;

use super::check::{constant, level};
use super::syntax::{Branch, Comparison, Expr, Logic, Name, Node, Options};
use crate::core::conformal::LEVELS;
use crate::core::sites::{self, Outlook};

/// Why something is not known.
pub(crate) type Unknown = String;

/// What conditions can speak of, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub site: Result<String, Unknown>,
    /// The tier of the site, or else its name.
    pub cluster: Result<String, Unknown>,
    pub current_qos: Result<f64, Unknown>,
    pub qos_age: Result<f64, Unknown>,
    /// At [`LEVELS`].
    pub predicted_qos: Result<[f64; LEVELS.len()], Unknown>,
    pub kpi_max: Result<f64, Unknown>,
    pub move_time: Duration,
    /// Cores that are free where it is.
    pub free_cpu: Result<f64, Unknown>,
    /// What is predicted for each other site where it may be.
    pub others: Vec<Outlook>,
    /// Whether what the trigger called succeeded.
    pub call: Result<bool, Unknown>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Truth(bool),
    /// A number, or a time in seconds: the checks have told them apart.
    Number(f64),
    Text(String),
}

impl Facts {
    /// No two moves by a branch are closer than this, and never closer than a move takes.
    pub(crate) fn cooldown(&self, options: &Options) -> Duration {
        options.cooldown.max(self.move_time)
    }

    /// Where a branch goes if it does not say where to, and what it means by `best_site`.
    pub(crate) fn best_site(&self, options: &Options) -> Result<&Outlook, Unknown> {
        sites::best(&self.others, self.cooldown(options))
    }
}

/// Whether the condition of `branch` holds; one without a condition always does.
pub(crate) fn holds(branch: &Branch, lets: &[Expr], facts: &Facts) -> Result<bool, Unknown> {
    let evaluator = Evaluator {
        facts,
        lets,
        options: &branch.options,
    };
    match &branch.condition {
        Some(condition) => truth(&evaluator.value(condition)),
        None => Ok(true),
    }
}

/// The text that `expr`, of a branch with these options, stands for.
pub(crate) fn text(
    expr: &Expr,
    options: &Options,
    lets: &[Expr],
    facts: &Facts,
) -> Result<String, Unknown> {
    let evaluator = Evaluator {
        facts,
        lets,
        options,
    };
    written(&evaluator.value(expr))
}

struct Evaluator<'a> {
    facts: &'a Facts,
    lets: &'a [Expr],
    options: &'a Options,
}

impl Evaluator<'_> {
    fn value(&self, expr: &Expr) -> Result<Value, Unknown> {
        match &expr.node {
            Node::Number(value) | Node::Seconds(value) => Ok(Value::Number(*value)),
            Node::Text(text) => Ok(Value::Text(text.clone())),
            Node::Let(idx) => self.value(&self.lets[*idx]),
            Node::Name(name) => self.name(*name),
            Node::Predicted(quantile) => {
                let idx = constant(quantile, &[]).and_then(level);
                let idx = idx.expect("the checks allow nothing else");
                let quantiles = self.facts.predicted_qos.clone()?;
                Ok(Value::Number(quantiles[idx]))
            }
            Node::QosAt(site) => match self.other(site)? {
                Some(other) => {
                    let predicted = other.predicted.ok_or_else(|| other.why.clone());
                    predicted.map(Value::Number)
                }
                None => self.name(Name::PredictedQos),
            },
            Node::FreeCpu(site) => {
                let other = self.other(site)?;
                let free = other.map_or(&self.facts.free_cpu, |other| &other.free);
                free.clone().map(Value::Number)
            }
            Node::Not(inner) => Ok(Value::Truth(!truth(&self.value(inner))?)),
            Node::Both(logic, a, b) => {
                // The value that decides alone: false for AND, true for OR.
                let deciding = *logic == Logic::Or;
                let (a, b) = (truth(&self.value(a)), truth(&self.value(b)));
                if a == Ok(deciding) || b == Ok(deciding) {
                    return Ok(Value::Truth(deciding));
                }
                a.and(b).map(Value::Truth)
            }
            Node::Compare(comparison, a, b) => {
                let holds = compare(*comparison, &self.value(a)?, &self.value(b)?);
                Ok(Value::Truth(holds))
            }
            Node::Arithmetic(operator, a, b) => {
                let result = operator.apply(number(&self.value(a))?, number(&self.value(b))?);
                if result.is_finite() {
                    Ok(Value::Number(result))
                } else {
                    Err("a calculation in the policy has no finite result".to_owned())
                }
            }
        }
    }

    fn name(&self, name: Name) -> Result<Value, Unknown> {
        let facts = self.facts;
        match name {
            Name::AppCluster => facts.cluster.clone().map(Value::Text),
            Name::Site => facts.site.clone().map(Value::Text),
            Name::CurrentQos => facts.current_qos.clone().map(Value::Number),
            Name::QosAge => facts.qos_age.clone().map(Value::Number),
            Name::PredictedQos => {
                let median = level(0.5).expect("there is a median");
                let quantiles = facts.predicted_qos.clone()?;
                Ok(Value::Number(quantiles[median]))
            }
            Name::KpiMax => facts.kpi_max.clone().map(Value::Number),
            Name::BestSite => {
                let best = facts.best_site(self.options)?;
                Ok(Value::Text(best.site.to_string()))
            }
            Name::MoveTime => Ok(Value::Number(facts.move_time.as_secs_f64())),
            Name::SuccessfulCall => facts.call.clone().map(Value::Truth),
            Name::Data => Err("data has no value".to_owned()),
        }
    }

    /// The site that is said, unless it is the one where the block is.
    fn other(&self, site: &Expr) -> Result<Option<&Outlook>, Unknown> {
        let said = written(&self.value(site))?;
        if self.facts.site.as_ref() == Ok(&said) {
            return Ok(None);
        }
        let others = &self.facts.others;
        match others.iter().find(|other| other.site.as_str() == said) {
            Some(other) => Ok(Some(other)),
            None => Err(format!(
                "there is no site `{said}` that the block may be at"
            )),
        }
    }
}

fn compare(comparison: Comparison, a: &Value, b: &Value) -> bool {
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
        _ => return (a == b) == (comparison == Comparison::Equal),
    };
    order.is_some_and(|order| match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Unequal => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

const CHECKED: &str = "the checks have seen to the types";

fn truth(value: &Result<Value, Unknown>) -> Result<bool, Unknown> {
    match value {
        Ok(Value::Truth(truth)) => Ok(*truth),
        Err(why) => Err(why.clone()),
        Ok(_) => panic!("{CHECKED}"),
    }
}

fn number(value: &Result<Value, Unknown>) -> Result<f64, Unknown> {
    match value {
        Ok(Value::Number(number)) => Ok(*number),
        Err(why) => Err(why.clone()),
        Ok(_) => panic!("{CHECKED}"),
    }
}

fn written(value: &Result<Value, Unknown>) -> Result<String, Unknown> {
    match value {
        Ok(Value::Text(text)) => Ok(text.clone()),
        Err(why) => Err(why.clone()),
        Ok(_) => panic!("{CHECKED}"),
    }
}
