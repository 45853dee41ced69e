//! The index of a site: which names there are, what data each stands for, and where that data lies.
//!
//! It is a state machine over an ordered log. [`Index::decide`] says whether a [`Command`] is allowed and makes it a [`Record`], which
//! changes nothing yet; [`Index::apply`] carries a record out. Who owns the index appends the record to a log in between. The same
//! records in the same order make the same index, with the same changes told, whatever the limits were.
//!
//! ```text
//!              Seal                       the last copy: DropCopy(Corrupt), NodeJoined, NodeLost
//!    (nothing) ────▶ At(copies) ─────────────────────────────────────────────────────────────▶ Lost(why)
//!                        │      ◀───────────────────────────────────────────────────────────────  │
//!                        │                                AddCopy                                 │
//!                        └──────────────────────────┬─────────────────────────────────────────────┘
//!                                                   ▼  its last name is deleted, or given other data
//!                                                Released
//! ```
//!
//! - Data is immutable. Writing a name again gives it other data and a new generation; whoever read the old finds its [`ObjectId`] and
//!   is told by [`Change::Released`] when nobody names it any more.
//! - Every record has a [`Revision`], one higher than the one before.
//! - Every incarnation of a node has an epoch, higher than all before it, whosever they were. What a former one says is refused, also if the
//!   node was forgotten meanwhile.
//! - An [`ObjectId`] is sealed once, and never again after that, though the index does not remember it.
//! - [`Index::changes_since`] tells what happened after a revision, without a gap, or [`Error::Compacted`].
//! - [`Index::list`] lists the names of one revision, present or past, in pages. The older views are made from the changes that are kept for
//!   watchers, so no page and no reader costs memory here; when the changes are not kept any more, it is [`Error::Compacted`] too.
//! - A placement is told as it is, not as it was.
//!
//! Read `names`, `object`, `command`, then `state` and `apply`; `history` and `list` answer about the past, `snapshot` takes the index to
//! pieces.

mod apply;
mod command;
mod few;
mod history;
mod list;
mod names;
mod object;
mod objects;
mod snapshot;
mod state;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use self::command::{
    By, Cause, Change, Command, Commit, Error, Op, Precondition, Record, Scope, Seal,
};
pub use self::few::Few;
pub use self::list::{Cursor, Item, PAGE_ITEMS_MAX, Page, Query};
pub use self::names::{
    BucketName, ConsumerId, ETAG_BYTES_MAX, Etag, Folder, KEY_BYTES_MAX, Key, Name, NodeId,
    ObjectId, Prefix, Revision, Tag, successor,
};
pub use self::object::{Class, Entry, Hints, InS3, Loss, Object, Placement, Residency, Sealed};
pub use self::snapshot::{PIECE_ITEMS_MAX, Piece};
pub use self::state::{Bucket, Index, Limits, Names, Node};
