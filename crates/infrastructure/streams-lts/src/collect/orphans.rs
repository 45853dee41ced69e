//! What is an orphan, pure: an object that nobody needs, and nobody will.
//!
//! ```text
//!  an object of …                  | is needed if                                                   | else
//!  a higher epoch                  | nobody here knows: this owner has ended                        | –
//!  the owner's epoch               | it is put, or may come into the table (`under_way`), or the    | an orphan
//!                                  | list has it                                                    |
//!  a lower epoch                   | the list has it                                                | an orphan
//! ```
//! It is asked in this order: the listing, then what is under way, then the list of chunks. An object that was listed has been under way before: if
//! it is not any more when that is asked, then it was settled before, and a list that has its entry has it already. Asked the other way round, it
//! could be in neither.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ids::Epoch;

use crate::list::ChunkList;
use crate::names::{ChunkName, Found};

/// How many objects of a page are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub listed: usize,
    /// Those whose name is none of ours are left where they are.
    pub foreign: usize,
    pub manifests: usize,
    /// Of a higher epoch than that of who asks.
    pub newer: usize,
    pub under_way: usize,
    /// Younger than the grace time.
    pub young: usize,
}

/// Some of the objects that there are, as they were listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub counts: Counts,
    /// Nobody needs them if the list of chunks does not have them.
    pub(super) suspects: Vec<ChunkName>,
    /// The listing has ended.
    pub is_last: bool,
}

impl Page {
    /// Those that nobody needs. `list`: as the table of chunks is now, or was at any time after this page was returned.
    #[must_use]
    pub fn orphans(&self, list: &ChunkList) -> Vec<ChunkName> {
        let suspects = self.suspects.iter();
        suspects.filter(|name| !list.has(name)).copied().collect()
    }
}

/// By what a page is judged when it has been listed.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) epoch: Epoch,
    pub(super) under_way: &'a BTreeSet<ChunkName>,
    pub(super) now: SystemTime,
    pub(super) grace: Duration,
}

impl Judge<'_> {
    pub(super) fn judge(&self, page: &mut Page, found: Found, modified_at: SystemTime) {
        let counts = &mut page.counts;
        counts.listed += 1;
        let age = self.now.duration_since(modified_at);
        match found {
            Found::Foreign => counts.foreign += 1,
            Found::Manifest(_) => counts.manifests += 1,
            Found::Chunk(name) if name.epoch > self.epoch => counts.newer += 1,
            Found::Chunk(name) if self.under_way.contains(&name) => counts.under_way += 1,
            Found::Chunk(name) if age.is_ok_and(|age| age >= self.grace) => {
                page.suspects.push(name);
            }
            Found::Chunk(_) => counts.young += 1,
        }
    }
}
