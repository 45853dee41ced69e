//! A client of streams, ours: of the controller over gRPC, and of the stores over TCP. It speaks what Pravega's clients speak, and so to Pravega too.
//!
//! ```text
//!  EventWriter ── key ──▶ SegmentWriter ─┐                             ┌─▶ store
//!  Transaction ── key ──▶ SegmentWriter ─┼─▶ Client ── Connection(s) ──┴─▶ store
//!  StreamReader ───────▶ Segment, Table ─┘     │
//!        └── which segments, who comes next? ──┴──▶ Controller
//! ```
//!
//! # What it is not
//! It has no groups of readers, which share a stream between them, no byte streams and no events longer than 8 MiB. It keeps nothing on disk: a
//! writer that is dropped, or whose process ends, leaves open whether its last events are there.
//!
//! # What it guarantees
//! - An event that is acknowledged is durable, and is in the stream once, whatever connections end in between. Those of one key are in the order in
//!   which they were written, also over a scale. There is one exception, which upstream's clients share: a segment that is sealed and then truncated
//!   away while its writer has no connection can no longer say what it had, and what was not acknowledged is written again.
//! - A reader gives out each event once, those of one key in order. What was given up before it was read is said, not passed over.
//! - Nothing waits for a timer: what there is is sent, and what comes while it is under way is sent together.
//! - What fails and may pass is tried again, as long as [`Config::patience`](client::Config) says, by one layer; what must not be done twice is not.
//! - Everything that waits has a bound. A store that answers more than was asked, or acknowledges what it cannot know, ends its connection or its
//!   writer, and is not believed.
//!
//! # In which order to read
//! `names.rs`, `keys.rs`, `cut.rs`, `error.rs`; `connection.rs` (one TCP connection); `controller/`; `token.rs`, `client.rs` (what all share, and who tries again);
//! `segment.rs`, `table.rs`; `writer/queue.rs` (numbers), `writer/segment.rs`, `writer/stream.rs`; `reader.rs`.
#![forbid(unsafe_code)]

pub mod cut;
mod error;
pub mod keys;
pub mod names;

pub mod connection;
pub mod controller;
mod patience;
mod token;

pub mod client;
pub mod segment;
pub mod table;

pub mod reader;
pub mod writer;

pub use self::client::Client;
pub use self::controller::Controller;
pub use self::error::Error;
pub use self::reader::StreamReader;
pub use self::segment::Segment;
pub use self::table::Table;
pub use self::writer::EventWriter;
