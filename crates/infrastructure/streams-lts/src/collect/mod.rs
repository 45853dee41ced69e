//! Deletes what is needed no more: chunks that were freed, and objects that never came into the table of chunks.

mod orphans;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::{ObjectMeta, Result as StoreResult};

pub use self::orphans::{Counts, Page};

use self::orphans::Judge;
use self::queue::Queue;
use crate::names::ChunkName;
use crate::{Config, Lts, Result};

/// So many objects are in a page of a listing.
const PAGE_OBJECTS: usize = 1000;

/// The deletions of one container. It has no state that must not be lost: what waited in it is found again as an orphan.
pub struct Collector {
    queue: Queue,
    /// How far the listing is.
    listing: Option<BoxStream<'static, StoreResult<ObjectMeta>>>,
}

/// What a tick has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    pub n_deleted: usize,
    /// They come again.
    pub n_failed: usize,
    /// Those included.
    pub n_waiting: usize,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Collector");
        shown.field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Collector {
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            queue: Queue::new(config.deletions_max),
            listing: None,
        }
    }

    /// These are to be deleted: chunks whose entries were removed, durably, or orphans. Returns how many are not taken, since too many wait: they
    /// will be found as orphans.
    pub fn delete<'a>(&mut self, names: impl IntoIterator<Item = &'a ChunkName>) -> usize {
        let dropped = names.into_iter().filter(|name| !self.queue.push(**name));
        dropped.count()
    }

    /// Deletes some of those that wait. What fails is tried again in later ticks.
    ///
    /// # Errors
    /// `Fenced`: another owner has come. `Unavailable`: nobody knows. Nothing was deleted.
    pub async fn tick(&mut self, lts: &Lts) -> Result<Ticked> {
        let next = self.queue.next(lts.config.deletions_per_tick);
        if next.is_empty() {
            return Ok(Ticked::default());
        }
        lts.check().await?;
        let n_next = next.len();
        let deletions = next.into_iter().map(|name| async move {
            let deleted = lts.objects.delete(&lts.layout.chunk(&name)).await;
            match deleted {
                Ok(()) => Some(name),
                Err(error) => {
                    tracing::debug!(%error, "an object stays for another tick");
                    None
                }
            }
        });
        let deletions = futures_util::stream::iter(deletions)
            .buffer_unordered(lts.config.requests_max.max(1))
            .filter_map(std::future::ready);
        let deleted: BTreeSet<_> = deletions.collect().await;
        self.queue.done(&deleted);
        Ok(Ticked {
            n_deleted: deleted.len(),
            n_failed: n_next - deleted.len(),
            n_waiting: self.queue.len(),
        })
    }

    /// Lists some of the container's objects, on from those before; behind the last page it begins anew. What is to be deleted of them, the page says
    /// when it is given the list of chunks: [`Page::orphans`].
    ///
    /// # Errors
    /// `Unavailable`: it begins anew.
    pub async fn page(&mut self, lts: &Lts) -> Result<Page> {
        let root = lts.layout.root();
        let listing = self.listing.take();
        let mut listing = listing.unwrap_or_else(|| lts.objects.list(root));
        let some = async {
            let mut some = Vec::new();
            while some.len() < PAGE_OBJECTS
                && let Some(object) = listing.next().await
            {
                some.push(object?);
            }
            Ok(some)
        };
        let some = lts.objects.within("list", root, some).await?;
        // Only what is asked now, behind the listing, says of these objects that nobody puts them.
        let under_way = lts.under_way().clone();
        let judge = Judge {
            epoch: lts.owner.epoch,
            under_way: &under_way,
            now: rt::wall(),
            grace: lts.config.grace,
        };
        let mut page = Page {
            is_last: some.len() < PAGE_OBJECTS,
            ..Page::default()
        };
        for object in some {
            let found = lts.layout.find(&object.location);
            judge.judge(&mut page, found, object.last_modified.into());
        }
        if !page.is_last {
            self.listing = Some(listing);
        }
        Ok(page)
    }
}
