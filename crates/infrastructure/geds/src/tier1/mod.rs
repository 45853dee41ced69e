//! Tier 1.

mod error;
mod putting;
mod reading;
mod recovery;
mod store;

mod keeping;
mod scrub;

mod aligned;
mod drive;
mod format;
mod rings;
mod segments;
mod snapshots;
mod sync;

pub(crate) use self::aligned::Aligned;
pub use self::drive::Drive;
pub use self::error::{Error, Kind, Result};
pub use self::putting::Prepared;
pub use self::reading::Pinned;
pub use self::recovery::Recovery;
pub use self::scrub::{Cursor, Damage, Scrubbed};
pub use self::store::{Config, Stats, Store};
pub use crate::core::catalogue::Id;

#[cfg(test)]
mod tests;
