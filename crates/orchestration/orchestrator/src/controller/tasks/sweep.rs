//! Forgets operations and migrations that were done long ago, the idempotency keys that they answer, join tokens that nobody has used,
//! and the bytes of modules that nobody has.

use std::sync::Arc;
use std::time::Duration;

use ids::Name;
use meta::{Condition, Write};

use crate::Error;
use crate::controller::records::{JoinRecord, OperationRecord};
use crate::controller::state::{ByOrg, Row, State};
use crate::controller::{Inner, ms};
use crate::core::migration::Migration;

const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Of one organisation, done or not: beyond it the oldest that are done go early.
const KEPT_MAX: usize = 5000;
const USED_TOKENS_MAX: usize = 10_000;
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
        for (hash, row) in dead_tokens(&state, inner.now().wall_ms) {
            let key = format!("join/{hash}");
            conditions.push(Condition::new(&*key, Some(row.revision)));
            writes.push(Write::delete(key));
        }
    }
    if !writes.is_empty() {
        inner.store.commit(conditions, writes).await?;
        inner.catch_up()?;
    }
    inner.collect_modules().await
}

/// Tokens to forget: those that nobody has used in time. One that was used is remembered, so that it is not one again if it is given again; but
/// of very many the oldest go.
fn dead_tokens(state: &State, now_ms: u64) -> Vec<(&String, &Row<JoinRecord>)> {
    let expired = |row: &Row<JoinRecord>| row.record.expires_ms < now_ms;
    let (used, unused): (Vec<_>, Vec<_>) = state
        .joins
        .iter()
        .filter(|(_, row)| expired(row))
        .partition(|(_, row)| row.record.used.is_some());
    let mut used = used;
    used.sort_by_key(|(_, row)| row.record.expires_ms);
    used.truncate(used.len().saturating_sub(USED_TOKENS_MAX));
    unused.into_iter().chain(used).take(BATCH).collect()
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

#[cfg(test)]
mod tests {
    use meta::Revision;

    use super::*;

    #[test]
    fn tokens_that_nobody_used_in_time_are_forgotten() {
        let mut state = State::default();
        let used = || Some(("edge".parse().expect("a name"), "04ab".to_owned()));
        for (hash, expires_ms, used) in [
            ("late", 99, None),
            ("used", 99, used()),
            ("valid", 100, None),
        ] {
            let record = JoinRecord {
                site: None,
                expires_ms,
                used,
            };
            let revision = Revision(1);
            let row = Row { revision, record };
            state.joins.insert(hash.to_owned(), row);
        }
        let dead = dead_tokens(&state, 100);
        assert_eq!(
            dead.iter().map(|(hash, _)| *hash).collect::<Vec<_>>(),
            ["late"]
        );
    }
}
