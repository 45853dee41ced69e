//! What clients have done and were told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::sync::watch;

use super::history::{Call, Written};

/// Shared by its clones.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    state: Arc<Mutex<State>>,
    /// So many times somebody was told something.
    n_told: Arc<watch::Sender<u64>>,
    is_over: Arc<watch::Sender<bool>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// By stream.
    pub written: BTreeMap<String, Written>,
    /// What was done with the table, and which value was to replace which.
    pub table: Register,
    /// The same of the segment that is appended to with a condition.
    pub state: Register,
    /// Of each stream the last of which somebody was told.
    pub epochs: BTreeMap<String, i32>,
    /// What a client says that could not go on.
    pub failed: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Register {
    pub calls: Vec<Call>,
    pub parents: BTreeMap<u64, u64>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::default(),
            n_told: Arc::new(watch::Sender::new(0)),
            is_over: Arc::new(watch::Sender::new(false)),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody was told something that has to be true from now on.
    pub(super) fn told(&self) {
        self.n_told.send_modify(|n| *n += 1);
    }

    pub(super) fn n_told(&self) -> u64 {
        *self.n_told.borrow()
    }

    /// Waits until so much was told.
    pub(super) async fn until_told(&self, n: u64, patience: Duration) -> anyhow::Result<()> {
        let mut told = self.n_told.subscribe();
        let waited = tokio::time::timeout(patience, told.wait_for(|told| *told >= n)).await;
        // What is borrowed keeps others from being told.
        let waited = waited.map(drop);
        self.check()?;
        let n_told = self.n_told();
        ensure!(
            waited.is_ok(),
            "nothing more is told for {patience:?} after {n_told}"
        );
        Ok(())
    }

    /// Whoever does something ends after what it is at.
    pub(super) fn end(&self) {
        self.is_over.send_replace(true);
    }

    pub(super) fn is_over(&self) -> bool {
        *self.is_over.borrow()
    }

    /// A pause that ends when all ends.
    pub(super) async fn pause(&self, time: Duration) {
        let mut over = self.is_over.subscribe();
        tokio::time::timeout(time, over.wait_for(|over| *over))
            .await
            .ok();
    }

    pub(super) fn fail(&self, why: String) {
        self.lock().failed.get_or_insert(why);
        self.told();
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        let failed = self.lock().failed.clone();
        ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
        Ok(())
    }
}
