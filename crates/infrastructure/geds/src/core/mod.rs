//! Pure state: no I/O, no clock, no threads.

pub(crate) mod catalogue;
pub(crate) mod extents;
pub mod index;
pub(crate) mod paths;
pub(crate) mod sums;
pub(crate) mod victims;

/// For bytes that are in memory, or shall be.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("addresses have 64 bits")
}
