//! A catalogue out of the last snapshot and what is kept of the log.
//!
//! The log may begin long before the snapshot was begun, and it goes on while that is made. So of each object the last record counts, and
//! the snapshot only for objects of which there is no record. Only then does it make sense to ask whose pages are whose: of what the
//! snapshot and older records say, some may have been freed and used again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use geds_core::extents::{Extent, SegmentNo};
use wal::Position;

use super::{Catalogue, Entry, Few, Id, Lying, Place, Room, Staged, What, pages_of};

/// What the log says of each object that it tells of.
#[derive(Debug, Default)]
pub(crate) struct Replay(BTreeMap<Id, Last>);

#[derive(Debug)]
enum Last {
    Staged(Position, Bytes, Few<u32>),
    Lying(Entry),
    Freed,
}

/// Two objects are said to lie in one place, of which this is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clash(pub Id);

impl Replay {
    pub(crate) fn stage(&mut self, id: Id, bytes: &[u8], sums: Few<u32>, position: Position) {
        self.0.insert(
            id,
            Last::Staged(position, Bytes::copy_from_slice(bytes), sums),
        );
    }

    pub(crate) fn place(&mut self, entry: Entry) {
        self.0.insert(entry.id, Last::Lying(entry));
    }

    pub(crate) fn free(&mut self, id: Id) {
        self.0.insert(id, Last::Freed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is told of is durable. `segments` are those that there are; what is said to lie elsewhere is in the catalogue, but not to
    /// be read.
    pub(crate) fn finish(
        self,
        snapshot: impl IntoIterator<Item = Entry>,
        segments: impl IntoIterator<Item = (SegmentNo, u32)>,
    ) -> Result<Catalogue, Clash> {
        let mut catalogue = Catalogue::default();
        for (segment, pages) in segments {
            catalogue.room.add(segment, pages);
        }
        let mut laid = Laid::default();
        for entry in snapshot {
            if !self.0.contains_key(&entry.id) && !catalogue.knows(entry.id) {
                catalogue.lay_again(entry, &mut laid)?;
            }
        }
        for (id, last) in self.0 {
            match last {
                Last::Staged(position, bytes, sums) => {
                    catalogue.room.promise_again(pages_of(bytes.len() as u64));
                    let staged = Staged {
                        bytes,
                        sums,
                        position,
                    };
                    catalogue.insert(id, What::Staged(Arc::new(staged)), true);
                }
                Last::Lying(entry) => catalogue.lay_again(entry, &mut laid)?,
                Last::Freed => {}
            }
        }
        Ok(catalogue)
    }
}

/// Where something lies already, and whether that was made of others.
type Laid = BTreeMap<Place, bool>;

impl Catalogue {
    fn lay_again(&mut self, entry: Entry, laid: &mut Laid) -> Result<(), Clash> {
        let (id, is_joined) = (entry.id, entry.is_joined);
        let extents: Result<Few<_>, _> = entry
            .places
            .iter()
            .map(|place| right(&mut self.room, *place, (is_joined, &mut *laid)).ok_or(Clash(id)))
            .collect();
        let lying = Lying {
            is_joined,
            ..Lying::new(entry.len, extents?, entry.sums)
        };
        self.insert(id, What::Lying(Arc::new(lying)), true);
        Ok(())
    }
}

/// A place in a segment that is lost is nobody else's either.
fn right(room: &mut Room, place: Place, (is_joined, laid): (bool, &mut Laid)) -> Option<Extent> {
    let extent = Extent {
        segment: place.segment,
        first: place.first,
        pages: place.pages,
    };
    let before = laid.get(&place).copied();
    laid.insert(place, is_joined || before == Some(true));
    match before {
        _ if !room.has(place) => Some(extent),
        None => room.take_at(place),
        Some(was_joined) => (was_joined || is_joined).then(|| room.share(&extent)),
    }
}
