//! What the controller asks of a store of segments.

use std::fmt;

use streams_core::SegmentName;
use streams_core::container::Info;
use streams_core::op::{Op, Outcome};
use streams_core::table::{Bounds, Page, Pages};
use streams_store::{Error, Store};

/// A store, or what stands for it in tests. What is told is durable.
#[tonic::async_trait]
pub(crate) trait Segments: fmt::Debug + Send + Sync {
    async fn execute(&self, op: Op) -> Result<Outcome, Error>;

    async fn info(&self, segment: &SegmentName) -> Result<Info, Error>;

    async fn entries(
        &self,
        table: &SegmentName,
        bounds: &Bounds,
        page: Page,
    ) -> Result<Pages, Error>;
}

#[tonic::async_trait]
impl Segments for Store {
    async fn execute(&self, op: Op) -> Result<Outcome, Error> {
        Self::execute(self, op).await
    }

    async fn info(&self, segment: &SegmentName) -> Result<Info, Error> {
        Self::info(self, segment).await
    }

    async fn entries(
        &self,
        table: &SegmentName,
        bounds: &Bounds,
        page: Page,
    ) -> Result<Pages, Error> {
        Self::entries(self, table, bounds, page).await
    }
}
