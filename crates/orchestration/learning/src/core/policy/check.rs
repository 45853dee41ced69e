//! Types and units, and what may stand where.

use super::parser::Parsed;
use super::syntax::{Act, Comparison, Expr, Item, Name, Node, Operator, Type, When};
use super::{PolicyError, Span};
use crate::core::conformal::LEVELS;

/// A request for a path that nothing else could be meant by.
pub(crate) const ANALYZE: &str = "/analyze_qos";

pub(super) fn check(parsed: &Parsed) -> Result<(), PolicyError> {
    let mut checker = Checker {
        lets: Vec::new(),
        in_trigger: false,
    };
    for value in &parsed.lets {
        let kind = checker.kind(value)?;
        checker.lets.push(kind);
    }
    for item in &parsed.items {
        checker.item(item)?;
    }
    Ok(())
}

/// Evaluates what consists of numbers and times alone; `Let`s are looked up.
pub(super) fn constant(expr: &Expr, lets: &[Expr]) -> Option<f64> {
    match &expr.node {
        Node::Number(value) | Node::Seconds(value) => Some(*value),
        Node::Let(idx) => constant(lets.get(*idx)?, lets),
        Node::Arithmetic(operator, a, b) => {
            Some(operator.apply(constant(a, lets)?, constant(b, lets)?))
        }
        _ => None,
    }
}

impl Operator {
    pub(super) fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Plus => a + b,
            Self::Minus => a - b,
            Self::Times => a * b,
            Self::Over => a / b,
        }
    }
}

/// The place in [`LEVELS`] of a quantile that is asked for.
pub(super) fn level(value: f64) -> Option<usize> {
    LEVELS.iter().position(|level| (level - value).abs() < 1e-9)
}

struct Checker {
    /// The types of the `LET`s so far.
    lets: Vec<Type>,
    in_trigger: bool,
}

impl Checker {
    fn item(&mut self, item: &Item) -> Result<(), PolicyError> {
        self.in_trigger = matches!(item.when, When::Interval(_));
        for branch in &item.branches {
            if let Some(condition) = &branch.condition {
                self.wants(condition, Type::Truth, "after IF")?;
            }
            match &branch.act {
                Act::Migrate(Some(to)) => self.wants(to, Type::Text, "as the destination")?,
                Act::Predict if matches!(&item.when, When::Request(path) if path == ANALYZE) => {
                    let message = "the workflow asks for \"/analyze_qos\" when it is done, so it cannot be run from there";
                    return Err(PolicyError::new(branch.at, message));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn wants(&self, expr: &Expr, wanted: Type, place: &str) -> Result<(), PolicyError> {
        let found = self.kind(expr)?;
        if found == wanted {
            return Ok(());
        }
        let (found, wanted) = (found.said(), wanted.said());
        Err(PolicyError::new(
            expr.at,
            format!("{wanted} is needed {place}; this is {found}"),
        ))
    }

    fn kind(&self, expr: &Expr) -> Result<Type, PolicyError> {
        match &expr.node {
            Node::Number(_) => Ok(Type::Number),
            Node::Seconds(_) => Ok(Type::Time),
            Node::Text(_) => Ok(Type::Text),
            Node::Let(idx) => Ok(self.lets[*idx]),
            Node::Name(name) => self.name(*name, expr.at),
            Node::Predicted(quantile) => quantile_type(quantile),
            Node::QosAt(site) => {
                self.wants(site, Type::Text, "in qos_at(SITE)")?;
                Ok(Type::Time)
            }
            Node::FreeCpu(site) => {
                self.wants(site, Type::Text, "in free_cpu(SITE)")?;
                Ok(Type::Number)
            }
            Node::Not(inner) => {
                self.wants(inner, Type::Truth, "after NOT")?;
                Ok(Type::Truth)
            }
            Node::Both(_, a, b) => {
                self.wants(a, Type::Truth, "beside AND and OR")?;
                self.wants(b, Type::Truth, "beside AND and OR")?;
                Ok(Type::Truth)
            }
            Node::Compare(comparison, a, b) => self.comparison(*comparison, a, b, expr.at),
            Node::Arithmetic(operator, a, b) => self.arithmetic(*operator, a, b, expr.at),
        }
    }

    fn name(&self, name: Name, at: Span) -> Result<Type, PolicyError> {
        match name {
            Name::SuccessfulCall if !self.in_trigger => {
                let message = "`successful_call` is the success of what a trigger called; it has a meaning only in a rule that begins with WHEN";
                Err(PolicyError::new(at, message))
            }
            Name::Data => {
                let message = "`data` can only be given to QoS_prediction and runWorkflow";
                Err(PolicyError::new(at, message))
            }
            _ => Ok(name.kind()),
        }
    }

    fn comparison(
        &self,
        comparison: Comparison,
        a: &Expr,
        b: &Expr,
        at: Span,
    ) -> Result<Type, PolicyError> {
        let types = (self.kind(a)?, self.kind(b)?);
        match types {
            (Type::Time, Type::Number) => return Err(unit_missing(b)),
            (Type::Number, Type::Time) => return Err(unit_missing(a)),
            _ => {}
        }
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::Unequal);
        let has_order = matches!(types.0, Type::Number | Type::Time);
        if types.0 != types.1 {
            let (a, b) = (types.0.said(), types.1.said());
            return Err(PolicyError::new(
                at,
                format!("{a} cannot be compared with {b}"),
            ));
        }
        if !has_order && !is_equality {
            let message = format!("{} has no order; compare with == or !=", types.0.said());
            return Err(PolicyError::new(at, message));
        }
        if has_order && is_equality {
            let message = "measured values are never quite equal; compare with <, <=, > or >=";
            return Err(PolicyError::new(at, message));
        }
        Ok(Type::Truth)
    }

    fn arithmetic(
        &self,
        operator: Operator,
        a: &Expr,
        b: &Expr,
        at: Span,
    ) -> Result<Type, PolicyError> {
        use {Operator as O, Type as T};
        match (self.kind(a)?, operator, self.kind(b)?) {
            (T::Number, _, T::Number) | (T::Time, O::Over, T::Time) => Ok(T::Number),
            (T::Time, O::Plus | O::Minus, T::Time)
            | (T::Time, O::Times | O::Over, T::Number)
            | (T::Number, O::Times, T::Time) => Ok(T::Time),
            (T::Time, O::Plus | O::Minus, T::Number) => Err(unit_missing(b)),
            (T::Number, O::Plus | O::Minus, T::Time) => Err(unit_missing(a)),
            (a, _, b) => Err(PolicyError::new(
                at,
                format!(
                    "this cannot be calculated with {} and {}",
                    a.said(),
                    b.said()
                ),
            )),
        }
    }
}

fn quantile_type(quantile: &Expr) -> Result<Type, PolicyError> {
    let known = constant(quantile, &[]).is_some_and(|value| level(value).is_some());
    if known && !matches!(quantile.node, Node::Seconds(_)) {
        return Ok(Type::Time);
    }
    let message = "the quantiles of a forecast are 5%, 10%, 50%, 90% and 95%";
    Err(PolicyError::new(quantile.at, message))
}

fn unit_missing(expr: &Expr) -> PolicyError {
    let example = match expr.node {
        Node::Number(value) => format!("{value}ms or {value}s"),
        _ => "200ms or 0.2s".to_owned(),
    };
    PolicyError::new(
        expr.at,
        format!("a time cannot be compared or added to a number without a unit; write {example}"),
    )
}
