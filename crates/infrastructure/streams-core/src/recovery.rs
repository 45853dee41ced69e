//! From what is kept to a container again.

use std::collections::BTreeMap;

use bytes::Bytes;
use ids::Epoch;

use crate::Corrupt;
use crate::container::{Container, Proposal};
use crate::names::{Position, Seq};
use crate::record::Record;
use crate::state::{Limits, State};

/// A container that is being read from its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub(crate) state: State,
    /// Of the records that bytes of segments are in.
    pub(crate) positions: BTreeMap<Seq, Position>,
}

impl Recovery {
    /// Of a container that has no checkpoint: its log is read from where it begins.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next record of the log, which lies there. Those that the checkpoint knows already are passed over.
    ///
    /// # Errors
    /// [`Corrupt`]: the log is not one of this container, or lacks something. There is no going on.
    pub fn replay(&mut self, position: Position, record: &Bytes) -> Result<(), Corrupt> {
        let (record, payload_at) = Record::decode(record)?;
        if record.seq <= self.state.seq {
            return Ok(());
        }
        let change = self.state.apply(&record, payload_at)?;
        if record.body.has_content() {
            self.positions.insert(record.seq, position);
        }
        for record in change.freed.records {
            self.positions.remove(&record);
        }
        Ok(())
    }

    /// Where records lie that bytes of segments are in, as far as they have been read, or a checkpoint says so.
    pub fn positions(&self) -> impl Iterator<Item = (Seq, Position)> {
        let positions = self.positions.iter();
        positions.map(|(seq, position)| (*seq, *position))
    }

    /// The number of a record.
    ///
    /// # Errors
    /// [`Corrupt`]: it is none.
    pub fn seq_of(record: &Bytes) -> Result<Seq, Corrupt> {
        Ok(Record::decode(record)?.0.seq)
    }

    /// The last record that has been read, or was known before.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.state.seq
    }

    /// The container under a new owner, whose first record is to be appended before all others.
    ///
    /// # Errors
    /// [`Corrupt`]: there was an owner of that epoch, or of a higher one.
    pub fn open(
        self,
        limits: Limits,
        epoch: Epoch,
        at_ms: u64,
    ) -> Result<(Container, Proposal), Corrupt> {
        self.state.check_epoch(epoch)?;
        Ok(Container::open(
            self.state,
            limits,
            self.positions,
            epoch,
            at_ms,
        ))
    }
}
