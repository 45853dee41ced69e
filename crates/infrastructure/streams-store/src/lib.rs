//! Containers of segments on a disk.
#![forbid(unsafe_code)]

use streams_core::container::Info;
use streams_core::op::Outcome;
use streams_core::table::{Bounds, Page, Pages};
use streams_core::{Op, Refusal, SegmentName};

/// All containers of a directory, and what each segment is in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The owner of the log has ended. What was asked for may have been done, or not.
    #[error("the log is not written any more: {0}")]
    Ended(String),
}

impl Store {
    /// Done, and durable.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn execute(&self, _op: Op) -> Result<Outcome, Error> {
        todo!()
    }

    /// # Errors
    /// [`Error`].
    pub async fn info(&self, _segment: &SegmentName) -> Result<Info, Error> {
        todo!()
    }

    /// # Errors
    /// [`Error`].
    pub async fn entries(
        &self,
        _table: &SegmentName,
        _bounds: &Bounds,
        _page: Page,
    ) -> Result<Pages, Error> {
        todo!()
    }
}
