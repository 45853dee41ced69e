//! The policy language: text in, a checked [`Policy`] out.
//!
//! docs/policies.md is its reference. The road of a text: [`lexer`] → [`parser`] (names are resolved) → [`check`] (types, units,
//! rates) → [`bounce`] (back and forth). [`eval`] then evaluates conditions over [`eval::Facts`], where whatever is
//! not known makes a condition unknown, not false.

mod bounce;
mod check;
pub(crate) mod eval;
mod lexer;
mod parser;
pub(crate) mod syntax;

#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use check::ANALYZE;
use syntax::{Expr, Item};

/// The longest text of a policy.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// The policy of a block that has a KPI and no policy of its own.
const STANDARD: &str = include_str!("fixtures/standard.policy");

/// What is to be done, and when: a text in the policy language, parsed and checked. Two with the same text are equal.
#[derive(Clone, Debug)]
pub struct Policy {
    text: String,
    pub(crate) items: Vec<Item>,
    /// What `LET` names stand for, in order; each uses only earlier ones.
    pub(crate) lets: Vec<Expr>,
    uses_kpi: bool,
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Policy {}

/// Why a text is no policy: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct PolicyError {
    /// Counted from 1.
    pub line: u32,
    /// Characters, counted from 1.
    pub column: u32,
    pub message: String,
}

impl PolicyError {
    fn new(at: Span, message: impl fmt::Display) -> Self {
        Self {
            line: at.line,
            column: at.column,
            message: message.to_string(),
        }
    }
}

/// Where something stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub line: u32,
    pub column: u32,
}

impl Policy {
    /// Parses and checks a text.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > TEXT_BYTES_MAX {
            let at = Span { line: 1, column: 1 };
            let len = text.len();
            return Err(PolicyError::new(
                at,
                format!("the policy has {len} bytes; at most {TEXT_BYTES_MAX} are allowed"),
            ));
        }
        let parsed = parser::parse(lexer::lex(text)?)?;
        check::check(&parsed)?;
        bounce::check(&parsed)?;
        Ok(Self {
            uses_kpi: parsed.uses_kpi,
            items: parsed.items,
            lets: parsed.lets,
            text: text.to_owned(),
        })
    }

    /// The policy of a block without one: away from a forecast violation of its KPI.
    ///
    /// # Panics
    /// Never: a test parses it.
    #[must_use]
    pub fn standard() -> Self {
        Self::parse(STANDARD).expect("it is a policy")
    }

    /// Whether it speaks of `kpi_max`, which a block must have then.
    #[must_use]
    pub fn uses_kpi(&self) -> bool {
        self.uses_kpi
    }

    /// The line of the text at `at`, with its number.
    pub(crate) fn line(&self, at: Span) -> String {
        let idx = usize::try_from(at.line).unwrap_or(usize::MAX);
        let line = self.text.lines().nth(idx.wrapping_sub(1));
        let short: String = line.unwrap_or_default().trim().chars().take(200).collect();
        format!("line {}: {short}", at.line)
    }
}
