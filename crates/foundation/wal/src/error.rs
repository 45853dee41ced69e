use std::io;
use std::sync::Arc;

use crate::Position;

/// What a log may say instead of doing it. All but [`Failed`](Error::Failed), [`Fenced`](Error::Fenced) and [`Corrupt`](Error::Corrupt)
/// leave it as it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The disk has no room for another segment. Nothing is appended until [`Wal::resume`](crate::Wal::resume); what was acknowledged stays,
    /// can be read, and can be truncated, which makes room.
    #[error("the disk has no room for another segment of the log")]
    Full,
    /// So much is queued that the record would have to wait.
    #[error("the queue of the log is full")]
    Busy,
    #[error("a record has at most {max} bytes")]
    TooLarge { max: u64 },
    #[error("at most {} logs share a directory", crate::LOGS_MAX)]
    TooManyLogs,
    /// The position has been truncated.
    #[error("the log begins at {start}")]
    Truncated { start: Position },
    /// No record can be there yet.
    #[error("the log ends at {end}")]
    Beyond { end: Position },
    /// Another owner has opened the log. What was not acknowledged may be in it or not.
    #[error("another owner has taken the log over")]
    Fenced,
    /// The owner has closed the log.
    #[error("the log is closed")]
    Closed,
    /// Bytes that had been synced are not what was written, or are gone. `offset` is in bytes, in `file`.
    #[error("{file} is damaged at offset {offset}: {what}")]
    Corrupt {
        file: String,
        offset: u64,
        what: &'static str,
    },
    /// The first thing that failed. When it was a write or a sync, the owner has ended: what reached the disk of what was not acknowledged is
    /// known only to who opens the log anew.
    #[error("{context}")]
    Failed {
        context: &'static str,
        source: Arc<io::Error>,
    },
}

/// Says what was being done when something failed.
pub(crate) fn during<T>(context: &'static str, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|error| Error::Failed {
        context,
        source: Arc::new(error),
    })
}
