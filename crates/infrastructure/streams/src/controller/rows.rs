//! The rows of the control plane, as entries of a table segment.
//!
//! A write is all or nothing, and so it is one operation: a row that goes is set to nothing, with the same condition as the others. What stands for
//! it is swept away later. No row is empty that is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use streams_control::{Change, Version};
use streams_core::op::{Op, Outcome, Put, Remove, Version as When};
use streams_core::segment::{KeyLength, Kind};
use streams_core::table::{Bounds, Page};
use streams_core::{Refusal, SegmentName};
use streams_store::Error;
use tokio::sync::RwLock;

use super::segments::Segments;

/// It is a segment like any other, of a stream that nobody can create.
pub(crate) const TABLE: &str = "_system/_control/0.#epoch.0";

/// What is asked for at once.
const PAGE: Page = Page {
    items_max: 1_000,
    bytes_max: 1 << 20,
};

/// What is swept away at once.
const SWEPT: usize = 1_000;

/// A row as it was loaded: its key, its value, and the version of both.
pub(super) type Loaded = (Vec<u8>, Vec<u8>, Version);

#[derive(Debug)]
pub(super) struct Rows {
    segments: Arc<dyn Segments>,
    table: SegmentName,
    /// Rows that went, and the versions of what stands for them.
    gone: Mutex<BTreeMap<Bytes, Version>>,
    /// Nothing is written while something is swept away: a row may come back.
    sweeping: RwLock<()>,
}

impl Rows {
    pub(super) fn new(segments: Arc<dyn Segments>) -> Self {
        Self {
            segments,
            table: SegmentName::new(TABLE).expect("it is a name"),
            gone: Mutex::default(),
            sweeping: RwLock::default(),
        }
    }

    /// All of them. The table is there afterwards.
    pub(super) async fn load(&self) -> Result<Vec<Loaded>, Error> {
        let create = Op::Create {
            segment: self.table.clone(),
            kind: Kind::Table(KeyLength::Any),
            attributes: Vec::new(),
        };
        match self.segments.execute(create).await {
            Ok(_) | Err(Error::Refused(Refusal::Exists(_))) => {}
            Err(error) => return Err(error),
        }
        let mut rows = Vec::new();
        let mut bounds = Bounds::default();
        loop {
            let page = self.segments.entries(&self.table, &bounds, PAGE).await?;
            for entry in page.entries {
                if entry.value.is_empty() {
                    self.gone().insert(entry.key, entry.version);
                } else {
                    rows.push((entry.key.into(), entry.value.into(), entry.version));
                }
            }
            if page.token.is_empty() {
                return Ok(rows);
            }
            bounds.token = page.token;
        }
    }

    /// The versions that the rows have now, in the order of the changes.
    pub(super) async fn write(&self, changes: Vec<Change>) -> Result<Vec<Version>, Error> {
        let _open = self.sweeping.read().await;
        let put = |change: Change| {
            let key = Bytes::from(change.key);
            let version = change.expected.or_else(|| self.gone().get(&key).copied());
            Put {
                key,
                value: change.value.unwrap_or_default().into(),
                when: version.map_or(When::Absent, When::Is),
            }
        };
        let entries: Vec<_> = changes.into_iter().map(put).collect();
        let op = Op::PutEntries {
            table: self.table.clone(),
            entries: entries.clone(),
            expected_length: None,
        };
        let Outcome::Put { versions } = self.segments.execute(op).await? else {
            unreachable!("entries were set");
        };
        let mut gone = self.gone();
        for (entry, version) in entries.into_iter().zip(&versions) {
            if entry.value.is_empty() {
                gone.insert(entry.key, *version);
            } else {
                gone.remove(&entry.key);
            }
        }
        Ok(versions)
    }

    /// What stands for rows that went goes too.
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        loop {
            let _closed = self.sweeping.write().await;
            let swept: Vec<_> = {
                let gone = self.gone();
                let swept = gone.iter().take(SWEPT);
                swept
                    .map(|(key, version)| (key.clone(), *version))
                    .collect()
            };
            if swept.is_empty() {
                return Ok(());
            }
            let remove = |(key, version): &(Bytes, Version)| Remove {
                key: key.clone(),
                when: When::Is(*version),
            };
            let op = Op::RemoveEntries {
                table: self.table.clone(),
                keys: swept.iter().map(remove).collect(),
                expected_length: None,
            };
            self.segments.execute(op).await?;
            for (key, _) in swept {
                self.gone().remove(&key);
            }
        }
    }

    fn gone(&self) -> MutexGuard<'_, BTreeMap<Bytes, Version>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
