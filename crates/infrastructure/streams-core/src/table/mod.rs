//! Tables: segments whose bytes are entries, and the entries that are true.
//!
//! These are all that is kept. A table is as long as all that was ever written to it, since the versions of its entries are offsets, and so are
//! positions in it; but nobody asks for what lies there.

mod entry;
mod index;
mod read;

pub use self::entry::{ENTRY_BYTES_MAX, HEADER_BYTES, KEY_BYTES_MAX};
pub(crate) use self::entry::{Entries, put_entry, put_removal};
pub(crate) use self::index::{ENTRY_MEMORY, Entry, Table, View, version_at};
pub use self::read::{ANSWER_BYTES_MAX, Bounds, Delta, Found, Keys, Page, Pages};
