//! Forgets operations and migrations that were done long ago, and the idempotency keys that they answer.

use std::sync::Arc;
use std::time::Duration;

use ids::Name;
use meta::{Condition, Write};

use crate::Error;
use crate::controller::records::OperationRecord;
use crate::controller::state::{ByOrg, Row};
use crate::controller::{Inner, ms};
use crate::core::migration::Migration;

const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Of one organisation, done or not: beyond it the oldest that are done go early.
const KEPT_MAX: usize = 5000;
const BATCH: usize = 1000;

pub(super) async fn tick(inner: Arc<Inner>) -> Result<(), Error> {
    let expired_ms = inner.now().wall_ms.saturating_sub(ms(KEPT_FOR));
    let (mut conditions, mut writes) = (Vec::new(), Vec::new());
    {
        let state = inner.state();
        let done = |row: &Row<OperationRecord>| row.record.done.as_ref().map(|done| done.at_ms);
        for (org, id, row) in expired(&state.operations, expired_ms, done) {
            let key = format!("operation/{org}/{id}");
            conditions.push(Condition::new(&*key, Some(row.revision)));
            writes.push(Write::delete(key));
            writes.extend(row.record.key.iter().map(Write::delete));
        }
        let ended = |row: &Row<Migration>| {
            let (phase, at_ms) = row.record.history.last()?;
            phase.is_final().then_some(*at_ms)
        };
        for (org, id, row) in expired(&state.migrations, expired_ms, ended) {
            let key = format!("migration/{org}/{id}");
            conditions.push(Condition::new(&*key, Some(row.revision)));
            writes.push(Write::delete(key));
        }
    }
    if !writes.is_empty() {
        inner.store.commit(conditions, writes).await?;
        inner.catch_up()?;
    }
    Ok(())
}

/// Those to forget now, the oldest first.
fn expired<T>(
    rows: &ByOrg<String, Row<T>>,
    expired_ms: u64,
    done_ms: impl Fn(&Row<T>) -> Option<u64>,
) -> Vec<(&Name, &String, &Row<T>)> {
    let mut found = Vec::new();
    for (org, rows) in rows {
        let mut n_surplus = rows.len().saturating_sub(KEPT_MAX);
        for (id, row) in rows {
            let Some(at_ms) = done_ms(row) else {
                continue;
            };
            if found.len() < BATCH && (at_ms < expired_ms || n_surplus > 0) {
                n_surplus = n_surplus.saturating_sub(1);
                found.push((org, id, &**row));
            }
        }
    }
    found
}
