//! Tables: segments whose bytes are entries, and the entries that are true.

mod entry;
mod index;
mod read;

pub use self::entry::{ENTRY_BYTES_MAX, HEADER_BYTES, KEY_BYTES_MAX};
pub(crate) use self::entry::{Entries, put_entry, put_removal};
pub(crate) use self::index::{ENTRY_MEMORY, Entry, Table, View};
pub use self::read::{ANSWER_BYTES_MAX, Bounds, Delta, Found, Keys, Page, Pages};
