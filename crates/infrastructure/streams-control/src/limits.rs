//! How much there may be of what.

use crate::cuts::Cut;
use crate::error::Refusal;
use crate::state::Stream;

/// What is allowed from now on. What is in the rows may exceed it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// In all.
    pub scopes_max: usize,
    /// In all, with those of watermarks.
    pub streams_max: usize,
    /// Names of streams that were deleted, of each of which a number is remembered; of more, one for all.
    pub graves_max: usize,
    /// Of one stream at a time.
    pub segments_max: usize,
    /// Of one stream in its life.
    pub epochs_max: usize,
    /// Of one stream.
    pub tags_max: usize,
    /// Of one tag.
    pub tag_bytes_max: usize,
    /// Of a cut.
    pub cut_segments_max: usize,
    /// Of a value: a table takes no more.
    pub row_bytes_max: usize,
    /// Requests that wait for the one before them on the same stream.
    pub queue_max: usize,
    /// Transactions of one stream that have not ended.
    pub txns_max: usize,
    /// Transactions that are merged or deleted at once: fewer, if they have many parts.
    pub txn_batch_max: usize,
    /// Of the name of a writer that commits.
    pub writer_bytes_max: usize,
    /// Transactions of one stream that are remembered when they have ended: as many as end in the time for which they are at least, at some rate.
    /// If they end faster, no new ones begin until some are old enough.
    pub ended_max: usize,
    /// For how long, at least.
    pub ended_ms_min: u64,
    /// And at most.
    pub ended_ms_max: u64,
    /// For how long a transaction may be promised to live on, at least.
    pub lease_ms_min: u64,
    /// And at most.
    pub lease_ms_max: u64,
    /// How often its first lease a transaction may last.
    pub execution_leases_max: u64,
    /// How long it may last whatever its lease was.
    pub execution_ms_max: u64,
    /// Between two positions that are noted for retention.
    pub retention_period_ms: u64,
    /// Positions that are noted of one stream.
    pub retention_cuts_max: usize,
    /// Offsets in all these positions.
    pub retention_offsets_max: usize,
    /// What two readings of the clock are believed to be apart: far less than a lease, which a leap of the clock costs that much.
    pub clock_step_ms_max: u64,
    /// Calls, or changes, of one plan.
    pub plan_max: usize,
    /// Between two attempts at what does not succeed.
    pub retry_ms_max: u64,
    /// Names in one page.
    pub page_max: usize,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            scopes_max: 100_000,
            streams_max: 1_000_000,
            graves_max: 100_000,
            segments_max: 10_000,
            epochs_max: 100_000,
            tags_max: 128,
            tag_bytes_max: 256,
            cut_segments_max: 20_000,
            row_bytes_max: 1_000_000,
            queue_max: 1_000,
            txns_max: 10_000,
            txn_batch_max: 100,
            writer_bytes_max: 256,
            ended_max: 300_000,
            ended_ms_min: 5 * 60 * 1_000,
            ended_ms_max: DAY_MS,
            lease_ms_min: 10_000,
            lease_ms_max: 600_000,
            execution_leases_max: 1_000,
            execution_ms_max: DAY_MS,
            retention_period_ms: 30 * 60 * 1_000,
            retention_cuts_max: 1_000,
            retention_offsets_max: 20_000,
            clock_step_ms_max: 2_000,
            plan_max: 256,
            retry_ms_max: 5_000,
            page_max: 1_000,
        }
    }
}

/// What a segment has in the row of an epoch, and if it is sealed in that of the next: an id, two ends, an id and a length.
const SEGMENT_BYTES_MAX: usize = 10 + 2 * 8 + 10 + 10;

/// Parts of transactions that are merged or deleted at once.
const TXN_PARTS_MAX: usize = 10_000;

impl Limits {
    /// Of one stream at a time, with which the rows of its epochs fit.
    pub(crate) fn check_segments(&self, n: usize) -> Result<(), Refusal> {
        let max = (self.row_bytes_max / SEGMENT_BYTES_MAX).min(self.segments_max);
        self.check("segments of a stream", n, max)
    }

    /// Of that stream. Each has a part for each segment, and two rows that change.
    pub(crate) fn txn_batch(&self, stream: &Stream) -> usize {
        let active = stream.epochs.get(stream.row.active);
        let n_parts = active.map_or(1, |active| active.segments().len());
        let max = self.txn_batch_max.min(self.plan_max / 4);
        max.min(TXN_PARTS_MAX / n_parts).max(1)
    }

    pub(crate) fn check_cut(&self, cut: &Cut) -> Result<(), Refusal> {
        self.check("segments of a cut", cut.len(), self.cut_segments_max)
    }

    pub(crate) fn check(&self, what: &'static str, n: usize, max: usize) -> Result<(), Refusal> {
        if n > max {
            return Err(Refusal::Limit { what, max });
        }
        Ok(())
    }
}
