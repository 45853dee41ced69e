//! How much memory may be used, and how much is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use geds_core::{Error, Kind, Result};

#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
        })
    }

    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge> {
        let add = |used: u64| {
            used.checked_add(bytes)
                .filter(|sum| *sum <= self.limit_bytes)
        };
        // A count orders nothing else.
        let charged = self
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        match charged {
            Ok(_) => Ok(Charge {
                budget: Arc::clone(self),
                bytes,
            }),
            Err(used) => {
                let limit = self.limit_bytes;
                let what = format!("{used} of {limit} bytes are used, and {bytes} more are wanted");
                Err(Error::new(Kind::Exhausted, what))
            }
        }
    }

    /// For what must not be refused.
    pub(crate) fn overcharge(self: &Arc<Self>, bytes: u64) -> Charge {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge {
            budget: Arc::clone(self),
            bytes,
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn left_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes())
    }

    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }
}

/// Bytes that count until it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    pub(crate) fn is_of(&self, budget: &Arc<Budget>) -> bool {
        Arc::ptr_eq(&self.budget, budget)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget
            .used_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
