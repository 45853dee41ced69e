//! What cells keep as bytes, on disk or in transit: one file per kind of record.

pub(crate) mod claim;
pub(crate) mod files;
pub(crate) mod journal;
pub(crate) mod log;
pub(crate) mod recording;
pub(crate) mod snapshot;
