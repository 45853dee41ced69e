//! What the ledger means: which moves were intended, and what became of them.
//!
//! ```text
//! (nothing) --Intent--> open --Outcome--> closed
//! ```
//! An intent is durable before its actuator is called. After a restart an open one is asked about, by its key, and never
//! called again. Anything else in the ledger is damage: an outcome without an intent, a key used twice.

use std::collections::{BTreeMap, VecDeque};

use ids::Name;

use crate::decision::{Decision, Outcome};
use crate::seam::{TargetId, Time};

/// Closed moves that are remembered for each target, for its dwell and its explanations, and for all targets together.
const CLOSED_PER_TARGET: usize = 16;
const CLOSED_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Intent(Box<Intent>),
    Outcome(Closing),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Intent {
    /// Counts the intents, through all lives.
    pub number: u64,
    pub target: TargetId,
    pub from: Name,
    pub to: Name,
    /// Its id is the idempotency key, its time that of the intent.
    pub decision: Decision,
}

impl Intent {
    pub(crate) fn key(&self) -> &str {
        &self.decision.id
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Closing {
    pub key: String,
    pub at: Time,
    /// Done or failed.
    pub outcome: Outcome,
}

/// The moves that a ledger tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub next_number: u64,
    pub open: BTreeMap<String, Intent>,
    /// Oldest first.
    pub closed: VecDeque<(Intent, Closing)>,
}

impl Ledger {
    /// Takes the next record, or says what is wrong with it.
    pub(crate) fn apply(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Intent(intent) => {
                if intent.number < self.next_number {
                    return Err(format!("intent number {} comes again", intent.number));
                }
                self.next_number = intent.number + 1;
                self.open.insert(intent.key().to_owned(), *intent);
            }
            Record::Outcome(closing) => {
                let Some(intent) = self.open.remove(&closing.key) else {
                    return Err(format!(
                        "an outcome of `{}`, which is not open",
                        closing.key
                    ));
                };
                self.closed.push_back((intent, closing));
                self.trim();
            }
        }
        Ok(())
    }

    /// The records that tell as much as there is still to tell.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        let closed = self.closed.iter().map(|(intent, _)| intent);
        let mut intents: Vec<&Intent> = closed.chain(self.open.values()).collect();
        intents.sort_by_key(|intent| intent.number);
        let intent = |intent: &Intent| Record::Intent(Box::new(intent.clone()));
        records.extend(intents.into_iter().map(intent));
        let closings = self.closed.iter().map(|(_, closing)| closing.clone());
        records.extend(closings.map(Record::Outcome));
        records
    }

    fn trim(&mut self) {
        let Some((newest, _)) = self.closed.back() else {
            return;
        };
        let target = newest.target.clone();
        let of_target = |(intent, _): &(Intent, Closing)| intent.target == target;
        if self.closed.iter().filter(|c| of_target(c)).count() > CLOSED_PER_TARGET
            && let Some(oldest) = self.closed.iter().position(of_target)
        {
            self.closed.remove(oldest);
        } else if self.closed.len() > CLOSED_MAX {
            self.closed.pop_front();
        }
    }
}
