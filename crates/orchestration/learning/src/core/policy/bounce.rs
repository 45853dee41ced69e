//! Back and forth: two branches that would send a block from one to another site and back, around the same value.
//!
//! Each branch that moves becomes a few cases: at which sites it applies, where it moves to, and between which bounds each quantity is.
//! Two cases bounce if each can apply where the other one leads, and no quantity that both look at keeps them apart by a
//! gap. What cannot be decided from the text (conditions on different quantities) is left to the dwell at run time.

use std::collections::BTreeMap;

use super::PolicyError;
use super::check::constant;
use super::parser::Parsed;
use super::syntax::{Act, Branch, Comparison, Expr, Logic, Name, Node, Operator};

/// A condition with more cases than this is not looked at.
const CASES_MAX: usize = 32;

pub(super) fn check(parsed: &Parsed) -> Result<(), PolicyError> {
    let branches = parsed.items.iter().flat_map(|item| &item.branches);
    let moving: Vec<(&Branch, Vec<Case>)> = branches
        .filter_map(|branch| Some((branch, cases_of(branch, &parsed.lets)?)))
        .collect();
    for (idx, (_, first)) in moving.iter().enumerate() {
        for (branch, second) in &moving[idx + 1..] {
            for (a, b) in first
                .iter()
                .flat_map(|a| second.iter().map(move |b| (a, b)))
            {
                if let Some(why) = bounces(a, b) {
                    let first_line = moving[idx].0.at.line;
                    return Err(PolicyError::new(
                        branch.at,
                        format!(
                            "this branch and the one in line {first_line} would move the block back and forth: {why}. \
                             Leave a gap between their limits, as between `> 200ms` and `< 150ms`"
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Where a branch applies, by one property of the site (its tier or its name).
#[derive(Clone, Debug, Default)]
struct Case {
    only: Option<String>,
    not: Vec<String>,
    bounds: BTreeMap<String, Bounds>,
    /// Where it moves to; `None`: the best site.
    to: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    low: f64,
    high: f64,
}

const ANY: Bounds = Bounds {
    low: f64::NEG_INFINITY,
    high: f64::INFINITY,
};

impl Case {
    fn may_apply_at(&self, site: Option<&String>) -> bool {
        let Some(site) = site else { return true };
        self.only.as_ref().is_none_or(|only| only == site) && !self.not.contains(site)
    }
}

fn bounces(a: &Case, b: &Case) -> Option<String> {
    let same_place = a.only.is_some() && a.only == b.only;
    let same_destination = a.to.is_some() && a.to == b.to;
    let lead_to_each_other = b.may_apply_at(a.to.as_ref())
        && a.may_apply_at(b.to.as_ref())
        && a.to
            .as_ref()
            .is_none_or(|to| b.only.as_ref().is_none_or(|only| only == to))
        && b.to
            .as_ref()
            .is_none_or(|to| a.only.as_ref().is_none_or(|only| only == to));
    if same_place || same_destination || !lead_to_each_other {
        return None;
    }
    if a.bounds.is_empty() || b.bounds.is_empty() {
        return Some("one of them has no condition on a measured or predicted value".to_owned());
    }
    let shared = a
        .bounds
        .iter()
        .filter_map(|(key, a)| Some((key, a, b.bounds.get(key)?)));
    let mut meeting = None;
    for (key, a_bounds, b_bounds) in shared {
        let low = a_bounds.low.max(b_bounds.low);
        let high = a_bounds.high.min(b_bounds.high);
        if low > high {
            return None;
        }
        // With the same direction, or no side closed, two moves to the best site are kept apart by the margin.
        let opposite = low.is_finite() && high.is_finite();
        if opposite || a.to.is_some() || b.to.is_some() {
            meeting = Some(format!("both can hold around one value of {key}"));
        }
    }
    meeting
}

/// The cases of a branch that moves.
fn cases_of(branch: &Branch, lets: &[Expr]) -> Option<Vec<Case>> {
    let Act::Migrate(to) = &branch.act else {
        return None;
    };
    let to = to.as_ref().and_then(|to| text(to, lets));
    let mut cases = match &branch.condition {
        Some(condition) => cases(condition, lets, false),
        None => vec![Case::default()],
    };
    for case in &mut cases {
        case.to.clone_from(&to);
    }
    Some(cases)
}

/// The condition, or its opposite, as alternatives. What cannot be expressed is left out: the case is wider then.
fn cases(expr: &Expr, lets: &[Expr], negated: bool) -> Vec<Case> {
    match &expr.node {
        Node::Let(idx) => cases(&lets[*idx], &lets[..*idx], negated),
        Node::Not(inner) => cases(inner, lets, !negated),
        Node::Both(logic, a, b) => {
            let (mut a, b) = (cases(a, lets, negated), cases(b, lets, negated));
            if (*logic == Logic::Or) != negated {
                a.extend(b);
                a.truncate(CASES_MAX);
                return a;
            }
            let both = a.iter().flat_map(|a| b.iter().map(move |b| join(a, b)));
            both.take(CASES_MAX).collect()
        }
        Node::Compare(comparison, a, b) => vec![compare(*comparison, a, b, lets, negated)],
        _ => vec![Case::default()],
    }
}

fn join(a: &Case, b: &Case) -> Case {
    let mut joined = a.clone();
    joined.only = joined.only.or_else(|| b.only.clone());
    joined.not.extend(b.not.iter().cloned());
    for (key, bounds) in &b.bounds {
        narrow(&mut joined, key.clone(), *bounds);
    }
    joined
}

fn narrow(case: &mut Case, key: String, with: Bounds) {
    let bounds = case.bounds.entry(key).or_insert(ANY);
    bounds.low = bounds.low.max(with.low);
    bounds.high = bounds.high.min(with.high);
}

fn compare(comparison: Comparison, a: &Expr, b: &Expr, lets: &[Expr], negated: bool) -> Case {
    let mut case = Case::default();
    if let Some(site) = place(a, lets)
        .and(text(b, lets))
        .or(place(b, lets).and(text(a, lets)))
    {
        if (comparison == Comparison::Equal) == negated {
            case.not.push(site);
        } else {
            case.only = Some(site);
        }
        return case;
    }
    let (Some((a_key, a_factor)), Some((b_key, b_factor))) = (quantity(a, lets), quantity(b, lets))
    else {
        return case;
    };
    // The KPI is a limit as numbers are: `predicted_qos > kpi_max` bounds predicted_qos, in multiples of kpi_max.
    let is_limit = |key: &str| key.is_empty() || key == Name::KpiMax.text();
    let (key, unit, value, flipped) = if is_limit(&b_key) && !is_limit(&a_key) {
        (a_key, b_key, b_factor / a_factor, a_factor < 0.0)
    } else if is_limit(&a_key) && !is_limit(&b_key) {
        (b_key, a_key, a_factor / b_factor, b_factor > 0.0)
    } else {
        return case;
    };
    let is_greater = matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual);
    let bounds = if (is_greater != negated) != flipped {
        Bounds { low: value, ..ANY }
    } else {
        Bounds { high: value, ..ANY }
    };
    if value.is_finite() {
        let unit = if unit.is_empty() {
            unit
        } else {
            format!(", in {unit}")
        };
        narrow(&mut case, format!("{key}{unit}"), bounds);
    }
    case
}

/// A quantity times a factor; the quantity of a constant has no name.
fn quantity(expr: &Expr, lets: &[Expr]) -> Option<(String, f64)> {
    if let Some(value) = constant(expr, lets) {
        return Some((String::new(), value));
    }
    match &expr.node {
        Node::Let(idx) => quantity(&lets[*idx], &lets[..*idx]),
        Node::Name(name) => Some((name.text().to_owned(), 1.0)),
        // Other quantiles of the same forecast are close enough to it to bounce with it.
        Node::Predicted(_) => Some((Name::PredictedQos.text().to_owned(), 1.0)),
        Node::QosAt(site) => Some((format!("qos_at({})", text(site, lets)?), 1.0)),
        Node::FreeCpu(site) => Some((format!("free_cpu({})", text(site, lets)?), 1.0)),
        Node::Arithmetic(operator @ (Operator::Times | Operator::Over), a, b) => {
            if let Some(factor) = constant(b, lets) {
                let (key, value) = quantity(a, lets)?;
                return Some((key, operator.apply(value, factor)));
            }
            let (factor, (key, value)) = (constant(a, lets)?, quantity(b, lets)?);
            (*operator == Operator::Times).then_some((key, factor * value))
        }
        _ => None,
    }
}

/// Something that tells the site.
fn place(expr: &Expr, lets: &[Expr]) -> Option<()> {
    match &expr.node {
        Node::Let(idx) => place(&lets[*idx], &lets[..*idx]),
        Node::Name(Name::AppCluster | Name::Site) => Some(()),
        _ => None,
    }
}

fn text(expr: &Expr, lets: &[Expr]) -> Option<String> {
    match &expr.node {
        Node::Let(idx) => text(&lets[*idx], &lets[..*idx]),
        Node::Text(text) => Some(text.clone()),
        _ => None,
    }
}
