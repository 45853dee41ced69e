//! A store that lasts as long as its process: for tests and simulations.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::history::History;
use crate::{Change, Condition, Entry, Error, MetaStore, Revision, Write, check};

#[derive(Debug)]
pub struct Memory(Mutex<State>);

#[derive(Debug)]
struct State {
    entries: BTreeMap<String, (Revision, Vec<u8>)>,
    history: History,
}

impl Memory {
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(State {
            entries: BTreeMap::new(),
            history: History::new(Revision(0)),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics halfway through a commit.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl MetaStore for Memory {
    fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let state = self.state();
        let found = state.entries.get_key_value(key);
        Ok(found.map(|(key, value)| entry(key, value)))
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.state();
        let range = state.entries.range::<str, _>((from, Bound::Unbounded));
        let matching = range.take_while(|(key, _)| key.starts_with(prefix));
        let entries = matching.map(|(key, value)| entry(key, value));
        Ok(entries.take(limit).collect())
    }

    fn commit(&self, conditions: &[Condition], writes: &[Write]) -> Result<Revision, Error> {
        check(writes)?;
        let mut state = self.state();
        for Condition { key, revision } in conditions {
            if state.entries.get(key).map(|(revision, _)| *revision) != *revision {
                return Err(Error::Conflict { key: key.clone() });
            }
        }
        let next = state.history.last().next();
        for Write { key, value } in writes {
            match value {
                Some(value) => state.entries.insert(key.clone(), (next, value.clone())),
                None => state.entries.remove(key),
            };
        }
        state.history.push(next, writes);
        Ok(next)
    }

    fn changes(&self, prefix: &str, after: Revision, limit: usize) -> Result<Vec<Change>, Error> {
        self.state().history.changes(prefix, after, limit)
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.state().history.subscribe()
    }
}

fn entry(key: &str, (revision, value): &(Revision, Vec<u8>)) -> Entry {
    Entry {
        key: key.to_owned(),
        revision: *revision,
        value: value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    #[test]
    fn memory_keeps_the_contract() {
        crate::contract(&|| Arc::new(super::Memory::new()));
    }
}
