//! For tests, also of other crates: where an object lies, to damage it there.

use crate::core::catalogue::{Id, Place, What};
use crate::store::Store;

/// In which file a byte of an object is, and where.
///
/// # Panics
/// If there is no such byte on the disk: the object is not there, not as long as that, or not yet moved to its place.
#[must_use]
pub fn locate(store: &Store, id: Id, mut offset: u64) -> (String, u64) {
    let What::Lying(lying) = store.inner.find(id).expect("it is there") else {
        panic!("it is in memory");
    };
    for place in lying.extents.iter().map(Place::of) {
        let bytes = u64::from(place.pages) * 4096;
        if offset < bytes {
            let name = format!("tier1-segment-{:016x}", place.segment.0);
            return (name, u64::from(place.first) * 4096 + offset);
        }
        offset -= bytes;
    }
    panic!("it is not as long as that");
}
