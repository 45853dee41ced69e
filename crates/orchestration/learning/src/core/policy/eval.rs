//! Conditions over facts.
//!
//! A value that is not known is an error that says why; a condition over it is unknown too, unless the rest decides it (`false AND
//! unknown` is false). An unknown condition stops its rule.

use std::collections::BTreeMap;

use super::check::{constant, level};
use super::syntax::{Comparison, Expr, Logic, Name, Node};
use crate::core::conformal::LEVELS;

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
    pub best_site: Result<String, Unknown>,
    pub move_time: f64,
    /// By site name.
    pub qos_at: BTreeMap<String, Result<f64, Unknown>>,
    pub free_cpu: BTreeMap<String, Result<f64, Unknown>>,
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

/// Whether `condition` holds.
pub(crate) fn holds(condition: &Expr, lets: &[Expr], facts: &Facts) -> Result<bool, Unknown> {
    truth(&Evaluator::new(lets, facts).value(condition))
}

/// The text that `expr` stands for.
pub(crate) fn text(expr: &Expr, lets: &[Expr], facts: &Facts) -> Result<String, Unknown> {
    written(&Evaluator::new(lets, facts).value(expr))
}

struct Evaluator<'a> {
    facts: &'a Facts,
    /// Each `LET` is evaluated once, however often it is used.
    lets: Vec<Result<Value, Unknown>>,
}

impl<'a> Evaluator<'a> {
    fn new(lets: &[Expr], facts: &'a Facts) -> Self {
        let mut evaluator = Self {
            facts,
            lets: Vec::new(),
        };
        for expr in lets {
            let value = evaluator.value(expr);
            evaluator.lets.push(value);
        }
        evaluator
    }

    fn value(&self, expr: &Expr) -> Result<Value, Unknown> {
        match &expr.node {
            Node::Number(value) | Node::Seconds(value) => Ok(Value::Number(*value)),
            Node::Text(text) => Ok(Value::Text(text.clone())),
            Node::Let(idx) => self.lets[*idx].clone(),
            Node::Name(name) => self.name(*name),
            Node::Predicted(quantile) => {
                let idx = constant(quantile, &[]).and_then(level);
                let idx = idx.expect("the checks allow nothing else");
                let quantiles = self.facts.predicted_qos.clone()?;
                Ok(Value::Number(quantiles[idx]))
            }
            Node::QosAt(site) => self.at_site(site, &self.facts.qos_at),
            Node::FreeCpu(site) => self.at_site(site, &self.facts.free_cpu),
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
            Name::BestSite => facts.best_site.clone().map(Value::Text),
            Name::MoveTime => Ok(Value::Number(facts.move_time)),
            Name::SuccessfulCall => facts.call.clone().map(Value::Truth),
            Name::Data => Err("data has no value".to_owned()),
        }
    }

    fn at_site(
        &self,
        site: &Expr,
        values: &BTreeMap<String, Result<f64, Unknown>>,
    ) -> Result<Value, Unknown> {
        let site = written(&self.value(site))?;
        match values.get(&site) {
            Some(value) => value.clone().map(Value::Number),
            None => Err(format!(
                "there is no site `{site}` that the block may be at"
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
