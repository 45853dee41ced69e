//! Writers: of a segment, of a stream, of a transaction.

mod queue;
mod routes;
mod segment;
mod stream;
mod transaction;

pub use self::queue::Pending;
pub use self::segment::{Ended, Receipt, SegmentWriter};
pub use self::stream::EventWriter;
pub use self::transaction::Transaction;
